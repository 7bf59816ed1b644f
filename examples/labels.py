"""Write labels beside their image, without creating new ids."""

import numpy as np
import zarr

import multiscale_sampler as ms

ms.create_test_image("cells.zarr", "image", shape=(64, 128, 128), chunks=(32, 64, 64))
ms.create_test_image("cells.zarr", "ids", shape=(64, 128, 128), chunks=(32, 64, 64), dtype="uint32", kind="labels")
where = {"scale": {"z": 2.0, "y": 0.5, "x": 0.5}, "units": "micrometer"}

ms.write_pyramid(ms.open_image("cells.zarr", "image", **where), "cells.ome.zarr", scale_factors=[2, 4])
ids = ms.open_image("cells.zarr", "ids", **where)
ms.write_labels(ids, "cells.ome.zarr", "cells")

tree = ms.open_pyramid("cells.ome.zarr")
known = set(np.unique(zarr.open_array("cells.zarr", path="ids")))
for level in ("scale1", "scale2"):
    seen = set(np.unique(tree[f"labels/cells/{level}/cells"]))
    print(level, "has", len(seen), "ids of", len(known))
    assert seen <= known

# The mean of an id and the background is an id that does not exist, or that of another cell.
mean, own = ms.coarsen(ids, 2, method="mean"), ms.coarsen(ids, 2, method="max")
print("the mean would give", int(((mean != 0) & (mean != own)).sum()), "voxels an id that is not theirs")

try:
    tree.multiscale.plot(z=64, labels="cells").figure.savefig("cells.png")
except ModuleNotFoundError as error:
    print(error)
