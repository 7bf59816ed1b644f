"""Compare the mean of a dim image after three halvings by this package, ngff-zarr and ome-zarr-py."""

import tempfile

import dask.array as da
import ngff_zarr
import numpy as np
import zarr
from ome_zarr.scale import Methods
from ome_zarr.writer import write_image

import multiscale_sampler as ms

counts = np.random.default_rng(0).poisson(5, (256, 256)).astype("uint16")


def ours() -> list[float]:
    tree = ms.to_multiscale(ms.to_image(counts), [2, 4, 8])
    return [float(tree[f"scale{level}/image"].mean()) for level in range(4)]


def with_ngff_zarr(method: ngff_zarr.Methods) -> list[float]:
    image = ngff_zarr.to_ngff_image(da.from_array(counts), dims=["y", "x"])
    levels = ngff_zarr.to_multiscales(image, [2, 4, 8], method=method, chunks=64).images
    return [float(np.asarray(level.data).mean()) for level in levels]


def with_ome_zarr(method: Methods) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        write_image(counts, folder, (2, 4, 8), axes="yx", method=method)
        return [float(array[:].mean()) for _, array in sorted(zarr.open_group(folder).arrays())]


rows = {"multiscale_sampler mean": ours()}
for name in ("ITKWASM_GAUSSIAN", "ITKWASM_BIN_SHRINK"):
    rows[f"ngff-zarr {name}"] = with_ngff_zarr(ngff_zarr.Methods[name])
for name in ("RESIZE", "LOCAL_MEAN"):
    rows[f"ome-zarr-py {name}"] = with_ome_zarr(Methods[name])
for name, means in rows.items():
    print(f"{name:32}", " ".join(f"{mean:.3f}" for mean in means))
