"""Writes the base that contenders read, a tiny one to warm up on, and the coarsest level to hold theirs against.

In a folder of its own: ``store/image/0`` is the base (zarr v3, zstd), ``tiny/image/0`` the tiny one,
``reference.npy`` the coarsest level as the lazy tree computes it.
"""

from __future__ import annotations

import importlib.util
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

import multiscale_sampler as ms

from .cases import Case
from .machine import cores

# Of the 65536 grey values of the test image, so that noise is what a detector of up to 128 photons has.
GREY_VALUES_PER_PHOTON = 512
# Made-up labels: so few that most windows have a clear mode and many a tie, and large as real ones.
LABELS = 4
MULTIPLE = 2**24 - 1


def write_source(case: Case, folder: Path) -> None:
    """Write all that a case needs into a folder."""
    write_base(case.tiny(), folder / "tiny")
    write_base(case, folder / "store")
    tree = ms.to_multiscale(ms.open_image(folder / "store/image", "0"), case.scale_factors, case.method)
    np.save(folder / "reference.npy", tree[f"scale{case.levels}"].to_dataset()["image"].values)


def write_base(case: Case, store: Path) -> None:
    """Write the base of a case as ``image/0``, in groups as `pyramid_sampler` wants them."""
    zarr.create_group(store).create_group("image")
    options: dict[str, Any] = {"shape": case.shape, "chunks": case.chunks, "dtype": case.dtype}
    array = zarr.create_array(store, name="image/0", **options, dimension_names=case.dims)
    if case.content == "pinky":
        array[...] = load_pinky()[tuple(slice(0, size) for size in case.shape)]
    elif case.content == "labels":
        array[...] = np.random.default_rng(0).integers(0, LABELS, case.shape) * MULTIPLE
    else:
        write_noisy_image(array, options)


def write_noisy_image(array: zarr.Array[Any], options: dict[str, Any]) -> None:
    """Write the test image with shot noise, without which it would compress as no real image does."""
    structure = ms.create_test_image({}, **options)
    rows = array.chunks[0]

    def write(start: int) -> None:
        photons = np.asarray(structure[start : start + rows], np.float32) / GREY_VALUES_PER_PHOTON
        noise = np.random.default_rng(start).standard_normal(photons.shape, np.float32)
        array[start : start + rows] = np.rint(photons + np.sqrt(photons) * noise).clip(0).astype(array.dtype)

    with ThreadPoolExecutor(cores()) as pool:
        for _ in pool.map(write, range(0, array.shape[0], rows)):
            pass


def load_pinky() -> npt.NDArray[np.uint32]:
    """Return the real segmentation of 512 x 512 x 512 voxels."""
    folder = os.environ.get("MSS_DATA")
    if not folder or not Path(folder, "pinky_seg512").is_dir():
        raise FileNotFoundError("needs the real labels pinky_seg512: set MSS_DATA to the folder of real images")
    spec = importlib.util.spec_from_file_location("load_share", Path(folder, "load_share.py"))
    assert spec is not None
    assert spec.loader is not None
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    arrays, _ = loader.pinky_seg512()
    labels: npt.NDArray[np.uint32] = arrays["mip1"]
    return labels
