"""Anatomical orientation: given, read from stores and files, carried to every level, written."""

import itertools

import numpy as np
import pytest
import zarr

from multiscale_sampler import (
    add_levels,
    convert,
    from_itk,
    from_ngff_multiscales,
    open_image,
    open_pyramid,
    to_image,
    validate,
    write_pyramid,
)
from multiscale_sampler.image.orientation import (
    ANATOMICAL_AXES,
    ORIENTATIONS,
    opposite,
    orientations_along,
    orientations_of,
)

from ..data import noise

RAS = {"z": "inferior-to-superior", "y": "posterior-to-anterior", "x": "left-to-right"}


def words_of(image):
    return {dim: image[dim].attrs.get("orientation") for dim in image.dims}


def stored_axes(place):
    attributes = zarr.open_group(place, mode="r").attrs.asdict()
    entry = attributes.get("ome", attributes)["multiscales"][0]
    return entry["axes"] if "axes" in entry else entry["coordinateSystems"][0]["axes"]


def test_orientations__are_pairs_of_opposites():
    assert len(ORIENTATIONS) == 24
    assert all(opposite(there) == back and opposite(back) == there for there, back in ANATOMICAL_AXES)


@pytest.mark.parametrize("code", ["RAS", "LPS", "SAR", "pir", "ILA"])
def test_orientations__of_letters_are_where_axes_lead(code):
    ends = {"R": "right", "L": "left", "A": "anterior", "P": "posterior", "S": "superior", "I": "inferior"}
    words = orientations_of(code, ("z", "y", "x"))
    assert [words[dim].rpartition("-")[2] for dim in "xyz"] == [ends[letter] for letter in code.upper()]
    assert orientations_of(code, ("y", "x")) == {dim: words[dim] for dim in "yx"}


@pytest.mark.parametrize("signs", [*itertools.product([1, -1], repeat=3)])
@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_orientations_along__are_those_of_nibabel(order, signs):
    nibabel = pytest.importorskip("nibabel")
    matrix = np.eye(3)[:, list(order)] * signs * [0.5, 2.0, 3.0]
    code = "".join(nibabel.aff2axcodes(np.block([[matrix, np.ones((3, 1))], [np.zeros((1, 3)), 1]])))
    assert orientations_along(matrix, "RAS") == tuple(orientations_of(code, ("x", "y", "z")).values())
    lps = np.diag([-1, -1, 1]) @ matrix
    assert orientations_along(lps, "LPS") == orientations_along(matrix, "RAS")


def test_orientations_along__of_axes_that_lie_between_is_none():
    turned = np.array([[1, -1, 0], [1, 1, 0], [0, 0, 1]]) / np.sqrt([2, 2, 1])
    assert orientations_along(turned, "RAS") == (None, None, "inferior-to-superior")
    slightly = np.array([[0.9, 0.1, 0], [0.1, 0.9, 0], [0, 0, 0]])
    assert orientations_along(slightly, "LPS") == ("right-to-left", "anterior-to-posterior", None)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("RAX", "not a code of three letters"),
        ("RLS", "not a code of three letters"),
        ("RA", "not a code of three letters"),
        ({"x": "left to right"}, "unknown orientation of 'x' 'left to right'; choose one of"),
        ({"c": "left-to-right"}, "the spatial axes are"),
        ({"x": "left-to-right", "y": "right-to-left"}, "same anatomical axis"),
    ],
)
def test_to_image__refuses_other_orientations(option, message):
    with pytest.raises(ValueError, match=message):
        to_image(np.zeros((2, 3, 4, 5)), "czyx", orientation=option)


def test_to_image__refuses_letters_for_axes_of_other_names():
    with pytest.raises(ValueError, match="names the axes x, y and z"):
        to_image(np.zeros((3, 4, 5)), ("depth", "y", "x"), orientation="RAS")


@pytest.mark.parametrize("version", ["0.4", "0.5", "0.6"])
def test_orientation__is_written_and_read_at_every_level(tmp_path, version):
    image = to_image(noise((2, 9, 12, 10)), "czyx", scale=0.5, orientation="RAS")
    assert words_of(image) == {"c": None, **RAS}
    write_pyramid(image, tmp_path / "a", scale_factors=[2, 4], version=version)
    assert [axis.get("orientation") for axis in stored_axes(tmp_path / "a")] == [
        None,
        *({"type": "anatomical", "value": word} for word in RAS.values()),
    ]
    assert validate(tmp_path / "a").findings == ()
    tree = open_pyramid(tmp_path / "a")
    assert [words_of(node["image"]) for node in tree.children.values()] == [{"c": None, **RAS}] * 3
    other = "0.5" if version == "0.4" else "0.4"
    convert(tmp_path / "a", tmp_path / "b", version=other)
    assert words_of(open_pyramid(tmp_path / "b")["scale2/image"]) == {"c": None, **RAS}


def test_orientation__goes_with_levels_that_are_added(tmp_path):
    zarr.create_array(tmp_path / "a", name="0", data=noise((12, 10)), chunks=(5, 5))
    add_levels(tmp_path / "a", scale_factors=[2], orientation={"y": "dorsal-to-ventral"})
    assert words_of(open_pyramid(tmp_path / "a")["scale1"].to_dataset()["image"]) == {
        "y": "dorsal-to-ventral",
        "x": None,
    }


def test_orientation__of_a_coordinate_that_is_none_is_refused_before_writing(tmp_path):
    image = to_image(noise((12, 10)))
    image.x.attrs["orientation"] = "up"
    with pytest.raises(ValueError, match="unknown orientation of 'x' 'up'; choose one of"):
        write_pyramid(image, tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_orientation__does_not_keep_models_from_reading(tmp_path, version):
    yaozarrs = pytest.importorskip("yaozarrs")
    models = pytest.importorskip("ome_zarr_models")
    ngff_zarr = pytest.importorskip("ngff_zarr")
    write_pyramid(to_image(noise((9, 12, 10)), orientation="LPS"), tmp_path / "a", scale_factors=[2], version=version)
    assert models.open_ome_zarr(zarr.open_group(tmp_path / "a", mode="r")) is not None
    assert yaozarrs.validate_zarr_store(str(tmp_path / "a")) is not None
    multiscales = ngff_zarr.from_ngff_zarr(str(tmp_path / "a"))
    assert multiscales.metadata.axes[2].orientation == {"type": "anatomical", "value": "right-to-left"}
    assert words_of(from_ngff_multiscales(multiscales)["scale1/image"])["x"] == "right-to-left"


def test_from_itk__gives_the_orientation_of_its_direction_where_asked():
    itkwasm = pytest.importorskip("itkwasm")
    image = itkwasm.image_from_array(noise((4, 5, 6), "uint8"))
    image.direction = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert words_of(from_itk(image)) == {"z": None, "y": None, "x": None}
    assert words_of(from_itk(image, anatomical=True)) == {
        "z": "right-to-left",
        "y": "inferior-to-superior",
        "x": "posterior-to-anterior",
    }


@pytest.mark.parametrize("coded", [True, False])
def test_open_image__takes_the_orientation_of_nifti_from_its_affine(tmp_path, coded):
    nibabel = pytest.importorskip("nibabel")
    affine = np.array([[0, 0, 3.0, 5], [-2, 0, 0, 6], [0, -1, 0, 7], [0, 0, 0, 1]])
    file = nibabel.Nifti1Image(noise((4, 5, 6), "uint8"), affine if coded else None)
    nibabel.save(file, tmp_path / "a.nii")
    image = open_image(tmp_path / "a.nii")
    said = {"x": "anterior-to-posterior", "y": "superior-to-inferior", "z": "left-to-right"}
    assert words_of(image) == (said if coded else dict.fromkeys("zyx"))
