"""Positions that files state as an affine transformation, at several levels, compared with those of their readers."""

import numpy as np
import pytest
import zarr

from multiscale_sampler import (
    from_itk,
    open_image,
    open_pyramid,
    to_image,
    to_multiscale,
    validate,
    write_labels,
    write_pyramid,
)
from multiscale_sampler.files.contents import placed_coordinates
from multiscale_sampler.image.grids import Grid

from ..data import noise

ANGLE = np.deg2rad(20)
ROTATED = np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1]])
# A quarter turn: axes run along other axes of space.
PERMUTED = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
DIRECTIONS = {
    "upright": np.eye(3),
    "flipped": np.diag([-1.0, 1, -1]),
    "permuted": PERMUTED,
    "rotated": ROTATED,
}
SPACING, FIRST = np.array([0.5, 2.0, 3.0]), np.array([-98.0, -134.0, 72.5])


def position_in_space(image, x, y, z):
    """Return where the sample of an image at some indices lies, x first."""
    position = np.array([float(image[dim][index]) for dim, index in (("x", x), ("y", y), ("z", z))])
    if "direction" not in image.attrs:
        return position
    origin, direction = np.flip(image.attrs["origin"]), np.flip(image.attrs["direction"])
    return origin + direction @ (position - origin)


def check_levels(levels, values, place):
    """Check values and positions of levels of factors 1, 2 and 4 against the positions of the file's reader."""
    for factor, image in zip((1, 2, 4), levels, strict=True):
        for x, y, z in ((0, 0, 0), (1, 2, 0), (2, 1, 1)):
            # A window's mean lies at the centre of its positions.
            starts = np.array([x, y, z]) * factor
            window = values[tuple(slice(start, start + factor) for start in starts[::-1])]
            assert float(image.transpose("z", "y", "x")[z, y, x]) == pytest.approx(window.mean())
            centre = place(starts + (factor - 1) / 2)
            np.testing.assert_allclose(position_in_space(image, x, y, z), centre, rtol=1e-9, atol=1e-6)


def levels_of(tree, name):
    return [node[name] for node in tree.children.values()]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_nifti__levels_lie_where_nibabel_says(tmp_path, direction, ending):
    nibabel = pytest.importorskip("nibabel")
    values = noise((12, 16, 12), "float32")
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = DIRECTIONS[direction] * SPACING, FIRST
    file = nibabel.Nifti1Image(values.T, affine)
    file.header.set_xyzt_units("mm", "sec")
    nibabel.save(file, tmp_path / f"a{ending}")
    image = open_image(tmp_path / f"a{ending}")
    stored = nibabel.load(tmp_path / f"a{ending}").affine
    tree = to_multiscale(image, [2, 4])
    check_levels(levels_of(tree, "a"), values, lambda index: stored[:3, :3] @ index + stored[:3, 3])
    assert ("direction" in image.attrs) == (direction in ("permuted", "rotated"))
    assert image.x.attrs["units"] == "millimeter"


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("ending", ["mha", "nrrd"])
def test_itk__levels_lie_where_simpleitk_says(tmp_path, direction, ending):
    sitk = pytest.importorskip("SimpleITK")
    values = noise((12, 16, 12), "int16")
    written = sitk.GetImageFromArray(values)
    written.SetSpacing(SPACING.tolist())
    written.SetOrigin(FIRST.tolist())
    written.SetDirection(np.ravel(DIRECTIONS[direction]).tolist())
    sitk.WriteImage(written, str(tmp_path / f"a.{ending}"))
    tree = to_multiscale(open_image(tmp_path / f"a.{ending}").astype("float64"), [2, 4])
    oracle = sitk.ReadImage(str(tmp_path / f"a.{ending}"))
    check_levels(
        levels_of(tree, "a"), values, lambda index: oracle.TransformContinuousIndexToPhysicalPoint(index.tolist())
    )


def test_stored_levels__lie_where_the_file_says(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    values = noise((12, 16, 12), "float64")
    affine = np.diag([2.0, 1, 3, 1])
    affine[:3, 3] = FIRST
    nibabel.save(nibabel.Nifti1Image(values.T, affine), tmp_path / "a.nii")
    write_pyramid(open_image(tmp_path / "a.nii"), tmp_path / "a.zarr", scale_factors=[2, 4])
    levels = levels_of(open_pyramid(tmp_path / "a.zarr"), "a")
    check_levels(levels, values, lambda index: affine[:3, :3] @ index + affine[:3, 3])


def test_nifti__orientations_are_those_of_ascending_coordinates(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(noise((4, 5, 6), "uint8"), np.diag([-2.0, 3, 4, 1])), tmp_path / "a.nii")
    image = open_image(tmp_path / "a.nii")
    # The first voxel is the one farthest to the right.
    assert image.x.values.tolist() == [0.0, -2.0, -4.0, -6.0]
    assert image.x.attrs["orientation"] == "left-to-right"


def test_nifti__a_series_begins_at_its_time_offset(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    file = nibabel.Nifti1Image(noise((4, 5, 6, 3), "uint8"), np.eye(4))
    file.header.set_xyzt_units("mm", "sec")
    file.header["pixdim"][4], file.header["toffset"] = 1.5, 12.0
    nibabel.save(file, tmp_path / "a.nii")
    assert open_image(tmp_path / "a.nii").t.values.tolist() == [12.0, 13.5, 15.0]


def test_nifti__without_a_code_has_spacings_alone(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    file = nibabel.Nifti1Image(noise((4, 5, 6), "uint8"), None)
    file.header["pixdim"][1:4] = 2.0, 3.0, 4.0
    nibabel.save(file, tmp_path / "a.nii")
    image = open_image(tmp_path / "a.nii")
    assert [image[dim].values[:2].tolist() for dim in "xyz"] == [[0, 2], [0, 3], [0, 4]]


def test_nifti__lists_of_vertices_are_refused(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    axes = (
        nibabel.cifti2.SeriesAxis(0, 1, 4, "SECOND"),
        nibabel.cifti2.BrainModelAxis.from_mask(np.ones((3, 3, 3), bool), affine=np.eye(4), name="cortex_left"),
    )
    nibabel.Cifti2Image(np.zeros((4, 27), "f4"), header=axes).to_filename(tmp_path / "a.dtseries.nii")
    with pytest.raises(ValueError, match=r"a\.dtseries\.nii' is a CIFTI-2 file, .* export its volume"):
        open_image(tmp_path / "a.dtseries.nii")


def test_grid__is_aligned_within_the_rounding_of_a_file():
    steps = np.diag(SPACING).astype(np.float32)
    steps[0, 1] = 1e-7
    grid = Grid.of_steps(steps, FIRST)
    assert grid.is_aligned((100, 100, 100))
    assert placed_coordinates("xyz", (4, 4, 4), grid, (None,) * 3)[1] == {}
    assert not Grid.of_steps(np.diag(SPACING) + np.eye(3)[[1, 0, 2]] * 1e-3, FIRST).is_aligned((100, 100, 100))


@pytest.mark.parametrize("steps", [np.zeros((3, 3)), np.diag([1.0, np.nan, 1]), np.ones((3, 3))])
def test_grid__needs_steps_that_span_space(steps):
    assert Grid.of_steps(steps, FIRST) is None


def test_grid__images_of_itk_and_files_of_them_agree(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    itkwasm = pytest.importorskip("itkwasm")
    values = noise((4, 5, 6), "int16")
    written = sitk.GetImageFromArray(values)
    written.SetOrigin(FIRST.tolist())
    written.SetDirection(np.ravel(ROTATED).tolist())
    sitk.WriteImage(written, str(tmp_path / "a.mha"))
    kind = itkwasm.ImageType(dimension=3, componentType="int16", pixelType="Scalar", components=1)
    grid = {"origin": FIRST.tolist(), "spacing": [1.0] * 3, "direction": ROTATED, "size": [6, 5, 4]}
    image = from_itk(itkwasm.Image(kind, name="a", data=values, **grid))
    opened = open_image(tmp_path / "a.mha")
    for index in np.ndindex(2, 2, 2):
        np.testing.assert_allclose(position_in_space(opened, *index), position_in_space(image, *index), rtol=1e-9)


def rotated_file(tmp_path):
    """Return the path of a rotated NIfTI series of two volumes, its values and its affine."""
    nibabel = pytest.importorskip("nibabel")
    values = noise((2, 12, 16, 12), "float64")
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = ROTATED * SPACING, FIRST
    nibabel.save(nibabel.Nifti1Image(values.T, affine), tmp_path / "a.nii")
    return tmp_path / "a.nii", values, nibabel.load(tmp_path / "a.nii").affine


def placed_by_06(attributes, number, index):
    """Return where the transformations of OME-NGFF 0.6 lead from a sample of a level, in the order of its axes."""
    (entry,) = attributes["ome"]["multiscales"]
    (level,) = entry["datasets"][number]["coordinateTransformations"]
    scale, translation = (each.get(each["type"]) for each in level["transformations"])
    (world,) = entry["coordinateTransformations"]
    assert (world["input"], world["output"]) == (level["output"], {"name": "world"})
    matrix = np.array(world["affine"])
    return matrix[:, :-1] @ (np.array(scale) * index + translation) + matrix[:, -1]


def test_stored_levels__of_a_rotated_image_are_placed_by_0_6(tmp_path):
    path, values, affine = rotated_file(tmp_path)
    write_pyramid(open_image(path), tmp_path / "a.zarr", scale_factors=[2, 4], version="0.6")
    attributes = zarr.open_group(tmp_path / "a.zarr", mode="r").attrs.asdict()
    assert validate(tmp_path / "a.zarr").findings == ()
    for number, factor in enumerate((1, 2, 4)):
        index = np.array([1, 2, 1, 2])
        centre = index[:0:-1] * factor + (factor - 1) / 2
        found = placed_by_06(attributes, number, index)
        np.testing.assert_allclose(found[:0:-1], affine[:3, :3] @ centre + affine[:3, 3], rtol=1e-9)
    levels = [image.isel(t=0) for image in levels_of(open_pyramid(tmp_path / "a.zarr"), "a")]
    check_levels(levels, values[0], lambda index: affine[:3, :3] @ index + affine[:3, 3])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_stored_levels__of_a_rotated_image_are_said_where_ome_ngff_cannot_place_them(tmp_path, version):
    path, values, affine = rotated_file(tmp_path)
    with pytest.warns(UserWarning, match=f"rotated in space, which OME-NGFF {version} cannot .* write version '0.6'"):
        write_pyramid(open_image(path), tmp_path / "a.zarr", scale_factors=[2, 4], version=version)
    levels = [image.isel(t=0) for image in levels_of(open_pyramid(tmp_path / "a.zarr"), "a")]
    check_levels(levels, values[0], lambda index: affine[:3, :3] @ index + affine[:3, 3])


@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("direction", ["flipped", "rotated"])
def test_levels__have_the_matrix_of_their_own_samples(tmp_path, direction, lazy):
    nibabel = pytest.importorskip("nibabel")
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = DIRECTIONS[direction] * SPACING, FIRST
    nibabel.save(nibabel.Nifti1Image(noise((12, 16, 12), "float32").T, affine), tmp_path / "a.nii")
    tree = to_multiscale(open_image(tmp_path / "a.nii"), [2, {"z": 2, "y": 4, "x": 4}])
    if not lazy:
        # Flipped axes are stored ascending, with the matrix of the stored order.
        write_pyramid(tree, tmp_path / "a.zarr", version="0.6", ascending=True)
        tree = open_pyramid(tmp_path / "a.zarr")
    levels = levels_of(tree, "a")
    assert [image.shape for image in levels] == [(12, 16, 12), (6, 8, 6), (6, 4, 3)]
    for image in levels:
        for index in (0, 0, 0), (2, 1, 1), (1, 3, 4):
            place = (np.array(image.attrs["affine"]) @ [*index, 1])[:3]
            np.testing.assert_allclose(place, position_in_space(image, *index), rtol=1e-6)


def test_grid__attributes_of_another_meaning_are_kept():
    image = to_image(np.ones((8, 8))).assign_attrs(affine="none", transform=[1, 2, 3])
    level = to_multiscale(image, [2])["scale1/image"]
    assert (level.attrs["affine"], level.attrs["transform"]) == ("none", [1, 2, 3])


@pytest.mark.parametrize(("of_labels", "joins"), [("rotated", True), ("permuted", False)])
def test_labels__of_another_rotation_are_refused(tmp_path, of_labels, joins):
    nibabel = pytest.importorskip("nibabel")
    for name, direction in ("image", "rotated"), ("labels", of_labels):
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = DIRECTIONS[direction], FIRST
        nibabel.save(nibabel.Nifti1Image(noise((8, 8, 8), "uint8"), affine), tmp_path / f"{name}.nii")
    write_pyramid(open_image(tmp_path / "image.nii"), tmp_path / "a.zarr", scale_factors=[2], version="0.6")
    if joins:
        write_labels(open_image(tmp_path / "labels.nii"), tmp_path / "a.zarr", "cells")
        assert sorted(open_pyramid(tmp_path / "a.zarr")["labels/cells"].children) == ["scale0", "scale1"]
        return
    with pytest.raises(ValueError, match=r"labels have the direction .* resample the labels"):
        write_labels(open_image(tmp_path / "labels.nii"), tmp_path / "a.zarr", "cells")
