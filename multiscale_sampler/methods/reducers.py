"""The table of methods: one row has all the properties of a method.

Other code reads the fields of a row and does not compare names of methods.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from ..messages import check_choice, warn_caller
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
from .reducer import ALL_KINDS, Reducer

if TYPE_CHECKING:
    from .kernels.filters import FilterKernel

Method: TypeAlias = "str | Enum | Reducer | Callable[..., Any]"

# numpy's `dtype.kind`.
REAL_KINDS = "biuf"
NUMBER_KINDS = "biufc"
LABEL_KINDS = "biu"
ORDERED_KINDS = "biufmM"


class Methods(StrEnum):
    """Names of methods in multiscale-spatial-image, ngff-zarr and ome-zarr-py, for code written for these libraries.

    A member, its string in any case, or a member of the enums of those libraries selects the method that does the same;
    ``RESIZE`` and ``ZOOM``, whose results differ, the one that is closest, with a warning that names it.

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
    LOCAL_MEAN = "local_mean"
    RESIZE = "resize"
    ZOOM = "zoom"


def _row(name: str, summary: str, make: Callable[[Binding], Reduction], **options: Any) -> Reducer:
    defaults = {"kinds": REAL_KINDS, "skips_missing": True, "marks_missing": True, "cascade": "exact"}
    return Reducer(name, summary, make=make, **{**defaults, **options})


def _filter(name: FilterKernel, summary: str, *aliases: Methods, stands_for: tuple[Methods, ...] = ()) -> Reducer:
    return _row(
        name,
        summary,
        partial(FilterReduction, kernel=name),
        cascade="stepwise",
        kinds=NUMBER_KINDS,
        packed="packed",
        evidence="pixels",
        float_ulps=2,
        aliases=aliases,
        stands_for=stands_for,
    )


REDUCERS: dict[str, Reducer] = {
    reducer.name: reducer
    for reducer in (
        _row(
            "mean",
            "mean of the window; integers rounded once, half to even",
            partial(SumReduction, average=True),
            kinds=NUMBER_KINDS,
            packed="packed",
            evidence="rules",
            float_ulps=1,
            by_parts=True,
            convention_name="average",
            aliases=(
                Methods.XARRAY_COARSEN,
                Methods.ITK_BIN_SHRINK,
                Methods.ITKWASM_BIN_SHRINK,
                Methods.DASK_BIN_SHRINK,
                Methods.LOCAL_MEAN,
            ),
        ),
        _row(
            "sum",
            "sum of the window, in the dtype of numpy's sum",
            partial(SumReduction, average=False),
            kinds=NUMBER_KINDS,
            evidence="rules",
            float_ulps=1,
            by_parts=True,
        ),
        _row(
            "min",
            "smallest value of the window",
            partial(ExtremeReduction, greatest=False),
            make_mask=partial(ExtremeReduction, greatest=True),
            kinds=ORDERED_KINDS,
            labels="also",
            packed="order",
            evidence="rules",
            by_ticks=True,
        ),
        _row(
            "max",
            "largest value of the window",
            partial(ExtremeReduction, greatest=True),
            kinds=ORDERED_KINDS,
            labels="also",
            packed="order",
            evidence="rules",
            by_ticks=True,
        ),
        _row(
            "std",
            "standard deviation over the window, as numpy's",
            DeviationReduction,
            kinds=NUMBER_KINDS,
            float_ulps=3,
        ),
        _row(
            "median",
            "median of the window; integers rounded half to even",
            partial(PickReduction, pick="median"),
            cascade="stepwise",
            kinds=ORDERED_KINDS,
            packed="packed",
            evidence="rules",
            by_ticks=True,
        ),
        _row(
            "mode",
            "most frequent value of the window; ties go to the smallest",
            partial(PickReduction, pick="mode"),
            cascade="stepwise",
            kinds=ORDERED_KINDS,
            labels="only",
            packed="packed",
            evidence="rules",
            by_ticks=True,
            aliases=(Methods.DASK_IMAGE_MODE,),
        ),
        _row(
            "mode_nonzero",
            "most frequent nonzero value of the window, which keeps thin structures; zero if there is none",
            partial(PickReduction, pick="mode_nonzero"),
            cascade="stepwise",
            labels="only",
            evidence="rules",
        ),
        _row(
            "nearest",
            "first voxel of the window, at the position of that voxel",
            SampleReduction,
            position="first",
            kinds=ALL_KINDS,
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
            kinds=NUMBER_KINDS,
            marks_missing=False,
        ),
        _row(
            "all",
            "whether no voxel of the window is zero",
            partial(TruthReduction, every=True),
            kinds=NUMBER_KINDS,
            marks_missing=False,
        ),
        _row("count", "number of valid voxels of the base", CountReduction, kinds=ALL_KINDS, marks_missing=False),
        _filter(
            "gaussian",
            "gaussian centred on the window, as wide as the window's point spread",
            Methods.ITK_GAUSSIAN,
            Methods.ITKWASM_GAUSSIAN,
            Methods.DASK_IMAGE_GAUSSIAN,
        ),
        _filter("linear", "triangle centred on the window, two windows wide", stands_for=(Methods.RESIZE,)),
        _filter(
            "cubic", "cubic convolution (Keys) centred on the window, four windows wide", stands_for=(Methods.ZOOM,)
        ),
        _filter("lanczos", "windowed sinc (Lanczos, 3 lobes) centred on the window, six windows wide"),
        _row(
            "laplacian",
            "band of a Laplacian pyramid: the gaussian level minus the expanded next one; `reconstruct` adds them up",
            partial(BandReduction, kernel="gaussian"),
            cascade="stepwise",
            kinds=NUMBER_KINDS,
            bands=True,
        ),
        _row(
            "label_gaussian",
            "label with the most gaussian-weighted votes; ties go to the smallest",
            VoteReduction,
            cascade="stepwise",
            kinds=LABEL_KINDS,
            marks_missing=False,
            labels="only",
            packed="packed",
            aliases=(Methods.ITK_LABEL_GAUSSIAN, Methods.ITKWASM_LABEL_IMAGE),
        ),
    )
}
ALIASES: dict[str, str] = {str(alias): row.name for row in REDUCERS.values() for alias in row.aliases}
STAND_INS: dict[str, str] = {str(alias): row.name for row in REDUCERS.values() for alias in row.stands_for}
# Not in the table: users select it by method "mean" with weights=.
WEIGHTED_MEAN = _row(
    "weighted mean", "weighted mean of the window", WeightedReduction, kinds=REAL_KINDS, packed="packed"
)


def get_reducer(method: Method, *, weighted: bool = False) -> Reducer:
    """Return the reducer that a name, an alias of another library (`Methods`), a function or a reducer stands for.

    Raises
    ------
    ValueError
        If no method has that name, or if a weighted method is asked for that is not the mean.
    """
    method = own_method(method)
    if weighted:
        if method not in ("mean", REDUCERS["mean"]):
            raise ValueError(f"weights need method='mean', not method={method!r}; omit one of them")
        return WEIGHTED_MEAN
    if isinstance(method, Reducer):
        return method
    if callable(method):
        return Reducer(_function_name(method), function=method)
    check_choice("method", method, REDUCERS)
    return REDUCERS[cast("str", method)]


def own_method(method: Method) -> Method:
    """Return a method by the name that it has here, from a name in any spelling, or one of another library."""
    named = plain_name(method)
    own = ALIASES.get(named) or STAND_INS.get(named) or named
    return own if own in REDUCERS else method.value if isinstance(method, Enum) else method


def plain_name(method: Method) -> str:
    """Return the name of a method in the spelling of the table; "" for a function or a reducer."""
    name = method.value if isinstance(method, Enum) else method
    return name.strip().lower().replace("-", "_").replace(" ", "_") if isinstance(name, str) else ""


def warn_of_stand_in(method: Method) -> None:
    """Warn the caller if a name of another library is taken for a method whose results differ."""
    named = plain_name(method)
    if named in STAND_INS:
        row = REDUCERS[STAND_INS[named]]
        warn_caller(
            f"method {named!r} of ome-zarr-py has other results here: {row.name!r} is taken for it ({row.summary}); "
            f"pass method={row.name!r}, or 'mean'"
        )


def resampling_name(name: str) -> str:
    """Return what the zarr convention ``multiscales`` calls the method with this name in the metadata."""
    return (name in REDUCERS and REDUCERS[name].convention_name) or name


def needs_weights(name: str | None) -> bool:
    """Whether levels of the method with this name in the metadata can only be computed if weights are passed."""
    return name == WEIGHTED_MEAN.name


def _function_name(function: Callable[..., Any]) -> str:
    """Return the name of a function, also where it is wrapped in `functools.partial`."""
    while isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))
