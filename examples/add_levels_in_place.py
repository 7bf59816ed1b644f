"""Add levels beside an existing array, which is not modified."""

import zarr

import multiscale_sampler as ms

group = zarr.create_group("scan.zarr", attributes={"microscope": "left"})
ms.create_test_image("scan.zarr", "raw", shape=(64, 128, 128), chunks=(32, 32, 32))

ms.add_levels("scan.zarr", base="raw", scale=0.5, units="micrometer", scale_factors=[2, 4])

print(sorted(zarr.open_group("scan.zarr")))
# Existing attributes are kept; the group is an OME-Zarr image now.
assert zarr.open_group("scan.zarr").attrs["microscope"] == "left"
assert ms.validate("scan.zarr").ok
print(ms.explain("scan.zarr"))
