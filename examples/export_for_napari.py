"""A pyramid in napari: as a store for its plugins, and as layers of lazy levels."""

import numpy as np

import multiscale_sampler as ms

values = np.random.default_rng(0).integers(0, 4000, (2, 256, 256), dtype="uint16")
image = ms.to_image(
    values, ("c", "y", "x"), scale=0.325, units="micrometer", channel_names=["DAPI", "GFP"], name="cells"
)

# Older plugins read version 0.4 too. The channels have names, colours and contrast.
ms.write_pyramid(image, "cells.ome.zarr", version="0.4", layout="flat", scale_factors=[2, 4])
assert ms.validate("cells.ome.zarr").ok
print("napari cells.ome.zarr  # with the plugin napari-ome-zarr")

# Without a plugin: one layer for each channel, with lazy levels, at the position of level 0.
levels = [node["cells"] for node in ms.open_pyramid("cells.ome.zarr").children.values() if "cells" in node]
spacing = {"scale": [0.325, 0.325], "translate": [float(levels[0][dim][0]) for dim in ("y", "x")]}
layers = [
    {"data": [level.sel(c=name).data for level in levels], "name": name, "multiscale": True, **spacing}
    for name in levels[0].c.values.tolist()
]
print([(layer["name"], [level.shape for level in layer["data"]]) for layer in layers])
try:
    import napari

    viewer = napari.Viewer(show=False)
    for layer in layers:
        viewer.add_image(**layer)
except ModuleNotFoundError:
    print("pip install napari[all]")
