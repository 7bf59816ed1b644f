"""The size that a classic netCDF file (netCDF-3) must have, from its header.

The netCDF library reads zeros beyond the end of such a file; files of netCDF-4 are HDF5, which checks its own size.

The grammar of the header is that of the "netCDF Classic Format Specification" of Unidata.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from .contents import require_all

Listed = TypeVar("Listed")

# Bytes of a count and of an offset, by the version in the fourth byte of the file.
WIDTHS = {1: (4, 4), 2: (4, 8), 5: (8, 8)}
# Bytes of a value, by the number of its type.
TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
# The number of records while a writer appends, and in files that were written as a stream.
STREAMING = (2**32 - 1, 2**64 - 1)


def require_variables(path: Path) -> None:
    """Check that a classic netCDF file is as long as its header states; other files pass.

    Raises
    ------
    ValueError
        If it is shorter.
    """
    with open(path, "rb") as file:
        magic = file.read(4)
        if magic[:3] != b"CDF" or magic[3] not in WIDTHS:
            return
        end = _Header(file, *WIDTHS[magic[3]]).end()
    require_all(path, path.stat().st_size, end, "bytes")


@dataclass(frozen=True)
class _Header:
    """The header of a classic netCDF file, which is read in order."""

    file: BinaryIO
    count_width: int
    offset_width: int

    def end(self) -> int:
        """Return the position behind the last value of all variables."""
        records = self.number(self.count_width)
        lengths = self.items(self.dimension)
        self.items(self.attribute)
        variables = self.items(lambda: self.variable(lengths))
        fixed = [begin + size for begin, size, is_record in variables if not is_record]
        recorded = [(begin, size) for begin, size, is_record in variables if is_record]
        if not recorded or records in (0, *STREAMING):
            return max(fixed, default=0)
        # The variables of a record are padded to 4 bytes, but the only one is not.
        step = sum(_padded(size) for _, size in recorded) if len(recorded) > 1 else recorded[0][1]
        last = max(begin + size for begin, size in recorded) + (records - 1) * step
        return max([last, *fixed])

    def items(self, item: Callable[[], Listed]) -> list[Listed]:
        """Return the items of a list: after its tag and their number, each as `item` reads it."""
        self.number(4)
        return [item() for _ in range(self.number(self.count_width))]

    def dimension(self) -> int:
        """Return the length of a dimension, 0 for the one along records."""
        self.name()
        return self.number(self.count_width)

    def attribute(self) -> None:
        """Pass over an attribute."""
        self.name()
        size = TYPE_SIZES[self.number(4)]
        self.file.seek(_padded(size * self.number(self.count_width)), os.SEEK_CUR)

    def variable(self, lengths: Sequence[int]) -> tuple[int, int, bool]:
        """Return where a variable begins, how many bytes it or its part of a record has, and whether it has records."""
        self.name()
        shape = [lengths[self.number(self.count_width)] for _ in range(self.number(self.count_width))]
        self.items(self.attribute)
        size = TYPE_SIZES[self.number(4)]
        # The size that is stated is one of old writers, and too small a number for large variables.
        self.number(self.count_width)
        is_record = bool(shape) and shape[0] == 0
        return self.number(self.offset_width), size * math.prod(shape[is_record:]), is_record

    def name(self) -> None:
        """Pass over a name."""
        self.file.seek(_padded(self.number(self.count_width)), os.SEEK_CUR)

    def number(self, width: int) -> int:
        """Return a number of so many bytes.

        Raises
        ------
        EOFError
            If the file ends before it.
        """
        encoded = self.file.read(width)
        if len(encoded) < width:
            raise EOFError("the file ends within its header")
        return int.from_bytes(encoded, "big")


def _padded(size: int) -> int:
    return -(-size // 4) * 4
