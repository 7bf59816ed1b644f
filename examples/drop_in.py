"""The calls of multiscale-spatial-image's README; only the imports differ, and ``msi`` is ``multiscale``."""

import numpy as np
import xarray as xr

from multiscale_sampler import Methods, skip_non_dimension_nodes, to_image, to_multiscale

try:
    from spatial_image import to_spatial_image
except ModuleNotFoundError:
    to_spatial_image = to_image

array = np.random.default_rng(0).integers(0, 256, size=(128, 128), dtype=np.uint8)
image = to_spatial_image(array)
print(image)

# Downscaling by a factor of 2, then 4.
multiscale = to_multiscale(image, [2, 4])
print(multiscale)
multiscale = to_multiscale(image, [2, 4], method=Methods.XARRAY_COARSEN, chunks=64)

# A function over all levels. Factors are relative to level 0: [2, 2] of that README would be the same level twice.
image = to_spatial_image(np.zeros((2, 200, 200)), dims=("c", "y", "x"))
volume = to_multiscale(image, scale_factors=[2, 4])


@skip_non_dimension_nodes
def transpose(ds, *args, **kwargs):
    return ds.transpose(*args, **kwargs)


print(volume.map_over_datasets(transpose, "y", "x", "c"))
volume = volume.multiscale.transpose("y", "x", "c")
volume = volume.multiscale.assign_coords({"c": ["DAPI", "GFP"]}).multiscale.reindex_data_arrays({"c": ["GFP"]})
assert volume["scale1/image"].sizes == {"y": 100, "x": 100, "c": 1}

multiscale.multiscale.to_zarr("multiscale.zarr", mode="w")
assert xr.open_datatree("multiscale.zarr", engine="zarr")["scale2/image"].equals(multiscale["scale2/image"])
