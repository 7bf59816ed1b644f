import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

import multiscale_sampler as ms
from multiscale_sampler.cli import main
from multiscale_sampler.image.dataarray import image_axes
from multiscale_sampler.image.reversal import descending_axes, reversed_image
from tests.data import noise

FACTORS = [{"y": 2, "x": 2}]
SAID = "'y' descends, and ngff-zarr.*refuse negative scales"


def descending(shape=(31, 24), name="v"):
    """An image whose y descends; its values say where they are."""
    coords = {"y": 100.0 - 2.0 * np.arange(shape[0]), "x": 5.0 + np.arange(shape[1])}
    return xr.DataArray(noise(shape, "uint16"), coords, ("y", "x"), name)


def written(image, store, **options):
    """Write an image; return the texts of all warnings."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        ms.write_pyramid(image, store, **options)
    return [str(each.message) for each in found]


def scales(store):
    """The scales of level 0, as the metadata state them."""
    attributes = zarr.open_group(store, mode="r").attrs.asdict()
    (entry,) = attributes.get("ome", attributes)["multiscales"]
    transforms = entry["datasets"][0]["coordinateTransformations"]
    return transforms[0].get("scale") or transforms[0]["transformations"][0]["scale"]


# --- images ----------------------------------------------------------------------------------------------------


def test_reversed_image__values_coordinates_and_attributes_go_together():
    image = ms.to_image(noise((4, 6)), "yx", scale={"y": -2.0}, translation={"y": 10.0}, name="v")
    image.attrs["transform"] = [1.0, 0.0, 0.0, 0.0, -2.0, 11.0]
    image.encoding["chunks"] = (2, 3)
    turned, axes = reversed_image(image, image_axes(image), ["y"])
    np.testing.assert_array_equal(turned.values, image.values[::-1])
    assert turned.y.values.tolist() == [4.0, 6.0, 8.0, 10.0]
    assert (axes[0].scale, axes[0].translation) == (2.0, 4.0)
    assert turned.y.attrs["spacing"] == 2.0
    # The corner of the new first pixel is at 3.
    assert turned.attrs["transform"] == [1.0, 0.0, 0.0, 0.0, 2.0, 3.0]
    assert turned.encoding == {"chunks": (2, 3)}
    assert image.y.attrs["spacing"] == -2.0


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ([3.0, 2.0, 1.0], ("y",)),
        ([1.0, 2.0, 3.0], ()),
        (pd.date_range("2000", periods=3)[::-1], ("y",)),
        (xr.date_range("2000", periods=3, calendar="noleap", use_cftime=True)[::-1], ("y",)),
        (list("cba"), ()),
    ],
)
def test_descending_axes__by_positions(positions, expected):
    image = xr.DataArray(np.zeros(3), {"y": positions}, ("y",))
    assert descending_axes(image_axes(image)) == expected


def test_descending_axes__one_sample_by_its_spacing():
    image = ms.to_image(np.zeros((1, 3)), scale={"y": -2.0})
    turned, axes = reversed_image(image, image_axes(image), descending_axes(image_axes(image)))
    assert [axis.scale for axis in axes] == [2.0, 1.0]
    assert turned.y.values.tolist() == [0.0]


# --- write_pyramid ---------------------------------------------------------------------------------------------


def in_memory(image, _):
    return image


def as_dask(image, _):
    return image.chunk({"y": 7, "x": 24})


def as_tree(image, _):
    return ms.to_multiscale(image, FACTORS)


def as_zarr(image, folder):
    image.to_dataset().to_zarr(folder / "a.zarr", zarr_format=3, consolidated=False)
    return ms.open_image(folder / "a.zarr", "v")


def as_zarr_v2(image, folder):
    image.to_dataset().to_zarr(folder / "a.zarr", zarr_format=2)
    return ms.open_image(folder / "a.zarr", "v")


def as_netcdf(image, folder):
    image.to_netcdf(folder / "a.nc")
    return ms.open_image(folder / "a.nc")


@pytest.mark.parametrize(
    ("source", "version", "layout"),
    [
        (in_memory, "0.4", "flat"),
        (in_memory, "0.6", "datatree"),
        *((source, "0.5", "datatree") for source in (in_memory, as_dask, as_tree, as_zarr, as_zarr_v2, as_netcdf)),
    ],
)
def test_write_pyramid__descending_axes_are_stored_ascending(tmp_path, source, version, layout):
    image = descending()
    options = {} if source is as_tree else {"scale_factors": FACTORS}
    found = written(source(image, tmp_path), tmp_path / "p", version=version, layout=layout, **options)
    assert len(found) == 1
    assert "--no-ascending" in found[0]
    assert scales(tmp_path / "p") == [2.0, 1.0]
    base, coarse = (next(iter(node.data_vars.values())) for node in ms.open_pyramid(tmp_path / "p").children.values())
    np.testing.assert_array_equal(base.values, image.values[::-1])
    assert base.y.values.tolist() == image.y.values[::-1].tolist()
    # Of 31 rows the last window of two has one, the one that was the first.
    padded = np.vstack([image.values[::-1], image.values[:1]]).astype(float)
    np.testing.assert_array_equal(coarse.values, np.rint(padded.reshape(16, 2, 12, 2).mean(axis=(1, 3))))
    assert coarse.y.values[:2].tolist() == [41.0, 45.0]
    assert ms.validate(tmp_path / "p", strict=True).findings == ()
    assert ms.verify_pyramid(tmp_path / "p").ok


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("is_map", [False, True])
def test_write_pyramid__maps_and_who_asks_for_it_keep_the_order(tmp_path, version, is_map):
    image = descending()
    if is_map:
        found = written(image.assign_attrs(crs="EPSG:32618"), tmp_path / "p", version=version, scale_factors=FACTORS)
        assert len(found) == 1
        assert "--ascending" in found[0]
    else:
        found = written(image, tmp_path / "p", version=version, ascending=False, scale_factors=FACTORS)
        assert found == []
    assert scales(tmp_path / "p") == [-2.0, 1.0]
    np.testing.assert_array_equal(ms.open_image(tmp_path / "p").values, image.values)
    assert ms.validate(tmp_path / "p").findings == ()
    (finding,) = ms.validate(tmp_path / "p", strict=True).findings
    assert (finding.severity, finding.location) == ("warning", "multiscales[0].datasets[0]")
    assert "-2.0" in finding.found


@pytest.mark.parametrize(("version", "ascending"), [("0.6", None), ("0.5", True)])
def test_write_pyramid__maps_are_reversed_where_they_must_or_should_be(version, ascending):
    image, store = descending().assign_attrs(crs="EPSG:32618"), {}
    found = written(image, store, version=version, ascending=ascending, scale_factors=FACTORS)
    assert len(found) == (ascending is None)
    assert scales(store) == [2.0, 1.0]
    np.testing.assert_array_equal(ms.open_image(store).values, image.values[::-1])


def test_write_pyramid__0_6_cannot_keep_the_order():
    store = {}
    with pytest.raises(ValueError, match=r"'y' descends in steps of -2.0.*ascending=True"):
        ms.write_pyramid(descending(), store, version="0.6", ascending=False)
    assert store == {}


def test_write_pyramid__descending_dates_are_stored_ascending():
    dates = pd.date_range("2000-01-01", periods=4)[::-1]
    image, store = xr.DataArray(noise((4, 8, 8)), {"time": dates}, ("time", "y", "x"), "v"), {}
    (text,) = written(image, store, scale_factors=FACTORS)
    assert "'time' descends" in text
    xr.testing.assert_equal(ms.open_pyramid(store)["scale0/v"].time.load(), image.time[::-1])


def test_write_pyramid__weights_are_reversed_with_the_image():
    image, store = descending((8, 8)), {}
    weights = xr.DataArray(noise((8,), "uint8"), dims=("y",)) + 1.0
    written(image, store, scale_factors=FACTORS, weights=weights)
    expected = (image * weights).coarsen(y=2, x=2).sum() / (weights.broadcast_like(image)).coarsen(y=2, x=2).sum()
    found = ms.open_pyramid(store)["scale1/v"].values
    np.testing.assert_allclose(found, expected.values[::-1], atol=0.5)


def test_write_pyramid__levels_of_an_edited_tree_are_reversed_as_they_are():
    image, store = descending((8, 8)), {}
    tree = ms.to_multiscale(image, FACTORS)
    edited = (tree["scale1/v"] + 1).load()
    tree["scale1/v"] = edited
    written(tree, store)
    np.testing.assert_array_equal(ms.open_pyramid(store)["scale1/v"].values, edited.values[::-1])


def test_write_pyramid__codecs_are_those_of_the_source(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    gzip = zarr.codecs.GzipCodec(level=3)
    array = group.create_array("v", data=noise((16, 16)), chunks=(8, 8), compressors=gzip, dimension_names=("y", "x"))
    image = ms.open_image(array, scale={"y": -1.0})
    written(image, tmp_path / "p", scale_factors=FACTORS)
    level = zarr.open_array(tmp_path / "p" / "scale1" / "v")
    assert (level.compressors, level.chunks) == ((gzip,), (8, 8))


# --- arrays that join ------------------------------------------------------------------------------------------


def test_labels__go_with_their_image(tmp_path):
    image, labels = descending((8, 8)), xr.DataArray(np.arange(64, dtype="uint32").reshape(8, 8), dims=("y", "x"))
    tree = ms.to_multiscale(image, FACTORS)
    tree["labels/cells"] = ms.to_multiscale(labels.rename("cells"), FACTORS, "mode")
    written(tree, tmp_path / "p")
    placed = labels.assign_coords(image.coords)
    ms.write_labels(placed, tmp_path / "p", "later")
    ms.write_labels(labels.values[::-1], tmp_path / "p", "bare")
    opened = ms.open_pyramid(tmp_path / "p")
    for name in ("cells", "later", "bare"):
        stored = opened[f"labels/{name}/scale0/{name}"]
        np.testing.assert_array_equal(stored.values, labels.values[::-1])
        np.testing.assert_array_equal(stored.y, image.y[::-1])


def test_append__data_are_placed_by_their_coordinates():
    image = xr.concat([descending((8, 8)), descending((8, 8)) + 1], pd.Index([0.0, 1.0], name="t")).astype("uint16")
    store = {}
    written(image[:1], store, scale_factors=FACTORS)
    ms.append_pyramid(image[1:], store, "t")
    np.testing.assert_array_equal(ms.open_pyramid(store)["scale0/v"].values, image.values[:, ::-1])


def test_add_levels__says_that_clients_refuse_its_base(tmp_path):
    descending((32, 32)).to_dataset(name="0").to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    with pytest.warns(UserWarning, match=SAID):
        ms.add_levels(tmp_path / "a.zarr", scale_factors=FACTORS)
    np.testing.assert_array_equal(ms.open_image(tmp_path / "a.zarr").values, descending((32, 32)).values)


@pytest.mark.parametrize(
    ("options", "scale", "said"), [([], 2.0, 1), (["--ascending"], 2.0, 0), (["--no-ascending"], -2.0, 0)]
)
def test_command_line__has_the_option(tmp_path, capsys, options, scale, said):
    descending().to_dataset().to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
    place = ["build", str(tmp_path / "a.zarr"), str(tmp_path / "p"), "--path", "v", "--quiet", *options]
    assert main(place) == 0
    assert scales(tmp_path / "p")[0] == scale
    assert capsys.readouterr().err.count("--no-ascending") == said
