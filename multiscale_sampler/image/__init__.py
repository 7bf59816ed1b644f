"""Images: axes, coordinates, boxes, orientation, and the labelled DataArray or DataTree that carries them."""
