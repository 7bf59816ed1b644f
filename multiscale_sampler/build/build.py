"""`Build`: everything about a pyramid that is decided before its store is opened for writing.

An image gets one plan for all levels, and so does a tree whose levels are unchanged since `to_multiscale`. Each level
of any other tree gets its own plan, which writes it as it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from .. import store as stores
from ..image.axes import Axis
from ..image.boxes import Box, ends_of
from ..image.dataarray import image_and_axes, image_axes, transposed_image, unread
from ..image.dtypes import target_dtype
from ..image.encodings import encoding_by_axis
from ..image.reversal import reversed_image
from ..image.tree import RECIPE_ATTRIBUTE, levels_of_tree
from ..image.values import Packing
from ..lazy.coarsening import aligned_weights
from ..lazy.labelling import label_base, label_level
from ..lazy.pyramid import levels_of_plan
from ..metadata import ngff_order
from ..methods.identity import identity_of_function
from ..methods.reducer import Reducer
from ..plan.changes import Selection, passes_of_change, selections
from ..plan.options import STATED, LevelOptions, StorageOptions
from ..plan.plan import Level, Pass, Plan
from ..plan.planning import plan_image, ready_to_build
from ..tasks.crew import Crew, active_client
from .passes import BoundPass
from .sources import Base, PackedBase, Weights, base_of

Arrays: TypeAlias = "Mapping[int, zarr.Array[Any]]"


@dataclass(frozen=True)
class Build:
    """A pyramid to write, or to change: its levels, and the plans that compute them."""

    name: str
    """Name of the image."""
    levels: tuple[Level, ...]
    """The levels, the base first."""
    images: tuple[xr.DataArray, ...]
    """The coordinates and attributes of each level, with placeholders for values that are not computed yet; for an
    update or a rebuild those of level 0 only."""
    data: tuple[Any, ...]
    """The arrays that values are computed from."""
    plans: tuple[Plan, ...]
    """One for all levels, or one for each level that is written as it is."""
    recipe: dict[str, Any]
    """The options that the levels are computed with, as the metadata state them."""
    bases: tuple[Base, ...]
    """The base of each plan."""
    weights: Weights | None
    """Weights of the voxels of the base; None without weights."""
    source: zarr.Array[Any] | None
    """The zarr array that contains the base; None if the base is not read from one array."""
    crew: Crew | None
    """The cluster that builds; None for threads of this process."""
    source_dims: tuple[Hashable, ...]
    """The dims of the image as it was passed, which may be written in another order."""
    edited: tuple[Box, ...] | None = None
    """For a change: the boxes of the base that the levels are recomputed from. None for a new pyramid."""

    @property
    def workers(self) -> int:
        """Number of regions that are built at the same time."""
        return self.plans[0].workers

    def warn_of_order(self, *, stacklevel: int) -> None:
        """Warn, as a call at `stacklevel`, if the axes are written in another order than they were passed in."""
        if (dims := self.images[0].dims) != self.source_dims:
            warnings.warn(
                f"the axes {self.source_dims!r} are written as {dims!r}: OME-NGFF requires time and channels before "
                "space",
                UserWarning,
                stacklevel=stacklevel + 1,
            )

    @cached_property
    def presences(self) -> tuple[stores.Presence, ...]:
        """The stored arrays that are read."""
        bases = self.bases if self.weights is None else (*self.bases, self.weights.base)
        return tuple(presence for base in bases for presence in base.presences)

    def check_sources(self) -> None:
        """Check that the stored arrays to be read have chunks under their keys.

        Raises
        ------
        ValueError
            If one has none, but other files.
        """
        stores.check_chunks(self.presences)

    def warn_if_empty(self, *, stacklevel: int) -> None:
        """Warn, as a call at `stacklevel`, if the image was read from arrays that store nothing."""
        stores.warn_if_empty(self.bases[0].presences, stacklevel=stacklevel + 1)

    def record(self, version: str, layout: str, encoding: stores.Encoding, *, copy_base: bool) -> stores.Record:
        """Return the record by which a later call can resume this build: a fingerprint, and the passes."""
        passes = [(number, pass_) for number, plan in enumerate(self.plans) for pass_ in self._passes(plan, copy_base)]
        fingerprint: dict[str, Any] = {
            "image": self.name,
            **_by_option(self.levels, ("axes", "dtype", "chunks", "shards")),
            # As text: of numbers, NaN is not equal to itself.
            **{name: repr(value) for name, value in self.recipe.items()},
            "method": [_method_identity(plan.reducer) for plan in self.plans],
            "weights": None if self.weights is None else str(self.weights.data.dtype),
            "version": version,
            "layout": layout,
            **_by_option([encoding], ("zarr_format", "compressors", "filters", "serializer", "fill_value")),
        }
        if self.edited is not None:
            fingerprint["edited"] = list(map(ends_of, self.edited))
        return stores.Record(fingerprint, tuple(passes))

    def _passes(self, plan: Plan, copy_base: bool) -> tuple[Pass, ...]:
        if self.edited is not None:
            return passes_of_change(plan, self.edited, with_base=copy_base)
        return plan.export_passes if copy_base else plan.passes

    def bound_passes(self, record: stores.Record, arrays: Arrays) -> list[BoundPass]:
        """Return the passes of a record with the arrays that they read and write."""
        is_one_plan = len(self.plans) == 1
        selected: Sequence[Selection | None] = [None] * len(record.passes)
        if self.edited is not None:
            selected = selections(self.plans[0], [pass_ for _, pass_ in record.passes], self.edited)
        return [
            replace(
                BoundPass.of(
                    self.plans[number],
                    pass_,
                    self.bases[number],
                    arrays if is_one_plan else {0: arrays[number]},
                    self.weights,
                    selection,
                ),
                first=0 if is_one_plan else number,
            )
            for (number, pass_), selection in zip(record.passes, selected, strict=True)
        ]


def _by_option(values: Sequence[Any], names: Sequence[str]) -> dict[str, list[str]]:
    """Return some attributes of several values, as text."""
    return {name: [str(getattr(value, name)) for value in values] for name in names}


def _method_identity(reducer: Reducer) -> str:
    """Return a text that identifies a method: a name of the table is unique, that of a user's method is not."""
    return reducer.name if reducer.function is None else identity_of_function(reducer.function)


def open_with_axes(image: Any) -> tuple[xr.DataArray, tuple[Axis, ...]]:
    """Return an image with its axes: a stored image is opened, an array labelled as by `to_image`."""
    return image_and_axes(stores.open_image(image) if stores.is_zarr(image) else image)


def build_of_image(
    image: xr.DataArray,
    axes: tuple[Axis, ...],
    target: stores.Location,
    options: LevelOptions,
    storage: StorageOptions,
    *,
    dtype: npt.DTypeLike | None = None,
    reverse: Collection[str] = (),
) -> Build:
    """Return the build of an image, with one plan for all levels.

    `dtype` converts its values before reduction; the axes that `reverse` names are reversed before that.
    """
    options.warn_of_averages(image)
    prepared = _Prepared.of(image, axes, dtype, _packing_to_keep(image, options, dtype), reverse)
    if options.weights is not None:
        options = replace(options, weights=reversed_image(options.weights, image_axes(options.weights), reverse)[0])
    lazy_weights = options.weights is not None and not isinstance(unread(options.weights), np.ndarray)
    crew = None if lazy_weights else crew_for([unread(image)], target)
    plan = prepared.plan(options, resources_of(crew, storage))
    return _build_by_plan(prepared, plan, options.weights, crew)


def _build_by_plan(prepared: _Prepared, plan: Plan, weights: xr.DataArray | None, crew: Crew | None) -> Build:
    plan = ready_to_build(plan)
    data = unread(prepared.original)
    return Build(
        name=str(prepared.image.name),
        levels=plan.levels,
        images=level_images(prepared.image, plan),
        data=(data,),
        plans=(plan,),
        recipe=LevelOptions.of_plan(plan).recipe(),
        bases=(prepared.base,),
        weights=weights_of(weights, prepared.image),
        source=prepared.source,
        crew=crew,
        source_dims=prepared.original.dims,
    )


@dataclass(frozen=True)
class _Prepared:
    """An image in the order of axes and the dtype in which it is written."""

    original: xr.DataArray
    """The image that is read."""
    image: xr.DataArray
    """The image that is written; its values are placeholders if they are converted while they are read."""
    axes: tuple[Axis, ...]
    """The axes of `image`."""
    order: tuple[int, ...]
    """For each axis of `image`, its number in `original`."""
    packing: Packing | None
    """How the values of `original` are packed when they are written; None if they are written as they are."""
    source: zarr.Array[Any] | None
    """The zarr array that contains the values, perhaps in another direction; None if there is none."""

    @classmethod
    def of(
        cls,
        image: xr.DataArray,
        axes: tuple[Axis, ...],
        dtype: npt.DTypeLike | None,
        packing: Packing | None,
        reverse: Collection[str],
    ) -> _Prepared:
        """Return an image in the order of axes that OME-NGFF requires, and in `dtype`, or packed, unless it is None."""
        source = stores.source_array(unread(image))
        image, axes = reversed_image(image, axes, reverse)
        order = ngff_order(axes)
        ordered = image if order == tuple(range(image.ndim)) else transposed_image(image, order)
        written = _retyped(ordered, dtype if packing is None else packing.dtype)
        if packing is not None:
            written = written.assign_attrs(packing.attributes)
        return cls(image, written, tuple(axes[index] for index in order), order, packing, source)

    def plan(self, options: LevelOptions, storage: StorageOptions) -> Plan:
        """Return the plan of the pyramid; a conversion of dtype needs memory for blocks in both dtypes."""
        read, written = self.original.dtype, self.image.dtype
        if read != written:
            storage = replace(storage, memory_limit=int(storage.memory / (1 + read.itemsize / written.itemsize)))
        if self.packing is not None:
            # NaN, which was ignored, is the stated missing value now.
            options = replace(options, nodata=STATED, packing=STATED)
        return plan_image(self.image, self.axes, options, storage)

    @property
    def base(self) -> Base:
        """The base of the pyramid."""
        if self.packing is None:
            return base_of(self.original, self.order, self.image.dtype)
        base = base_of(self.original, self.order, self.original.dtype)
        return PackedBase(base, self.packing.dtype, tuple(map(str, self.image.dims)), self.packing)


def level_images(image: xr.DataArray, plan: Plan) -> tuple[xr.DataArray, ...]:
    """Return the levels of a plan as labelled images: the image itself, then coarser levels with placeholder values."""
    placeholders = (np.broadcast_to(np.zeros((), level.dtype), level.shape) for level in plan.levels[1:])
    return (
        label_base(image, plan.levels[0].axes),
        *(label_level(image, values, plan, index) for index, values in enumerate(placeholders, 1)),
    )


def build_of_tree(
    tree: xr.DataTree,
    target: stores.Location,
    storage: StorageOptions,
    *,
    dtype: npt.DTypeLike | None = None,
    reverse: Collection[str] = (),
) -> Build:
    """Return the build of a tree: from its base if unchanged since `to_multiscale`, else with each level as it is.

    The axes that `reverse` names are reversed: before the levels are computed, or at each level.
    """
    levels = levels_of_tree(tree)
    image, axes = image_and_axes(levels[0])
    recipe = dict(tree.attrs.get(RECIPE_ATTRIBUTE, {}))
    if recipe and all(level.chunks is not None for level in levels):
        crew = crew_for([image.data], target)
        resources = resources_of(crew, storage)
        plan = _plan_of_levels(levels, image, axes, recipe, resources)
        if plan is not None:
            options = LevelOptions.of_recipe(recipe)
            prepared = _Prepared.of(image, axes, dtype, _packing_to_keep(image, options, dtype), reverse)
            if prepared.image is not image:
                # The plan of the tree is for another dtype, order or direction of axes.
                plan = prepared.plan(options, resources)
            return _build_by_plan(prepared, plan, None, crew)
    return _build_as_is(levels, [axes, *map(image_axes, levels[1:])], target, storage, dtype, reverse)


def _build_as_is(
    levels: Sequence[xr.DataArray],
    axes_of_levels: Sequence[tuple[Axis, ...]],
    target: stores.Location,
    storage: StorageOptions,
    dtype: npt.DTypeLike | None,
    reverse: Collection[str],
) -> Build:
    """Return the build that writes levels as they are, each with its own plan."""
    packings = _packings(levels) if dtype is None else [None] * len(levels)
    prepared = [
        _Prepared.of(level, axes, dtype, packing, reverse)
        for level, axes, packing in zip(levels, axes_of_levels, packings, strict=True)
    ]
    data = tuple(unread(level.original) for level in prepared)
    crew = crew_for(data, target)
    resources = resources_of(crew, storage)
    storage.check_levels(len(levels))
    plans = tuple(
        ready_to_build(level.plan(LevelOptions(scale_factors=[]), resources.for_level(index)))
        for index, level in enumerate(prepared)
    )
    return Build(
        name=str(levels[0].name),
        levels=tuple(
            replace(plan.levels[0], index=i, parent=max(i - 1, 0), keeps_packing=plan.packing == plans[0].packing)
            for i, plan in enumerate(plans)
        ),
        images=tuple(label_base(level.image, level.axes) for level in prepared),
        data=data,
        plans=plans,
        recipe={"method": "custom"},
        bases=tuple(level.base for level in prepared),
        weights=None,
        source=prepared[0].source,
        crew=crew,
        source_dims=levels[0].dims,
    )


def _packing_to_keep(image: xr.DataArray, options: LevelOptions, dtype: npt.DTypeLike | None) -> Packing | None:
    """Return how an image is packed where it is stored, if its pyramid is to be and can be packed alike."""
    return Packing.of_encoding(image) if dtype is None and options.can_pack else None


def _packings(levels: Sequence[xr.DataArray]) -> list[Packing | None]:
    """Return how each level is packed where it is stored, as its encoding says; all None if some are packed otherwise.

    Raises
    ------
    ValueError
        If the values in hand are packed, but not alike.
    """
    packed = [Packing.of(level.attrs, level.dtype) for level in levels]
    if any(packing not in (None, packed[0]) for packing in packed):
        raise ValueError(
            f"level 0 is packed by {dict(packed[0].attributes if packed[0] else {})!r}, another level otherwise; "
            "decode them, as xarray.decode_cf does"
        )
    encoded = [Packing.of_encoding(level) for level in levels]
    return encoded if all(packing in (None, encoded[0]) for packing in encoded) else [None] * len(levels)


def _retyped(image: xr.DataArray, dtype: npt.DTypeLike | None) -> xr.DataArray:
    """Return an image in another dtype for planning; numpy and zarr values are placeholders, converted when read."""
    if dtype is None:
        return image
    wanted = target_dtype(dtype, image.dtype)
    if wanted == image.dtype:
        return image
    values = image.data.astype(wanted) if image.chunks is not None else np.broadcast_to(wanted.type(0), image.shape)
    retyped = image.copy(data=values)
    retyped.encoding = encoding_by_axis(image)
    return retyped


def weights_of(weights: xr.DataArray | None, image: xr.DataArray) -> Weights | None:
    """Return the weights of an image, aligned with its axes; None without weights."""
    return None if weights is None else Weights(unread(aligned_weights(weights, image)))


def crew_for(data: Iterable[Any], target: stores.Location) -> Crew | None:
    """Return the active cluster, or None without one or if a source or the target is in this process's memory."""
    client = active_client()
    if client is None or not all(isinstance(each, da.Array | zarr.Array) for each in data):
        return None
    places = [target, *(stores.place_of(array) for each in data for array in stores.zarr_arrays(each))]
    return None if any(map(stores.is_in_memory, places)) else Crew(client)


def resources_of(crew: Crew | None, storage: StorageOptions) -> StorageOptions:
    """Return the storage options, by default with the threads and the memory of the cluster."""
    if crew is None:
        return storage
    return replace(
        storage,
        workers=crew.threads if storage.workers is None else storage.workers,
        memory_limit=crew.memory() if storage.memory_limit is None else storage.memory_limit,
    )


def _plan_of_levels(
    levels: Sequence[xr.DataArray],
    image: xr.DataArray,
    axes: tuple[Axis, ...],
    recipe: Mapping[str, Any],
    storage: StorageOptions,
) -> Plan | None:
    """Return the plan with which `to_multiscale` computes exactly these levels; None if they were changed."""
    try:
        plan = plan_image(image, axes, LevelOptions.of_recipe(recipe), storage)
        expected = levels_of_plan(levels[0], plan, rechunk=False)
    except (ValueError, TypeError):
        # The tree was changed so that its recipe no longer applies.
        return None
    same = len(expected) == len(levels) and all(
        _graph_name(level) == _graph_name(other) and level.coords.equals(other.coords) and level.attrs == other.attrs
        for level, other in zip(levels, expected, strict=True)
    )
    return plan if same else None


def _graph_name(level: xr.DataArray) -> str:
    """Return dask's name of a level's values, which is the same for the same computation."""
    return str(level.data.name)
