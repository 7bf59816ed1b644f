"""Where MetaImage and NRRD files store their values: in the file or beside it, after something that is skipped."""

import pytest

from multiscale_sampler import open_image
from multiscale_sampler.files.itk_data import stored_values

from ..data import noise

VALUES = noise((4, 5, 6), "uint16", seed=1)
NRRD = "NRRD0004\ntype: uint16\ndimension: 3\nsizes: 6 5 4\nendian: little\nencoding: raw\n"
METAIMAGE = "ObjectType = Image\nNDims = 3\nDimSize = 6 5 4\nElementType = MET_USHORT\n"


@pytest.mark.parametrize(
    ("name", "header", "offset"),
    [
        ("a.nrrd", NRRD + "\n", None),
        ("a.nrrd", NRRD + "byte skip: 7\n\n", None),
        ("a.nrrd", NRRD + "byte skip: -1\n\n", None),
        ("a.nhdr", NRRD + "data file: raw.bin\n", 0),
        ("a.nhdr", NRRD + "byte skip: 9\ndata file: raw.bin\n", 9),
        ("a.mha", METAIMAGE + "ElementDataFile = LOCAL\n", None),
        ("a.mhd", METAIMAGE + "HeaderSize = 11\nElementDataFile = raw.bin\n", 11),
        ("a.mhd", METAIMAGE + "HeaderSize = -1\nElementDataFile = raw.bin\n", 3),
    ],
)
def test_values__are_found_and_all_of_them_are_required(tmp_path, name, header, offset):
    pytest.importorskip("SimpleITK")
    path, values = tmp_path / name, VALUES.astype("<u2").tobytes()
    skipped = bytes(7) if "byte skip: 7" in header else b""
    path.write_bytes(header.encode() + (skipped + values if offset is None else b""))
    data = path if offset is None else tmp_path / "raw.bin"
    if offset is not None:
        data.write_bytes(bytes(offset) + values)
    assert (open_image(path).values == VALUES).all()
    data.write_bytes(data.read_bytes()[:-200])
    # ITK itself looks for what is at the end of a file.
    numbers = "" if "byte skip: -1" in header else rf"contains \d+ of {len(values)} bytes of values"
    with pytest.raises(ValueError, match=rf"{name}' {numbers}"):
        open_image(path)
    if offset is not None:
        data.unlink()
        with pytest.raises(FileNotFoundError, match=rf"{name}' stores its values in '.*raw.bin', which does not exist"):
            open_image(path)


@pytest.mark.parametrize(
    "header",
    [
        *(NRRD + "data file: LIST\n", NRRD + "data file: s%03d.raw 1 4 1\n", METAIMAGE + "ElementDataFile = LIST\n"),
        *(NRRD.replace("raw", "ascii") + "\n", METAIMAGE + "BinaryData = False\nElementDataFile = LOCAL\n"),
    ],
)
def test_values__in_several_files_or_as_text_are_left_to_itk(tmp_path, header):
    (tmp_path / "a").write_text(header)
    assert stored_values(tmp_path / "a") is None
