"""A build that stops half-way, and goes on from there."""

import dask.array as da

import multiscale_sampler as ms


class PowerCutError(Exception):
    """What ends the first attempt."""


def tell(progress):
    print(f"{progress.fraction:.0%} of the source are done after {progress.elapsed:.2f} s")


def fail_half_way(progress):
    tell(progress)
    if progress.fraction >= 0.5:
        raise PowerCutError


image = ms.to_image(da.ones((512, 512, 256), dtype="uint8", chunks=64), scale=0.5, units="micrometer")
options = {"scale_factors": [2, 4], "memory_limit": "32MiB", "workers": 1}
try:
    ms.write_pyramid(image, "scan.ome.zarr", progress=fail_half_way, **options)
except PowerCutError:
    # What is there is no pyramid to any reader until it is complete.
    assert not ms.validate("scan.ome.zarr").ok

ms.write_pyramid(image, "scan.ome.zarr", resume=True, progress=tell, **options)
assert ms.validate("scan.ome.zarr").ok
