"""What the package knows of a method of reduction, and how it is bound to a dtype and a rule for missing values.

`reducers` has the rows of the table; a method of the user's own is a `Reducer` with a function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from ..image.axes import SamplePosition
from ..image.dtypes import value_in
from . import Binding, ComplexReduction, FunctionReduction, Reduction, TimeReduction

Cascade: TypeAlias = Literal["exact", "stepwise"]
ForLabels: TypeAlias = Literal["only", "also", "no"]
PackedValues: TypeAlias = Literal["packed", "order", "decoded"]
Evidence: TypeAlias = Literal["rules", "pixels", "nothing"]

# numpy's letters of the kinds of all dtypes that any method takes.
EVERYTHING = "biufcmM"
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
    labels
        Whether it is for labels: "only" for these, "also" for images, or "no" where it would create label ids that
        do not exist in the input.
    packed
        How values that are stored packed, with ``scale_factor`` and ``add_offset``, are reduced: "packed" as they
        are stored; "order" likewise, but with min and max exchanged where ``scale_factor`` is negative; "decoded"
        after they are decoded.
    evidence
        What `verify_pyramid` checks its levels with: "rules" for the values of windows, "pixels" for positions and
        brightness alone, or "nothing".
    bands
        Whether its levels are bands of a Laplacian pyramid, level 0 included.
    by_parts, by_ticks
        Whether complex numbers are reduced part by part, and times as their ticks.
    convention_name
        Its name in the zarr convention ``multiscales``, where that is another.
    aliases
        The names that other libraries have for it.

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
    labels: ForLabels = "no"
    packed: PackedValues = "decoded"
    evidence: Evidence = "nothing"
    bands: bool = False
    by_parts: bool = False
    by_ticks: bool = False
    convention_name: str | None = None
    aliases: tuple[str, ...] = ()

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
            held = value_in(nodata, dtype)
            if held is None:
                raise ValueError(f"nodata={nodata!r} is no value of dtype {str(dtype)!r}; no voxel could equal it")
            nodata = held
        binding = Binding(dtype, skip_nan, nodata, window, float(min_valid))
        if self.function is not None:
            return FunctionReduction(binding, self.function, None if self.dtype is None else np.dtype(self.dtype))
        make = cast("Callable[[Binding], Reduction]", self.make)
        if dtype.kind in "mM" and self.by_ticks:
            return TimeReduction(binding, make(_of_ticks(binding)))
        if dtype.kind == "c" and self.by_parts:
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
