"""The table of methods: what each reduction means, for which dtypes, and how its levels follow from each other.

A `Reducer` is one row of the table, or a method of the user's own. Bound to a dtype and a rule for missing values it
becomes a `Reduction` (`reductions`), which the lazy tree and the engine apply alike, block by block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from functools import partial
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from ..image.axes import SamplePosition
from ..messages import check_choice
from . import (
    BandReduction,
    Binding,
    ComplexReduction,
    CountReduction,
    DeviationReduction,
    ExtremeReduction,
    FilterReduction,
    FunctionReduction,
    PickReduction,
    Reduction,
    SampleReduction,
    SumReduction,
    TimeReduction,
    TruthReduction,
    VoteReduction,
    WeightedReduction,
)

Cascade: TypeAlias = Literal["exact", "stepwise"]
Method: TypeAlias = "str | Enum | Reducer | Callable[..., Any]"

# numpy's letters of the kinds of dtype.
REAL = "biuf"
NUMBERS = "biufc"
LABELS = "biu"
EVERYTHING = "biufcmM"
# Methods of complex numbers that are those of their parts, and of times that are those of their ticks.
OF_PARTS = ("mean", "sum")
OF_TICKS = ("min", "max", "median", "mode")
NOT_A_TIME = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Reducer:
    """One method of reduction: a row of the table, or one of your own.

    Attributes
    ----------
    name
        The name of the method.
    summary
        What a voxel of a level is, in one sentence.
    cascade
        "exact": every level equals the method applied to the base voxels of its window (sums and means of floats up
        to the rounding of a sum in float64, for float64 itself of a compensated one). "stepwise": each level
        is the method applied to the coarsest level before it whose factors divide its own, else to the base.
    position
        Where in its window the value sits: at the "center" or at the "first" sample.
    function
        For a method of your own: ``function(windows, axis=-1)``, which reduces that axis as numpy's reductions do,
        or a numba function of the values of one window (a 1-D array). A last, partial window has the samples
        that there are.
    dtype
        For a method of your own: dtype of the levels; None: the base's, with floats rounded half to even.
    kinds
        numpy's letters of the kinds of dtype that the method takes.
    skips_missing
        Whether NaN and ``nodata`` can be left out; if not, they are taken as any other value.
    marks_missing
        Whether a window with too few valid voxels can be told from others in its result.
    make
        What binds a row of the table; None for a method of your own.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> spread = ms.Reducer("spread", function=np.ptp)
    >>> ms.coarsen(ms.to_image(np.array([[1, 9], [3, 3]])), 2, method=spread).values
    array([[8]])
    """

    name: str
    summary: str = ""
    cascade: Cascade = "stepwise"
    position: SamplePosition = "center"
    function: Callable[..., Any] | None = None
    dtype: npt.DTypeLike | None = None
    kinds: str = EVERYTHING
    skips_missing: bool = False
    marks_missing: bool = False
    make: Callable[[Binding], Reduction] | None = None

    def __post_init__(self) -> None:
        """Refuse a method without a rule, or with two."""
        if (self.function is None) == (self.make is None):
            raise ValueError(f"the reducer {self.name!r} has no rule, or two; give it a function=")
        if self.function is not None and not callable(self.function):
            raise TypeError(f"function={self.function!r} cannot be called; pass a function of (windows, axis)")

    def bind(
        self,
        dtype: npt.DTypeLike,
        *,
        skipna: bool | None = None,
        nodata: Any = None,
        min_valid: float = 0.0,
        window: int = 1,
    ) -> Reduction:
        """Return the reduction for a dtype and a rule for missing values.

        Parameters
        ----------
        dtype
            dtype of the base.
        skipna
            Leave NaN (of dates: NaT) out; default: wherever there can be one.
        nodata
            A value to leave out as well, or None.
        min_valid
            The least fraction of a window that must be valid for a valid result, 0 to 1; at 0, one voxel will do.
        window
            The most base voxels that a voxel of any level covers.

        Raises
        ------
        TypeError
            If the method does not take the dtype.
        ValueError
            If `nodata` is no value of the dtype, or the method cannot leave it out.
        """
        dtype = np.dtype(dtype)
        self._check_dtype(dtype)
        self._check_rule(nodata, min_valid)
        skip_nan = dtype.kind in "fcmM" and (skipna is None or skipna) and self.skips_missing
        if nodata is not None and _is_nan(nodata) and dtype.kind in "fcmM":
            skip_nan, nodata = True, None
        if nodata is not None and dtype.kind in "mM":
            raise ValueError(
                f"method {self.name!r} leaves NaT out of times and no other value; put it in the place of "
                f"nodata={nodata!r}, as in image.where(image != nodata)"
            )
        if nodata is not None:
            nodata = _as_value_of(dtype, nodata)
        binding = Binding(dtype, skip_nan, nodata, window, float(min_valid))
        if self.function is not None:
            return FunctionReduction(binding, self.function, None if self.dtype is None else np.dtype(self.dtype))
        make = cast("Callable[[Binding], Reduction]", self.make)
        if dtype.kind in "mM" and self.name in OF_TICKS:
            return TimeReduction(binding, make(_of_ticks(binding)))
        if dtype.kind == "c" and self.name in OF_PARTS:
            return ComplexReduction(binding, make(_of_parts(binding)))
        return make(binding)

    def _check_dtype(self, dtype: np.dtype[Any]) -> None:
        widest = 16 if dtype.kind == "c" else 8
        if dtype.kind not in self.kinds or dtype.itemsize > widest:
            raise TypeError(
                f"method {self.name!r} does not take dtype {str(dtype)!r}; convert the image first, "
                "as in image.astype('float32')"
            )

    def _check_rule(self, nodata: Any, min_valid: float) -> None:
        if nodata is not None and not self.skips_missing:
            raise ValueError(f"method {self.name!r} takes voxels as they are; nodata={nodata!r} cannot be left out")
        if not 0.0 <= min_valid <= 1.0:
            raise ValueError(f"min_valid={min_valid!r} is no fraction; give one from 0 to 1")
        if min_valid and not self.marks_missing:
            raise ValueError(f"method {self.name!r} has no missing results; leave min_valid={min_valid!r} out")


def _is_nan(value: Any) -> bool:
    return bool(np.isscalar(value) and value != value)


def _of_ticks(binding: Binding) -> Binding:
    """Return the binding of the ticks of times, of which the least stands for NaT.

    Where NaT is not left out, a window that has one is one itself: all of it would have to be valid.
    """
    min_valid = binding.min_valid if binding.skip_nan else 1.0
    return replace(binding, dtype=np.dtype(np.int64), skip_nan=False, nodata=NOT_A_TIME, min_valid=min_valid)


def _of_parts(binding: Binding) -> Binding:
    """Return the binding of the real and imaginary parts of complex numbers."""
    part = np.dtype(binding.dtype.type(0).real.dtype)
    return replace(binding, dtype=part, skip_nan=binding.counted, nodata=None)


def _as_value_of(dtype: np.dtype[Any], nodata: Any) -> Any:
    """Return `nodata` as a Python scalar, if the dtype can hold it (floats up to their rounding)."""
    try:
        with np.errstate(all="ignore"):
            value = np.asarray(nodata).astype(dtype) if np.isscalar(nodata) else None
    except (OverflowError, ValueError):
        value = None
    rounded = dtype.kind == "f" and value is not None and np.isfinite(value)
    if value is None or (value.item() != nodata and not rounded):
        raise ValueError(f"nodata={nodata!r} is no value of dtype {str(dtype)!r}; no voxel could equal it")
    return value.item()


def _row(name: str, summary: str, make: Callable[[Binding], Reduction], **options: Any) -> Reducer:
    defaults = {"kinds": REAL, "skips_missing": True, "marks_missing": True, "cascade": "exact"}
    return Reducer(name, summary, make=make, **{**defaults, **options})


REDUCERS: dict[str, Reducer] = {
    reducer.name: reducer
    for reducer in (
        _row(
            "mean",
            "mean of the window; integers rounded once, half to even",
            partial(SumReduction, average=True),
            kinds=NUMBERS,
        ),
        _row(
            "sum", "sum of the window, in the dtype of numpy's sum", partial(SumReduction, average=False), kinds=NUMBERS
        ),
        _row("min", "least value of the window", partial(ExtremeReduction, greatest=False), kinds="biufmM"),
        _row("max", "greatest value of the window", partial(ExtremeReduction, greatest=True), kinds="biufmM"),
        _row("std", "standard deviation over the window, as numpy's", DeviationReduction, kinds=NUMBERS),
        _row(
            "median",
            "median of the window; integers rounded half to even",
            partial(PickReduction, pick="median"),
            cascade="stepwise",
            kinds="biufmM",
        ),
        _row(
            "mode",
            "most frequent value of the window; of a tie the least",
            partial(PickReduction, pick="mode"),
            cascade="stepwise",
            kinds="biufmM",
        ),
        _row(
            "mode_nonzero",
            "most frequent value of the window but zero, so that thin structures stay; zero if there is no other",
            partial(PickReduction, pick="mode_nonzero"),
            cascade="stepwise",
        ),
        _row(
            "nearest",
            "first voxel of the window, at its own position",
            SampleReduction,
            position="first",
            kinds=EVERYTHING,
            skips_missing=False,
            marks_missing=False,
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
        _row(
            "gaussian",
            "gaussian about the centre of the window, as wide as the window's point spread",
            partial(FilterReduction, kernel="gaussian"),
            cascade="stepwise",
            kinds=NUMBERS,
        ),
        _row(
            "linear",
            "triangle about the centre of the window, two windows wide",
            partial(FilterReduction, kernel="linear"),
            cascade="stepwise",
            kinds=NUMBERS,
        ),
        _row(
            "cubic",
            "cubic convolution (Keys) about the centre of the window, four windows wide",
            partial(FilterReduction, kernel="cubic"),
            cascade="stepwise",
            kinds=NUMBERS,
        ),
        _row(
            "lanczos",
            "windowed sinc (Lanczos, 3 lobes) about the centre of the window, six windows wide",
            partial(FilterReduction, kernel="lanczos"),
            cascade="stepwise",
            kinds=NUMBERS,
        ),
        _row(
            "laplacian",
            "band of a Laplacian pyramid: the gaussian level less the next one, expanded; `reconstruct` adds them up",
            partial(BandReduction, kernel="gaussian"),
            cascade="stepwise",
            kinds=NUMBERS,
        ),
        _row(
            "label_gaussian",
            "label with the most gaussian-weighted votes; of a tie the least",
            VoteReduction,
            cascade="stepwise",
            kinds=LABELS,
            marks_missing=False,
        ),
    )
}


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


SAME_JOB: dict[str, str] = {
    Methods.XARRAY_COARSEN: "mean",
    Methods.ITK_BIN_SHRINK: "mean",
    Methods.ITK_GAUSSIAN: "gaussian",
    Methods.ITK_LABEL_GAUSSIAN: "label_gaussian",
    Methods.ITKWASM_BIN_SHRINK: "mean",
    Methods.ITKWASM_GAUSSIAN: "gaussian",
    Methods.ITKWASM_LABEL_IMAGE: "label_gaussian",
    Methods.DASK_BIN_SHRINK: "mean",
    Methods.DASK_IMAGE_GAUSSIAN: "gaussian",
    Methods.DASK_IMAGE_MODE: "mode",
    Methods.DASK_IMAGE_NEAREST: "nearest",
}

WEIGHTED_MEAN = _row("weighted mean", "mean of the window by weights of its voxels", WeightedReduction, kinds=REAL)


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
        method = SAME_JOB.get(method, method)
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


def _name_of(function: Callable[..., Any]) -> str:
    """Return a function's own name, through partial applications of it."""
    inner = function
    while isinstance(inner, partial):
        inner = inner.func
    return str(getattr(inner, "__name__", type(inner).__name__))
