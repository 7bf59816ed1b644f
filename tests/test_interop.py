"""Conversion to and from ngff-zarr and ITK keeps values and positions, and ngff-zarr's is lazy."""

import dataclasses
import sys

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import multiscale_sampler as ms

from .data import noise
from .oracles import check_levels, expected_level

# Python warns of the SWIG types of itk while it imports itk; as an error, that warning ends the process.
pytestmark = pytest.mark.filterwarnings("ignore:builtin type .* has no __module__ attribute:DeprecationWarning")

SHAPES = {"yx": (11, 14), "zyx": (6, 7, 8), "tczyx": (2, 2, 4, 6, 5)}
NO_CLIENT = "the extra 'clients' brings ngff-zarr"


def labelled(dims, dtype="uint16"):
    return ms.to_image(
        da.from_array(noise(SHAPES[dims], dtype), chunks=4),
        dims,
        scale={dim: {"z": 2.0, "y": 0.5, "x": 0.25, "t": 3.0}[dim] for dim in dims if dim != "c"},
        translation={"x": -3.0},
        units={dim: "second" if dim == "t" else "micrometer" for dim in dims if dim != "c"},
        channel_names=["DAPI", "GFP"] if "c" in dims else None,
        name="cells",
    )


def assert_same_levels(tree, expected):
    assert list(tree.children) == list(expected.children)
    for name, node in expected.children.items():
        xr.testing.assert_identical(tree[name].to_dataset(), node.to_dataset())


# --- ngff-zarr -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dims", SHAPES)
def test_to_ngff_multiscales__keeps_values_and_metadata(dims):
    ngff_zarr = pytest.importorskip("ngff_zarr", reason=NO_CLIENT)
    multiscales = ms.to_ngff_multiscales(ms.to_multiscale(labelled(dims), [2, 3]))
    assert isinstance(multiscales, ngff_zarr.Multiscales)
    assert (multiscales.metadata.name, multiscales.metadata.type) == ("cells", "mean")
    assert [axis.name for axis in multiscales.metadata.axes] == list(dims)
    for image, factor in zip(multiscales.images, (1, 2, 3), strict=True):
        factors = tuple(factor if dim in "zyx" else 1 for dim in dims)
        base = noise(SHAPES[dims])
        np.testing.assert_array_equal(image.data, expected_level(base, factors) if factor > 1 else base)
        assert image.dims == tuple(dims)
        assert image.scale["x"] == 0.25 * factor
        assert image.translation["x"] == -3.0 + (factor - 1) / 2 * 0.25
        assert image.scale.get("t", 3.0) == 3.0
        assert image.axes_units["y"] == "micrometer"
        assert image.channel_names == (["DAPI", "GFP"] if "c" in dims else None)


@pytest.mark.parametrize("dims", SHAPES)
def test_ngff_multiscales__round_trip_is_lazy_and_exact(dims, refuse_to_compute):
    pytest.importorskip("ngff_zarr", reason=NO_CLIENT)
    tree = ms.to_multiscale(labelled(dims), [2, 3])
    tree.attrs["experiment"] = "one"
    again = ms.from_ngff_multiscales(ms.to_ngff_multiscales(tree))
    assert again.attrs == {"experiment": "one"}
    for name, node in tree.children.items():
        # Equal names in dask are equal computations.
        assert again[name]["cells"].data.name == node["cells"].data.name
        xr.testing.assert_identical(again[name].to_dataset().drop_vars("cells"), node.to_dataset().drop_vars("cells"))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ngff_multiscales__survive_a_store_of_ngff_zarr(tmp_path, version):
    ngff_zarr = pytest.importorskip("ngff_zarr", reason=NO_CLIENT)
    tree = ms.to_multiscale(labelled("tczyx"), [2, 3])
    multiscales = ms.to_ngff_multiscales(tree)
    omero = ngff_zarr.compute_omero_from_multiscales(multiscales)
    multiscales.metadata.omero = omero
    ngff_zarr.to_ngff_zarr(str(tmp_path / "p.zarr"), multiscales, version=version)
    for node in tree.children.values():
        node["cells"].c.attrs["omero"] = dataclasses.asdict(omero)
    assert_same_levels(ms.open_pyramid(tmp_path / "p.zarr"), tree)
    again = ms.from_ngff_multiscales(ngff_zarr.from_ngff_zarr(str(tmp_path / "p.zarr")))
    assert_same_levels(again, tree)
    assert ms.to_ngff_multiscales(again).metadata.omero == omero


def test_to_ngff_multiscales__transposes_to_the_order_of_ngff():
    pytest.importorskip("ngff_zarr", reason=NO_CLIENT)
    tree = ms.to_multiscale(labelled("tczyx"), [2]).multiscale.transpose("z", "y", "x", "c", "t")
    image = ms.to_ngff_multiscales(tree).images[1]
    assert image.dims == ("t", "c", "z", "y", "x")
    np.testing.assert_array_equal(image.data, expected_level(noise(SHAPES["tczyx"]), (1, 1, 2, 2, 2)))


def test_from_ngff_multiscales__keeps_coordinates_and_names():
    """NZ-9 in the other direction."""
    ngff_zarr = pytest.importorskip("ngff_zarr", reason=NO_CLIENT)
    base = noise((2, 16, 12))
    image = ngff_zarr.to_ngff_image(
        base,
        dims=("c", "y", "x"),
        scale={"y": 2.0, "x": 0.5},
        translation={"y": 7.0, "x": 0.0},
        name="em",
        axes_units={"y": "nanometer", "x": "nanometer"},
        channel_names=["a", "b"],
    )
    theirs = ngff_zarr.to_multiscales(image, [2], method=ngff_zarr.Methods.DASK_IMAGE_MODE, chunks=8, orientation="LPS")
    tree = ms.from_ngff_multiscales(theirs)
    check_levels(tree, base, [(1, 2, 2)], "mode", scale={"y": 2.0, "x": 0.5}, translation={"y": 7.0})
    level = tree["scale1/em"]
    assert level.y.attrs["units"] == "nanometer"
    assert level.c.values.tolist() == ["a", "b"]
    assert level.y.attrs["orientation"] == "anterior-to-posterior"
    back = ms.to_ngff_multiscales(tree)
    assert back.metadata.axes[1].orientation == theirs.metadata.axes[1].orientation
    store = {}
    ms.write_pyramid(tree, store)
    check_levels(ms.open_pyramid(store), base, [(1, 2, 2)], "mode", scale={"y": 2.0, "x": 0.5}, translation={"y": 7.0})


def test_msi_10__missing_units_stay_missing_in_ngff_zarr():
    """MSI-10: a missing unit became an empty one."""
    pytest.importorskip("ngff_zarr", reason=NO_CLIENT)
    image = ms.to_image(noise((8, 8)), units={"y": "micrometer"})
    multiscales = ms.to_ngff_multiscales(ms.to_multiscale(image, [2]))
    assert [axis.unit for axis in multiscales.metadata.axes] == ["micrometer", None]
    assert multiscales.images[1].axes_units == {"y": "micrometer"}
    assert "units" not in ms.from_ngff_multiscales(multiscales)["scale1/image"].x.attrs


def test_to_ngff_multiscales__refuses_unevenly_spaced_axes():
    pytest.importorskip("ngff_zarr", reason=NO_CLIENT)
    tree = ms.to_multiscale(ms.to_image(noise((8, 8))).assign_coords(y=np.arange(8.0) ** 2), [2])
    with pytest.raises(ValueError, match="not evenly spaced"):
        ms.to_ngff_multiscales(tree)


@pytest.mark.parametrize(
    ("module", "call", "line"),
    [
        ("ngff_zarr", lambda: ms.to_ngff_multiscales(ms.to_multiscale(noise((8, 8)), [2])), "pip install ngff-zarr"),
        ("itk", lambda: ms.to_itk(noise((8, 8))), "pip install itk"),
        ("itkwasm", lambda: ms.to_itk(noise((8, 8)), library="itkwasm"), "pip install itkwasm"),
    ],
    ids=["ngff-zarr", "itk", "itkwasm"],
)
def test_missing_libraries__are_named_with_how_to_install_them(monkeypatch, module, call, line):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=f"{line}$"):
        call()


# --- ITK -------------------------------------------------------------------------------------------------------

ROTATED = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, -1.0]])
GRID = {"spacing": [0.5, 2.0, 3.0], "origin": [10.0, -20.0, 30.0]}


def wasm(values, direction, spacing=GRID["spacing"], origin=GRID["origin"], name="head", **options):
    itkwasm = pytest.importorskip("itkwasm", reason="ngff-zarr brings itkwasm")
    dimension = len(direction)
    vector = values.ndim > dimension
    image_type = itkwasm.ImageType(
        dimension=dimension,
        componentType=str(values.dtype),
        pixelType="VariableLengthVector" if vector else "Scalar",
        components=values.shape[-1] if vector else 1,
    )
    return itkwasm.Image(
        imageType=image_type,
        name=name,
        origin=list(origin[:dimension]),
        spacing=list(spacing[:dimension]),
        direction=np.array(direction),
        size=list(values.shape[:dimension][::-1]),
        data=values,
        **options,
    )


def physical(image, index):
    """Return the physical position of a pixel by ITK's rule, from its (x, y, z) index."""
    return np.array(image.origin) + np.array(image.direction) @ (np.array(image.spacing) * index)


@pytest.mark.parametrize("direction", [np.eye(3), ROTATED, np.diag([-1.0, -1.0, 1.0]), np.eye(2)], ids=str)
@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_itk__round_trip_is_exact(direction, components, dtype):
    shape = (4, 5, 6)[-len(direction) :] + ((components,) if components > 1 else ())
    values = noise(shape, dtype)
    image = ms.from_itk(wasm(values, direction), units="millimeter")
    assert image.dims == ("z", "y", "x")[-len(direction) :] + (("c",) if components > 1 else ())
    assert (image.name, image.x.attrs["units"]) == ("head", "millimeter")
    assert np.shares_memory(image.values, values)
    np.testing.assert_array_equal(image.x.values, 10.0 + 0.5 * np.arange(6))
    np.testing.assert_array_equal(image.y.values, -20.0 + 2.0 * np.arange(5))
    assert ("direction" in image.attrs) == (not np.array_equal(direction, np.eye(len(direction))))
    again = ms.to_itk(image, library="itkwasm")
    assert again.imageType == wasm(values, direction).imageType
    np.testing.assert_array_equal(again.data, values)
    np.testing.assert_array_equal(again.direction, direction)
    assert (list(again.origin), list(again.spacing)) == (
        GRID["origin"][: len(direction)],
        GRID["spacing"][: len(direction)],
    )
    assert (again.name, list(again.size)) == ("head", list(shape[: len(direction)][::-1]))


@pytest.mark.parametrize("direction", [np.eye(3), ROTATED], ids=["identity", "rotated"])
def test_to_itk__places_levels_and_crops_in_space(tmp_path, direction):
    """Every pixel of a level is at the centre of its window, also in a rotated image."""
    base = wasm(noise((8, 6, 10)), direction)
    options = {"version": "0.6"} if "direction" in ms.from_itk(base).attrs else {}
    ms.write_pyramid(ms.from_itk(base), tmp_path / "p.zarr", scale_factors=[2, {"x": 4, "y": 2, "z": 2}], **options)
    tree = ms.open_pyramid(tmp_path / "p.zarr")
    for level, factors in (("scale1", (2, 2, 2)), ("scale2", (4, 2, 2))):
        image = ms.to_itk(tree[level]["head"], library="itkwasm")
        for index in np.ndindex(2, 2, 2):
            window = np.array([np.array(index) * factors + offset for offset in np.ndindex(*factors)])
            middle = np.mean([physical(base, pixel) for pixel in window], axis=0)
            np.testing.assert_allclose(physical(image, index), middle, rtol=1e-12)
    crop = ms.to_itk(tree["scale0/head"].isel(x=slice(3, None), z=slice(2, None, 2)), library="itkwasm")
    np.testing.assert_allclose(physical(crop, (1, 1, 1)), physical(base, (4, 1, 4)), rtol=1e-12)


def test_to_itk__orders_axes_by_name_and_reverses_descending_ones():
    pytest.importorskip("itkwasm", reason="ngff-zarr brings itkwasm")
    values = noise((4, 5, 6))
    image = ms.to_image(values, "zyx", scale={"z": 3.0, "y": -2.0, "x": 0.5}, translation={"y": 9.0})
    expected = ms.to_itk(image, library="itkwasm")
    assert (list(expected.spacing), list(expected.origin)) == ([0.5, 2.0, 3.0], [0.0, 9.0, 0.0])
    np.testing.assert_array_equal(expected.direction, np.diag([1.0, -1.0, 1.0]))
    transposed = ms.to_itk(image.transpose("x", "z", "y"), library="itkwasm")
    np.testing.assert_array_equal(transposed.data, values)
    assert list(transposed.spacing) == [0.5, 2.0, 3.0]
    other = ms.to_itk(ms.to_image(values, ("depth", "lat", "lon"), scale=[3.0, 2.0, 0.5]), library="itkwasm")
    assert (list(other.size), list(other.spacing)) == ([6, 5, 4], [0.5, 2.0, 3.0])
    channels = ms.to_itk(ms.to_image(values, "cyx"), library="itkwasm")
    np.testing.assert_array_equal(channels.data, np.moveaxis(values, 0, -1))
    assert channels.imageType.components == 4


def test_from_itk__starts_at_the_first_pixel_of_a_region():
    itkwasm = pytest.importorskip("itkwasm", reason="ngff-zarr brings itkwasm")
    values = noise((4, 5, 6))
    part = wasm(values, ROTATED, bufferedRegion=itkwasm.image.ImageRegion(index=[2, 1, 3], size=[6, 5, 4]))
    image = ms.from_itk(part)
    first = [image[dim].values[0] for dim in "xyz"]
    np.testing.assert_allclose(first, physical(part, (2, 1, 3)), rtol=1e-12)


def test_to_itk__is_read_by_ngff_zarr_as_the_same_image():
    ngff_zarr = pytest.importorskip("ngff_zarr", reason=NO_CLIENT)
    image = ms.to_image(noise((4, 5, 6)), scale={"z": 3.0, "y": 2.0, "x": 0.5}, translation={"z": 1.0})
    theirs = ngff_zarr.itk_image_to_ngff_image(ms.to_itk(image, library="itkwasm"))
    assert theirs.scale == {"z": 3.0, "y": 2.0, "x": 0.5}
    assert theirs.translation == {"z": 1.0, "y": 0.0, "x": 0.0}
    xr.testing.assert_identical(ms.from_itk(ngff_zarr.ngff_image_to_itk_image(theirs)), image)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (lambda: ms.to_image(noise((2, 4, 4)), "tyx"), ValueError, r"isel\(t=0\)"),
        (lambda: ms.to_image(noise((4,)), "x"), ValueError, "2 or 3 spatial axes"),
        (lambda: ms.to_image(noise((4, 4), "bool")), TypeError, "'bool'.*astype"),
        (lambda: ms.to_image(noise((4, 4), "float16")), TypeError, "'float16'"),
        (
            lambda: ms.to_image(noise((4, 4))).assign_coords(y=[0.0, 1.0, 3.0, 9.0]),
            ValueError,
            "'y' are not evenly spaced",
        ),
        (lambda: ms.from_itk(wasm(noise((4, 4, 4)), ROTATED))[1], ValueError, r"isel\(z=\[0\]\)"),
    ],
    ids=["time", "1-D", "bool", "half", "irregular", "slice"],
)
def test_to_itk__refuses_axes_and_dtypes_that_itk_does_not_support(image, error, message):
    pytest.importorskip("itkwasm", reason="ngff-zarr brings itkwasm")
    with pytest.raises(error, match=message):
        ms.to_itk(image(), library="itkwasm")


def test_itk__refuses_other_libraries_types_and_ranks():
    with pytest.raises(ValueError, match="'sitk'; choose one of 'itk', 'itkwasm'"):
        ms.to_itk(noise((4, 4)), library="sitk")
    with pytest.raises(TypeError, match=r"expected an itk\.Image .*, got an object of type 'ndarray'; use to_image"):
        ms.from_itk(noise((4, 4)))
    with pytest.raises(ValueError, match="4 dimensions"):
        ms.from_itk(wasm(noise((2, 2, 2, 2)), np.eye(4), spacing=[1.0] * 4, origin=[0.0] * 4))


@pytest.mark.parametrize("direction", [np.eye(3), ROTATED], ids=["identity", "rotated"])
def test_itk__native_images_equal_those_of_wasm(direction):
    itk = pytest.importorskip("itk", reason="needs itk")
    values = noise((8, 6, 10))
    image = ms.from_itk(wasm(values, direction))
    native = ms.to_itk(image)
    np.testing.assert_array_equal(itk.array_view_from_image(native), values)
    assert (list(native.GetSpacing()), list(native.GetOrigin())) == (GRID["spacing"], GRID["origin"])
    np.testing.assert_array_equal(itk.array_from_matrix(native.GetDirection()), direction)
    assert native.GetObjectName() == "head"
    xr.testing.assert_identical(ms.from_itk(native), image)
    level = ms.to_itk(ms.coarsen(image, {"x": 2}))
    pair = [np.array(native.TransformIndexToPhysicalPoint([x, 3, 1])) for x in (2, 3)]
    np.testing.assert_allclose(list(level.TransformIndexToPhysicalPoint([1, 3, 1])), np.mean(pair, axis=0), rtol=1e-12)
    part = itk.region_of_interest_image_filter(native, region_of_interest=_region(itk, [2, 1, 3], [4, 3, 2]))
    np.testing.assert_array_equal(ms.from_itk(part).values, values[3:5, 1:4, 2:6])
    with pytest.raises(TypeError, match=r"'int8'.*astype\('float32'\)"):
        ms.to_itk(noise((4, 4), "int8"))
    theirs = itk.xarray_from_image(native)
    np.testing.assert_array_equal(theirs.x.values, image.x.values)
    np.testing.assert_array_equal(theirs.attrs["direction"], image.attrs.get("direction", np.eye(3)))
    np.testing.assert_array_equal(ms.to_itk(theirs).GetOrigin(), native.GetOrigin())


def _region(itk, index, size):
    region = itk.ImageRegion[3]()
    region.SetIndex(index)
    region.SetSize(size)
    return region
