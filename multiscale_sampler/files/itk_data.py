"""Where MetaImage and NRRD files store the values of an image, and whether all of them are there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .contents import require_all
from .encoded import require_decoded

# Bytes that are searched for a text header; values may follow it in the same file.
LONGEST_HEADER = 2**16
# The names of NRRD for compressed values. Values as text are not checked.
NRRD_ENCODINGS = {"raw": "", "gz": "gzip", "gzip": "gzip", "bz2": "bzip2", "bzip2": "bzip2"}
# Values of "ElementDataFile" and "data file" that stand for several files.
SEVERAL_FILES = re.compile(r"LIST\b|.*%\d*d", re.IGNORECASE)


@dataclass(frozen=True)
class StoredValues:
    """The bytes in which the values of an image are stored."""

    path: Path
    """The file with the header."""
    data: Path
    """The file with the values."""
    offset: int | None
    """Where they begin; None at as many bytes before the end of the file as they have."""
    encoding: str
    """One of `DECODERS`; empty for values that are not compressed."""
    encoded: int | None
    """How many bytes the compressed values have, if the header states it."""
    skipped: int = 0
    """How many decompressed bytes come before the values."""

    def require_file(self) -> None:
        """Check that the file with the values exists.

        Raises
        ------
        FileNotFoundError
            If it does not.
        """
        if not self.data.is_file():
            raise FileNotFoundError(
                f"{str(self.path)!r} stores its values in {str(self.data)!r}, which does not exist; copy it there"
            )

    def require_bytes(self, size: int) -> None:
        """Check that the file is long enough for values of `size` bytes, or for what it states of compressed ones.

        Raises
        ------
        ValueError
            If it is shorter.
        """
        stored = self.encoded if self.encoding else size
        if stored is not None:
            available = self.data.stat().st_size - (self.offset or 0)
            require_all(self.path, max(available, 0), stored, "bytes of values")

    def require_decoded_bytes(self, size: int) -> None:
        """Check that compressed values of `size` bytes are all there and undamaged, by decoding them.

        Raises
        ------
        ValueError
            If they are not.
        """
        if self.encoding:
            require_decoded(self.path, self.data, self.offset or 0, self.encoding, self.skipped + size)


def stored_values(path: Path) -> StoredValues | None:
    """Return where the values of an image are stored.

    None for values as text and values in several files: then ITK alone finds out whether they are there.
    """
    header, length = text_header(path)
    return _by_metaimage(path, header, length) if "objecttype" in header else _by_nrrd(path, header, length)


def _by_metaimage(path: Path, header: Mapping[str, str], length: int) -> StoredValues | None:
    name = header.get("elementdatafile", "")
    if not name or SEVERAL_FILES.match(name) or not _is_true(header.get("binarydata", "true")):
        return None
    is_local = name.upper() == "LOCAL"
    skipped = int(header.get("headersize", 0))
    offset = None if skipped < 0 else length if is_local else skipped
    encoding = "zlib" if _is_true(header.get("compresseddata", "")) else ""
    encoded = header.get("compresseddatasize")
    data = path if is_local else path.parent / name
    return StoredValues(path, data, offset, encoding, None if encoded is None else int(encoded))


def _by_nrrd(path: Path, header: Mapping[str, str], length: int) -> StoredValues | None:
    name = header.get("data file", header.get("datafile"))
    encoding = NRRD_ENCODINGS.get(header.get("encoding", "raw").lower())
    bytes_skipped = int(header.get("byte skip", header.get("byteskip", 0)))
    lines_skipped = int(header.get("line skip", header.get("lineskip", 0)))
    if encoding is None or lines_skipped or (name is not None and SEVERAL_FILES.match(name)):
        return None
    data, start = (path, length) if name is None else (path.parent / name, 0)
    if encoding:
        # Bytes are skipped after decompression.
        return StoredValues(path, data, start, encoding, None, max(bytes_skipped, 0))
    return StoredValues(path, data, None if bytes_skipped < 0 else start + bytes_skipped, "", None)


def _is_true(value: str) -> bool:
    return value.lower() in ("true", "t", "1")


def text_header(path: Path) -> tuple[dict[str, str], int]:
    """Return the "key: value" lines (NRRD) or "key = value" lines (MetaImage) of a header, and its length in bytes.

    Keys are in lower case.
    """
    with open(path, "rb") as file:
        lines = file.read(LONGEST_HEADER).split(b"\n")
    separator = ": " if lines[0].startswith(b"NRRD") else "="
    entries, length = {}, 0
    for line in lines:
        length += len(line) + 1
        key, found, value = line.decode("latin-1").partition(separator)
        if found:
            entries[key.strip().lower()] = value.strip()
        # An empty line ends a NRRD header, the element "ElementDataFile" a MetaImage header.
        if not line.strip() or key.strip() == "ElementDataFile":
            break
    return entries, length
