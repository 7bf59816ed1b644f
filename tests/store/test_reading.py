"""Opening images and pyramids: every form of a store, and what labels them."""

import warnings

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

from multiscale_sampler import add_levels, cli, open_image, open_pyramid, to_image, to_multiscale, write_pyramid

from ..data import Recording, hashes, make_array, noise

VALUES = noise((6, 8, 10))


def ome(datasets, *, axes=None, version="0.5", channels=None, name=None):
    """Return the attributes of an OME-Zarr group with (path, scale, translation) datasets."""
    entry = {
        "axes": axes or [{"name": dim, "type": "space", "unit": "micrometer"} for dim in "zyx"],
        "datasets": [
            {
                "path": path,
                "coordinateTransformations": [
                    {"type": "scale", "scale": scale},
                    *([{"type": "translation", "translation": translation}] if translation else []),
                ],
            }
            for path, scale, translation in datasets
        ],
    }
    if name:
        entry["name"] = name
    display = {"omero": {"channels": [{"label": label} for label in channels]}} if channels else {}
    if version == "0.4":
        return {"multiscales": [{"version": "0.4", **entry}], **display}
    return {"ome": {"version": version, "multiscales": [entry], **display}}


def make_pyramid(store, *, version="0.5", names=("0", "1"), **options):
    """Make a pyramid of two levels as another writer would: no dimension names in zarr v2."""
    zarr_format = 2 if version == "0.4" else 3
    dims = ("z", "y", "x") if zarr_format == 3 else None
    group = zarr.open_group(store, mode="w", zarr_format=zarr_format)
    for path, data in zip(names, (VALUES, VALUES[::2, ::2, ::2]), strict=True):
        make_array(group.store_path, data, path=path, zarr_format=zarr_format, chunks=(2, 4, 4), dims=dims)
    datasets = [(names[0], [4.0, 0.5, 0.25], [10.0, 0.0, 1.0]), (names[1], [8.0, 1.0, 0.5], [12.0, 0.25, 1.125])]
    group.attrs.update(ome(datasets, version=version, **options))
    return group


def assert_level(image, level):
    """Hold an opened image against level 0 or 1 of `make_pyramid`."""
    factor = 2**level
    np.testing.assert_array_equal(image.values, VALUES[::factor, ::factor, ::factor])
    assert image.dims == ("z", "y", "x")
    for dim, origin, scale in [("z", 10, 4), ("y", 0, 0.5), ("x", 1, 0.25)]:
        start = origin + (factor - 1) / 2 * scale
        np.testing.assert_allclose(image[dim].values, start + scale * factor * np.arange(image.sizes[dim]))
        assert image[dim].attrs["units"] == "micrometer"


# --- open_image: where from ------------------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_open_image__takes_every_form_of_a_store(tmp_path, zarr_format):
    root = tmp_path / "a.zarr"
    array = make_array(root, VALUES, path="raw/0", zarr_format=zarr_format, chunks=(2, 4, 5))
    memory = zarr.storage.MemoryStore()
    make_array(memory, VALUES, path="raw/0", zarr_format=zarr_format)
    as_dict = {}
    make_array(as_dict, VALUES, path="raw/0", zarr_format=zarr_format)
    for store, path in [
        (str(root), "raw/0"),
        (root, "raw/0"),
        (root / "raw" / "0", None),
        (root / "raw", "0"),
        (root / "raw", None),
        (f"file://{root}", "raw/0"),
        (zarr.storage.LocalStore(root), "raw/0"),
        (memory, "raw/0"),
        (as_dict, "raw/0"),
        (zarr.open_group(root), "raw/0"),
        (zarr.open_group(root)["raw"], None),
        (array, None),
    ]:
        image = open_image(store, path)
        np.testing.assert_array_equal(image.values, VALUES)
        assert image.dims == ("z", "y", "x")
        assert image.dtype == VALUES.dtype
        assert dask.is_dask_collection(image)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_open_image__reads_a_zip_file(tmp_path, zarr_format):
    with zarr.storage.ZipStore(tmp_path / "a.zip", mode="w") as store:
        make_array(store, VALUES, zarr_format=zarr_format, chunks=(2, 4, 5))
    for place in (tmp_path / "a.zip", str(tmp_path / "a.zip")):
        np.testing.assert_array_equal(open_image(place, "0").values, VALUES)
        np.testing.assert_array_equal(open_image(place).values, VALUES)
    with zarr.storage.ZipStore(tmp_path / "a.zip", mode="r") as store:
        np.testing.assert_array_equal(open_image(store, "0").values, VALUES)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_open_image__keeps_the_attributes_of_an_array(zarr_format):
    array = make_array({}, VALUES, zarr_format=zarr_format, dims=("t", "lat", "lon"), attributes={"units": "K", "n": 3})
    image = open_image(array)
    assert image.dims == ("t", "lat", "lon")
    assert image.attrs == {"units": "K", "n": 3}


def test_open_image__keeps_the_attributes_of_an_array_without_dimension_names():
    array = make_array({}, VALUES, attributes={"units": "K"})
    assert open_image(array).attrs == {"units": "K"}
    assert open_image(array, dims="abc").attrs == {"units": "K"}


def test_open_image__tells_how_values_are_stored():
    array = make_array({}, VALUES, chunks=(2, 2, 5), shards=(4, 4, 10))
    encoding = open_image(array).encoding
    assert encoding["chunks"] == (2, 2, 5)
    assert encoding["shards"] == (4, 4, 10)


def test_open_image__takes_numpy_and_dask():
    for array in (VALUES, da.from_array(VALUES, chunks=(3, 4, 5))):
        image = open_image(array, scale=2.0, units="nanometer", name="em")
        assert image.name == "em"
        assert dask.is_dask_collection(image)
        np.testing.assert_array_equal(image.values, VALUES)
        np.testing.assert_array_equal(image.z.values, 2.0 * np.arange(6))


def test_open_image__keeps_the_labels_of_a_data_array():
    labelled = xr.DataArray(
        VALUES,
        dims=("c", "lat", "lon"),
        coords={"c": list("abcdef"), "lat": np.linspace(50, 43, 8), "mask": ("lon", np.arange(10) > 4)},
        name="tos",
        attrs={"long_name": "temperature"},
    )
    image = open_image(labelled)
    assert image.name == "tos"
    assert image.attrs == labelled.attrs
    xr.testing.assert_identical(image.drop_vars("lon").compute(), labelled)


def test_open_image__keeps_the_labels_of_a_spatial_image():
    si = pytest.importorskip("spatial_image", reason="the extra 'clients' brings spatial-image")
    spatial = si.to_spatial_image(
        VALUES[:3],
        dims=("c", "y", "x"),
        scale={"y": 0.5, "x": 0.25},
        translation={"y": 7.0, "x": -2.0},
        name="nuclei",
        c_coords=["DAPI", "GFP", "RFP"],
        axis_units={"y": "micrometer", "x": "micrometer"},
    )
    image = open_image(spatial)
    assert image.name == "nuclei"
    assert image.c.values.tolist() == ["DAPI", "GFP", "RFP"]
    np.testing.assert_allclose(image.y.values, 7.0 + 0.5 * np.arange(8))
    np.testing.assert_allclose(image.x.values, -2.0 + 0.25 * np.arange(10))
    assert image.y.attrs["units"] == "micrometer"


def test_open_image__overrules_what_is_stored(tmp_path):
    make_pyramid(tmp_path / "p.zarr")
    image = open_image(
        tmp_path / "p.zarr", scale={"z": 3.0}, translation={"x": -1.0}, units={"y": "nanometer"}, name="em"
    )
    assert image.name == "em"
    np.testing.assert_allclose(image.z.values, 10.0 + 3.0 * np.arange(6))
    np.testing.assert_allclose(image.x.values, -1.0 + 0.25 * np.arange(10))
    np.testing.assert_allclose(image.y.values, 0.5 * np.arange(8))
    assert [image[dim].attrs["units"] for dim in "zyx"] == ["micrometer", "nanometer", "micrometer"]


def test_open_image__names_channels():
    image = open_image(noise((2, 4, 4)), dims="cyx", channel_names=["a", "b"])
    assert image.c.values.tolist() == ["a", "b"]


# --- open_image: labels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("names", [("0", "1"), ("scale0/image", "scale1/image")], ids=["flat", "nested"])
@pytest.mark.parametrize("level", [0, 1])
def test_open_image__labels_a_level_from_inside(tmp_path, version, names, level):
    root = tmp_path / "p.zarr"
    group = make_pyramid(root, version=version, names=names)
    for store, path in [
        (root / names[level], None),
        (str(root / names[level]), None),
        (root, names[level]),
        (group, names[level]),
        (group[names[level]], None),
    ]:
        assert_level(open_image(store, path), level)


def test_open_image__labels_a_level_by_a_relative_path(tmp_path, monkeypatch):
    make_pyramid(tmp_path / "p.zarr")
    monkeypatch.chdir(tmp_path / "p.zarr" / "1")
    assert_level(open_image("."), 1)
    monkeypatch.chdir(tmp_path)
    assert_level(open_image("p.zarr/1"), 1)


def test_open_image__labels_a_level_in_a_zip_file(tmp_path):
    with zarr.storage.ZipStore(tmp_path / "p.zip", mode="w") as store:
        dims = ("z", "y", "x")
        group = zarr.create_group(store, attributes=ome([("0", [4.0, 0.5, 0.25], [10.0, 0.0, 1.0])]))
        make_array(group.store_path, VALUES, dims=dims)
    assert_level(open_image(tmp_path / "p.zip"), 0)
    assert_level(open_image(tmp_path / "p.zip", "0"), 0)


def test_open_image__takes_level_0_of_a_pyramid(tmp_path):
    assert_level(open_image(make_pyramid(tmp_path / "p.zarr", names=("s0", "s1"))), 0)


def test_open_image__reads_an_array_that_the_metadata_do_not_name(tmp_path):
    group = make_pyramid(tmp_path / "p.zarr")
    make_array(group.store_path, noise((3, 3)), path="other", dims=("a", "b"))
    image = open_image(group, "other")
    assert image.dims == ("a", "b")
    assert image.sizes == {"a": 3, "b": 3}


def test_open_image__knows_channels_by_their_omero_labels(tmp_path):
    axes = [{"name": "c", "type": "channel"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    group = zarr.open_group(tmp_path / "p.zarr", mode="w")
    make_array(group.store_path, noise((2, 4, 4)), dims=("c", "y", "x"))
    group.attrs.update(ome([("0", [1.0, 1.0, 1.0], None)], axes=axes, channels=["DAPI", "GFP"]))
    assert open_image(group).c.values.tolist() == ["DAPI", "GFP"]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_open_image__reads_what_xarray_wrote(tmp_path, zarr_format):
    written = xr.Dataset(
        {"sst": (("time", "lat", "lon"), noise((3, 4, 5), "float32"), {"units": "degC", "long_name": "sea"})},
        coords={
            "time": ("time", np.array(["2001-01-16", "2001-02-15", "2001-03-16"], "M8[ns]"), {"axis": "T"}),
            "lat": ("lat", [60.0, 30.0, 10.0, -20.0], {"units": "degrees_north"}),
            "lon": ("lon", [0.0, 2.0, 4.0, 6.0, 8.0], {"units": "degrees_east"}),
            "area": (("lat", "lon"), noise((4, 5), "float64")),
            "run": 7,
        },
    )
    written.to_zarr(tmp_path / "x.zarr", zarr_format=zarr_format, consolidated=False)
    expected = xr.open_zarr(tmp_path / "x.zarr", consolidated=False)["sst"].load()
    image = open_image(tmp_path / "x.zarr", "sst").load()
    np.testing.assert_array_equal(image.values, expected.values)
    assert set(image.coords) == {"time", "lat", "lon", "area", "run"}
    for name in image.coords:
        np.testing.assert_array_equal(image[name].values, expected[name].values)
    assert image.attrs == {"units": "degC", "long_name": "sea"}
    assert image.time.dtype.kind == "M"
    assert image.lon.attrs["units"] == "degrees_east"
    assert image.name == "sst"


def test_open_image__finds_the_coordinates_beside_an_array_opened_by_its_own_path(tmp_path):
    data = xr.DataArray(VALUES, dims=("z", "y", "x"), coords={"x": 5.0 + 0.5 * np.arange(10)}, name="image")
    data.to_dataset().to_zarr(tmp_path / "x.zarr", consolidated=False)
    np.testing.assert_array_equal(open_image(tmp_path / "x.zarr" / "image").x.values, data.x.values)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("chunks", ["auto", {}], ids=["auto", "stored"])
def test_open_image__decodes_what_is_packed(tmp_path, zarr_format, chunks):
    values = np.array([[0.5, np.nan, 2.0], [np.nan, 1.5, -3.0]])
    written = xr.Dataset({"t": (("y", "x"), values)})
    encoding = {"t": {"dtype": "int16", "scale_factor": 0.5, "add_offset": 1.0, "_FillValue": -999}}
    written.to_zarr(tmp_path / "x.zarr", zarr_format=zarr_format, encoding=encoding, consolidated=False)
    image = open_image(tmp_path / "x.zarr", "t", chunks=chunks)
    assert dask.is_dask_collection(image)
    np.testing.assert_array_equal(image.values, values)
    assert image.attrs == {}


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_open_image__decodes_the_fill_value_of_floats(tmp_path, zarr_format, dtype):
    values = np.array([[0.5, np.nan, 2.0], [np.nan, 1.5, -3.0]], dtype)
    written = xr.Dataset({"t": (("y", "x"), values)})
    written.to_zarr(
        tmp_path / "x.zarr", zarr_format=zarr_format, encoding={"t": {"_FillValue": -9.0}}, consolidated=False
    )
    image = open_image(tmp_path / "x.zarr", "t")
    np.testing.assert_array_equal(image.values, values)
    assert image.dtype == dtype
    assert image.attrs == {}


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_open_image__leaves_integers_alone_where_nothing_is_packed(zarr_format):
    array = make_array({}, np.array([[0, 1], [2, 0]], "u2"), zarr_format=zarr_format, fill_value=0, dims=("y", "x"))
    image = open_image(array)
    assert image.dtype == np.uint16
    assert image.values.tolist() == [[0, 1], [2, 0]]


def test_open_image__keeps_positions_of_a_calendar_without_numpy_dates(tmp_path):
    group = zarr.open_group(tmp_path / "x.zarr", mode="w")
    make_array(group.store_path, noise((3, 4)), path="t", dims=("time", "x"))
    attributes = {"units": "days since 2001-01-01", "calendar": "no such calendar"}
    make_array(group.store_path, np.array([15.0, 45.0, 75.0]), path="time", dims=("time",), attributes=attributes)
    assert open_image(group, "t").time.values.tolist() == [15.0, 45.0, 75.0]


def test_open_image__reads_string_coordinates(tmp_path):
    data = xr.Dataset({"image": (("c", "x"), noise((2, 4)))}, coords={"c": ["DAPI", "GFP"]})
    for zarr_format in (2, 3):
        with warnings.catch_warnings():
            # zarr v3 has no final specification of strings.
            warnings.simplefilter("ignore")
            data.to_zarr(tmp_path / f"x{zarr_format}.zarr", zarr_format=zarr_format, consolidated=False)
        image = open_image(tmp_path / f"x{zarr_format}.zarr", "image")
        assert image.c.values.tolist() == ["DAPI", "GFP"]


# --- open_image: lazy ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_open_image__reads_no_chunk_of_the_image(zarr_format):
    store = Recording(zarr.storage.MemoryStore())
    array = make_array(store, VALUES, path="raw/0", zarr_format=zarr_format, chunks=(2, 4, 5), dims=("z", "y", "x"))
    make_array(store, np.arange(6.0) * 50, path="raw/z", zarr_format=zarr_format, dims=("z",))
    image = open_image(store, "raw/0", scale={"y": 2.0}, units="micrometer")
    assert image.z.values[1] == 50
    assert not [key for key in store.chunks("read") if key.startswith("raw/0/")]
    image.isel(z=slice(0, 2)).compute(scheduler="sync")
    assert array.store_path.store is not None
    assert [key for key in store.chunks("read") if key.startswith("raw/0/")]


@pytest.mark.parametrize("call", [open_pyramid, lambda s: to_multiscale(open_image(s), [2, 4])])
def test_reading__a_pyramid_reads_no_chunk(call):
    store = Recording(zarr.storage.MemoryStore())
    make_pyramid(store)
    call(store)
    assert not store.chunks("read")


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ({}, ((2, 2, 2), (4, 4), (5, 5))),
        ({"z": 6, "y": 2}, ((6,), (2, 2, 2, 2), (5, 5))),
        ((3, 8, 10), ((3, 3), (8,), (10,))),
        ("auto", ((6,), (8,), (10,))),
    ],
)
@pytest.mark.parametrize("dims", [None, ("z", "y", "x")], ids=["unnamed", "named"])
def test_open_image__takes_chunks(chunks, expected, dims):
    array = make_array({}, VALUES, chunks=(2, 4, 5), dims=dims)
    assert open_image(array, chunks=chunks).chunks == expected


def test_open_image__takes_chunks_by_the_dims_it_gives():
    array = make_array({}, VALUES, chunks=(2, 4, 5))
    assert open_image(array, dims=("a", "b", "c"), chunks={"b": 2}).chunksizes["b"] == (2, 2, 2, 2)


def test_open_image__joins_stored_chunks_to_blocks_of_a_good_size():
    array = zarr.create_array({}, shape=(2048, 2048, 2048), chunks=(64, 64, 64), dtype="u2")
    blocks = open_image(array).data.chunksize
    assert all(block % 64 == 0 for block in blocks)
    assert 2**22 <= np.prod(blocks) * 2 <= 2**25


def test_open_image__refuses_chunks_of_unknown_dims():
    array = make_array({}, VALUES, chunks=(2, 4, 5), dims=("z", "y", "x"))
    with pytest.raises(ValueError, match="q"):
        open_image(array, chunks={"q": 2})


# --- open_image: errors ----------------------------------------------------------------------------------------


def test_open_image__refuses_a_group_of_several_arrays(tmp_path):
    for path in ("b", "a"):
        make_array(tmp_path / "a.zarr", noise((4, 4)), path=path)
    make_array(tmp_path / "a.zarr", noise((4, 4)), path="sub/deep")
    with pytest.raises(ValueError, match=r"'a' \(4, 4\), 'b' \(4, 4\); groups: 'sub'.*path="):
        open_image(tmp_path / "a.zarr")


def test_open_image__refuses_an_empty_group(tmp_path):
    zarr.open_group(tmp_path / "a.zarr", mode="w")
    with pytest.raises(ValueError, match=r"arrays: none; groups: none"):
        open_image(tmp_path / "a.zarr")


def test_open_image__passes_over_coordinate_arrays(tmp_path):
    data = xr.DataArray(VALUES, dims=("z", "y", "x"), coords={"x": np.arange(10.0)}, name="image")
    data.to_dataset().to_zarr(tmp_path / "x.zarr", consolidated=False)
    assert open_image(tmp_path / "x.zarr").name == "image"


@pytest.mark.parametrize("path", ["nope", "raw/nope", "raw/0/nope"])
def test_open_image__names_the_missing_path(tmp_path, path):
    make_array(tmp_path / "a.zarr", VALUES, path="raw/0")
    with pytest.raises(FileNotFoundError, match=path):
        open_image(tmp_path / "a.zarr", path)


def test_open_image__refuses_a_path_beside_an_array_in_memory():
    with pytest.raises(ValueError, match="path"):
        open_image(VALUES, "0")


def test_open_image__names_an_array_that_metadata_promise(tmp_path):
    group = make_pyramid(tmp_path / "p.zarr")
    del group["0"]
    with pytest.raises(ValueError, match="'0'"):
        open_image(group)


@pytest.mark.parametrize(
    "options",
    [
        {"dims": "yx"},
        {"dims": ("z", "z", "x")},
        {"scale": {"q": 2.0}},
        {"scale": (1.0, 2.0)},
        {"translation": {"q": 2.0}},
        {"units": {"q": "meter"}},
        {"channel_names": ["a"]},
    ],
    ids=str,
)
def test_open_image__refuses_labels_that_do_not_fit(options):
    with pytest.raises(ValueError, match=r"dims|give|name"):
        open_image(make_array({}, VALUES), **options)


def test_open_image__asks_for_the_dims_of_more_than_three_axes():
    with pytest.raises(ValueError, match="dims="):
        open_image(make_array({}, noise((2, 2, 2, 2))))


# --- open_pyramid ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("names", [("0", "1"), ("scale0/image", "scale1/image")], ids=["flat", "nested"])
def test_open_pyramid__reads_other_writers(tmp_path, version, names):
    make_pyramid(tmp_path / "p.zarr", version=version, names=names, name="em")
    tree = open_pyramid(tmp_path / "p.zarr")
    assert list(tree.children) == ["scale0", "scale1"]
    name = "em" if names[0] == "0" else "image"
    for level in (0, 1):
        image = tree[f"scale{level}/{name}"]
        assert dask.is_dask_collection(image)
        assert_level(image, level)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_open_pyramid__gives_the_same_tree_by_every_path(tmp_path, version):
    make_pyramid(tmp_path / "all.zarr" / "field1", version=version, name="em")
    zarr.open_group(tmp_path / "all.zarr", mode="a", zarr_format=2 if version == "0.4" else 3)
    direct = open_pyramid(tmp_path / "all.zarr" / "field1")
    inside = open_pyramid(tmp_path / "all.zarr", "field1")
    group = open_pyramid(zarr.open_group(tmp_path / "all.zarr")["field1"])
    assert list(direct["scale0"].data_vars) == ["em"]
    for tree in (inside, group):
        xr.testing.assert_identical(tree, direct)


@pytest.mark.parametrize("names", [("0", "1"), ("scale0/image", "scale1/image")], ids=["flat", "nested"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_open_pyramid__takes_chunks_by_dim(tmp_path, names, version):
    make_pyramid(tmp_path / "p.zarr", version=version, names=names)
    image = next(iter(open_pyramid(tmp_path / "p.zarr", chunks={"z": 6, "x": 2})["scale0"].data_vars.values()))
    assert image.chunksizes["z"] == (6,)
    assert image.chunksizes["x"] == (2, 2, 2, 2, 2)
    assert image.chunksizes["y"] == (4, 4)


def test_open_pyramid__reads_a_zip_file(tmp_path):
    with zarr.storage.ZipStore(tmp_path / "p.zip", mode="w") as store:
        dims = ("z", "y", "x")
        datasets = [("0", [4.0, 0.5, 0.25], [10.0, 0.0, 1.0])]
        group = zarr.create_group(store, attributes=ome(datasets, name="em"))
        make_array(group.store_path, VALUES, dims=dims)
    assert_level(open_pyramid(tmp_path / "p.zip")["scale0/em"], 0)


@pytest.mark.parametrize("layout", ["datatree", "flat"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_open_pyramid__returns_all_that_write_pyramid_wrote(tmp_path, layout, version):
    image = to_image(
        noise((2, 3, 9, 12)),
        "tcyx",
        scale={"t": 0.5, "y": 2.0, "x": 3.0},
        translation={"y": 7.0},
        units={"t": "second", "y": "micrometer", "x": "micrometer"},
        name="cells",
        channel_names=["DAPI", "GFP", "RFP"],
    ).assign_attrs(sample="s1", numbers=[1, 2])
    tree = to_multiscale(image, [2, 3])
    write_pyramid(image, tmp_path / "p.zarr", scale_factors=[2, 3], layout=layout, version=version)
    again = open_pyramid(tmp_path / "p.zarr")
    for level in tree.children:
        # Chosen in writing; what it says is a matter of test_display.
        assert len(again[f"{level}/cells"].c.attrs.pop("omero")["channels"]) == 3
        xr.testing.assert_identical(again[f"{level}/cells"].load(), tree[f"{level}/cells"].load())


def test_open_pyramid__keeps_attributes_that_are_not_about_the_pyramid(tmp_path):
    make_pyramid(tmp_path / "p.zarr").attrs["study"] = {"id": 3}
    assert open_pyramid(tmp_path / "p.zarr").attrs == {"study": {"id": 3}}


@pytest.mark.parametrize("names", [("0", "1"), ("scale0/image", "scale1/image")], ids=["flat", "nested"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_open_pyramid__passes_over_files_that_are_no_zarr(tmp_path, names, version):
    # File managers and people leave such files; zarr warns of them when it lists a folder.
    make_pyramid(tmp_path / "p.zarr", version=version, names=names, name="image")
    (tmp_path / "p.zarr" / ".DS_Store").write_text("a file manager was here")
    (tmp_path / "p.zarr" / "README.txt").write_text("read me")
    assert_level(open_pyramid(tmp_path / "p.zarr")["scale1/image"], 1)
    assert_level(open_image(tmp_path / "p.zarr"), 0)


def test_open_pyramid__changes_no_file(tmp_path):
    make_pyramid(tmp_path / "p.zarr")
    before = hashes(tmp_path)
    open_pyramid(tmp_path / "p.zarr")["scale1"].load()
    open_image(tmp_path / "p.zarr").load()
    assert hashes(tmp_path) == before


def test_open_pyramid__refuses_an_array(tmp_path):
    make_array(tmp_path / "a.zarr", VALUES)
    with pytest.raises(ValueError, match="open it with open_image"):
        open_pyramid(tmp_path / "a.zarr", "0")


def test_open_pyramid__refuses_a_group_without_metadata(tmp_path):
    make_array(tmp_path / "a.zarr", VALUES)
    with pytest.raises(ValueError, match=r"no OME-NGFF multiscales.*open_image"):
        open_pyramid(tmp_path / "a.zarr")


def test_open_pyramid__names_the_missing_place(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.zarr"):
        open_pyramid(tmp_path / "nothing.zarr")
    make_pyramid(tmp_path / "p.zarr")
    with pytest.raises(FileNotFoundError, match="nope"):
        open_pyramid(tmp_path / "p.zarr", "nope")
    with pytest.raises(FileNotFoundError, match="nope"):
        open_pyramid(zarr.open_group(tmp_path / "p.zarr"), "nope")


@pytest.mark.parametrize("level", ["0", "1"])
def test_open_pyramid__names_an_array_that_metadata_promise(tmp_path, level):
    group = make_pyramid(tmp_path / "p.zarr")
    del group[level]
    with pytest.raises(ValueError, match=f"'{level}'"):
        open_pyramid(tmp_path / "p.zarr")


def test_open_pyramid__names_metadata_that_do_not_fit_the_array(tmp_path):
    group = make_pyramid(tmp_path / "p.zarr")
    axes = [{"name": dim, "type": "space"} for dim in "yx"]
    group.attrs.update(ome([("0", [1.0, 1.0], None), ("1", [2.0, 2.0], None)], axes=axes))
    with pytest.raises(ValueError, match="axes"):
        open_pyramid(tmp_path / "p.zarr")


def test_open_pyramid__says_what_it_assumes(tmp_path):
    group = zarr.open_group(tmp_path / "old.zarr", mode="w", zarr_format=2)
    for path, size in (("0", 8), ("1", 4)):
        make_array(group.store_path, noise((1, 2, 3, size, size)), path=path, zarr_format=2)
    group.attrs["multiscales"] = [{"version": "0.1", "datasets": [{"path": "0"}, {"path": "1"}]}]
    with pytest.warns(UserWarning, match=r"0\.1.*assumed: axes t, c, z, y, x; scale 1"):
        tree = open_pyramid(tmp_path / "old.zarr")
    assert tree["scale1/image"].dims == ("t", "c", "z", "y", "x")
    assert tree["scale1/image"].x.values.tolist() == [0.5, 2.5, 4.5, 6.5]


def test_open_pyramid__reads_what_add_levels_made(tmp_path):
    make_array(tmp_path / "a.zarr", VALUES, path="field/0", chunks=(2, 4, 4), dims=("z", "y", "x"))
    add_levels(tmp_path / "a.zarr", "field", scale_factors=[2], scale=3.0)
    tree = open_pyramid(tmp_path / "a.zarr", "field")
    assert list(tree["scale1"].data_vars) == ["field"]
    assert tree["scale1/field"].x.values.tolist() == [1.5, 7.5, 13.5, 19.5, 25.5]


def bad_metadata():
    """Yield kinds of metadata above an array "0" that cannot be read: changes of a good document."""

    def entry(change):
        def changed(document):
            change(document["ome"]["multiscales"][0])
            return document

        return changed

    def transforms(*given):
        return entry(lambda said: said["datasets"][0].update(coordinateTransformations=list(given)))

    scale = {"type": "scale", "scale": [1, 1, 1]}
    yield "scale of 0", transforms({"type": "scale", "scale": [0.0, 1, 1]})
    yield "scale of NaN", transforms({"type": "scale", "scale": [float("nan"), 1, 1]})
    yield "infinite translation", transforms(scale, {"type": "translation", "translation": [float("inf"), 0, 0]})
    yield "scale of another length", transforms({"type": "scale", "scale": [1, 1]})
    yield "lengths that differ", transforms(scale, {"type": "translation", "translation": [0, 0]})
    yield "scale of texts", transforms({"type": "scale", "scale": ["1", "1", "1"]})
    yield "scale without numbers", transforms({"type": "scale", "path": "numbers"})
    yield "scale that is a number", transforms({"type": "scale", "scale": 1})
    yield "rotation", transforms({"type": "rotation", "rotation": [1, 0, 0, 1]})
    yield "transformation that is a text", transforms("scale")
    yield "repeated axes", entry(lambda said: said.update(axes=[{"name": "x"}] * 3))
    yield "too few axes", entry(lambda said: said.update(axes=said["axes"][:2]))
    yield "axes without names", entry(lambda said: said.update(axes=[{"type": "space"}] * 3))
    yield "axes that are a number", entry(lambda said: said.update(axes=3))
    yield "dataset without a path", entry(lambda said: said["datasets"].append({}))
    yield "path that is a number", entry(lambda said: said["datasets"].append({"path": 1}))
    yield "no datasets", entry(lambda said: said.update(datasets=[]))
    yield "entry that is a text", lambda document: {"ome": {**document["ome"], "multiscales": ["0"]}}


KINDS_OF_BAD_METADATA = list(bad_metadata())


@pytest.mark.parametrize(
    "change", [kind[1] for kind in KINDS_OF_BAD_METADATA], ids=[k[0] for k in KINDS_OF_BAD_METADATA]
)
def test_open_image__takes_arguments_before_metadata_that_cannot_be_read(tmp_path, capsys, change):
    place = tmp_path / "bad"
    group = zarr.open_group(place, mode="w")
    group.create_array("0", data=VALUES)
    group.attrs.put(change(ome([("0", [1, 1, 1], None)])))
    where = {"dims": "tyx", "scale": {"t": 2, "y": 0.5, "x": 0.5}, "units": {"x": "um"}}
    array = zarr.open_array(place / "0", mode="r")
    for opened in (
        lambda **options: open_image(place / "0", **options),
        lambda **options: open_image(array, **options),
    ):
        with pytest.raises(ValueError, match=r"to open an array without these metadata, .*dims="):
            opened()
        for options in (where, {"dims": "tyx"}, {"scale": 2.0}, {"units": "um"}):
            with pytest.warns(UserWarning, match="are not used, as they cannot be read"):
                image = opened(**options)
            np.testing.assert_array_equal(image.values, VALUES)
            assert image.dims == tuple(options.get("dims", "zyx"))
    with pytest.warns(UserWarning, match="are not used, as they cannot be read"):
        image = open_image(place, "0", **where)
    assert image.dims == ("t", "y", "x")
    np.testing.assert_array_equal(image.t, 2.0 * np.arange(6))
    with pytest.warns(UserWarning, match="are not used"):
        assert open_image(group, dims="tyx").shape == VALUES.shape
    with pytest.raises(ValueError, match=r"path=.*dims="):
        open_image(place)
    build = ["build", str(place), str(tmp_path / "out"), "--factors", "2,", "--quiet"]
    assert cli.main(build) == 1
    assert "name it with --path, and its axes with --dims" in capsys.readouterr().err
    assert cli.main([*build, "--path", "0", "--dims", "tyx", "--scale", "2,0.5,0.5"]) == 0
    error = capsys.readouterr().err
    assert error.count("are not used, as they cannot be read") == 1
    np.testing.assert_array_equal(open_pyramid(tmp_path / "out")["scale0"].t, 2.0 * np.arange(6))


def test_open_image__under_a_group_that_is_not_json_takes_arguments(tmp_path):
    group = zarr.open_group(tmp_path / "bad", mode="w")
    group.create_array("0", data=VALUES)
    (tmp_path / "bad/zarr.json").write_text("{")
    with pytest.raises(ValueError, match="dims="):
        open_image(tmp_path / "bad/0")
    with pytest.warns(UserWarning, match="are not used"):
        assert open_image(tmp_path / "bad/0", dims="tyx").dims == ("t", "y", "x")


def test_open_image__of_a_wrong_option_says_nothing_of_metadata(tmp_path):
    zarr.create_array(str(tmp_path / "a"), data=VALUES, dimension_names=("z", "y", "x"))
    with pytest.raises(ValueError, match=r"chunks name \['q'\]") as caught:
        open_image(tmp_path / "a", chunks={"q": 1})
    assert "metadata" not in str(caught.value)
