"""Where samples sit: axes, coordinates, boxes, orientation, and the labelled DataArray or tree that carries them."""
