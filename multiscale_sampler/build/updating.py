"""Pyramids that stay true: levels made anew where the base was edited, and images that go on along an axis.

What a change touches is a matter of `changes`; the engine makes it, in the passes that build pyramids, while the
pyramid stays readable. A store says while it is being changed, so that a change that was interrupted can be gone on
with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import xarray as xr

from .. import store as stores
from ..image.axes import coarsened_size, position_tolerance
from ..image.boxes import Box, box_of_ends, whole_box
from ..image.dataarray import image_axes
from ..messages import check_choice
from ..metadata import is_mixed, with_recipe
from ..methods.reducers import REDUCERS, Method, get_reducer, needs_weights
from ..plan.options import LevelOptions, StorageOptions
from ..plan.plan import Plan
from ..plan.planning import plan_as_stored, plan_image, ready_to_build
from ..store import in_one_commit
from ..tasks.progress import ProgressCallback
from .build import Build, crew_for, resources_of, weights_of
from .engine import edited_boxes, run_passes, take_digests
from .indexing import Selector, box_of
from .sources import AppendedBase, Base, StoredBase


@in_one_commit
def update_pyramid(
    store: Any,
    region: Selector | None = None,
    path: str | None = None,
    *,
    by: Literal["index", "coordinate"] = "index",
    changed: Literal["auto"] | None = None,
    method: Method | None = None,
    weights: xr.DataArray | None = None,
    memory_limit: int | str | None = None,
    workers: int | None = None,
    resume: bool = False,
    progress: bool | ProgressCallback | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Make the levels of a stored pyramid anew where its level 0 was edited, and nowhere else.

    Every voxel of every level that depends on the region is computed from the base, to the bits of a pyramid that is
    built afresh. The base is not written. Chunks are replaced one by one, each in one step where the store can: a
    reader sees old values or new ones.

    Parameters
    ----------
    store, path
        Place of the group with the ``multiscales`` metadata: a pyramid of this package, of `add_levels`, or of another
        writer whose levels are windows of the base.
    region
        What was edited: a mapping of dims to slices or single samples (dims left out: all of the axis), or one for
        each axis. None with `changed` or `resume`.
    by
        Whether `region` counts samples ("index") or tells positions ("coordinate"): then all samples of which a part
        lies there, ends included.
    changed
        "auto": find out what was edited, by the digests that ``write_pyramid(..., digests=True)`` has stored of the
        base's chunks. Reads all of the base as it is stored, and decodes none of it.
    method, weights
        How the levels were made, where the store does not say so: of other writers, of methods of your own, of
        weighted means.
    memory_limit, workers, progress, storage_options
        As in `write_pyramid`.
    resume
        Go on with an update that was interrupted, where what it has done need not be done again. Otherwise all of its
        region is made anew, with the one that is given.

    Raises
    ------
    FileNotFoundError
        If nothing is stored there.
    FileExistsError
        If another build or change is writing there.
    ValueError, TypeError
        If the region is not in the image, or the store does not say how its levels were made; before anything is
        written.

    Examples
    --------
    >>> import numpy as np, zarr
    >>> import multiscale_sampler as ms
    >>> store = zarr.storage.MemoryStore()
    >>> ms.write_pyramid(np.zeros((64, 64), "uint8"), store, scale_factors=[2, 4])
    >>> zarr.open_array(store, path="scale0/image")[8:16, 8:16] = 100
    >>> ms.update_pyramid(store, {"y": slice(8, 16), "x": slice(8, 16)})
    >>> int(ms.open_pyramid(store)["scale2/image"][2, 2])
    100
    """
    check_choice("by", by, ("index", "coordinate"))
    if changed is not None:
        check_choice("changed", changed, ("auto",))
    storage = StorageOptions(memory_limit=memory_limit, workers=workers)
    with stores.PyramidChange.claimed(store, path, storage_options=storage_options) as change:
        stored = change.pyramid
        refuse_other_change(stored, "update_pyramid")
        begun = _edits_begun(stored)
        if region is None and changed is None and not (resume and begun):
            raise ValueError("name the region that was edited, as in region={'y': slice(0, 64), 'x': slice(0, 64)}")
        more = tuple(box for box in _edits(stored, region, by, changed, storage) if box not in begun)
        if begun or more:
            options = options_of_levels(stored, method, weights)
            # What has been done of an update is of no use to a larger one, whose regions are others.
            _remake(change, begun + more, options, storage, resume=resume and not more, progress=progress)


@in_one_commit
def rebuild_levels(
    store: Any,
    levels: Sequence[int] | None = None,
    path: str | None = None,
    *,
    method: Method,
    skipna: bool | None = None,
    nodata: Any = None,
    min_valid: float = 0.0,
    weights: xr.DataArray | None = None,
    memory_limit: int | str | None = None,
    workers: int | None = None,
    resume: bool = False,
    progress: bool | ProgressCallback | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Make levels of a stored pyramid anew, by other parameters than they were made by.

    Levels keep their factors, sizes, chunks and codecs. As with `update_pyramid`, chunks are replaced one by one.

    Parameters
    ----------
    store, path
        Place of the group with the ``multiscales`` metadata, of any writer.
    levels
        Which levels, by number; default: all but the base. Those of a method that goes step by step are
        made of each other and of the base.
    method, skipna, nodata, min_valid, weights
        As in `plan_pyramid`.
    memory_limit, workers, progress, storage_options
        As in `write_pyramid`.
    resume
        Go on with a rebuild by the same parameters that was interrupted.

    Raises
    ------
    FileNotFoundError
        If nothing is stored there.
    FileExistsError
        If another build or change is writing there.
    ValueError, TypeError
        If there are no such levels, or the method makes them of another dtype or places them elsewhere in their
        windows; before anything is written.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> store = {}
    >>> ms.write_pyramid(np.eye(64, dtype="uint8") * 100, store, scale_factors=[2])
    >>> ms.rebuild_levels(store, method="max")
    >>> int(ms.open_pyramid(store)["scale1/image"][0, 0])
    100
    """
    options = LevelOptions(method=method, skipna=skipna, nodata=nodata, min_valid=min_valid, weights=weights)
    storage = StorageOptions(memory_limit=memory_limit, workers=workers)
    with stores.PyramidChange.claimed(store, path, storage_options=storage_options) as change:
        stored = change.pyramid
        refuse_other_change(stored, "rebuild_levels")
        chosen = numbers_of_levels(levels, stored)
        remade = stored.only(chosen)
        windows = windows_of_levels(remade)
        options = replace(options, scale_factors=windows.scale_factors, boundary=windows.boundary)
        whole = whole_box(stored.image.shape)
        base = StoredBase.of(stored.arrays[0])
        build = build_of_change(remade, stored.image, base, (whole,), options, storage)
        _check_positions(remade, build)
        if not resume:
            refuse_other_change(stored, None)
        record = record_of_change(build, remade, copy_base=False)
        record = replace(record, fingerprint={**record.fingerprint, "rebuild": list(chosen)})
        target = replace(change, pyramid=remade).target(record, resume=resume)
        run_passes(build, dict(enumerate(remade.arrays)), target, progress)
        made_all = len(chosen) == len(stored.arrays) - 1
        if made_all or not _is_repair(remade, build):
            change.finish(partial(with_recipe, recipe=build.recipe, whole=made_all))
        else:
            change.finish()


@in_one_commit
def remove_levels(
    store: Any,
    levels: Sequence[int],
    path: str | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Remove levels of a stored pyramid: from its metadata first, then from the store.

    Parameters
    ----------
    store, path
        Place of the group with the ``multiscales`` metadata, of any writer.
    levels
        Which levels, by number; never the base. The others keep their paths.
    storage_options
        Options of the file system, with a URL.

    Raises
    ------
    FileNotFoundError
        If nothing is stored there.
    FileExistsError
        If another build or change is writing there.
    ValueError
        If there are no such levels, or a change of the store was interrupted.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> store = {}
    >>> ms.write_pyramid(np.zeros((64, 64), "uint8"), store, scale_factors=[2, 4])
    >>> ms.remove_levels(store, [1])
    >>> ms.open_pyramid(store)["scale1/image"].shape
    (16, 16)
    """
    with stores.PyramidChange.claimed(store, path, storage_options=storage_options) as change:
        stored = change.pyramid
        refuse_other_change(stored, None)
        # The same call again, of a removal that was interrupted, is done: the numbers are now those of other levels.
        if not change.removed or set(levels) != set(change.removed):
            change.remove(numbers_of_levels(levels, stored), mixed=_have_lost_parents(stored, levels))


def _is_repair(stored: stores.StoredPyramid, build: Build) -> bool:
    """Whether levels that were made anew, alone, are as they were made first."""
    exact = build.plans[0].reducer.cascade == "exact" and build.weights is None
    return exact and dict(stored.recipe or {}) == build.recipe


def _have_lost_parents(stored: stores.StoredPyramid, removed: Sequence[int]) -> bool:
    """Whether levels that stay were made of values of some that are removed, and would not be made so again."""
    recipe = stored.recipe or {}
    if recipe.get("method") not in REDUCERS or REDUCERS[recipe["method"]].cascade == "exact":
        return False
    image = stored.unlabelled
    plan = plan_image(image, image_axes(image), LevelOptions.of_recipe(recipe), StorageOptions(workers=1))
    return any(level.parent in removed for level in plan.levels if level.index not in removed)


def numbers_of_levels(levels: Sequence[int] | None, stored: stores.StoredPyramid) -> tuple[int, ...]:
    """Return the numbers of levels that are to be changed, all but the base by default."""
    count = len(stored.arrays)
    if levels is None:
        return tuple(range(1, count))
    if isinstance(levels, str) or not isinstance(levels, Iterable):
        raise TypeError(f"levels={levels!r} is no list of levels; name them by number, as in levels=[1]")
    named = list(levels)
    if not named or not all(
        isinstance(n, int | np.integer) and not isinstance(n, bool) and 0 < n < count for n in named
    ):
        choose = f"choose of 1 to {count - 1}" if count > 1 else "there is the base alone"
        raise ValueError(f"levels={levels!r} are none that could be changed; {choose}")
    return tuple(sorted({int(number) for number in named}))


def _check_positions(stored: stores.StoredPyramid, build: Build) -> None:
    """Refuse a method whose values sit elsewhere in their windows than the metadata say of those that are there."""
    for axes, level in zip(stored.levels, build.levels, strict=True):
        for axis, other in zip(axes, level.axes, strict=True):
            # Labels, dates and uneven positions are those of coordinate arrays, which the metadata cannot say.
            if not axis.is_regular or not other.is_regular:
                continue
            stated, made = axis.coordinates(), other.coordinates()
            if np.abs(stated - made).max() > position_tolerance(stated, axis.scale):
                name = build.plans[0].reducer.name
                raise ValueError(
                    f"method {name!r} places level {level.index!r} at {axis.name}={float(made[0])!r}, "
                    f"and the store says {float(stated[0])!r}; write the pyramid anew with write_pyramid"
                )


def _edits(
    stored: stores.StoredPyramid,
    region: Selector | None,
    by: Literal["index", "coordinate"],
    changed: Literal["auto"] | None,
    storage: StorageOptions,
) -> list[Box]:
    """Return the boxes that were edited: the one that is named, those that are found."""
    boxes = [] if region is None else [box_of(region, stored.unlabelled if by == "index" else stored.image, by=by)]
    if changed is None:
        return boxes
    digests = stores.Digests.of(stored.group, stored.arrays[0])
    if digests is None:
        raise ValueError(
            f"{stored.group.store_path} has no digests to tell what changed; name the region, or write the pyramid "
            "with digests=True"
        )
    return boxes + edited_boxes(digests, storage.worker_count)


def _remake(
    change: stores.PyramidChange,
    edited: tuple[Box, ...],
    options: LevelOptions,
    storage: StorageOptions,
    *,
    resume: bool,
    progress: bool | ProgressCallback | None,
) -> None:
    stored = change.pyramid
    # Of labels, which cost as much to read as a small update takes, only weights ask.
    image = stored.unlabelled if options.weights is None else stored.image
    build = build_of_change(stored, image, StoredBase.of(stored.arrays[0]), edited, options, storage)
    target = change.target(record_of_change(build, stored, copy_base=False), resume=resume)
    run_passes(build, dict(enumerate(stored.arrays)), target, progress)
    if (digests := stores.Digests.of(stored.group, stored.arrays[0])) is not None:
        take_digests(digests, edited, build.workers)
    change.finish()


def _edits_begun(stored: stores.StoredPyramid) -> tuple[Box, ...]:
    """Return the boxes of an update that was interrupted."""
    boxes: Any = (stored.begun or {}).get("fingerprint", {}).get("edited", ())
    return tuple(map(box_of_ends, boxes))


def refuse_other_change(stored: stores.StoredPyramid, ours: str | None) -> None:
    """Refuse to change a pyramid of which another change was interrupted.

    Raises
    ------
    ValueError
        With the call that completes that one.
    """
    if stored.begun is None:
        return
    fingerprint: Any = stored.begun.get("fingerprint", {})
    if "edited" not in fingerprint:
        raise ValueError(
            f"levels of {stored.group.store_path} are being built, or their build was interrupted; complete it first, "
            "by the same call of add_levels with resume=True (--resume)"
        )
    begun = "append_pyramid" if "append" in fingerprint else "update_pyramid"
    begun = "rebuild_levels" if "rebuild" in fingerprint else begun
    if begun != ours:
        raise ValueError(
            f"a change of {stored.group.store_path} by {begun} was interrupted; complete it first, by the same call "
            "with resume=True"
        )


def windows_of_levels(stored: stores.StoredPyramid) -> LevelOptions:
    """Return the windows that stored levels were made of, as options: what the recipe states, else what sizes show.

    Raises
    ------
    ValueError
        If no integer factors make levels of these sizes, or no OME-NGFF metadata state their positions.
    """
    if stored.recipe and "scale_factors" in stored.recipe:
        return LevelOptions.of_recipe(stored.recipe)
    if not stored.is_ngff:
        raise ValueError(
            f"{stored.group.store_path} has no OME-NGFF multiscales metadata, which would state how its levels follow "
            "from the base; write it again with write_pyramid"
        )
    return stored.level_options(stored.unlabelled.dims)


def options_of_levels(
    stored: stores.StoredPyramid, method: Method | None, weights: xr.DataArray | None = None
) -> LevelOptions:
    """Return the options that made the levels of a store: what it states, else what the caller names.

    Raises
    ------
    ValueError
        If the method is not known, or is another than the one that made the levels, or weights do not go with it.
    """
    windows = windows_of_levels(stored)
    made_by: Any = (stored.recipe or {}).get("method")
    if is_mixed(stored.recipe or {}):
        raise ValueError(
            f"the levels of {stored.group.store_path} were made by several rules, some having been made anew or "
            "removed; make all of them anew with rebuild_levels"
        )
    if method is None and made_by not in REDUCERS:
        how = "by another writer" if made_by is None else f"by method {made_by!r}"
        raise ValueError(
            f"the levels of {stored.group.store_path} were made {how}, which does not say how they follow from the "
            "base; name the method, as in method='mean' (verify_pyramid finds it out)"
        )
    _refuse_other_values(stored, made_by, method, weights)
    return replace(windows, method=made_by if method is None else method, weights=weights)


def _refuse_other_values(
    stored: stores.StoredPyramid, made_by: str | None, method: Method | None, weights: xr.DataArray | None
) -> None:
    """Refuse what would make a part of the levels otherwise than the rest."""
    place = stored.group.store_path
    if needs_weights(made_by) and weights is None:
        raise ValueError(f"the levels of {place} are weighted means; give the weights that they were made with")
    if made_by not in REDUCERS:
        return
    if method is not None and get_reducer(method).name != made_by:
        raise ValueError(
            f"the levels of {place} were made by method {made_by!r}, not by {get_reducer(method).name!r}; "
            "leave the method out, or make all of them anew with rebuild_levels"
        )
    if weights is not None:
        raise ValueError(
            f"the levels of {place} were made without weights; leave them out, or make all levels anew with "
            "rebuild_levels"
        )


def build_of_change(
    stored: stores.StoredPyramid,
    image: xr.DataArray,
    base: Base,
    edited: tuple[Box, ...],
    options: LevelOptions,
    storage: StorageOptions,
) -> Build:
    """Return what makes parts of a stored pyramid anew, whose base is read at `base` and labelled as `image`."""
    local = isinstance(base, AppendedBase) or options.weights is not None
    crew = None if local else crew_for([stored.arrays[0]], stores.place_of(stored.group))
    plan = plan_image(image, image_axes(image), options, resources_of(crew, storage))
    if stored.begun is None:
        _check_levels(stored, plan)
    if plan.reducer.bands:
        raise ValueError(
            f"level 0 of method {plan.reducer.name!r} is a band, and the image that the levels were made of is not "
            "stored; write the pyramid anew with write_pyramid"
        )
    grids, dtypes = zip(*(((array.chunks, array.shards), array.dtype) for array in stored.arrays), strict=True)
    plan = ready_to_build(plan_as_stored(plan, grids, dtypes))
    return Build(
        name=str(image.name),
        levels=plan.levels,
        images=(image,),
        data=(stored.arrays[0],),
        plans=(plan,),
        recipe=LevelOptions.of_plan(plan).recipe(),
        bases=(base,),
        weights=weights_of(options.weights, image),
        source=stored.arrays[0],
        crew=crew,
        source_dims=image.dims,
        edited=edited,
    )


def _check_levels(stored: stores.StoredPyramid, plan: Plan) -> None:
    """Refuse levels that are not of the sizes that the windows of a plan have on the stored base."""
    found = [array.shape for array in stored.arrays]
    expected = [
        tuple(map(partial(coarsened_size, boundary=plan.boundary), plan.dims, found[0], level.factors))
        for level in plan.levels
    ]
    if found != expected:
        raise ValueError(
            f"the levels of {stored.group.store_path} have the shapes {found!r}, but windows of the base would have "
            f"{expected!r}; write the pyramid anew with write_pyramid"
        )


def record_of_change(build: Build, stored: stores.StoredPyramid, *, copy_base: bool) -> stores.Record:
    """Return what a later call must know to go on with a change."""
    array = stored.arrays[0]
    encoding = stores.encoding_like(array, array.metadata.zarr_format, "auto")
    return build.record(stored.multiscales.version, stored.layout, encoding, copy_base=copy_base)
