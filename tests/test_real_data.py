"""Real images: other writers' stores, published pyramids, microscopes."""

import itertools
import zipfile

import numba
import numpy as np
import pytest
import xarray as xr
import zarr

from multiscale_sampler import open_image, open_pyramid, to_image, to_multiscale, validate, write_pyramid

from .data import load, real
from .oracles import positions

# Whole volumes take minutes where kernels run in the interpreter.
compiled = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="NUMBA_DISABLE_JIT: too many voxels")


def block_mean(array, factors):
    """Return exact means of windows of unsigned integers, half to even, with partial windows at the ends."""
    total = array.astype(np.int64)
    count = np.ones(array.shape, np.int64)
    for axis, factor in enumerate(factors):
        starts = np.arange(0, array.shape[axis], factor)
        total = np.add.reduceat(total, starts, axis=axis)
        count = np.add.reduceat(count, starts, axis=axis)
    quotient, rest = np.divmod(total, count)
    up = (2 * rest > count) | ((2 * rest == count) & (quotient % 2 == 1))
    return (quotient + up).astype(array.dtype)


# --- stores of other writers -----------------------------------------------------------------------------------

SMALL = {
    "fractal-examples/valid/image-01.zarr": 1,
    "fractal-examples/valid/image-02.zarr": 1,
    "fractal-examples/valid/image-03.zarr": 1,
    "fractal-examples/valid/image-04.zarr": 2,
    "fractal-examples/warning/image-01.zarr": 2,
    "mobie/blobs.ome.zarr": 1,
    "neuroglancer/simple_0.4": 3,
    "neuroglancer/simple_0.5": 3,
    "neuroglancer/simple_0.5.zip": 3,
}


# An empty list of filters, say.
@pytest.mark.filterwarnings("ignore:.*contrary to the Zarr V2 specification")
@pytest.mark.parametrize(("path", "count"), SMALL.items())
def test_open_pyramid__small_stores(path, count):
    place = real("ome_zarr_small", *path.split("/"))
    inside = "simple_0.5" if place.suffix == ".zip" and _has_folder(place) else None
    tree = open_pyramid(place, inside)
    assert list(tree.children) == [f"scale{number}" for number in range(count)]
    previous = None
    for node in tree.children.values():
        level = next(iter(node.data_vars.values()))
        level.load()
        shape = level.shape
        assert previous is None or all(n <= m for n, m in zip(shape, previous, strict=True))
        previous = shape


def _has_folder(place):
    return not any(name in ("zarr.json", ".zgroup") for name in zipfile.ZipFile(place).namelist())


def test_open_pyramid__neuroglancer_places_levels_as_they_say():
    for version in ("0.4", "0.5"):
        tree = open_pyramid(real("ome_zarr_small", "neuroglancer", f"simple_{version}"))
        sizes = [10, 5, 2]
        for number, size in enumerate(sizes):
            level = tree[f"scale{number}/image"]
            factor = 2**number
            assert level.shape == (size, size)
            np.testing.assert_array_equal(level.y.values, positions(size, factor, scale=4.0))
            np.testing.assert_array_equal(level.x.values, positions(size, factor, scale=30.0))
            assert level.y.attrs["units"] == "nanometer"


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_open_pyramid__old_stores_open_with_a_warning(version):
    place = real("ome_zarr_small", "ome-zarr-py", version)
    with pytest.warns(UserWarning, match="assumed: axes"):
        tree = open_pyramid(place)
    stored = zarr.open_array(place / "0", mode="r")
    level = next(iter(tree["scale0"].data_vars.values()))
    assert level.shape == stored.shape
    assert level.dims == ("t", "c", "z", "y", "x")[-stored.ndim :]
    np.testing.assert_array_equal(level.values, stored[...])


@pytest.mark.parametrize("name", ["image-01", "image-02", "image-03", "image-04"])
def test_validate__invalid_stores_are_not_ok(name):
    report = validate(real("ome_zarr_small", "fractal-examples", "invalid", f"{name}.zarr"))
    assert not report.ok
    assert all(finding.message for finding in report.findings)


INVALID = {
    "image-01": "no multiscales metadata",
    "image-02": "no multiscales metadata",
    "image-03": "the array does not exist",
    "image-04": "2 axes",
}


@pytest.mark.parametrize(("name", "found"), INVALID.items())
def test_validate__invalid_stores_have_a_finding_each(name, found):
    report = validate(real("ome_zarr_small", "fractal-examples", "invalid", f"{name}.zarr"))
    errors = [finding for finding in report.findings if finding.severity == "error"]
    assert found in [finding.found for finding in errors]
    assert all(finding.location and finding.expected and finding.rule for finding in errors)


@pytest.mark.parametrize(
    ("parts", "warned"),
    [
        # "seconds" is none of the names of UDUNITS-2.
        (("tubhiswt5d_v04", "tubhiswt4D_sub.zarr"), {"multiscales[0].axes[0].unit"}),
        # The labels have four levels, the image as it is published here one; their list states no version.
        (("idr6001240_v05_sharded", "6001240_labels_v0.5.zarr"), {"labels.version", "labels/0"}),
    ],
    ids=["tubhiswt", "idr6001240"],
)
def test_validate__published_pyramids_are_ok_with_warnings(parts, warned):
    report = validate(real(*parts))
    assert report.ok, str(report)
    assert warned <= {finding.location for finding in report.findings}


@pytest.mark.parametrize("path", [path for path in SMALL if path.startswith("fractal") or path[-3:] in ("0.4", "0.5")])
def test_validate__valid_stores_are_ok(path):
    report = validate(real("ome_zarr_small", *path.split("/")))
    assert report.ok, str(report)


def test_open_pyramid__5d_of_version_0_4():
    place = real("tubhiswt5d_v04", "tubhiswt4D_sub.zarr")
    tree = open_pyramid(place)
    assert list(tree.children) == ["scale0", "scale1", "scale2", "labels"]
    assert list(tree["labels"].children) == ["embryo"]
    for number in range(3):
        level = next(iter(tree[f"scale{number}"].data_vars.values()))
        stored = zarr.open_array(place / str(number), mode="r")
        assert level.dims == ("t", "c", "z", "y", "x")
        assert level.shape == stored.shape
        np.testing.assert_array_equal(level.isel(t=0).values, stored[0])
        assert float(level.x[1] - level.x[0]) == 2.0**number
    labels = open_pyramid(place, "labels/embryo")
    assert len(labels.children) == 3
    assert validate(place).ok


def test_open_pyramid__sharded_of_version_0_5():
    place = real("idr6001240_v05_sharded", "6001240_labels_v0.5.zarr")
    tree = open_pyramid(place)
    (level,) = tree["scale0"].data_vars.values()
    stored = zarr.open_array(place / "2", mode="r")
    assert level.dims == ("c", "z", "y", "x")
    assert level.shape == stored.shape
    assert level.c.values.tolist() == ["LaminB1", "Dapi"]
    assert level.encoding["shards"] == stored.shards
    np.testing.assert_allclose(level.x.values[:3], 1.4415926138560835 * np.arange(3))
    assert level.x.attrs["units"] == "micrometer"
    np.testing.assert_array_equal(level.isel(z=100).values, stored[:, 100])
    labels = open_pyramid(place, "labels/0")
    assert len(labels.children) >= 3


def test_open_image__chunk_keys_with_dots():
    place = real("zarr_v2_codecs", "zarr.zr")
    arrays, meta = load("zarr_v2_codecs")
    for name in arrays:
        image = open_image(place, name, dims="yxc")
        np.testing.assert_array_equal(image.values, meta["reference"])


def test_open_image__sea_ice_as_xarray_opens_it(tmp_path):
    with zipfile.ZipFile(real("geo_small", "sic_daily_sample.zarr.zip")) as file:
        file.extractall(tmp_path)
    place = tmp_path / "sic_daily_sample.zarr"
    expected = xr.open_zarr(place, consolidated=True)["siconc"]
    image = open_image(place, "siconc")
    assert image.dims == expected.dims
    assert image.dtype == expected.dtype
    np.testing.assert_array_equal(image.values, expected.values)
    for dim in expected.dims:
        np.testing.assert_array_equal(image[dim].values, expected[dim].values)


# --- pyramids of our own ---------------------------------------------------------------------------------------


@compiled
def test_write_pyramid__light_microscopy(tmp_path):
    brain, _ = load("mouse_brain_2p")
    zarr.save_array(tmp_path / "brain.zarr", brain)
    scale = {"z": 50.0, "y": 40.0, "x": 40.0}
    image = open_image(tmp_path / "brain.zarr", scale=scale, units="micrometer")
    write_pyramid(image, tmp_path / "p.zarr", scale_factors=[2, 4, 8], chunks=64)
    tree = open_pyramid(tmp_path / "p.zarr")
    for number, node in enumerate(tree.children.values()):
        factor = 2**number
        level = next(iter(node.data_vars.values()))
        expected = brain if factor == 1 else block_mean(brain, (factor,) * 3)
        np.testing.assert_array_equal(level.values, expected)
        for dim, step in scale.items():
            np.testing.assert_allclose(level[dim].values, positions(level.sizes[dim], factor, scale=step))
            assert level[dim].attrs["units"] == "micrometer"
    assert validate(tmp_path / "p.zarr").findings == ()


@compiled
def test_to_multiscale__published_labels_but_for_ties():
    arrays, _ = load("pinky_seg512")
    fine, published = arrays["mip1"], arrays["mip2"]
    ours = to_multiscale(to_image(fine), [{"y": 2, "x": 2}], method="mode")["scale1/image"].values
    assert ours.shape == published.shape
    windows = np.stack([fine[:, i::2, j::2] for i in (0, 1) for j in (0, 1)])
    ordered = np.sort(windows, axis=0)
    equal = ordered[1:] == ordered[:-1]
    # Of four values a tie is two pairs, or four that differ.
    tied = (equal[0] & ~equal[1] & equal[2]) | ~equal.any(axis=0)
    np.testing.assert_array_equal(ours[~tied], published[~tied])
    assert tied.mean() < 0.05
    # Of a tie the least: the smallest of those that occur most often.
    assert (ours[tied] == ordered[0][tied]).all()


@compiled
def test_to_multiscale__bigdataviewer_pyramids_but_for_rounding():
    pytest.importorskip("h5py", reason="the extra 'test' brings h5py")
    pyramids, _ = load("bdv_mri_pyramid")
    compared = 0
    for levels in pyramids.values():
        for finer, coarser in itertools.pairwise(levels):
            factors = [max(round(n / m), 1) for n, m in zip(finer.shape, coarser.shape, strict=True)]
            ours = to_multiscale(to_image(finer), [dict(zip("zyx", factors, strict=True))])["scale1/image"].values
            common = tuple(slice(0, min(n, m)) for n, m in zip(ours.shape, coarser.shape, strict=True))
            difference = ours[common].astype("i8") - coarser[common]
            assert np.abs(difference).max() <= 1
            compared += difference.size
    assert compared > 10_000


def test_write_pyramid__fluorescence_channels(tmp_path):
    pytest.importorskip("tifffile", reason="the extra 'test' brings tifffile")
    base = load("bbbc022_cyx")[0][:, :101, :203]
    write_pyramid(to_image(base, "cyx"), tmp_path / "p.zarr", scale_factors=[2, 3])
    tree = open_pyramid(tmp_path / "p.zarr")
    for number, factor in enumerate((1, 2, 3)):
        expected = base if factor == 1 else block_mean(base, (1, factor, factor))
        np.testing.assert_array_equal(tree[f"scale{number}/image"].values, expected)


def test_write_pyramid__labels_of_64_bits_stay_labels(tmp_path):
    arrays, _ = load("fib19_labels_u64")
    labels = max(arrays.values(), key=np.max)[:40, :41, :42]
    write_pyramid(labels, tmp_path / "p.zarr", scale_factors=[2, 4], method="mode")
    known = set(np.unique(labels).tolist())
    assert max(known) > 2**32
    for node in open_pyramid(tmp_path / "p.zarr").children.values():
        assert set(np.unique(node["image"].values).tolist()) <= known
