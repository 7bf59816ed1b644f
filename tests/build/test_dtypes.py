"""Pyramids in another dtype: the levels of the converted image, and no value that does not fit."""

import warnings

import dask.array as da
import numpy as np
import pytest
import zarr

from multiscale_sampler import open_image, open_pyramid, to_image, to_multiscale, write_labels, write_pyramid

from ..data import Recording, noise


def stored(tmp_path, values, **options):
    zarr.create_array(tmp_path / "raw", data=values, chunks=(8,) * values.ndim, **options)
    return open_image(tmp_path / "raw")


def levels_of(tree):
    return [node.to_dataset()["image"] for node in tree.children.values()]


@pytest.mark.parametrize(("source", "dtype"), [("int32", "uint16"), ("float64", "float32"), ("uint8", "float32")])
@pytest.mark.parametrize("kind", ["zarr", "dask", "numpy", "turned"])
def test_write_pyramid__with_a_dtype_is_the_pyramid_of_the_converted_image(tmp_path, source, dtype, kind):
    values = (noise((20, 24), "uint16") % 251).astype(source) / (3 if source == "float64" else 1)
    values[:8, :8] = 0
    images = {
        "zarr": lambda: stored(tmp_path, values, fill_value=0).rename("image"),
        "dask": lambda: to_image(da.from_array(values, chunks=8) + 0),
        "numpy": lambda: to_image(values),
        "turned": lambda: to_image(values[..., None], "yxc"),
    }
    image = images[kind]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        write_pyramid(image, tmp_path / "a", scale_factors=[2, 4], dtype=dtype, chunks=4, memory_limit="64MiB")
    expected = to_multiscale(image.astype(dtype), [2, 4])
    for level, other in zip(levels_of(open_pyramid(tmp_path / "a")), levels_of(expected), strict=True):
        assert level.dtype == dtype
        np.testing.assert_array_equal(level, other.transpose(*level.dims), strict=True)


def test_write_pyramid__with_a_dtype_converts_each_level_of_a_tree_that_was_changed(tmp_path):
    tree = to_multiscale(to_image(noise((16, 16), "uint16")), [2])
    tree["scale1/image"] = tree["scale1/image"] + 1
    write_pyramid(tree, tmp_path / "a", dtype="float32")
    for level, other in zip(levels_of(open_pyramid(tmp_path / "a")), levels_of(tree), strict=True):
        assert level.dtype == "float32"
        np.testing.assert_array_equal(level, other)


def test_write_pyramid__with_a_dtype_reads_every_chunk_once(tmp_path):
    values = noise((32, 32), "uint16")
    store = Recording(zarr.storage.MemoryStore())
    zarr.create_array(store, name="a", data=values, chunks=(8, 8))
    image = open_image(store, "a")
    write_pyramid(image, tmp_path / "a", scale_factors=[2, 4], dtype="float32", memory_limit="1MiB")
    assert set(store.chunks("read").values()) == {1}
    assert len(store.chunks("read")) == 16


@pytest.mark.parametrize("kind", ["zarr", "dask"])
def test_write_pyramid__a_value_that_does_not_fit_ends_the_build_unpublished(tmp_path, kind):
    values = noise((20, 24), "uint16").astype("int32") % 1000
    values[13, 17] = 70_000
    image = stored(tmp_path, values) if kind == "zarr" else to_image(da.from_array(values, chunks=8))
    with pytest.raises(ValueError, match=r"the value 70000 at y=13, x=17 .*does not fit dtype='uint16'"):
        write_pyramid(image, tmp_path / "a", scale_factors=[2], dtype="uint16", chunks=8)
    with pytest.raises(ValueError, match="has not finished"):
        open_pyramid(tmp_path / "a")
    # Another dtype is another build.
    with pytest.raises(ValueError, match="used different values"):
        write_pyramid(image, tmp_path / "a", scale_factors=[2], dtype="uint32", chunks=8, resume=True)


def test_write_pyramid__a_dtype_that_cannot_be_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(TypeError, match="is not a numpy dtype"):
        write_pyramid(to_image(noise((8, 8))), tmp_path / "a", dtype="float31")
    assert not (tmp_path / "a").exists()


# --- what some clients do not read -----------------------------------------------------------------------------


def warned(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return caught


@pytest.mark.parametrize(
    ("dtype", "dims", "told"),
    [
        ("uint16", "yx", []),
        ("float64", "yx", ["float64 is not read by Neuroglancer", "dtype='float32'"]),
        ("int64", "yx", ["int64 is not read by Neuroglancer"]),
        ("uint8", ("lat", "lon"), ["('lat', 'lon') are not read by ngff-zarr, bioio, ngio, ome-zarr.js and vizarr"]),
    ],
)
def test_write_pyramid__names_the_clients_that_do_not_read_it_once(tmp_path, dtype, dims, told):
    image = to_image(noise((8, 8), "uint8").astype(dtype), dims)
    caught = warned(lambda: write_pyramid(image, tmp_path / "a", scale_factors=[2], method="nearest"))
    assert len(caught) == (1 if told else 0)
    assert all(text in str(warning.message) for warning in caught for text in told)
    assert all(warning.filename == __file__ for warning in caught)


def test_write_pyramid__does_not_warn_of_what_a_dtype_mends(tmp_path):
    image = to_image(noise((8, 8), "float64"))
    assert not warned(lambda: write_pyramid(image, tmp_path / "a", scale_factors=[2], dtype="float32"))
    caught = warned(lambda: write_labels(np.ones((8, 8), "int64"), tmp_path / "a", "cells", method="nearest"))
    assert len(caught) == 1
