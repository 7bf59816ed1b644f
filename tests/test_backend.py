"""The engine "multiscale" of xarray, compared with `open_pyramid` and with xarray's own engine for zarr."""

import pickle
import zipfile

import numpy as np
import pytest
import xarray as xr
import zarr

from multiscale_sampler import open_pyramid, to_image, to_multiscale, write_labels, write_pyramid
from multiscale_sampler.backend import MultiscaleBackendEntrypoint as Engine

from .data import Recording, hashes, make_array, noise
from .oracles import expected_level

BASE = noise((2, 40, 60))
LABELLED = to_image(
    BASE,
    "cyx",
    scale={"y": 0.5, "x": 0.25},
    translation={"x": -3.0},
    units="micrometer",
    channel_names=["DAPI", "GFP"],
    name="cells",
)
STORED = [(layout, version) for layout in ("datatree", "flat") for version in ("0.4", "0.5")]


def write(store, layout="datatree", version="0.5", **options):
    options = {"chunks": {"c": 1, "y": 16, "x": 16}, **options}
    write_pyramid(LABELLED, store, scale_factors=[2, 4], layout=layout, version=version, **options)


@pytest.fixture(scope="module", params=STORED, ids=lambda stored: "-".join(stored))
def path(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "p.zarr"
    write(path, *request.param)
    return path


def test_engine__is_registered_with_xarray(path):
    assert isinstance(xr.backends.list_engines()["multiscale"], Engine)
    tree = xr.open_datatree(path, engine="multiscale")
    xr.testing.assert_identical(tree, open_pyramid(path))
    assert tree["scale1/cells"].x.attrs["units"] == "micrometer"


def test_open_datatree__equals_open_pyramid(path):
    expected = open_pyramid(path)
    tree = xr.open_datatree(path, engine=Engine)
    xr.testing.assert_identical(tree, expected)
    for level, factor in (("scale0", 1), ("scale1", 2), ("scale2", 4)):
        image = tree[level]["cells"]
        np.testing.assert_array_equal(image.values, expected_level(BASE, (1, factor, factor)) if factor > 1 else BASE)
        np.testing.assert_allclose(image.x.values[0], -3.0 + (factor - 1) / 2 * 0.25)
        assert image.c.values.tolist() == ["DAPI", "GFP"]
    groups = xr.open_groups(path, engine=Engine)
    assert list(groups) == ["/", "/scale0", "/scale1", "/scale2"]
    xr.testing.assert_identical(groups["/scale2"], expected["scale2"].to_dataset())


@pytest.mark.parametrize("level", [0, 2])
def test_open_dataset__opens_one_level(path, level):
    expected = open_pyramid(path)[f"scale{level}"].to_dataset()
    xr.testing.assert_identical(xr.open_dataset(path, engine=Engine, level=level), expected)
    xr.testing.assert_identical(xr.open_dataarray(path, engine=Engine, level=level), expected["cells"])


def test_open_dataset__opens_level_0_by_default(path):
    xr.testing.assert_identical(xr.open_dataset(path, engine=Engine), open_pyramid(path)["scale0"].to_dataset())


@pytest.mark.parametrize("level", [-1, 3, "scale1"])
def test_open_dataset__refuses_a_level_that_does_not_exist(path, level):
    with pytest.raises((ValueError, TypeError), match=r"level=|integer"):
        xr.open_dataset(path, engine=Engine, level=level)


# --- xarray's options ------------------------------------------------------------------------------------------


def test_chunks__none_reads_lazily_without_dask():
    store = Recording(zarr.storage.MemoryStore())
    write(store)
    store.log["read"].clear()
    image = xr.open_datatree(store, engine=Engine)["scale0/cells"]
    assert image.chunks is None
    assert not any("/cells/" in key for key in store.chunks("read"))
    store.log["read"].clear()
    np.testing.assert_array_equal(image[1, 3:9, 2].values, BASE[1, 3:9, 2])
    np.testing.assert_array_equal(image.isel(y=[1, 30], x=[5, 2]).isel(c=0).values, BASE[0][np.ix_([1, 30], [5, 2])])
    assert set(store.chunks("read")) == {f"scale0/cells/c/{c}/{y}/0" for c, y in ((1, 0), (0, 0), (0, 1))}


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [({}, (1, 16, 16)), ({"y": 40}, (1, 40, 16)), (-1, (2, 40, 60)), ({"c": 1, "y": 10, "x": 30}, (1, 10, 30))],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:The specified chunks separate the stored chunks:UserWarning")
def test_chunks__are_those_of_xarrays_engine_for_zarr(tmp_path, chunks, expected):
    write(tmp_path / "p.zarr")
    tree = xr.open_datatree(tmp_path / "p.zarr", engine=Engine, chunks=chunks)
    expected_tree = xr.open_datatree(tmp_path / "p.zarr", engine="zarr", chunks=chunks)
    for level in ("scale0", "scale1", "scale2"):
        assert tree[level]["cells"].chunks == expected_tree[level]["cells"].chunks
        # Levels have the same variable name: dask must not confuse them.
        np.testing.assert_array_equal(tree[level]["cells"].values, expected_tree[level]["cells"].values)
    assert tree["scale0/cells"].data.chunksize == expected


def test_chunks__empty_are_those_of_open_pyramid(tmp_path):
    write(tmp_path / "p.zarr", chunks={"c": 1, "y": 8, "x": 8}, shards={"c": 2, "y": 16, "x": 32})
    tree = xr.open_datatree(tmp_path / "p.zarr", engine=Engine, chunks={})
    assert tree["scale0/cells"].data.chunksize == (2, 16, 32)
    assert tree["scale0/cells"].chunks == open_pyramid(tmp_path / "p.zarr", chunks={})["scale0/cells"].chunks


@pytest.mark.parametrize("names", ["cells", ["cells", "c"], ("nothing",)], ids=str)
def test_drop_variables__drops_these_and_no_others(path, names):
    dropped = {names} if isinstance(names, str) else set(names)
    tree = xr.open_datatree(path, engine=Engine, drop_variables=names)
    for node in tree.children.values():
        assert set(node.variables) == {"cells", "c", "y", "x"} - dropped
    level = xr.open_dataset(path, engine=Engine, level=1, drop_variables=names)
    xr.testing.assert_identical(level, tree["scale1"].to_dataset())


def test_group__opens_a_pyramid_inside_a_store(tmp_path):
    write_pyramid(
        noise((30, 20), "uint32"), zarr.open_group(tmp_path / "a.zarr", path="labels/nuclei", mode="w"), mode="w"
    )
    expected = open_pyramid(tmp_path / "a.zarr", "labels/nuclei")
    tree = xr.open_datatree(tmp_path / "a.zarr", engine=Engine, group="labels/nuclei")
    xr.testing.assert_identical(tree, expected)
    level = xr.open_dataset(tmp_path / "a.zarr", engine=Engine, group="labels/nuclei", level=0)
    xr.testing.assert_identical(level, expected["scale0"].to_dataset())


@pytest.mark.parametrize("layout", ["datatree", "flat"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_group__opens_a_node_of_the_tree(tmp_path, layout, slash):
    write(tmp_path / "p.zarr", layout=layout)
    write_labels(to_image(noise((40, 60), "uint32")), tmp_path / "p.zarr", "nuclei", method="nearest")
    whole = xr.open_datatree(tmp_path / "p.zarr", engine=Engine)
    for group in ("scale1", "labels/nuclei/scale2"):
        level = xr.open_dataset(tmp_path / "p.zarr", engine=Engine, group=slash + group, chunks={})
        xr.testing.assert_identical(level, whole[group].to_dataset())
        assert all(variable.chunks for variable in level.data_vars.values())
        tree = xr.open_datatree(tmp_path / "p.zarr", engine=Engine, group=slash + group)
        xr.testing.assert_identical(tree.to_dataset(), whole[group].to_dataset())
        assert not tree.children
    labels = xr.open_datatree(tmp_path / "p.zarr", engine=Engine, group=slash + "labels", drop_variables="y")
    assert [node.path for node in labels.leaves] == [f"/nuclei/scale{number}" for number in range(3)]
    assert set(labels["nuclei/scale1"].variables) == {"nuclei", "x"}
    groups = xr.open_groups(tmp_path / "p.zarr", engine=Engine, group=slash + "labels/nuclei")
    assert set(groups) == {"/", "/scale0", "/scale1", "/scale2"}
    with pytest.raises(ValueError, match="both select a level"):
        xr.open_dataset(tmp_path / "p.zarr", engine=Engine, group="scale1", level=1)
    with pytest.raises(FileNotFoundError, match="'nothing'"):
        xr.open_datatree(tmp_path / "p.zarr", engine=Engine, group="nothing")


@pytest.mark.parametrize("chunks", [None, {}], ids=str)
def test_labels__are_opened_with_their_image(tmp_path, chunks):
    write(tmp_path / "p.zarr")
    write_labels(noise((40, 60), "uint32"), tmp_path / "p.zarr", "nuclei")
    expected = open_pyramid(tmp_path / "p.zarr")
    tree = xr.open_datatree(tmp_path / "p.zarr", engine=Engine, chunks=chunks)
    xr.testing.assert_identical(tree, expected)
    assert tree["labels/nuclei/scale1/nuclei"].shape == (20, 30)
    with pytest.raises(ValueError, match=r"level=3 .* 0 to 2"):
        xr.open_dataset(tmp_path / "p.zarr", engine=Engine, level=3)


@pytest.mark.parametrize("option", ["mask_and_scale", "decode_times", "consolidated"])
def test_options__of_other_engines_are_refused(path, option):
    with pytest.raises(TypeError, match=option):
        xr.open_datatree(path, engine=Engine, **{option: True})


def test_create_default_indexes__indexes_all_axes(path):
    tree = xr.open_datatree(path, engine=Engine, create_default_indexes=True)
    assert set(tree["scale0"].xindexes) == {"c", "y", "x"}


# --- stores ----------------------------------------------------------------------------------------------------


def test_stores__of_every_type(tmp_path):
    memory, mapping, url = zarr.storage.MemoryStore(), {}, f"memory://{tmp_path.name}/p.zarr"
    for store in (memory, mapping, url, tmp_path / "p.zarr"):
        write(store)
    with zipfile.ZipFile(tmp_path / "p.zarr.zip", "w", zipfile.ZIP_STORED) as file:
        for path in sorted((tmp_path / "p.zarr").rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(tmp_path / "p.zarr"))
    for store in (
        memory,
        mapping,
        url,
        str(tmp_path / "p.zarr"),
        zarr.open_group(tmp_path / "p.zarr"),
        tmp_path / "p.zarr.zip",
    ):
        for chunks in (None, {}):
            tree = xr.open_datatree(store, engine=Engine, chunks=chunks)
            np.testing.assert_array_equal(tree["scale2/cells"].values, expected_level(BASE, (1, 4, 4)))


def test_stores__of_other_tools_have_coordinates(tmp_path):
    """NZ-14: xarray's own engine cannot open a 0.4 store without dimension names."""
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    for path, data in (("0", BASE[0]), ("1", BASE[0][::2, ::2])):
        make_array(group.store_path, data, path=path, zarr_format=2, chunks=(16, 16))
    transforms = [
        [{"type": "scale", "scale": [f * 2.0, f * 3.0]}, {"type": "translation", "translation": [5.0, 0.0]}]
        for f in (1, 2)
    ]
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "yx"]
    datasets = [{"path": str(i), "coordinateTransformations": t} for i, t in enumerate(transforms)]
    group.attrs["multiscales"] = [{"version": "0.4", "name": "em", "axes": axes, "datasets": datasets}]
    with pytest.raises(KeyError, match="_ARRAY_DIMENSIONS"):
        xr.open_datatree(tmp_path / "a.zarr", engine="zarr", consolidated=False)
    level = xr.open_datatree(tmp_path / "a.zarr", engine=Engine)["scale1/em"]
    np.testing.assert_array_equal(level.values, BASE[0][::2, ::2])
    np.testing.assert_array_equal(level.y.values, 5.0 + 4.0 * np.arange(20))
    np.testing.assert_array_equal(level.x.values, 6.0 * np.arange(30))
    assert level.x.attrs["units"] == "nanometer"


def test_stores__without_a_pyramid_are_refused(tmp_path):
    make_array(tmp_path / "a.zarr", BASE, path="0")
    with pytest.raises(ValueError, match="no OME-NGFF multiscales"):
        xr.open_datatree(tmp_path / "a.zarr", engine=Engine)
    with pytest.raises(FileNotFoundError, match=r"nothing\.zarr"):
        xr.open_dataset(tmp_path / "nothing.zarr", engine=Engine)


@pytest.mark.parametrize("name", ["p.zarr", "p.ome.zarr", "p"])
def test_guess_can_open__claims_no_store(tmp_path, name):
    """Stores are opened by the engine that opened them before, unless this engine is requested."""
    write(tmp_path / name)
    assert not Engine().guess_can_open(tmp_path / name)
    if name.endswith(".zarr"):
        assert xr.backends.plugins.guess_engine(tmp_path / name) == "zarr"
        assert xr.open_datatree(tmp_path / name).attrs["ome"]


# --- writing what it opened ------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [None, {}], ids=str)
def test_trees__can_be_written_again(tmp_path, chunks):
    write(tmp_path / "p.zarr")
    tree = xr.open_datatree(tmp_path / "p.zarr", engine=Engine, chunks=chunks)
    write_pyramid(tree, tmp_path / "again.zarr")
    xr.testing.assert_identical(open_pyramid(tmp_path / "again.zarr"), open_pyramid(tmp_path / "p.zarr"))
    level = xr.open_dataset(tmp_path / "p.zarr", engine=Engine, level=1, chunks=chunks)
    again = to_multiscale(level, [2])
    np.testing.assert_array_equal(
        again["scale1/cells"].values, expected_level(expected_level(BASE, (1, 2, 2)), (1, 2, 2))
    )


@pytest.mark.parametrize("chunks", [None, {}], ids=str)
def test_trees__are_not_written_over_their_own_store(tmp_path, chunks):
    """MSI-1, through this engine: writing refuses a target that contains the source."""
    write(tmp_path / "p.zarr")
    before = hashes(tmp_path)
    tree = xr.open_datatree(tmp_path / "p.zarr", engine=Engine, chunks=chunks)
    with pytest.raises((ValueError, FileExistsError), match="destroy"):
        write_pyramid(tree, tmp_path / "p.zarr", mode="w")
    assert hashes(tmp_path) == before


def test_levels__can_be_pickled(tmp_path):
    write(tmp_path / "p.zarr")
    for chunks in (None, {}):
        level = xr.open_dataset(tmp_path / "p.zarr", engine=Engine, level=2, chunks=chunks)
        unpickled = pickle.loads(pickle.dumps(level))
        np.testing.assert_array_equal(unpickled["cells"].values, expected_level(BASE, (1, 4, 4)))
