"""Cases that users of similar tools reported about reading and writing, one test each.

The comment above a test names its cases: PS pyramid_sampler, MSI multiscale-spatial-image, NZ ngff-zarr,
OZ ome-zarr-py, X others.
"""

import json
import zipfile

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

from multiscale_sampler import add_levels, open_image, open_pyramid, to_image, to_multiscale, validate, write_pyramid
from multiscale_sampler.cli import main

from .data import hashes, make_array, noise
from .oracles import check_levels, expected_level

BASE = noise((64, 64))


def entry_of(place):
    return zarr.open_group(place).attrs["ome"]["multiscales"][0]


# PS-8
def test_add_levels__levels_inherit_and_metadata_are_written(tmp_path):
    base = noise((16, 16, 16), "float32")
    make_array(
        tmp_path / "a.zarr",
        base,
        path="field1/0",
        chunks=(8, 8, 8),
        dims=("z", "y", "x"),
        compressors=None,
        fill_value=np.nan,
        attributes={"units": "K"},
    )
    add_levels(tmp_path / "a.zarr", "field1")
    level = zarr.open_array(tmp_path / "a.zarr" / "field1" / "1")
    assert np.isnan(level.fill_value)
    assert level.compressors == ()
    assert level.metadata.dimension_names == ("z", "y", "x")
    assert level.attrs["units"] == "K"
    assert [d["path"] for d in entry_of(tmp_path / "a.zarr" / "field1")["datasets"]] == ["0", "1"]


# MSI-1
@pytest.mark.parametrize("mode", ["w-", "w"])
def test_write_pyramid__a_store_is_not_destroyed_by_its_own_tree(tmp_path, mode):
    write_pyramid(BASE, tmp_path / "p.zarr", scale_factors=[2])
    before = hashes(tmp_path)
    for image in (
        open_pyramid(tmp_path / "p.zarr")["scale0/image"],
        xr.open_datatree(tmp_path / "p.zarr", engine="zarr", chunks={})["scale0/image"],
    ):
        with pytest.raises((ValueError, FileExistsError)):
            write_pyramid(to_multiscale(image, [2]), tmp_path / "p.zarr", mode=mode)
    assert hashes(tmp_path) == before


# MSI-2, NZ-2
@pytest.mark.parametrize("layout", ["datatree", "flat"])
def test_write_pyramid__siblings_stay(tmp_path, layout):
    write_pyramid(BASE, tmp_path / "p.zarr", scale_factors=[2], layout=layout)
    make_array(tmp_path / "p.zarr", noise((5, 5)), path="mine")
    before = hashes(tmp_path / "p.zarr" / "mine")
    with pytest.raises(FileExistsError):
        write_pyramid(BASE // 2, tmp_path / "p.zarr", scale_factors=[2], layout=layout)
    write_pyramid(BASE // 2, tmp_path / "p.zarr", scale_factors=[2], layout=layout, mode="w")
    assert hashes(tmp_path / "p.zarr" / "mine") == before
    check_levels(open_pyramid(tmp_path / "p.zarr"), BASE // 2, [(2, 2)])


# MSI-7
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_write_pyramid__channel_names_come_back(tmp_path, version):
    names = ["DAPI", "GFP", "RFP"]
    tree = to_multiscale(to_image(noise((3, 16, 16)), "cyx", channel_names=names), [2])
    write_pyramid(tree, tmp_path / "p.zarr", version=version)
    for again in (open_pyramid(tmp_path / "p.zarr"), xr.open_datatree(tmp_path / "p.zarr", engine="zarr")):
        assert again["scale1/image"].c.values.tolist() == names
    attributes = zarr.open_group(tmp_path / "p.zarr").attrs
    omero = (attributes if version == "0.4" else attributes["ome"])["omero"]
    assert [channel["label"] for channel in omero["channels"]] == names


# MSI-8
def test_write_pyramid__no_compression_is_no_compression(tmp_path):
    write_pyramid(BASE, tmp_path / "p.zarr", scale_factors=[2], compressors=None)
    for level in (0, 1):
        assert zarr.open_array(tmp_path / "p.zarr" / f"scale{level}" / "image").compressors == ()


# MSI-9
def test_write_pyramid__zarr_v3_says_version_0_5_under_ome(tmp_path):
    write_pyramid(BASE, tmp_path / "p.zarr", scale_factors=[2])
    attributes = json.loads((tmp_path / "p.zarr" / "zarr.json").read_text())["attributes"]
    assert attributes["ome"]["version"] == "0.5"
    assert "version" not in attributes["ome"]["multiscales"][0]
    assert not isinstance(attributes["multiscales"], list)


# MSI-10
@pytest.mark.parametrize("units", [None, {"y": "micrometer"}], ids=str)
def test_write_pyramid__no_unit_is_no_unit(tmp_path, units):
    write_pyramid(to_image(BASE, units=units), tmp_path / "p.zarr", scale_factors=[2])
    for axis in entry_of(tmp_path / "p.zarr")["axes"]:
        assert axis.get("unit") == (units or {}).get(axis["name"])
        assert "unit" not in axis or axis["unit"]


# MSI-12
def test_write_pyramid__irregular_coordinates_are_not_replaced(tmp_path):
    image = to_image(noise((8, 8))).assign_coords(y=np.arange(8.0) ** 2)
    level = to_multiscale(image, [2])["scale1/image"]
    np.testing.assert_array_equal(level.y.values, [0.5, 6.5, 20.5, 42.5])
    with pytest.raises(ValueError, match="not evenly spaced"):
        write_pyramid(image, tmp_path / "p.zarr", scale_factors=[2])
    assert not (tmp_path / "p.zarr").exists()


# NZ-1, OZ-1
@pytest.mark.parametrize("mode", ["w-", "w"])
@pytest.mark.parametrize("resume", [False, True])
def test_write_pyramid__a_source_inside_the_target_is_refused(tmp_path, mode, resume):
    place = tmp_path / "p.zarr"
    for path in ("raw", "s0"):
        make_array(place, BASE, path=path, chunks=(16, 16))
    before = hashes(tmp_path)
    for path in ("raw", "s0"):
        with pytest.raises((ValueError, FileExistsError)):
            write_pyramid(da.from_zarr(place / path) * 1, place, mode=mode, resume=resume)
    assert hashes(tmp_path) == before


# NZ-7
@pytest.mark.parametrize("form", ["MemoryStore", "dict", "LocalStore", "Group", "memory-url"])
def test_write_pyramid__any_store(tmp_path, form):
    store = {
        "MemoryStore": zarr.storage.MemoryStore,
        "dict": dict,
        "LocalStore": lambda: zarr.storage.LocalStore(tmp_path / "p.zarr"),
        "Group": lambda: zarr.open_group(tmp_path / "p.zarr", mode="w"),
        "memory-url": lambda: f"memory://{tmp_path.name}/any.zarr",
    }[form]()
    write_pyramid(BASE, store, scale_factors=[2], mode="w" if form == "Group" else "w-")
    check_levels(open_pyramid(store), BASE, [(2, 2)])


# NZ-7, OZ-19
@pytest.mark.parametrize("name", ["p.zip", "p.ozx"])
def test_write_pyramid__a_zip_file(tmp_path, name):
    write_pyramid(BASE, tmp_path / name, scale_factors=[2])
    assert zipfile.is_zipfile(tmp_path / name)
    with zarr.storage.ZipStore(tmp_path / name, mode="r") as store:
        check_levels(open_pyramid(store), BASE, [(2, 2)])


# NZ-7, OZ-19
def test_open_pyramid__a_zip_file_of_a_pyramid(tmp_path):
    write_pyramid(BASE, tmp_path / "p.zarr", scale_factors=[2])
    with zipfile.ZipFile(tmp_path / "p.zarr.zip", "w", zipfile.ZIP_STORED) as file:
        for path in sorted((tmp_path / "p.zarr").rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(tmp_path / "p.zarr"))
    check_levels(open_pyramid(tmp_path / "p.zarr.zip"), BASE, [(2, 2)])
    np.testing.assert_array_equal(
        open_image(tmp_path / "p.zarr.zip", "scale1/image").values, expected_level(BASE, (2, 2))
    )
    assert validate(tmp_path / "p.zarr.zip").findings == ()


# NZ-9
@pytest.mark.parametrize("dims", [("y", "x"), ("lat", "lon")])
def test_write_pyramid__coordinates_and_names_are_kept(tmp_path, dims):
    coords = {dims[0]: 7 + 0.5 * np.arange(64), dims[1]: 2.0 * np.arange(64)}
    write_pyramid(xr.DataArray(BASE, dims=dims, coords=coords, name="foo"), tmp_path / "p.zarr", scale_factors=[2])
    entry = entry_of(tmp_path / "p.zarr")
    assert entry["name"] == "foo"
    assert [axis["name"] for axis in entry["axes"]] == list(dims)
    assert entry["datasets"][0]["coordinateTransformations"] == [
        {"type": "scale", "scale": [0.5, 2.0]},
        {"type": "translation", "translation": [7.0, 0.0]},
    ]
    level = open_pyramid(tmp_path / "p.zarr")["scale1/foo"]
    np.testing.assert_array_equal(level[dims[0]].values, 7.25 + np.arange(32))


# NZ-14, OZ-21
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_write_pyramid__opens_in_xarray(tmp_path, version):
    write_pyramid(to_image(BASE, scale=0.5), tmp_path / "p.zarr", scale_factors=[2, 4], version=version)
    tree = xr.open_datatree(tmp_path / "p.zarr", engine="zarr")
    check_levels(tree, BASE, [(2, 2), (4, 4)], scale={"y": 0.5, "x": 0.5})


# OZ-2
@pytest.mark.parametrize("layout", ["datatree", "flat"])
def test_write_pyramid__never_returns_without_writing(tmp_path, layout):
    write_pyramid(np.ones((8, 8), "u1"), tmp_path / "p.zarr", layout=layout)
    with pytest.raises(FileExistsError):
        write_pyramid(np.full((8, 8), 9, "u1"), tmp_path / "p.zarr", layout=layout)
    assert (open_pyramid(tmp_path / "p.zarr")["scale0/image"].values == 1).all()


# OZ-11, OZ-12
@pytest.mark.parametrize("layout", ["datatree", "flat"])
def test_write_pyramid__translations_are_in_units_and_count_from_the_origin(tmp_path, layout):
    for origin in (0.0, 100.0):
        place = tmp_path / f"{origin}.zarr"
        write_pyramid(to_image(BASE, scale=0.1, translation=origin), place, scale_factors=[2, 4], layout=layout)
        translations = [d["coordinateTransformations"][1]["translation"] for d in entry_of(place)["datasets"]]
        np.testing.assert_allclose(translations, [[origin] * 2, [origin + 0.05] * 2, [origin + 0.15] * 2])


# OZ-13
def test_write_pyramid__the_window_is_the_range_of_the_values(tmp_path):
    base = noise((2, 32, 32))
    write_pyramid(to_image(base, "cyx"), tmp_path / "a.zarr", scale_factors=[2])
    for channel in zarr.open_group(tmp_path / "a.zarr").attrs["ome"]["omero"]["channels"]:
        assert (channel["window"]["min"], channel["window"]["max"]) == (0, 65535)
    floats = np.linspace(-3, 5, 2048, dtype="f4").reshape(2, 32, 32)
    write_pyramid(to_image(floats, "cyx"), tmp_path / "b.zarr", scale_factors=[2])
    windows = [c["window"] for c in zarr.open_group(tmp_path / "b.zarr").attrs["ome"]["omero"]["channels"]]
    assert -3 <= windows[0]["min"] < windows[0]["max"] <= 1.01
    assert 0.99 <= windows[1]["min"] < windows[1]["max"] <= 5


# OZ-16
def test_main__levels_in_place_copy_no_base(tmp_path):
    """`--in-place` copied the base all the same."""
    make_array(tmp_path / "p.zarr", BASE, path="0", dims=("y", "x"), chunks=(16, 16))
    zarr.open_group(tmp_path / "p.zarr", mode="a")
    before = hashes(tmp_path / "p.zarr" / "0")
    assert main(["add-levels", str(tmp_path / "p.zarr"), "--factors", "2,4", "--quiet"]) == 0
    assert hashes(tmp_path / "p.zarr" / "0") == before
    arrays = dict(zarr.open_group(tmp_path / "p.zarr").arrays())
    assert sorted((name, array.shape) for name, array in arrays.items()) == [
        ("0", (64, 64)),
        ("1", (32, 32)),
        ("2", (16, 16)),
    ]


# OZ-16
def test_main__every_method_that_is_offered_is_there(tmp_path, capsys):
    """`--method laplacian` crashed."""
    make_array(tmp_path / "raw", BASE, path=None, dims=("y", "x"))
    build = ["build", str(tmp_path / "raw"), str(tmp_path / "p.zarr"), "--factors", "2,", "--quiet"]
    with pytest.raises(SystemExit) as stop:
        main([*build, "--method", "spline"])
    assert stop.value.code == 2
    assert "unknown method 'spline'" in capsys.readouterr().err
    assert not (tmp_path / "p.zarr").exists()
    assert main([*build, "--method", "laplacian"]) == 0
    assert validate(tmp_path / "p.zarr").ok
    assert open_pyramid(tmp_path / "p.zarr")["scale1/image"].shape == (32, 32)


# OZ-17
@pytest.mark.parametrize("dtype", ["bool", "complex64"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_write_pyramid__booleans_and_complex_numbers(tmp_path, dtype, version):
    """The one raised ValueError, the other lost its imaginary part."""
    base = (BASE % 2).astype(dtype) if dtype == "bool" else (BASE + 1j * BASE[::-1]).astype(dtype)
    write_pyramid(base, tmp_path / "p.zarr", scale_factors=[2], method="nearest", version=version)
    for level, expected in enumerate([base, base[::2, ::2]]):
        again = open_pyramid(tmp_path / "p.zarr")[f"scale{level}/image"]
        np.testing.assert_array_equal(again.values, expected)
        assert again.dtype == base.dtype


# OZ-20
@pytest.mark.parametrize(
    ("shape", "dims", "chunks"),
    [
        ((64, 512, 512), "zyx", (64, 64, 64)),
        ((2048, 2048), "yx", (512, 512)),
        ((2, 3, 64, 128, 128), "tczyx", (1, 1, 64, 64, 64)),
        ((30, 40), "yx", (30, 40)),
    ],
    ids=str,
)
def test_write_pyramid__numpy_is_written_in_chunks_of_a_good_size(tmp_path, shape, dims, chunks):
    write_pyramid(to_image(np.zeros(shape, "u1"), dims), tmp_path / "p.zarr", max_levels=1)
    assert zarr.open_array(tmp_path / "p.zarr" / "scale0" / "image").chunks == chunks


#
@pytest.mark.parametrize(
    "stored", [{"chunks": 48}, {"chunks": 24, "shards": 48}, {"chunks": 16, "shards": 96}], ids=str
)
@pytest.mark.parametrize("workers", [2, 5])
def test_write_pyramid__blocks_that_straddle_chunks_and_shards_corrupt_nothing(tmp_path, stored, workers):
    base = noise((96, 96, 96), "uint8")
    blocks = da.from_array(base, chunks=24)
    with dask.config.set(scheduler="threads", num_workers=2):
        write_pyramid(blocks, tmp_path / "p.zarr", scale_factors=[2], workers=workers, **stored)
    again = open_pyramid(tmp_path / "p.zarr")
    np.testing.assert_array_equal(again["scale0/image"].values, base)
    sums = base.reshape(48, 2, 48, 2, 48, 2).sum(axis=(1, 3, 5), dtype="i8")
    # 8 values: the mean lies at a tie where the sum leaves 4.
    quotient, rest = np.divmod(sums, 8)
    half_even = quotient + ((rest > 4) | ((rest == 4) & (quotient % 2 == 1)))
    np.testing.assert_array_equal(again["scale1/image"].values, half_even)
