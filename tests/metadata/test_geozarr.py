"""Images of the earth: the conventions proj: and spatial: beside OME-NGFF or alone, written and read."""

import numpy as np
import pytest
import xarray as xr
import zarr

from multiscale_sampler import (
    append_pyramid,
    open_image,
    open_pyramid,
    to_image,
    to_multiscale,
    validate,
    verify_pyramid,
    write_pyramid,
)
from multiscale_sampler.cli import main
from multiscale_sampler.metadata.geozarr import stated_crs

from ..data import noise

# Of affine 3, in rasterio and rioxarray.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
BOTH, ALONE = ("ome", "geozarr"), ("geozarr",)
WKT1 = (
    'PROJCS["WGS 84 / UTM zone 18N",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563,'
    'AUTHORITY["EPSG","7030"]],AUTHORITY["EPSG","6326"]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],'
    'PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],PARAMETER["central_meridian",-75],'
    'PARAMETER["scale_factor",0.9996],PARAMETER["false_easting",500000],PARAMETER["false_northing",0],'
    'UNIT["metre",1],AUTHORITY["EPSG","32618"]]'
)
WKT2 = 'GEOGCRS["WGS 84",DATUM["World Geodetic System 1984",ELLIPSOID["WGS 84",6378137,298.257]],ID["EPSG",4326]]'


def scene(dims="yx", shape=(21, 16)):
    """An image whose first pixel has its corner at (500000, 4000000), north up, 10 m a pixel."""
    return to_image(
        noise(shape, "uint16"), dims, scale={"y": -10.0, "x": 10.0}, translation={"y": 3_999_995.0, "x": 500_005.0}
    ).assign_attrs(crs="EPSG:32618")


def attributes_of(place, group=""):
    return zarr.open_group(place, path=group, mode="r").attrs.asdict()


@pytest.mark.parametrize("metadata", [BOTH, ALONE])
@pytest.mark.parametrize("layout", ["datatree", "flat"])
def test_geozarr__says_where_every_level_lies(tmp_path, layout, metadata):
    write_pyramid(scene(), tmp_path / "a", scale_factors=[2, 4], layout=layout, metadata=metadata)
    found = attributes_of(tmp_path / "a")
    assert [entry["name"] for entry in found["zarr_conventions"]] == ["multiscales", "proj", "spatial"]
    assert (found["proj:code"], found["spatial:dimensions"]) == ("EPSG:32618", ["y", "x"])
    assert found["spatial:registration"] == "pixel"
    assert found["spatial:bbox"] == [500_000.0, 3_999_790.0, 500_160.0, 4_000_000.0]
    for number, entry in enumerate(found["multiscales"]["layout"]):
        step = 10.0 * 2**number
        # The corner is that of the base: "The spatial:transform origin coordinates (c, f) remain constant".
        assert entry["spatial:transform"] == [step, 0.0, 500_000.0, 0.0, -step, 4_000_000.0]
        assert entry["spatial:shape"] == [-(-21 // 2**number), 16 // 2**number]
        if number:
            assert entry["transform"] == {"scale": [2.0, 2.0], "translation": [0.0, 0.0]}
        if layout == "datatree":
            own = attributes_of(tmp_path / "a", f"scale{number}")
            assert own["proj:code"] == "EPSG:32618"
            assert own["spatial:transform"] == entry["spatial:transform"]
    assert ("ome" in found) == ("ome" in metadata)
    if "ome" in metadata:
        assert validate(tmp_path / "a").findings == ()


@pytest.mark.parametrize("metadata", [BOTH, ALONE])
@pytest.mark.parametrize("layout", ["datatree", "flat"])
@pytest.mark.parametrize("method", ["mean", "nearest"])
def test_geozarr__is_read_as_it_was(tmp_path, layout, metadata, method):
    image = scene(("band", "y", "x"), (3, 21, 16))
    write_pyramid(image, tmp_path / "a", scale_factors=[2, 4], method=method, layout=layout, metadata=metadata)
    tree, expected = open_pyramid(tmp_path / "a"), to_multiscale(image, [2, 4], method)
    assert list(tree.children) == list(expected.children)
    for name, node in expected.children.items():
        level = tree[name].to_dataset()["image"]
        np.testing.assert_array_equal(level, node["image"])
        assert level.attrs["crs"] == "EPSG:32618"
        for dim in "yx":
            np.testing.assert_allclose(level[dim], node["image"][dim], rtol=1e-12)
    np.testing.assert_array_equal(open_image(tmp_path / "a" / ("0" if layout == "flat" else "scale0/image")), image)


@pytest.mark.parametrize("metadata", [BOTH, ALONE])
@pytest.mark.parametrize("layout", ["datatree", "flat"])
def test_geozarr__is_verified(tmp_path, layout, metadata):
    write_pyramid(scene(), tmp_path / "a", scale_factors=[2, 4], layout=layout, metadata=metadata)
    report = verify_pyramid(tmp_path / "a")
    assert report.findings == ()
    assert all(level.rule.startswith("mean, rounded half to even") for level in report.levels)
    path = "2" if layout == "flat" else "scale2/image"
    zarr.open_array(tmp_path / "a", path=path)[:2] += np.uint16(1)
    (finding,) = verify_pyramid(tmp_path / "a").findings
    assert finding.location == path


@pytest.mark.parametrize("layout", ["datatree", "flat"])
def test_geozarr__follows_what_is_appended(tmp_path, layout):
    options = {"scale_factors": [2, 4], "layout": layout, "metadata": BOTH}
    write_pyramid(scene().isel(y=slice(0, 15)), tmp_path / "a", **options)
    append_pyramid(scene().isel(y=slice(15, None)), tmp_path / "a", "y")
    write_pyramid(scene(), tmp_path / "fresh", **options)
    for group in ("", "scale0", "scale1", "scale2") if layout == "datatree" else ("",):
        assert attributes_of(tmp_path / "a", group) == attributes_of(tmp_path / "fresh", group)


def test_geozarr__alone_is_replaced_and_nothing_else(tmp_path):
    write_pyramid(scene(), tmp_path / "a", scale_factors=[2, 4], metadata=ALONE)
    zarr.open_group(tmp_path / "a").create_group("notes").attrs["of"] = "mine"
    write_pyramid(scene(), tmp_path / "a", scale_factors=[2], metadata=("ome",), mode="w")
    found = attributes_of(tmp_path / "a")
    assert not [key for key in found if key.startswith(("proj:", "spatial:"))]
    assert sorted(zarr.open_group(tmp_path / "a")) == ["notes", "scale0", "scale1"]
    assert len(open_pyramid(tmp_path / "a").children) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("EPSG:4326", {"proj:code": "EPSG:4326"}),
        (WKT1, {"proj:code": "EPSG:32618"}),
        (WKT2, {"proj:code": "EPSG:4326", "proj:wkt2": WKT2}),
    ],
)
def test_stated_crs__is_a_code_or_a_text_of_wkt2(text, expected):
    plain = to_image(noise((4, 4)))
    assert stated_crs(plain.assign_attrs(crs=text)) == expected
    assert stated_crs(plain.assign_coords(spatial_ref=((), 0, {"crs_wkt": text}))) == expected
    assert stated_crs(plain.assign_attrs(expected)) == expected
    assert stated_crs(plain) == {}


def test_stated_crs__of_wkt1_without_a_code_becomes_wkt2():
    crs = pytest.importorskip("rasterio.crs").CRS
    text = WKT1.replace(',AUTHORITY["EPSG","32618"]]', "]").replace(',AUTHORITY["EPSG","7030"]', "")
    found = stated_crs(to_image(noise((4, 4))).assign_attrs(crs=text))
    assert set(found) == {"proj:wkt2"}
    assert found["proj:wkt2"].startswith("PROJCRS[")
    assert crs.from_wkt(found["proj:wkt2"]).to_dict() == crs.from_wkt(text).to_dict()


@pytest.mark.parametrize("metadata", [BOTH, ALONE])
def test_geozarr__rioxarray_finds_crs_and_transform(tmp_path, metadata):
    pytest.importorskip("rioxarray")
    image = scene()
    del image.attrs["crs"]
    image = image.rio.write_crs(32618)
    write_pyramid(image, tmp_path / "a", scale_factors=[2], metadata=metadata)
    assert attributes_of(tmp_path / "a")["proj:code"] == "EPSG:32618"
    for number, node in enumerate(open_pyramid(tmp_path / "a").children.values()):
        assert node["image"].rio.crs.to_epsg() == 32618
        assert "crs" not in node["image"].attrs
        stored = attributes_of(tmp_path / "a", f"scale{number}")["spatial:transform"]
        assert list(node["image"].rio.transform(recalc=True))[:6] == stored


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda image: image.assign_attrs(crs=None), {}, "has no coordinate reference system"),
        (lambda image: image, {"version": "0.4"}, "'geozarr' requires zarr v3"),
        (lambda image: image, {"metadata": ("ome", "stac")}, "unknown metadata 'stac'"),
        (lambda image: image, {"metadata": ()}, "is empty"),
    ],
)
def test_geozarr__what_cannot_be_said_is_refused_before_anything_is_written(tmp_path, change, options, message):
    with pytest.raises(ValueError, match=message):
        write_pyramid(change(scene()), tmp_path / "a", scale_factors=[2], **{"metadata": BOTH, **options})
    assert not (tmp_path / "a").exists()


def test_open_pyramid__reads_conventions_of_another_writer(tmp_path):
    """Groups as topozarr writes them: positions in coordinate arrays, none in the layout; the CRS at the group."""
    root = zarr.open_group(tmp_path / "a", mode="w")
    values = noise((8, 8), "uint8")
    for number in range(2):
        step = 2**number
        level = xr.Dataset(
            {"elevation": (("lat", "lon"), values[::step, ::step])},
            coords={"lat": 50 - 0.5 * step * np.arange(8 // step), "lon": 5 + 0.5 * step * np.arange(8 // step)},
        )
        level.to_zarr(tmp_path / "a", group=str(number), zarr_format=3, consolidated=False, mode="a")
    root.attrs.update(
        {
            "multiscales": {
                "layout": [
                    {"asset": "0"},
                    {"asset": "1", "derived_from": "0", "transform": {"scale": [2, 2], "translation": [0.5, 0.5]}},
                ]
            },
            "proj:wkt2": WKT2,
            "title": "kept",
        }
    )
    tree = open_pyramid(tmp_path / "a")
    assert tree.attrs == {"title": "kept"}
    level = tree["scale1/elevation"]
    assert level.dims == ("lat", "lon")
    assert level.lat.values.tolist() == [50.0, 49.0, 48.0, 47.0]
    assert level.attrs["crs"] == WKT2
    np.testing.assert_array_equal(level, values[::2, ::2])


def test_cli__builds_with_both(tmp_path, capsys):
    pytest.importorskip("rasterio")
    import rasterio

    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=16, width=16, count=1, dtype="uint8", crs="EPSG:32618",
        transform=rasterio.transform.from_origin(500_000, 4_000_000, 10, 10),
    ) as file:  # fmt: skip
        file.write(noise((1, 16, 16), "uint8"))
    command = ["build", str(tmp_path / "a.tif"), str(tmp_path / "a.zarr"), "--factors", "2,", "--quiet"]
    assert main([*command, "--metadata", "ome,geozarr", "--dtype", "uint16"]) == 0
    found = attributes_of(tmp_path / "a.zarr")
    assert found["proj:code"] == "EPSG:32618"
    assert found["multiscales"]["layout"][1]["spatial:transform"] == [20.0, 0.0, 500_000.0, 0.0, -20.0, 4_000_000.0]
    assert open_pyramid(tmp_path / "a.zarr")["scale1"].to_dataset()["a"].dtype == "uint16"
