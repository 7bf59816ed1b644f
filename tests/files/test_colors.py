"""Colours and names of channels that files state, in the metadata of pyramids."""

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
import zarr

import multiscale_sampler as ms

# That channels go first, and that bands are called so, is said of every picture.
pytestmark = [pytest.mark.filterwarnings("ignore:the axes"), pytest.mark.filterwarnings("ignore:.*axes of other names")]
PIXELS = np.random.default_rng(0).integers(0, 256, (64, 48, 3), "uint8")


def channels_of(path, **options):
    store = {}
    ms.write_pyramid(ms.open_image(path, **options), store, scale_factors=[{"y": 2, "x": 2}])
    return zarr.open_group(store, mode="r").attrs["ome"]["omero"]["channels"]


def shown(channels):
    return [(each["label"], each["color"], each["window"]["start"], each["window"]["end"]) for each in channels]


def picture(path, samples):
    if path.suffix in (".tif", ".tiff"):
        tiled = {"tile": (16, 16)} if path.suffix == ".tiff" else {}
        extra = {"extrasamples": ["unassalpha"]} if samples.shape[-1] == 4 else {}
        tifffile.imwrite(path, samples, photometric="rgb", metadata=None, **tiled, **extra)
    else:
        imageio.imwrite(path, samples)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".bmp", ".tif", ".tiff", ".webp"])
def test_pictures__are_red_green_and_blue_over_the_whole_range(tmp_path, ending):
    picture(tmp_path / f"p{ending}", PIXELS)
    expected = [("red", "FF0000", 0.0, 255.0), ("green", "00FF00", 0.0, 255.0), ("blue", "0000FF", 0.0, 255.0)]
    assert shown(channels_of(tmp_path / f"p{ending}")) == expected


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_alpha__is_a_channel_of_its_own_that_is_not_shown(tmp_path, ending):
    picture(tmp_path / f"p{ending}", np.dstack([PIXELS, PIXELS[..., :1]]))
    channels = channels_of(tmp_path / f"p{ending}")
    assert [each["label"] for each in channels] == ["red", "green", "blue", "alpha"]
    assert [each["active"] for each in channels] == [True, True, True, False]


def test_pictures_of_16_bits__have_the_range_of_16_bits(tmp_path):
    picture(tmp_path / "p.tif", PIXELS.astype("uint16") * 100)
    assert [end for *_, end in shown(channels_of(tmp_path / "p.tif"))] == [65535.0] * 3


@pytest.mark.parametrize("names", [["DAPI", "GFP"], ["DAPI", "DAPI"]])
def test_ome_tiff__has_its_colours_and_names(tmp_path, names):
    path = tmp_path / "c.ome.tif"
    # Red and half transparent blue, as signed integers of red, green, blue and alpha.
    colors = [-16776961, 0x0000FF80]
    values = np.zeros((2, 64, 64), "uint16")
    tifffile.imwrite(path, values, metadata={"axes": "CYX", "Channel": {"Name": names, "Color": colors}})
    channels = channels_of(path)
    assert [(each["label"], each["color"]) for each in channels] == list(zip(names, ["FF0000", "0000FF"], strict=True))


def test_geotiff__of_a_picture_is_red_green_and_blue(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    profile = {"driver": "GTiff", "height": 64, "width": 48, "count": 3, "dtype": "uint8", "photometric": "RGB"}
    transform = rasterio.Affine(0.5, 0, 10, 0, -0.5, 50)
    with rasterio.open(tmp_path / "g.tif", "w", crs="EPSG:4326", transform=transform, **profile) as file:
        file.write(PIXELS.transpose(2, 0, 1))
    assert [(label, color) for label, color, *_ in shown(channels_of(tmp_path / "g.tif"))] == [
        ("red", "FF0000"),
        ("green", "00FF00"),
        ("blue", "0000FF"),
    ]


def imagej(path, values, axes, **stated):
    tifffile.imwrite(path, values, imagej=True, metadata={"axes": axes, **stated})
    return path


def test_imagej__has_its_colours_and_ranges(tmp_path):
    # Red and blue, as lookup tables of 256 brightnesses.
    tables = [np.outer(color, np.arange(256)).astype("uint8") for color in ([1, 0, 0], [0, 0, 1])]
    path = tmp_path / "i.tif"
    imagej(path, np.zeros((2, 64, 64), "uint16"), "CYX", LUTs=tables, Ranges=(0.0, 100.0, 5.0, 200.0), mode="composite")
    assert [(each["color"], each["window"]) for each in channels_of(path)] == [
        ("FF0000", {"min": 0.0, "max": 65535.0, "start": 0.0, "end": 100.0}),
        ("0000FF", {"min": 0.0, "max": 65535.0, "start": 5.0, "end": 200.0}),
    ]


@pytest.mark.parametrize("stated", [{"min": 3.0, "max": 77.0}, {"Ranges": (3.0, 77.0)}])
def test_imagej__of_one_channel_has_its_range(tmp_path, stated):
    path = imagej(tmp_path / "i.tif", np.zeros((4, 64, 64), "uint16"), "ZYX", **stated)
    assert [(each["window"]["start"], each["window"]["end"]) for each in channels_of(path)] == [(3.0, 77.0)]


@pytest.mark.parametrize("stated", [{"Ranges": (0.0, 9.0)}, {"Ranges": (9.0, 9.0, 0.0, 9.0)}, {"min": 0.0, "max": 9.0}])
def test_imagej__of_ranges_that_are_not_those_of_its_channels__has_none(tmp_path, stated):
    path = imagej(tmp_path / "i.tif", np.zeros((2, 64, 64), "uint16"), "CYX", **stated)
    assert "omero" not in getattr(ms.open_image(path).coords.get("c"), "attrs", {})


VALID = np.full((16, 16), 255, "uint8")
VALID[:, :7] = 0
# Red of what is hidden is 1, which is a colour like any other.
UNDER = np.full((16, 16, 3), 200, "uint8")
UNDER[:, :7] = (1, 2, 3)


def transparent_picture(path, kind):
    """Write a picture that is transparent in its first seven columns, in one of the ways that formats have."""
    pillow = pytest.importorskip("PIL.Image")
    rgba = np.dstack([UNDER, VALID])
    gray = np.dstack([UNDER[..., 0], VALID])
    if kind == "key":
        pillow.fromarray(UNDER).save(path, transparency=(1, 2, 3))
    elif kind == "palette":
        picture = pillow.fromarray(UNDER).convert("P")
        picture.save(path, transparency=picture.getpixel((0, 0)))
    elif kind == "gray key":
        pillow.fromarray(UNDER[..., 0]).save(path, transparency=1)
    elif kind.startswith("gray"):
        if path.suffix == ".tif":
            options = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]}
            tifffile.imwrite(path, gray, metadata=None, **options)
        else:
            pillow.fromarray(gray, "LA").save(path)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, rgba, photometric="rgb", extrasamples=[kind], metadata=None)
    else:
        pillow.fromarray(rgba).save(path, **({"lossless": True, "exact": True} if path.suffix == ".webp" else {}))
    return path


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
@pytest.mark.parametrize(
    ("kind", "ending"),
    [
        ("rgba", ".png"),
        ("rgba", ".webp"),
        ("key", ".png"),
        ("palette", ".png"),
        ("gray", ".png"),
        ("gray", ".tif"),
        ("unassalpha", ".tif"),
    ],
)
def test_transparent_pixels__are_left_out_of_the_colours(tmp_path, kind, ending):
    opened = ms.open_image(transparent_picture(tmp_path / f"p{ending}", kind))
    colors = ["gray"] if kind == "gray" else ["red", "green", "blue"]
    assert opened.c.values.tolist() == [*colors, "alpha"]
    store = {}
    ms.write_pyramid(opened, store, scale_factors=[{"y": 2, "x": 2}])
    level = ms.open_pyramid(store)["scale1/p"].values
    assert level.dtype == np.uint8
    # Nothing is seen of the first three windows, and half of the fourth.
    shown = np.asarray(opened)[0, -1, :-1]
    np.testing.assert_array_equal(level[:-1, 0, :], np.outer(shown, [0] * 3 + [1] * 5))
    np.testing.assert_array_equal(level[-1, 0, :], [0, 0, 0, 128, 255, 255, 255, 255])


@pytest.mark.parametrize("width", [3, 16])
def test_a_gray_level_that_is_transparent__is_nodata(tmp_path, width):
    pillow = pytest.importorskip("PIL.Image")
    pillow.fromarray(UNDER[:, :width, 0]).save(tmp_path / "narrow.png", transparency=1)
    narrow = ms.open_image(tmp_path / "narrow.png")
    assert (narrow.dims, narrow.attrs["nodata"]) == (("y", "x"), 1)
    opened = ms.open_image(transparent_picture(tmp_path / "p.png", "gray key"))
    assert opened.attrs["nodata"] == 1
    np.testing.assert_array_equal(ms.coarsen(opened, 2).values[0], [1] * 3 + [200] * 5)


@pytest.mark.parametrize(("kind", "label"), [("assocalpha", "premultiplied alpha"), ("unspecified", "extra")])
def test_samples_that_do_not_mask__are_called_otherwise(tmp_path, kind, label):
    opened = ms.open_image(transparent_picture(tmp_path / "p.tif", kind))
    assert opened.c.values.tolist() == ["red", "green", "blue", label]
    np.testing.assert_array_equal(ms.coarsen(opened, {"y": 2, "x": 2}).values[0, 3], [100, 101, 102, 128])


@pytest.mark.parametrize(
    ("alpha", "descriptions", "labels"),
    [
        ("yes", (), ["red", "green", "blue", "alpha"]),
        ("premultiplied", (), ["red", "green", "blue", "premultiplied alpha"]),
        ("yes", ("B4", "B3", "B2", "valid"), ["B4", "B3", "B2", "alpha"]),
    ],
)
def test_alpha_of_a_geotiff__masks_unless_colours_are_multiplied_by_it(tmp_path, alpha, descriptions, labels):
    rasterio = pytest.importorskip("rasterio")
    profile = {"driver": "GTiff", "height": 16, "width": 16, "count": 4, "dtype": "uint8", "photometric": "RGB"}
    transform = rasterio.Affine(30, 0, 5e5, 0, -30, 4e6)
    options = {"crs": "EPSG:32633", "transform": transform, "alpha": alpha, **profile}
    with rasterio.open(tmp_path / "g.tif", "w", **options) as file:
        file.write(np.dstack([UNDER, VALID]).transpose(2, 0, 1))
        for band, text in enumerate(descriptions, 1):
            file.set_band_description(band, text)
    opened = ms.open_image(tmp_path / "g.tif")
    assert opened.band.values.tolist() == labels
    level = ms.coarsen(opened, {"y": 2, "x": 2}).values
    assert level[:, 0, 3].tolist() == ([200, 200, 200, 128] if labels[-1] == "alpha" else [100, 101, 102, 128])
