"""Resume a build that stopped half-way."""

import dask.array as da

import multiscale_sampler as ms


class PowerCutError(Exception):
    """Stops the first attempt."""


def report(progress):
    print(f"{progress.fraction:.0%} of the source is done after {progress.elapsed:.2f} s")


def fail_half_way(progress):
    report(progress)
    if progress.fraction >= 0.5:
        raise PowerCutError


image = ms.to_image(da.ones((512, 512, 256), dtype="uint8", chunks=64), scale=0.5, units="micrometer")
options = {"scale_factors": [2, 4], "memory_limit": "32MiB", "workers": 1}
try:
    ms.write_pyramid(image, "scan.ome.zarr", progress=fail_half_way, **options)
except PowerCutError:
    # No reader takes the store for a pyramid until it is complete.
    assert not ms.validate("scan.ome.zarr").ok

ms.write_pyramid(image, "scan.ome.zarr", resume=True, progress=report, **options)
assert ms.validate("scan.ome.zarr").ok
