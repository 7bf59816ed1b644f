"""From a zarr array without metadata to a pyramid on disk, and back for analysis."""

import multiscale_sampler as ms

# A raw array: voxels without positions.
ms.create_test_image("raw.zarr", "0", shape=(60, 192, 256), chunks=(30, 64, 64))
image = ms.open_image("raw.zarr", scale={"z": 50, "y": 40, "x": 40}, units="micrometer")

# What would be written, and how much memory that takes; nothing is read.
print(ms.plan_pyramid(image))
ms.write_pyramid(image, "brain.ome.zarr")
assert ms.validate("brain.ome.zarr").ok

tree = ms.open_pyramid("brain.ome.zarr")
print(tree.multiscale.levels)

# Statistics on a level that fits in memory, then the region of interest at full resolution.
small = tree.multiscale.fit(nbytes="1 MiB").load()
brightest = small.isel(small.argmax(...))
around = {dim: slice(brightest[dim] - 500, brightest[dim] + 500) for dim in small.dims}
print(tree["scale0/image"].sel(around))

try:
    tree.multiscale.plot(z=1500).figure.savefig("brain.png")
except ModuleNotFoundError as error:
    print(error)
