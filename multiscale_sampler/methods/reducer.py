"""`Reducer`: the properties of a method, and how it is bound to a dtype and a rule for missing values.

`reducers` has the table of the methods of this package; a method of the user's own is a `Reducer` with a function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from ..image.axes import SamplePosition
from ..image.dtypes import value_in
from .functions import FunctionReduction
from .masked import MaskChannel, MaskedReduction, masked_rule
from .packed import DecodedReduction, OrderedReduction
from .reduction import Binding, Reduction
from .views import ComplexReduction, TimeReduction

if TYPE_CHECKING:
    # It loads dask and zarr, which a list of the methods does not need.
    from ..image.values import Packing

Cascade: TypeAlias = Literal["exact", "stepwise"]
ForLabels: TypeAlias = Literal["only", "also", "no"]
PackedValues: TypeAlias = Literal["packed", "order", "decoded"]
Evidence: TypeAlias = Literal["rules", "pixels", "nothing"]

# numpy's `dtype.kind` of all dtypes that any method accepts.
ALL_KINDS = "biufcmM"
NOT_A_TIME = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Reducer:
    """One method of reduction: a row of the table, or one of your own.

    Attributes
    ----------
    name
        The name of the method.
    summary
        What the value of a voxel of a level is, in one sentence.
    cascade
        "exact": every level equals the method applied to the base voxels of its window (for sums and means of
        floats, up to the rounding of a sum in float64; float64 sums are compensated). "stepwise": each level is the
        method applied to the coarsest finer level whose factors divide its own, else to the base.
    position
        Position of the value in its window: at the "center", or at the "first" sample.
    function
        For a method of your own: ``function(windows, axis=-1)``, which reduces that axis as numpy's reductions do,
        or a numba function of the values of one window (a 1-D array). A partial window at the end of an axis has
        fewer samples.
    dtype
        For a method of your own: dtype of the levels. With None it is the dtype of the base; floats are then rounded
        half to even if the base has integers.
    kinds
        The kinds of dtype that the method accepts, as numpy's letters (``dtype.kind``).
    skips_missing
        Whether the method can ignore NaN and ``nodata``; if not, it treats them as any other value.
    marks_missing
        Whether the result of a window with too few valid voxels is NaN or ``nodata``.
    make
        Makes the reduction of a method of this package; None for a method of your own.
    make_mask
        Makes the reduction of a channel that masks the others, if the method itself could make it 0 where something is
        not masked: a level that is its own state is masked by its own mask.
    labels
        Whether the method suits labels: "only" labels, labels "also", or "no" where it would create label ids that
        do not exist in the input.
    packed
        How values stored with ``scale_factor``, ``add_offset`` and missing ones are reduced: "packed", as they are
        stored, and "order", also so, because only their order counts (which is that of what they stand for, unsigned
        and inverted by a negative ``scale_factor``); "decoded", after they are decoded, to levels that are not packed.
    evidence
        What `verify_pyramid` can check about levels of this method: "rules", the values of windows; "pixels", only
        positions and brightness; or "nothing".
    float_ulps
        Units in the last place by which a float of a level may differ between two computations: where levels were
        removed or rebuilt one by one, sums are added up in another order.
    bands
        Whether its levels are bands of a Laplacian pyramid, level 0 included.
    by_parts, by_ticks
        Whether real and imaginary parts of complex numbers are reduced separately, and whether dates and durations
        are reduced as 64-bit integers.
    convention_name
        Name of the method in the zarr convention ``multiscales``, if it has another one there.
    aliases
        Names of the method in other libraries.
    stands_for
        Names of methods of other libraries whose results differ, and for which this one is taken, with a warning.

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
    kinds: str = ALL_KINDS
    skips_missing: bool = False
    marks_missing: bool = False
    make: Callable[[Binding], Reduction] | None = None
    make_mask: Callable[[Binding], Reduction] | None = None
    labels: ForLabels = "no"
    packed: PackedValues = "decoded"
    evidence: Evidence = "nothing"
    float_ulps: int = 0
    bands: bool = False
    by_parts: bool = False
    by_ticks: bool = False
    convention_name: str | None = None
    aliases: tuple[str, ...] = ()
    stands_for: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a reducer that defines nothing, or two things, to compute."""
        if (self.function is None) == (self.make is None):
            raise ValueError(f"Reducer {self.name!r} needs a function=")
        if self.function is not None and not callable(self.function):
            raise TypeError(f"function={self.function!r} is not callable; pass a function of (windows, axis)")

    def bind(
        self,
        dtype: npt.DTypeLike,
        *,
        skipna: bool | None = None,
        nodata: Any = None,
        min_valid: float = 0.0,
        window: int = 1,
        packing: Packing | None = None,
        mask: MaskChannel | None = None,
    ) -> Reduction:
        """Return the method for blocks of one dtype and one rule for missing values.

        Parameters
        ----------
        dtype
            dtype of the base.
        skipna
            Whether NaN (NaT for dates) is ignored. By default it is, if the method can do so.
        nodata
            Another value to ignore, or None.
        min_valid
            The fraction of a window, 0 to 1, that must be valid for a valid result; with 0, one voxel is enough.
        window
            The most base voxels that a voxel of any level covers.
        packing
            How the values of the base are packed; `nodata` is a packed value then, and None leaves none out.
        mask
            The channel that masks the others, of an image that is not packed.

        Raises
        ------
        TypeError
            If the method does not accept the dtype.
        ValueError
            If no value of the dtype equals `nodata`, or the method cannot ignore it.
        """
        dtype = np.dtype(dtype)
        if packing is not None and (self.decodes(packing) or not packing.is_in_order):
            known = packing.with_missing(*_missing_beside(nodata, packing))
            return self._bind_packed(known, nodata, skipna=skipna, min_valid=min_valid, window=window)
        if mask is not None and (rule := masked_rule(dtype, nodata)) is not None:
            plain = self.bind(dtype, skipna=skipna, nodata=nodata, min_valid=min_valid, window=window)
            inner = self.bind(rule[0], skipna=skipna, nodata=rule[1], min_valid=min_valid, window=window)
            of_mask = self.make_mask(Binding(dtype)) if self.make_mask is not None and not inner.components else None
            return MaskedReduction(plain.binding, inner, mask, of_mask)
        self._check_dtype(dtype)
        self._check_rule(nodata, min_valid)
        skip_nan = dtype.kind in "fcmM" and (skipna is None or skipna) and self.skips_missing
        if nodata is not None and _is_nan(nodata) and dtype.kind in "fcmM":
            skip_nan, nodata = True, None
        if nodata is not None and dtype.kind in "mM":
            raise ValueError(
                f"method {self.name!r} of dates and durations ignores only NaT, not nodata={nodata!r}; replace that "
                "value first, as in image.where(image != nodata)"
            )
        if nodata is not None:
            value = value_in(nodata, dtype)
            if value is None:
                raise ValueError(f"nodata={nodata!r} is not a value of dtype {str(dtype)!r}; no voxel could equal it")
            nodata = value
        binding = Binding(dtype, skip_nan, nodata, window, float(min_valid))
        if self.function is not None:
            return FunctionReduction(binding, self.function, None if self.dtype is None else np.dtype(self.dtype))
        make = cast("Callable[[Binding], Reduction]", self.make)
        if dtype.kind in "mM" and self.by_ticks:
            return TimeReduction(binding, make(_for_ticks(binding)))
        if dtype.kind == "c" and self.by_parts:
            return ComplexReduction(binding, make(_for_parts(binding)))
        return make(binding)

    def decodes(self, packing: Packing) -> bool:
        """Whether the method needs what packed values stand for, so that its levels are not packed."""
        # Which label is chosen does not depend on what the numbers stand for, unless they are scaled.
        return self.packed == "decoded" and (self.labels != "only" or packing.is_scaled)

    def _bind_packed(self, packing: Packing, nodata: Any, **rule: Any) -> Reduction:
        """Return the method for packed values: decoded, or in the order of what they stand for."""
        dtype = packing.dtype
        if self.decodes(packing):
            decoded = self.bind(packing.decoded_dtype, **rule)
            return DecodedReduction(replace(decoded.binding, dtype=dtype, nodata=nodata), decoded, packing)
        own = None if nodata is None else packing.in_order(np.array([nodata], dtype))
        ordered = packing.in_order(np.zeros(1, dtype)).dtype
        bound = self.bind(ordered, nodata=None if own is None else own[0], **rule)
        return OrderedReduction(replace(bound.binding, dtype=dtype, nodata=nodata), bound, packing)

    def _check_dtype(self, dtype: np.dtype[Any]) -> None:
        widest = 16 if dtype.kind == "c" else 8
        if dtype.kind not in self.kinds or dtype.itemsize > widest:
            raise TypeError(f"method {self.name!r} does not accept dtype {str(dtype)!r}; {_how_to_reduce(dtype)}")

    def _check_rule(self, nodata: Any, min_valid: float) -> None:
        if nodata is not None and not self.skips_missing:
            raise ValueError(f"method {self.name!r} cannot ignore nodata={nodata!r}; pass nodata=None")
        if not 0.0 <= min_valid <= 1.0:
            raise ValueError(f"min_valid={min_valid!r} is not a fraction; pass a number from 0 to 1")
        if min_valid and not self.marks_missing:
            raise ValueError(f"method {self.name!r} cannot mark a result as missing; omit min_valid={min_valid!r}")


def _how_to_reduce(dtype: np.dtype[Any]) -> str:
    """Return what to do with values of a dtype that a method does not accept."""
    if dtype.kind in "mM":
        what = "dates" if dtype.kind == "M" else "durations"
        return f"{what} have no sums; choose 'median', 'nearest', 'min', 'max' or 'mode'"
    if dtype.kind in "USTO":
        return (
            "number the values and choose method='mode', as in numbers, names = pandas.factorize(image.values.ravel()) "
            "and image.copy(data=numbers.reshape(image.shape))"
        )
    if dtype.kind == "V":
        return "choose one of its fields, as in image.values['name']"
    return "convert the image first, as in image.astype('float32')"


def _missing_beside(nodata: Any, packing: Packing) -> tuple[Any, ...]:
    """Return the packed values that are left out where `nodata` is: it stands for all that are stated."""
    if nodata is None:
        return ()
    return packing.left_out if nodata in packing.left_out else (nodata,)


def _is_nan(value: Any) -> bool:
    return bool(np.isscalar(value) and value != value)


def _for_ticks(binding: Binding) -> Binding:
    """Return the binding for dates or durations viewed as int64, whose smallest value stands for NaT.

    Where NaT is not ignored, a window that contains one becomes NaT: all of its samples have to be valid.
    """
    min_valid = binding.min_valid if binding.skip_nan else 1.0
    return replace(binding, dtype=np.dtype(np.int64), skip_nan=False, nodata=NOT_A_TIME, min_valid=min_valid)


def _for_parts(binding: Binding) -> Binding:
    """Return the binding for the real and imaginary parts of complex numbers."""
    part = np.dtype(binding.dtype.type(0).real.dtype)
    return replace(binding, dtype=part, skip_nan=binding.skips_missing, nodata=None)
