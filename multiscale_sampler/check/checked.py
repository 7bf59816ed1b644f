"""`CheckedPyramid`: a pyramid as `verify_pyramid` reads it, from a zarr store or from an image file with levels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import zarr

from ..files import FileImage, Part, level_count, read_file
from ..files.arrays import FileArray
from ..image.axes import Axis
from ..image.boxes import Block, Box, pieces_by_index
from ..metadata import stated_method
from ..methods.reducer import Evidence
from ..methods.reducers import ALIASES, REDUCERS
from ..store import Access, StoredPyramid, chunk_key, is_stored, packing_of, storage_unit
from .bands import holds_bands
from .downsampling_rules import VOTES
from .recomputation import Recomputation
from .registration import Line

WindowShape: TypeAlias = "tuple[int, ...]"


@dataclass(frozen=True)
class CheckedLevel:
    """One level: an array of a zarr store, or of an image file."""

    array: zarr.Array[Any] | FileArray
    """The array."""
    access: Access | None = None
    """The best way to read it; None for a file."""
    missing: Any = None
    """Value that floats of another writer have where they are missing, as its metadata state; read as NaN."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Samples along each axis."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of its values, in native byte order."""
        return np.dtype(self.array.dtype).newbyteorder("=")

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def unit(self) -> tuple[int, ...]:
        """Shape of what is stored as one value: a shard, a chunk, or a tile of a file."""
        return storage_unit(self.array)

    @property
    def fill(self) -> Any:
        """Value of what is not stored."""
        return self.dtype.type(0) if self.access is None else self.access.fill

    def read(self, box: Box) -> Block:
        """Return the values of a box, in memory of their own and in native byte order."""
        block = self.array[box] if self.access is None else self.access.read(box)
        values = np.array(block, self.dtype)
        if self.missing is not None:
            values[values == self.missing] = np.nan
        return values

    def parts(self, box: Box) -> Iterator[tuple[str, Box]]:
        """Yield the key of each chunk, shard or tile that a box touches, and the part of the box in it."""
        for index, part in pieces_by_index(box, self.unit):
            if isinstance(self.array, FileArray):
                yield "/".join(map(str, index)), part
            else:
                yield chunk_key(self.array, index), part

    def is_missing(self, key: str) -> bool:
        """Whether the chunk, or shard, of a key is not stored, so that it reads as fill."""
        return not isinstance(self.array, FileArray) and not is_stored(self.array, key)

    def is_fill(self, block: Block) -> bool:
        """Whether a block holds nothing but the fill value."""
        return bool(equals_fill(block, self.fill).all())

    @property
    def chunk_count(self) -> int:
        """Number of chunks."""
        return math.prod(-(-n // chunk) for n, chunk in zip(self.shape, self.array.chunks, strict=True))

    @property
    def stored_chunk_count(self) -> int | None:
        """Number of chunks that are stored; None if that cannot be listed."""
        try:
            return None if isinstance(self.array, FileArray) else int(self.array.nchunks_initialized)
        except NotImplementedError:
            return None


@dataclass(frozen=True)
class CheckedPyramid:
    """A pyramid, and how its values are to be checked."""

    place: str
    """Where it is."""
    paths: tuple[str, ...]
    """The path of every level's array."""
    axes: tuple[tuple[Axis, ...], ...]
    """The axes of every level, as the metadata state them."""
    arrays: tuple[CheckedLevel, ...]
    """The arrays of its levels."""
    described: tuple[bool, ...]
    """For each level, whether the metadata state its positions."""
    labels: bool = False
    """Whether values are ids."""
    method: str | None = None
    """The method that the metadata name; preferred if several rules fit equally well."""
    evidence: Evidence = "rules"
    """What levels are searched for: rules, positions by their pixels if there is no rule for the method, or nothing."""
    recipe_name: str | None = None
    """The method of the recipe of this package, also where its function is not known; None of another writer."""
    recomputation: Recomputation | None = None
    """How the levels are computed again by the recipe of this package; None if that is not known."""
    planned: tuple[str, ...] = ()
    """Where that recipe does not fit the stored levels: the shapes and dtypes that it gives, in words."""

    bands: StoredPyramid | None = None
    """The pyramid where its levels are bands of the Laplacian kind, which are checked as a whole."""

    @classmethod
    def of_store(cls, stored: StoredPyramid) -> CheckedPyramid:
        """Return a stored pyramid as it is to be checked."""
        method, evidence = _stated_method(stored)
        labels = stored.is_labels or _is_of_labels(method)
        recomputation = Recomputation.of_store(stored)
        fits = recomputation is None or recomputation.fits(stored)
        if recomputation is not None and recomputation.plan.takes_other_values:
            # Rules look at values as they are stored; these levels are computed again instead.
            evidence = "nothing"
        return cls(
            place=str(stored.group.store_path),
            paths=stored.paths,
            axes=stored.levels,
            arrays=tuple(
                CheckedLevel(array, Access.of(array), _missing_value(stored, array)) for array in stored.arrays
            ),
            described=tuple(dataset.scale is not None for dataset in stored.multiscales.datasets),
            labels=labels and all(array.dtype.kind in "iu" for array in stored.arrays),
            method=method,
            evidence=evidence,
            recipe_name=None if stored.recipe is None else str(stored.recipe.get("method")),
            recomputation=recomputation if fits else None,
            bands=stored if holds_bands(stored) else None,
            planned=() if fits or recomputation is None else recomputation.shapes_in_words,
        )

    @classmethod
    def of_file(cls, path: Path) -> CheckedPyramid:
        """Return the levels of the first image of a file as they are to be checked; files state no positions of them.

        Raises
        ------
        ValueError
            If the file is damaged, or is not one image.
        """
        images = [read_file(path, Part(level=level)) for level in range(level_count(path, None))]
        images = images if len(images) > 1 else list(_smaller_images(path, images[0]))
        return cls(
            place=str(path),
            paths=tuple(f"level {number}" for number in range(len(images))),
            axes=tuple(_axes_of_file(image, images[0]) for image in images),
            arrays=tuple(CheckedLevel(image.array) for image in images),
            described=(False,) * len(images),
        )

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of every level."""
        return [level.shape for level in self.arrays]

    def stated(self, level: int, base: int = 0) -> tuple[Line, ...]:
        """Return the stated positions of a level, in voxels of the base."""
        return lines_of_axes(self.axes[level], self.axes[base])

    def factors(self, level: int) -> WindowShape | None:
        """Return the voxels of the base in a window of a level; None if no integers fit the shapes."""
        if self.recomputation is not None:
            return self.recomputation.plan.levels[level].factors
        shapes = self.shapes
        ratios = [abs(step) for _, step in self.stated(level)]
        found = [_likely_factor(*along) for along in zip(shapes[0], shapes[level], ratios, strict=True)]
        return None if None in found else tuple(factor for factor in found if factor)


def equals_fill(values: Block, fill: Any) -> npt.NDArray[np.bool_]:
    """Return where values, of which dates and durations may be integers, are fill, which can be NaN or NaT."""
    if isinstance(fill, np.datetime64 | np.timedelta64) and values.dtype.kind not in "mM":
        fill = fill.view(np.int64)
    return np.asarray((values == fill) | ((values != values) & (fill != fill)))


def lines_of_axes(axes: tuple[Axis, ...], base: tuple[Axis, ...]) -> tuple[Line, ...]:
    """Return the positions of a level's samples, in voxels of the base."""
    return tuple(
        ((a.translation - b.translation) / b.scale, a.scale / b.scale) for a, b in zip(axes, base, strict=True)
    )


def _missing_value(stored: StoredPyramid, array: zarr.Array[Any]) -> Any:
    """Return the value that stands for missing ones in an array of another writer, as CF states it."""
    packing = packing_of(array)
    if stored.recipe is not None or stored.is_labels or packing is None:
        return None
    missing = [value for value in packing.missing if isinstance(value, int | float) and value == value]
    return array.dtype.type(missing[0]) if missing else None


def _smaller_images(path: Path, image: FileImage) -> Iterator[FileImage]:
    """Yield the first image of a file, and those after it that can be its levels, though the file does not say so."""
    yield image
    for series in itertools.count(1):
        try:
            smaller = read_file(path, Part(series=series))
        except ValueError:
            # There are no more, or files of this format have one image.
            return
        sizes = list(zip(image.array.shape, smaller.array.shape, strict=False))
        is_smaller = all(n >= m for n, m in sizes) and image.array.shape != smaller.array.shape
        if not is_smaller or image.array.ndim != smaller.array.ndim or image.array.dtype != smaller.array.dtype:
            return
        yield (image := smaller)


def _axes_of_file(image: FileImage, base: FileImage) -> tuple[Axis, ...]:
    """Return axes over the same extent for the levels of a file, which states no positions of them."""
    pairs = enumerate(zip(image.names, image.array.shape, base.array.shape, strict=True))
    return tuple(
        Axis(name or f"axis {number}", size, whole / size, (whole / size - 1) / 2)
        for number, (name, size, whole) in pairs
    )


def _is_of_labels(stated: str | None) -> bool:
    """Whether the stated method is one for labels only, so that values are ids without an order."""
    row = REDUCERS.get(stated or "")
    return row is not None and row.labels != "no" and row.packed != "order"


def _stated_method(stored: StoredPyramid) -> tuple[str | None, Evidence]:
    """Return the method that the metadata name, if it is known, and what its levels are searched for.

    For a method of this package without a rule, with missing values or with weights, a rule would fit by chance only.
    """
    recipe = stored.recipe
    name = str(stated_method(stored.attributes) or (recipe or {}).get("method", "")).lower()
    name = ALIASES.get(name, name)
    if recipe is None:
        return (name if name in REDUCERS else None), "rules"
    special = recipe.get("nodata") is not None or recipe.get("min_valid") or recipe.get("weights")
    if recipe.get("skipna") is False and name in VOTES:
        special = True
    return name, evidence_of(name) if not special else "nothing"


def evidence_of(stated: str | None) -> Evidence:
    """Return what levels of the stated method are searched for."""
    row = REDUCERS.get(stated or "")
    return "nothing" if row is None else row.evidence


def _likely_factor(size: int, coarse: int, ratio: float) -> int | None:
    """Return the integer factor between two sizes, rounded up or down, that is closest to the stated one."""
    least = size // (coarse + 1) + 1
    most = -(-size // (coarse - 1)) - 1 if coarse > 1 else max(size, round(ratio))
    if least > most:
        return None
    stated = round(ratio)
    return stated if least <= stated <= most else min(max(round(size / coarse), least), most)
