"""What a build is, decided before a store is touched: levels, labels, plans, where values are read, who works.

An image becomes one plan for all levels. So does a tree whose levels are as `to_multiscale` made them; of any
other tree every level is written as it is. `engine` carries builds out.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from dask.base import tokenize

from .. import store as stores
from ..image.boxes import Box, ends_of
from ..image.dataarray import image_axes, to_image, unread
from ..image.tree import RECIPE_ATTRIBUTE, levels_of_tree
from ..lazy.coarsening import aligned_weights, label_level
from ..lazy.pyramid import levels_of_plan
from ..metadata import ngff_order
from ..methods.reducer import Reducer
from ..plan.changes import Selection, passes_of_change, selections
from ..plan.options import LevelOptions, StorageOptions
from ..plan.plan import Level, Pass, Plan
from ..plan.planning import plan_image
from ..tasks.crew import Crew, active_client
from .dtypes import target_dtype
from .passes import BoundPass
from .sources import Base, Weights, base_of

Arrays: TypeAlias = "Mapping[int, zarr.Array[Any]]"


@dataclass(frozen=True)
class Build:
    """A pyramid about to be written: its levels with their labels, and the plans that fill them."""

    name: str
    levels: tuple[Level, ...]
    images: tuple[xr.DataArray, ...]
    """The levels' labels, with stand-ins for values that are yet to be computed; those of level 0 where these alone
    are needed."""
    data: tuple[Any, ...]
    """The arrays that values are computed from."""
    plans: tuple[Plan, ...]
    """One for all levels, or one for each level that is written as it is."""
    recipe: dict[str, Any]
    bases: tuple[Base, ...]
    """For each plan, where its base is read."""
    weights: Weights | None
    """Where the weights of voxels are read."""
    source: zarr.Array[Any] | None
    """The zarr array that the base is a view of, if it is one."""
    crew: Crew | None
    """The cluster that builds, None for threads of this process."""
    edited: tuple[Box, ...] | None = None
    """The boxes of the base that have changed since the levels were built; None: nothing is built yet."""

    @property
    def workers(self) -> int:
        """Regions at a time."""
        return self.plans[0].workers

    def record(self, version: str, layout: str, encoding: stores.Encoding, *, copy_base: bool) -> stores.Record:
        """Return what a later call must know to go on with this build: that it is the same, and its passes."""
        passes = [(number, pass_) for number, plan in enumerate(self.plans) for pass_ in self._passes(plan, copy_base)]
        fingerprint: dict[str, Any] = {
            "image": self.name,
            "source": _identity(self.data[0]),
            "levels": [str(level) for level in self.levels],
            "recipe": self.recipe,
            "method": [_method_identity(plan.reducer) for plan in self.plans],
            "weights": None if self.weights is None else tokenize(self.weights.data),
            "format": [version, layout, str(encoding)],
        }
        if self.edited is not None:
            fingerprint["edited"] = list(map(ends_of, self.edited))
        return stores.Record(fingerprint, tuple(passes))

    def _passes(self, plan: Plan, copy_base: bool) -> tuple[Pass, ...]:
        if self.edited is not None:
            return passes_of_change(plan, self.edited, with_base=copy_base)
        return plan.export_passes if copy_base else plan.passes

    def bound_passes(self, record: stores.Record, arrays: Arrays) -> list[BoundPass]:
        """Return the passes of a record with the arrays that they read and fill."""
        whole = len(self.plans) == 1
        chosen: Sequence[Selection | None] = [None] * len(record.passes)
        if self.edited is not None:
            chosen = selections(self.plans[0], [pass_ for _, pass_ in record.passes], self.edited)
        return [
            BoundPass.of(
                self.plans[number],
                pass_,
                self.bases[number],
                arrays if whole else {0: arrays[number]},
                self.weights,
                selection,
            )
            for (number, pass_), selection in zip(record.passes, chosen, strict=True)
        ]


def _identity(data: Any) -> str:
    """Return what tells one source from another without reading it."""
    array = stores.source_array(data) if isinstance(data, da.Array) else None
    if array is not None:
        return f"{stores.place_of(array)} {array.metadata.to_dict()}"
    return str(data.name) if isinstance(data, da.Array) else f"array {data.shape} {data.dtype}"


def _method_identity(reducer: Reducer) -> str:
    """Return what tells one method from another; names do only in the table."""
    return reducer.name if reducer.function is None else tokenize(reducer)


def build_of_image(
    image: Any,
    target: stores.Location,
    options: LevelOptions,
    storage: StorageOptions,
    *,
    dtype: npt.DTypeLike | None = None,
) -> Build:
    """Make an image ready for writing: one plan for all levels, of its values in another dtype if one is given."""
    image = stores.open_image(image) if stores.is_zarr(image) else to_image(image)
    ordered, order = _in_ngff_order(image)
    read = image.dtype
    ordered = _retyped(ordered, dtype)
    data = unread(image)
    lazy_weights = options.weights is not None and not isinstance(unread(options.weights), np.ndarray)
    crew = None if lazy_weights else crew_for([data], target)
    plan = _plan(ordered, read, options, resources_of(crew, storage))
    return Build(
        name=str(image.name),
        levels=plan.levels,
        images=level_images(ordered, plan),
        data=(data,),
        plans=(plan,),
        recipe=LevelOptions.of_plan(plan).recipe(),
        bases=(base_of(image, order, ordered.dtype),),
        weights=weights_of(options.weights, ordered),
        source=stores.source_array(data),
        crew=crew,
    )


def level_images(image: xr.DataArray, plan: Plan) -> tuple[xr.DataArray, ...]:
    """Return the labels of all levels of a plan, the image itself first, the others without values."""
    shown = (np.broadcast_to(np.zeros((), level.dtype), level.shape) for level in plan.levels[1:])
    return (image, *(label_level(image, values, plan, index) for index, values in enumerate(shown, 1)))


def build_of_tree(
    tree: xr.DataTree, target: stores.Location, storage: StorageOptions, *, dtype: npt.DTypeLike | None = None
) -> Build:
    """Make a tree ready for writing: from its base where its levels are as `to_multiscale` made them, else as it is."""
    levels = levels_of_tree(tree)
    recipe = dict(tree.attrs.get(RECIPE_ATTRIBUTE, {}))
    if recipe and _is_pristine(levels, recipe):
        return build_of_image(levels[0], target, LevelOptions.of_recipe(recipe), storage, dtype=dtype)
    ordered = [(_retyped(level, dtype), order) for level, order in map(_in_ngff_order, levels)]
    data = tuple(map(unread, levels))
    crew = crew_for(data, target)
    plans = [
        _plan(level, source.dtype, LevelOptions(scale_factors=[]), resources_of(crew, storage))
        for source, (level, _) in zip(levels, ordered, strict=True)
    ]
    return Build(
        name=str(levels[0].name),
        levels=tuple(replace(plan.levels[0], index=i, parent=max(i - 1, 0)) for i, plan in enumerate(plans)),
        images=tuple(level for level, _ in ordered),
        data=data,
        plans=tuple(plans),
        recipe={"method": "custom"},
        bases=tuple(
            base_of(source, order, level.dtype) for source, (level, order) in zip(levels, ordered, strict=True)
        ),
        weights=None,
        source=stores.source_array(data[0]),
        crew=crew,
    )


def _retyped(image: xr.DataArray, dtype: npt.DTypeLike | None) -> xr.DataArray:
    """Return an image as it is planned with another dtype; its values are converted where they are read."""
    if dtype is None:
        return image
    wanted = target_dtype(dtype, image.dtype)
    if wanted == image.dtype:
        return image
    values = image.data.astype(wanted) if image.chunks is not None else np.broadcast_to(wanted.type(0), image.shape)
    retyped = image.copy(data=values)
    retyped.encoding = {key: image.encoding[key] for key in ("chunks", "shards") if image.encoding.get(key)}
    return retyped


def _plan(image: xr.DataArray, read: np.dtype[Any], options: LevelOptions, storage: StorageOptions) -> Plan:
    """Plan a pyramid of values that are read in another dtype than the image's, with the memory of both."""
    if read != image.dtype:
        both = 1 + read.itemsize / image.dtype.itemsize
        storage = replace(storage, memory_limit=int(storage.memory / both))
    return plan_image(to_image(image), options, storage)


def weights_of(weights: xr.DataArray | None, image: xr.DataArray) -> Weights | None:
    """Return where the weights of an image are read."""
    return None if weights is None else Weights(unread(aligned_weights(weights, image)))


def crew_for(data: Iterable[Any], target: stores.Location) -> Crew | None:
    """Return the active cluster, unless a source or the target lives in this process's memory, out of its reach."""
    client = active_client()
    if client is None or not all(isinstance(each, da.Array | zarr.Array) for each in data):
        return None
    places = [target, *(stores.place_of(array) for each in data for array in stores.zarr_arrays(each))]
    return None if any(map(stores.is_in_memory, places)) else Crew(client)


def resources_of(crew: Crew | None, storage: StorageOptions) -> StorageOptions:
    """Return the options of storage with the cluster's threads and memory where the caller specified none."""
    if crew is None:
        return storage
    return replace(
        storage,
        workers=crew.threads if storage.workers is None else storage.workers,
        memory_limit=crew.memory() if storage.memory_limit is None else storage.memory_limit,
    )


def _is_pristine(levels: Sequence[xr.DataArray], recipe: Mapping[str, Any]) -> bool:
    """Whether every level is, task for task, what `to_multiscale` makes of the base by the recipe."""
    if any(level.chunks is None for level in levels):
        return False
    try:
        plan = plan_image(to_image(levels[0]), LevelOptions.of_recipe(recipe), StorageOptions(workers=1))
        again = levels_of_plan(levels[0], plan, rechunk=False)
    except (ValueError, TypeError):
        # The recipe does not even fit what the tree has become.
        return False
    return len(again) == len(levels) and all(
        _unwrapped(level) == _unwrapped(other) and level.coords.equals(other.coords) and level.attrs == other.attrs
        for level, other in zip(levels, again, strict=True)
    )


def _unwrapped(level: xr.DataArray) -> str:
    """Return dask's name of a level's values, which is equal for equal computations."""
    return str(level.data.name)


def _in_ngff_order(image: xr.DataArray) -> tuple[xr.DataArray, tuple[int, ...]]:
    """Return the image in the order of axes that OME-NGFF wants, and that order."""
    order = ngff_order(image_axes(image))
    if order == tuple(range(image.ndim)):
        return image, order
    dims = [image.dims[axis] for axis in order]
    warnings.warn(
        f"the axes {image.dims!r} are written as {tuple(dims)!r}: OME-NGFF wants time and channels before space",
        UserWarning,
        stacklevel=5,
    )
    ordered = image.transpose(*dims)
    ordered.encoding = {
        key: tuple(image.encoding[key][axis] for axis in order)
        for key in ("chunks", "shards")
        if image.encoding.get(key)
    }
    return ordered, order
