"""`explain`: why the levels of a plan, a tree or a store have their shapes, scales, translations and chunks.

The method of a plan or of a tree is known, and determines the positions of values. A store only states shapes and
transformations; they are explained by how they relate to those of level 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
import zarr
from dask.utils import format_bytes

from ..image.axes import Axis, Boundary
from ..image.dataarray import image_axes
from ..image.encodings import stored_shape
from ..image.tree import RECIPE_ATTRIBUTE, describe_levels, levels_of_tree
from ..messages import counted
from ..metadata import stated_method
from ..methods.reducer import Reducer
from ..methods.reducers import REDUCERS
from ..plan.plan import Plan
from ..store import StoredPyramid, open_node, outdated_documents

# Files state rounded ratios and offsets; this is in voxels.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class _Level:
    """What is known of one level."""

    axes: tuple[Axis, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    parent: int | None = None


@dataclass(frozen=True)
class _Pyramid:
    """What is known of a pyramid."""

    title: str
    levels: tuple[_Level, ...]
    method: str | None
    boundary: Boundary | None
    notes: tuple[str, ...] = ()
    source_chunks: tuple[int, ...] | None = None

    @property
    def reducer(self) -> Reducer | None:
        return None if self.method is None else REDUCERS.get(self.method)


def explain(source: Any, path: str | None = None, *, storage_options: Mapping[str, Any] | None = None) -> str:
    """Explain the shapes, scales, translations and chunks of a pyramid's levels. No pixel is read.

    Parameters
    ----------
    source
        A plan from `plan_pyramid`, a tree, or the store of a finished pyramid, from any tool.
    path
        Path of the image's group in a store.
    storage_options
        Options of the file system, with a URL.

    Returns
    -------
    str
        Sentences, one line each.

    Raises
    ------
    FileNotFoundError
        If nothing is stored there.
    ValueError
        If the store is not a pyramid.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> image = ms.to_image(np.zeros((64, 100), "uint8"), scale=0.5, units="micrometer")
    >>> for line in ms.explain(ms.plan_pyramid(image, [3])).splitlines()[6:9]:
    ...     print(line[:76])
    Level 1: y 22, x 34, uint8
      Shape: y 64 / 3 = 21.33, rounded up to 22; x 100 / 3 = 33.33, rounded up t
      Scale: y 3 * 0.5 = 1.5 micrometer; x 3 * 0.5 = 1.5 micrometer: the width o
    """
    if isinstance(source, Plan):
        pyramid = _of_plan(source)
    elif isinstance(source, xr.DataTree):
        pyramid = _of_tree(source)
    else:
        pyramid = _of_store(source, path, storage_options)
    paragraphs = [[pyramid.title], *(list(_level_lines(pyramid, index)) for index in range(len(pyramid.levels)))]
    if pyramid.notes:
        paragraphs.append(list(pyramid.notes))
    return "\n\n".join("\n".join(paragraph) for paragraph in paragraphs)


def _of_plan(plan: Plan) -> _Pyramid:
    levels = tuple(_Level(x.axes, x.dtype, x.chunks, x.shards, x.parent) for x in plan.levels)
    by = f"{plan.reducer.name!r}{_summary_of(plan.reducer)}"
    title = f"A plan of {counted(len(levels), 'level')} of {plan.name!r} by {by}."
    notes = (
        f"The levels end here: {plan.ending or 'no more were requested'}.",
        *(() if plan.missing is None else (f"Missing values: {plan.missing}.",)),
    )
    return _Pyramid(title, levels, plan.reducer.name, plan.boundary, notes, plan.source_chunks)


def _summary_of(reducer: Reducer | None) -> str:
    return f": {reducer.summary}" if reducer is not None and reducer.summary else ""


def _of_tree(tree: xr.DataTree) -> _Pyramid:
    images = levels_of_tree(tree)
    recipe = tree.attrs.get(RECIPE_ATTRIBUTE, {})
    method = recipe.get("method") if isinstance(recipe, Mapping) else None
    levels = tuple(
        _Level(image_axes(image), image.dtype, tuple(level["chunks"]), stored_shape(image, "shards"))
        for image, level in zip(images, describe_levels(tree), strict=True)
    )
    named = method if isinstance(method, str) else None
    by = f" by {named!r}{_summary_of(REDUCERS.get(named))}" if named else ""
    return _Pyramid(
        f"A tree of {counted(len(levels), 'level')} of {images[0].name!r}{by}.", levels, named, recipe.get("boundary")
    )


def _of_store(store: Any, path: str | None, storage_options: Mapping[str, Any] | None) -> _Pyramid:
    group = open_node(store, path, storage_options=storage_options)
    if not isinstance(group, zarr.Group):
        raise ValueError(f"{group.store_path} is an array, not a pyramid; explain a plan of one, from plan_pyramid")
    stored = StoredPyramid.by_ngff(group)
    levels = tuple(
        _Level(axes, np.dtype(array.dtype), array.chunks, array.shards)
        for axes, array in zip(stored.levels, stored.arrays, strict=True)
    )
    method = stated_method(stored.attributes)
    by = f" The metadata name the method {method!r}{_summary_of(REDUCERS.get(method))}." if method else ""
    title = f"{group.store_path}: OME-NGFF {stored.version}, {counted(len(levels), 'level')}.{by}"
    notes = (
        *(f"The metadata are incomplete; assumed: {text}." for text in stored.assumed),
        *(f"The consolidated metadata are outdated: {each}." for each in outdated_documents(group, stored.paths)),
    )
    return _Pyramid(title, levels, method, None, notes)


def _level_lines(pyramid: _Pyramid, index: int) -> Iterator[str]:
    level, base = pyramid.levels[index], pyramid.levels[0]
    sizes = ", ".join(f"{axis.name} {axis.size}" for axis in level.axes)
    yield f"Level {index}: {sizes}, {level.dtype}"
    if index == 0:
        firsts = ", ".join(f"{a.name} {_number(a.translation)}" for a in level.axes if a.is_regular)
        unit = _common_unit(level.axes)
        yield (
            "  Shape, scale and translation are those of the image"
            + (f": its first voxel is centred at {firsts}{unit}." if firsts else ".")
        )
    else:
        yield from _reduction_lines(pyramid, index)
    yield f"  {_chunks_line(pyramid, level)}"
    if level.shards:
        inside = math.prod(-(-shard // chunk) for shard, chunk in zip(level.shards, level.chunks, strict=True))
        yield f"  Shards of {_product(level.shards)}: {inside} chunks in one file."
    if level.parent:
        rule = pyramid.reducer
        same = (
            ", to the same values as from level 0" if rule is not None and rule.cascade == "exact" else ", step by step"
        )
        factors = [a.scale / b.scale for a, b in zip(level.axes, pyramid.levels[level.parent].axes, strict=True)]
        window = " x ".join(map(_number, factors))
        yield f"  Computed from level {level.parent}, {window} of its voxels at a time{same}."
    elif index and level.parent == 0 and index > 1:
        yield f"  Computed from level 0, as the factors of no level in between divide those of level {index}."
    if base.dtype != level.dtype:
        yield f"  Its dtype is {level.dtype}, the dtype of the method's results; level 0 has {base.dtype}."


def _reduction_lines(pyramid: _Pyramid, index: int) -> Iterator[str]:
    """Yield lines on how shape, scale and translation follow from those of level 0."""
    pairs = list(zip(pyramid.levels[0].axes, pyramid.levels[index].axes, strict=True))
    reduced = [(a, b, factor) for a, b in pairs if (factor := _samples_under(a, b)) != 1]
    same = [a.name for a, b in pairs if _samples_under(a, b) == 1]
    if reduced:
        yield f"  Shape: {_shapes(reduced, pyramid.boundary)}"
        regular = [(a, b, factor) for a, b, factor in reduced if a.is_regular and b.is_regular]
        if regular:
            yield f"  Scale: {'; '.join(_scale(*each) for each in regular)}: the width of a window."
            yield from _translation_lines(pyramid, index, regular)
        for a, _, _ in reduced:
            if not a.is_regular:
                yield f"  Positions of {a.name} are uneven, and are computed window by window."
    if same:
        yield f"  {', '.join(same)}: as in level 0, not reduced."


def _samples_under(base: Axis, axis: Axis) -> float:
    """Return how many samples of level 0 lie under one of a level, by spacings if these are even, else by sizes."""
    ratio = axis.scale / base.scale if base.is_regular and axis.is_regular else base.size / axis.size
    if not (base.is_regular and axis.is_regular) or abs(ratio - round(ratio)) <= TOLERANCE * ratio:
        return max(round(ratio), 1)
    return ratio


def _shapes(reduced: Sequence[tuple[Axis, Axis, float]], boundary: Boundary | None) -> str:
    parts, rounded = [], set()
    for base, axis, factor in reduced:
        quotient = base.size / factor
        text = f"{axis.name} {base.size} / {_number(factor)} = {quotient:.4g}"
        if axis.size not in (math.ceil(quotient), math.floor(quotient)):
            text += f", but the size is {axis.size}: scale and size do not agree"
        elif axis.size != quotient:
            direction = "up" if axis.size > quotient else "down"
            rounded.add(direction)
            text += f", rounded {direction} to {axis.size}"
        parts.append(text)
    rule = f" (boundary {boundary!r})" if boundary else ""
    ends = [
        *(["the last windows are partial, and reduce the voxels that they have"] if "up" in rounded else []),
        *(["voxels that do not fill a window are dropped"] if "down" in rounded else []),
    ]
    return "; ".join(parts) + (f": {'; '.join(ends)}{rule}." if ends else ".")


def _scale(base: Axis, axis: Axis, factor: float) -> str:
    return f"{axis.name} {_number(factor)} * {_number(base.scale)} = {_number(axis.scale)}{_unit_after(axis)}"


def _translation_lines(pyramid: _Pyramid, index: int, reduced: Sequence[tuple[Axis, Axis, float]]) -> Iterator[str]:
    """Yield lines on the positions of first voxels: users often take a translation for an error."""
    centred = [each for each in reduced if _offset_is(*each, (each[2] - 1) / 2)]
    first = [each for each in reduced if each not in centred and _offset_is(*each, 0.0)]
    other = [each for each in reduced if each not in centred and each not in first]
    if centred:
        sums = "; ".join(
            f"{b.name} {_number(a.translation)} + ({_number(f)} - 1) / 2 * {_number(a.scale)} = "
            f"{_number(b.translation)}{_unit_after(b)}"
            for a, b, f in centred
        )
        yield f"  Translation: {sums}: the centre of the first window. {_why_centred(centred[0])}"
    if first:
        same = "; ".join(f"{b.name} {_number(b.translation)}{_unit_after(b)}" for _, b, _ in first)
        yield f"  Translation: {same}: where level 0 begins. {_why_first(pyramid, first[0])}"
    for a, b, f in other:
        yield (
            f"  Translation: {b.name} {_number(b.translation)}{_unit_after(b)}, which is neither the centre of the "
            f"first window ({_number(a.translation + (f - 1) / 2 * a.scale)}) nor its first voxel "
            f"({_number(a.translation)}): viewers may draw the level beside level 0."
        )


def _offset_is(base: Axis, axis: Axis, factor: float, voxels: float) -> bool:
    offset = (axis.translation - base.translation) / base.scale
    return abs(offset - voxels) <= TOLERANCE * factor


def _why_centred(example: tuple[Axis, Axis, float]) -> str:
    base, axis, factor = example
    last = base.translation + (factor - 1) * base.scale
    return (
        f"This is not a shift: along {axis.name} it stands for voxels centred from {_number(base.translation)} to "
        f"{_number(last)}{_unit_after(axis)}, and so lies on level 0."
    )


def _why_first(pyramid: _Pyramid, example: tuple[Axis, Axis, float]) -> str:
    base, axis, factor = example
    shift = f"{_number(abs((factor - 1) / 2 * base.scale))}{_unit_after(axis)}"
    reducer = pyramid.reducer
    if reducer is not None and reducer.position == "first":
        return f"{pyramid.method!r} takes the first voxel of each window, and this is its position."
    if reducer is not None:
        return (
            f"Values of {pyramid.method!r} belong to the centre of their windows: along {axis.name} the level is drawn "
            f"{shift} too near to the origin."
        )
    return (
        f"That is right where a level takes the first voxel of each window; where it averages windows, it is drawn "
        f"{shift} too near to the origin along {axis.name}."
    )


def _chunks_line(pyramid: _Pyramid, level: _Level) -> str:
    base = pyramid.levels[0]
    shape = tuple(axis.size for axis in level.axes)
    count = math.prod(-(-size // chunk) for size, chunk in zip(shape, level.chunks, strict=True))
    nbytes = math.prod(level.chunks) * level.dtype.itemsize
    text = f"Chunks of {_product(level.chunks)} ({format_bytes(nbytes)}), {count} of them"
    if level is not base:
        clamped = tuple(min(chunk, size) for chunk, size in zip(base.chunks, shape, strict=True))
        if level.chunks == base.chunks:
            return f"{text}, as at level 0."
        return f"{text}, those of level 0 cut to the level's size." if level.chunks == clamped else f"{text}."
    if pyramid.source_chunks is None:
        return f"{text}."
    if level.chunks == pyramid.source_chunks:
        return f"{text}, as the source is read."
    # An array in memory has no chunks.
    if math.prod(pyramid.source_chunks) == 1:
        return f"{text}."
    return f"{text}; the source is read by {_product(pyramid.source_chunks)}."


def _product(numbers: Sequence[int]) -> str:
    return " x ".join(map(str, numbers))


def _number(value: float) -> str:
    return f"{value:.10g}"


def _unit_after(axis: Axis) -> str:
    return f" {axis.unit}" if axis.unit else ""


def _common_unit(axes: Sequence[Axis]) -> str:
    units = {axis.unit for axis in axes if axis.is_regular}
    unit = units.pop() if len(units) == 1 else None
    return f" {unit}" if unit else ""
