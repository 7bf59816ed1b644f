"""Builds of labels: beside their image, at its positions, in an integer dtype that holds every id."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeAlias, cast

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.base import compute
from dask.delayed import delayed

from .. import store as stores
from ..image.boxes import Block
from ..image.dataarray import image_and_axes, unread
from ..image.dtypes import target_dtype
from ..image.tree import RECIPE_ATTRIBUTE, assemble, levels_of_tree
from ..lazy.pyramid import to_multiscale
from ..methods.reducers import REDUCERS, Method, get_reducer
from ..plan.options import LevelOptions, StorageOptions
from ..plan.planning import plan_image
from .build import Build, build_of_image, build_of_tree

LabelDtype: TypeAlias = "npt.DTypeLike | Literal['auto'] | None"
# From the smallest on; those without negative numbers first.
LABEL_DTYPES = tuple(np.dtype(f"{kind}{size}") for size in (1, 2, 4, 8) for kind in "ui")


@dataclass(frozen=True)
class LabelOptions:
    """How `write_labels` makes a pyramid of labels."""

    name: str
    """Name of the labels."""
    method: Method
    """Method of the levels."""
    dtype: LabelDtype
    """Integer dtype to convert to; "auto": the smallest that holds all labels."""


def build_beside(
    labels: Any, image: stores.StoredPyramid, place: stores.Location, storage: StorageOptions, options: LabelOptions
) -> Build:
    """Return the build of labels beside a stored image: with its factors, or of a tree with its own levels.

    Raises
    ------
    TypeError
        If the labels are not integers, and are not to become integers.
    ValueError
        If they have other sizes, positions or levels than the image, or the method would create label ids.
    """
    if isinstance(labels, xr.DataTree):
        levels = levels_of_tree(labels)
        if len(levels) != len(image.levels):
            # "the same number of scale levels as the original unlabeled image" (0.4, labels metadata)
            raise ValueError(
                f"the labels have {len(levels)!r} levels, the image {len(image.levels)!r}; OME-NGFF requires the "
                "same number, pass the base of the labels to compute them"
            )
        stores.placed_labels(levels[0], image.image, None)
        return replace(build_of_labels(labels, image.image, place, storage, options.dtype), name=options.name)
    placed = stores.placed_labels(labels, image.image, options.name)
    check_method(options.method)
    dtype = label_dtype(placed, options.dtype)
    level_options = replace(image.level_options(placed.dims), method=options.method)
    return build_of_image(*image_and_axes(placed), place, level_options, storage, dtype=dtype)


def build_of_labels(
    tree: xr.DataTree,
    image: xr.DataArray,
    place: stores.Location,
    storage: StorageOptions,
    dtype: LabelDtype = None,
    *,
    reverse: Collection[str] = (),
) -> Build:
    """Return the build of a tree of labels, at the positions of their image where they state none.

    The axes that `reverse` names are reversed after that.
    """
    levels = levels_of_tree(tree)
    wanted = label_dtype(levels[0], dtype)
    placed = [level.to_dataset(name=level.name) for level in stores.placed_levels(levels, image)]
    storage = storage.for_part_of(image.dims, levels[0].dims)
    tree = assemble(placed, tree.attrs.get(RECIPE_ATTRIBUTE))
    return build_of_tree(tree, place, storage, dtype=wanted, reverse=reverse)


def with_labels(
    image: xr.DataArray,
    labels: Mapping[str, tuple[xr.DataArray, str | None]],
    options: Mapping[str, Any],
    *,
    is_placed: bool,
) -> tuple[xr.DataTree, dict[str, Any]]:
    """Return the lazy pyramids of an image and of its labels in one tree, and the options that are left to write it.

    `options` are those with which `write_pyramid` writes the image alone. Each of the labels comes with the name of its
    method; "mode" stands for one that is not for labels. `is_placed`: the axes of the image are not the stored ones.
    """
    shaping = {name: options[name] for name in names_of_options(LevelOptions) if name in options}
    storage = StorageOptions(**{name: options[name] for name in names_of_options(StorageOptions) if name in options})
    image, axes = image_and_axes(image)
    shaped = LevelOptions.of_plan(plan_image(image, axes, LevelOptions(**shaping), storage))
    factors = cast("list[dict[str, int]]", shaped.scale_factors)
    chosen = {name: getattr(shaped, name) for name in names_of_options(LevelOptions)}
    tree = to_multiscale(image, **chosen)
    for name, (stored, stated) in labels.items():
        array = stores.placed_labels(stored.data, image, name).assign_attrs(stored.attrs) if is_placed else stored
        row = REDUCERS.get(str(stated))
        own = [{dim: factor for dim, factor in level.items() if dim in array.dims} for level in factors]
        method = "mode" if row is None or row.labels == "no" else row
        tree[f"{stores.LABELS}/{name}"] = to_multiscale(array, own, method, boundary=shaped.boundary)
    return tree, {name: value for name, value in options.items() if name not in shaping}


def names_of_options(options: type[LevelOptions | StorageOptions]) -> tuple[str, ...]:
    """Return the names of the public options that are one value."""
    return tuple(field.name for field in fields(options) if field.metadata.get("is_option", True))


def label_trees(tree: xr.DataTree) -> dict[str, xr.DataTree]:
    """Return the trees in the group ``labels`` of an image's tree, by name."""
    return (
        {str(name): node for name, node in tree[stores.LABELS].children.items()}
        if stores.LABELS in tree.children
        else {}
    )


def label_dtype(labels: xr.DataArray, dtype: LabelDtype) -> np.dtype[Any] | None:
    """Return the dtype that labels are converted to, None if they keep theirs; `dtype` as in `write_labels`.

    Raises
    ------
    TypeError
        If they are not integers, and are not to become integers.
    ValueError
        If no integer dtype holds them.
    """
    if isinstance(dtype, str) and dtype == "auto":
        return least_dtype(labels)
    if dtype is None and labels.dtype.kind == "b":
        return np.dtype("uint8")
    if dtype is None and labels.dtype.kind == "f":
        raise TypeError(
            f"labels have dtype {str(labels.dtype)!r}, but OME-NGFF requires integers; {_how_to_convert(labels)}"
        )
    wanted = None if dtype is None else target_dtype(dtype, labels.dtype)
    check_labels(labels.dtype if wanted is None else wanted)
    return wanted


def check_labels(dtype: np.dtype[Any]) -> None:
    """Raise if values of a dtype cannot be labels.

    Raises
    ------
    TypeError
        If the dtype is not an integer dtype.
    """
    # "all label images MUST be integer" (0.4, labels metadata)
    if dtype.kind not in "iu":
        raise TypeError(
            f"labels cannot have dtype {str(dtype)!r}, as OME-NGFF requires integers; write them by write_labels with "
            "an integer dtype that holds the largest id, as dtype='uint32' below 2**32, or with dtype='auto'"
        )


def check_method(method: Method) -> None:
    """Raise if a method would create ids that do not exist in the input.

    Raises
    ------
    ValueError
        If it would.
    """
    reducer = get_reducer(method)
    if reducer.function is None and reducer.labels == "no":
        fitting = ", ".join(repr(name) for name, row in REDUCERS.items() if row.labels != "no")
        raise ValueError(
            f"method {reducer.name!r} would create label ids that do not exist in the input; choose one of {fitting}"
        )


def _how_to_convert(labels: xr.DataArray) -> str:
    """Return how floats become labels: by the dtype that holds them, if they are in memory."""
    if not isinstance(unread(labels), np.ndarray):
        return "with dtype='auto' they get the smallest dtype that holds them, if all are whole"
    try:
        least = least_dtype(labels)
    except ValueError as error:
        return str(error)
    return f"all are whole numbers, pass dtype={str(least)!r}, the smallest that holds them"


def least_dtype(labels: xr.DataArray) -> np.dtype[Any]:
    """Return the smallest integer dtype that holds all values of an array, which is read once.

    Raises
    ------
    TypeError
        If the values are not real numbers.
    ValueError
        If a value is not whole, or no dtype holds all of them.
    """
    if labels.dtype.kind not in "biuf":
        raise TypeError(f"labels have dtype {str(labels.dtype)!r}; give whole numbers")
    blocks = da.asarray(unread(labels)).to_delayed().ravel()
    extremes = compute(*map(delayed(_whole_extremes), blocks))
    low, high = min(least for least, _ in extremes), max(greatest for _, greatest in extremes)
    for dtype in LABEL_DTYPES:
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return dtype
    raise ValueError(f"the labels go from {low!r} to {high!r}, which no integer dtype holds; give them smaller ids")


def _whole_extremes(block: Block) -> tuple[int, int]:
    """Return the smallest and the largest value of a block of whole numbers."""
    if block.dtype.kind == "f":
        wrong = ~np.isfinite(block) | (np.trunc(block) != block)
        if wrong.any():
            raise ValueError(
                f"the value {block[wrong][0].item()!r} is not a whole number, so that it is not the id of a label; "
                "round or fill the labels first"
            )
    return int(block.min()), int(block.max())
