"""The table of methods: one row has everything that the package knows of a method.

No other package asks for the name of a method: what it needs to know is a field of `Reducer`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from ..messages import check_choice
from . import (
    BandReduction,
    Binding,
    CountReduction,
    DeviationReduction,
    ExtremeReduction,
    FilterReduction,
    PickReduction,
    Reduction,
    SampleReduction,
    SumReduction,
    TruthReduction,
    VoteReduction,
    WeightedReduction,
)
from .reducer import EVERYTHING, Reducer

if TYPE_CHECKING:
    from .kernels.filters import FilterKernel

Method: TypeAlias = "str | Enum | Reducer | Callable[..., Any]"

# numpy's letters of the kinds of dtype.
REAL = "biuf"
NUMBERS = "biufc"
LABELS = "biu"
ORDERED = "biufmM"


class Methods(StrEnum):
    """The names that multiscale-spatial-image and ngff-zarr have for methods, for code that was written with these.

    A member, its string, and a member of the other libraries' own enum stand for the method of the table that does
    the same job.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> tree = ms.to_multiscale(np.eye(4), [2], method=ms.Methods.XARRAY_COARSEN)
    >>> tree.attrs["multiscale"]["method"]
    'mean'
    """

    XARRAY_COARSEN = "xarray_coarsen"
    ITK_BIN_SHRINK = "itk_bin_shrink"
    ITK_GAUSSIAN = "itk_gaussian"
    ITK_LABEL_GAUSSIAN = "itk_label_gaussian"
    ITKWASM_BIN_SHRINK = "itkwasm_bin_shrink"
    ITKWASM_GAUSSIAN = "itkwasm_gaussian"
    ITKWASM_LABEL_IMAGE = "itkwasm_label_image"
    DASK_BIN_SHRINK = "dask_bin_shrink"
    DASK_IMAGE_GAUSSIAN = "dask_image_gaussian"
    DASK_IMAGE_MODE = "dask_image_mode"
    DASK_IMAGE_NEAREST = "dask_image_nearest"


def _row(name: str, summary: str, make: Callable[[Binding], Reduction], **options: Any) -> Reducer:
    defaults = {"kinds": REAL, "skips_missing": True, "marks_missing": True, "cascade": "exact"}
    return Reducer(name, summary, make=make, **{**defaults, **options})


def _filter(name: FilterKernel, summary: str, *aliases: Methods) -> Reducer:
    return _row(
        name,
        summary,
        partial(FilterReduction, kernel=name),
        cascade="stepwise",
        kinds=NUMBERS,
        packed="packed",
        evidence="pixels",
        aliases=aliases,
    )


REDUCERS: dict[str, Reducer] = {
    reducer.name: reducer
    for reducer in (
        _row(
            "mean",
            "mean of the window; integers rounded once, half to even",
            partial(SumReduction, average=True),
            kinds=NUMBERS,
            packed="packed",
            evidence="rules",
            by_parts=True,
            convention_name="average",
            aliases=(
                Methods.XARRAY_COARSEN,
                Methods.ITK_BIN_SHRINK,
                Methods.ITKWASM_BIN_SHRINK,
                Methods.DASK_BIN_SHRINK,
            ),
        ),
        _row(
            "sum",
            "sum of the window, in the dtype of numpy's sum",
            partial(SumReduction, average=False),
            kinds=NUMBERS,
            evidence="rules",
            by_parts=True,
        ),
        _row(
            "min",
            "least value of the window",
            partial(ExtremeReduction, greatest=False),
            kinds=ORDERED,
            labels="also",
            packed="order",
            evidence="rules",
            by_ticks=True,
        ),
        _row(
            "max",
            "greatest value of the window",
            partial(ExtremeReduction, greatest=True),
            kinds=ORDERED,
            labels="also",
            packed="order",
            evidence="rules",
            by_ticks=True,
        ),
        _row("std", "standard deviation over the window, as numpy's", DeviationReduction, kinds=NUMBERS),
        _row(
            "median",
            "median of the window; integers rounded half to even",
            partial(PickReduction, pick="median"),
            cascade="stepwise",
            kinds=ORDERED,
            packed="packed",
            evidence="rules",
            by_ticks=True,
        ),
        _row(
            "mode",
            "most frequent value of the window; of a tie the least",
            partial(PickReduction, pick="mode"),
            cascade="stepwise",
            kinds=ORDERED,
            labels="only",
            packed="packed",
            evidence="rules",
            by_ticks=True,
            aliases=(Methods.DASK_IMAGE_MODE,),
        ),
        _row(
            "mode_nonzero",
            "most frequent value of the window but zero, so that thin structures stay; zero if there is no other",
            partial(PickReduction, pick="mode_nonzero"),
            cascade="stepwise",
            labels="only",
            evidence="rules",
        ),
        _row(
            "nearest",
            "first voxel of the window, at its own position",
            SampleReduction,
            position="first",
            kinds=EVERYTHING,
            skips_missing=False,
            marks_missing=False,
            labels="also",
            packed="packed",
            evidence="rules",
            aliases=(Methods.DASK_IMAGE_NEAREST,),
        ),
        _row(
            "any",
            "whether any voxel of the window is not zero",
            partial(TruthReduction, every=False),
            kinds=NUMBERS,
            marks_missing=False,
        ),
        _row(
            "all",
            "whether no voxel of the window is zero",
            partial(TruthReduction, every=True),
            kinds=NUMBERS,
            marks_missing=False,
        ),
        _row("count", "number of valid voxels of the base", CountReduction, kinds=EVERYTHING, marks_missing=False),
        _filter(
            "gaussian",
            "gaussian about the centre of the window, as wide as the window's point spread",
            Methods.ITK_GAUSSIAN,
            Methods.ITKWASM_GAUSSIAN,
            Methods.DASK_IMAGE_GAUSSIAN,
        ),
        _filter("linear", "triangle about the centre of the window, two windows wide"),
        _filter("cubic", "cubic convolution (Keys) about the centre of the window, four windows wide"),
        _filter("lanczos", "windowed sinc (Lanczos, 3 lobes) about the centre of the window, six windows wide"),
        _row(
            "laplacian",
            "band of a Laplacian pyramid: the gaussian level less the next one, expanded; `reconstruct` adds them up",
            partial(BandReduction, kernel="gaussian"),
            cascade="stepwise",
            kinds=NUMBERS,
            bands=True,
        ),
        _row(
            "label_gaussian",
            "label with the most gaussian-weighted votes; of a tie the least",
            VoteReduction,
            cascade="stepwise",
            kinds=LABELS,
            marks_missing=False,
            labels="only",
            aliases=(Methods.ITK_LABEL_GAUSSIAN, Methods.ITKWASM_LABEL_IMAGE),
        ),
    )
}
ALIASES: dict[str, str] = {str(alias): row.name for row in REDUCERS.values() for alias in row.aliases}
# Not to be named as a method: it is the mean, where weights are given.
WEIGHTED_MEAN = _row(
    "weighted mean", "mean of the window by weights of its voxels", WeightedReduction, kinds=REAL, packed="packed"
)


def get_reducer(method: Method, *, weighted: bool = False) -> Reducer:
    """Return the row of the table that `method` names, here or in the libraries of `Methods`, or a function's reducer.

    Raises
    ------
    ValueError
        If no method has that name, or voxels are to be weighed by another than the mean.
    """
    if isinstance(method, Enum):
        method = cast("str", method.value)
    if isinstance(method, str):
        method = ALIASES.get(method, method)
    if weighted:
        if method not in ("mean", REDUCERS["mean"]):
            raise ValueError(f"weights go with the mean, not with method={method!r}; leave one of them out")
        return WEIGHTED_MEAN
    if isinstance(method, Reducer):
        return method
    if callable(method):
        return Reducer(_name_of(method), function=method)
    check_choice("method", method, REDUCERS)
    return REDUCERS[method]


def needs_weights(name: str | None) -> bool:
    """Whether levels by the method of this name, as metadata state it, can only be made with the weights given."""
    return name == WEIGHTED_MEAN.name


def _name_of(function: Callable[..., Any]) -> str:
    """Return a function's own name, through partial applications of it."""
    inner = function
    while isinstance(inner, partial):
        inner = inner.func
    return str(getattr(inner, "__name__", type(inner).__name__))
