"""`update_pyramid`, `rebuild_levels` and `remove_levels`: recompute or remove levels of a stored pyramid.

The pyramid stays readable meanwhile. Its group records the change until it is complete, so that it can be resumed.
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
from ..image.values import Packing
from ..messages import check_choice
from ..metadata import is_mixed, with_mixed_recipe, with_recipe
from ..methods.reducers import REDUCERS, Method, get_reducer, needs_weights, resampling_name
from ..plan.options import LevelOptions, StorageOptions
from ..plan.plan import Plan
from ..plan.planning import plan_as_stored, plan_image, ready_to_build
from ..store import in_one_commit
from ..tasks.progress import ProgressCallback
from .build import Build, crew_for, resources_of, weights_of
from .engine import edited_boxes, resumable, run_passes, take_digests
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
    """Recompute only those parts of the levels that an edit of level 0 affects.

    The levels end up bit-identical to those of a fresh build. The base is not written. Chunks are replaced one by one,
    atomically if the store supports it: a reader gets the old values of a chunk or the new ones.

    Parameters
    ----------
    store, path
        Store, and path in it, of the group with the ``multiscales`` metadata: a pyramid written by this package, or by
        another one whose levels are integer factors of the base.
    region
        What was edited: a mapping of dims to slices or single samples (missing dims: the whole axis), or a sequence
        of them, one per axis. None with `changed` or `resume`.
    by
        Whether `region` contains indices ("index") or positions ("coordinate"). Positions select all voxels that they
        touch, both ends included.
    changed
        "auto": detect what was edited, with the digests of the base's chunks that
        ``write_pyramid(..., digests=True)`` stores. Reads all stored chunks of the base, without decoding them.
    method, weights
        How the levels were computed, if the metadata do not state it: by another writer, by your own method, or as
        weighted means.
    memory_limit, workers, progress, storage_options
        As in `write_pyramid`.
    resume
        Resume an interrupted update, skipping what it has finished. By default, its whole region is recomputed
        together with `region`.

    Raises
    ------
    FileNotFoundError
        If nothing is stored there.
    FileExistsError
        If another build or change is writing there.
    ValueError, TypeError
        If the region is not within the image, or the metadata do not state how the levels were computed; before
        anything is written.

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
            raise ValueError(
                "region is missing; name the region that was edited, as in "
                "region={'y': slice(0, 64), 'x': slice(0, 64)}"
            )
        more = tuple(box for box in _edits(stored, region, by, changed, storage) if box not in begun)
        if begun or more:
            options = options_of_levels(stored, method, weights)
            # A larger update has other regions than the interrupted one, and cannot skip any.
            _recompute_edits(change, begun + more, options, storage, resume=resume and not more, progress=progress)


@in_one_commit
def rebuild_levels(
    store: Any,
    levels: Sequence[int | str] | None = None,
    path: str | None = None,
    *,
    method: Method,
    skipna: bool | None = None,
    nodata: Any = "stated",
    min_valid: float = 0.0,
    weights: xr.DataArray | None = None,
    memory_limit: int | str | None = None,
    workers: int | None = None,
    resume: bool = False,
    progress: bool | ProgressCallback | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Recompute levels of a stored pyramid with another method or other parameters.

    Levels keep their factors, shapes, chunks and codecs. As in `update_pyramid`, chunks are replaced one by one.

    Parameters
    ----------
    store, path
        Store, and path in it, of the group with the ``multiscales`` metadata, written by any tool.
    levels
        Numbers of the levels, as `open_pyramid` counts them, or paths; by default all but the base. A method that
        reduces level by level computes them from each other and from the base.
    method, skipna, nodata, min_valid, weights
        As in `plan_pyramid`.
    memory_limit, workers, progress, storage_options
        As in `write_pyramid`.
    resume
        Resume an interrupted rebuild with the same parameters.

    Raises
    ------
    FileNotFoundError
        If nothing is stored there.
    FileExistsError
        If another build or change is writing there.
    ValueError, TypeError
        If a level does not exist, or the method would change the dtype or the positions of the levels; before
        anything is written.

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
        rebuilt = stored.only(chosen)
        windows = windows_of_levels(rebuilt)
        all_levels = len(chosen) == len(stored.arrays) - 1
        # Levels that stay were made by the rules of their time, and so are those beside them.
        packing = stored.stated_packing if all_levels else stored.packing
        options = replace(
            options,
            scale_factors=windows.scale_factors,
            boundary=windows.boundary,
            nodata=_nodata_to_rebuild(options, stored, packing),
            packing=packing,
        )
        options.warn_of_averages(stored.image)
        whole = whole_box(stored.image.shape)
        base = StoredBase.of(stored.arrays[0])
        build = build_of_change(rebuilt, stored.image, base, (whole,), options, storage)
        _check_unchanged_positions(rebuilt, build)
        build.check_sources()
        if not resume:
            refuse_other_change(stored, None)
        record = record_of_change(build, rebuilt, copy_base=False)
        record = replace(record, fingerprint={**record.fingerprint, "rebuild": list(chosen)})
        target = replace(change, pyramid=rebuilt).target(record, resume=resume)
        run_passes(build, dict(enumerate(rebuilt.arrays)), target, progress)
        with resumable():
            if all_levels:
                name = resampling_name(build.recipe["method"])
                change.finish(partial(with_recipe, recipe=build.recipe, resampling_method=name))
            elif not _is_repair(rebuilt, build):
                change.finish(with_mixed_recipe)
            else:
                change.finish()


@in_one_commit
def remove_levels(
    store: Any,
    levels: Sequence[int | str],
    path: str | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Remove levels from a stored pyramid: first from its metadata, then from the store.

    The other levels keep their paths. Levels that were removed before are done: the same call again changes nothing,
    be it that the first was interrupted or not.

    Parameters
    ----------
    store, path
        Store, and path in it, of the group with the ``multiscales`` metadata, written by any tool.
    levels
        Numbers or paths of the levels, as ``[2]`` or ``["scale2/image"]``, without the base. Numbers are those that
        levels had when the pyramid was written: removing level 1 does not make level 2 level 1.
    storage_options
        Options of the file system, for a URL.

    Raises
    ------
    FileNotFoundError
        If nothing is stored there.
    FileExistsError
        If another build or change is writing there.
    ValueError
        If a level does not exist, or a change of the pyramid was interrupted.

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
        if removed := _levels_to_remove(levels, stored):
            change.remove(removed, mixed=_have_lost_parents(stored, removed))


def _levels_to_remove(levels: Sequence[int | str], stored: stores.StoredPyramid) -> tuple[int, ...]:
    """Return the places of the levels to remove, without those that were removed before.

    Raises
    ------
    TypeError, ValueError
        If a level does not exist or is the base, or a number may mean either of two.
    """
    chosen, done = _list_of_levels(levels), stored.removed
    left = [
        name for name in chosen if name not in tuple(done) and not (_is_level_number(name) and name in done.values())
    ]
    paths = [_path_of_level(name, stored) if _is_level_number(name) else name for name in left]
    return numbers_of_levels(paths, stored) if left or not chosen else ()


def _path_of_level(number: int, stored: stores.StoredPyramid) -> int | str:
    """Return the path of a level by the number that it was written with; the number itself where there is none.

    Raises
    ------
    ValueError
        If it is another level as levels are counted since some were removed.
    """
    path = dict(zip(stored.lasting_numbers, stored.paths, strict=True)).get(number)
    counted = stored.paths[number] if 0 <= number < len(stored.paths) else path
    if path is not None and path != counted:
        shown = f"{path}/" if path.isdecimal() else path
        raise ValueError(
            f"level {int(number)!r} of {stored.group.store_path} is {path!r} by the number that it was written with, "
            f"but {counted!r} as levels are counted since others were removed; name its path, as in levels=[{shown!r}]"
        )
    return number if path is None else path


def _nodata_to_rebuild(options: LevelOptions, stored: stores.StoredPyramid, packing: Packing | None) -> Any:
    """Return the value to leave out of rebuilt levels: unless the caller or the base states one, that of the recipe."""
    before = (stored.recipe or {}).get("nodata")
    is_stated = not isinstance(options.nodata, str) or (packing is not None and packing.left_out)
    return options.nodata if is_stated or before is None or not options.reducer.skips_missing else before


def _is_repair(stored: stores.StoredPyramid, build: Build) -> bool:
    """Whether recomputing some of the levels gives the values that the recipe states."""
    exact = build.plans[0].reducer.cascade == "exact" and build.weights is None
    return exact and dict(stored.recipe or {}) == build.recipe


def _have_lost_parents(stored: stores.StoredPyramid, removed: Sequence[int]) -> bool:
    """Whether remaining levels were computed from removed ones, so that the recipe would no longer give them."""
    recipe = stored.recipe or {}
    if recipe.get("method") not in REDUCERS or REDUCERS[recipe["method"]].cascade == "exact":
        return False
    image = stored.unlabelled
    plan = plan_image(image, image_axes(image), stored.recipe_options(), StorageOptions(workers=1))
    return any(level.parent in removed for level in plan.levels if level.index not in removed)


def _list_of_levels(levels: Any) -> list[Any]:
    """Return numbers and paths of levels as a list.

    Raises
    ------
    TypeError
        If they are none.
    """
    if isinstance(levels, str) or not isinstance(levels, Iterable):
        raise TypeError(f"levels={levels!r} is not a list of level numbers; pass integers, as in levels=[1]")
    return [name.rstrip("/") if isinstance(name, str) else name for name in levels]


def _is_level_number(name: Any) -> bool:
    return isinstance(name, int | np.integer) and not isinstance(name, bool)


def numbers_of_levels(levels: Sequence[int | str] | None, stored: stores.StoredPyramid) -> tuple[int, ...]:
    """Return the sorted numbers of the levels to change, by default all but the base.

    Raises
    ------
    TypeError, ValueError
        If they are not numbers or paths of levels other than the base.
    """
    count = len(stored.arrays)
    if levels is None:
        return tuple(range(1, count))
    numbers = [stored.paths.index(name) if name in stored.paths else name for name in _list_of_levels(levels)]
    if not numbers or not all(_is_level_number(number) and 0 < number < count for number in numbers):
        choose = f"choose from 1 to {count - 1}" if count > 1 else "the pyramid has only its base"
        raise ValueError(f"levels={levels!r} contains no number, or one that cannot be changed; {choose}")
    return tuple(sorted({int(number) for number in numbers}))


def _check_unchanged_positions(stored: stores.StoredPyramid, build: Build) -> None:
    """Raise if a method places its values at other positions than the metadata state."""
    for axes, level in zip(stored.levels, build.levels, strict=True):
        for axis, other in zip(axes, level.axes, strict=True):
            # Positions of other axes are stored in coordinate arrays; OME-NGFF metadata cannot state them.
            if not axis.is_regular or not other.is_regular:
                continue
            stated, computed = axis.coordinates(), other.coordinates()
            if np.abs(stated - computed).max() > position_tolerance(stated, axis.scale):
                name = build.plans[0].reducer.name
                raise ValueError(
                    f"method {name!r} places level {level.index!r} at {axis.name}={float(computed[0])!r}, but the "
                    f"metadata state {float(stated[0])!r}; write the pyramid again with write_pyramid"
                )


def _edits(
    stored: stores.StoredPyramid,
    region: Selector | None,
    by: Literal["index", "coordinate"],
    changed: Literal["auto"] | None,
    storage: StorageOptions,
) -> list[Box]:
    """Return the boxes that were edited: `region`, and with `changed` those that digests show."""
    boxes = [] if region is None else [box_of(region, stored.unlabelled if by == "index" else stored.image, by=by)]
    if changed is None:
        return boxes
    digests = stores.Digests.of(stored.group, stored.arrays[0])
    if digests is None:
        raise ValueError(
            f"{stored.group.store_path} has no digests, so that edits cannot be detected; name the region, or write "
            "the pyramid with digests=True"
        )
    return boxes + edited_boxes(digests, storage.worker_count)


def _recompute_edits(
    change: stores.PyramidChange,
    edited: tuple[Box, ...],
    options: LevelOptions,
    storage: StorageOptions,
    *,
    resume: bool,
    progress: bool | ProgressCallback | None,
) -> None:
    stored = change.pyramid
    # Only weights need coordinates, and reading these takes as long as a small update.
    image = stored.unlabelled if options.weights is None else stored.image
    build = build_of_change(stored, image, StoredBase.of(stored.arrays[0]), edited, options, storage)
    build.check_sources()
    target = change.target(record_of_change(build, stored, copy_base=False), resume=resume)
    run_passes(build, dict(enumerate(stored.arrays)), target, progress)
    with resumable():
        if (digests := stores.Digests.of(stored.group, stored.arrays[0])) is not None:
            take_digests(digests, edited, build.workers)
        change.finish()


def _edits_begun(stored: stores.StoredPyramid) -> tuple[Box, ...]:
    """Return the boxes of an interrupted change of the pyramid, none without one."""
    boxes: Any = (stored.begun or {}).get("fingerprint", {}).get("edited", ())
    return tuple(map(box_of_ends, boxes))


def refuse_other_change(stored: stores.StoredPyramid, function: str | None) -> None:
    """Raise if a change of the pyramid by another function than `function` was interrupted.

    Raises
    ------
    ValueError
        With the call that completes that change.
    """
    if stored.begun is None:
        return
    fingerprint: Any = stored.begun.get("fingerprint", {})
    converted = "converting" in stored.begun
    if not converted and "edited" not in fingerprint:
        raise ValueError(
            f"levels of {stored.group.store_path} are being built, or their build was interrupted; complete it first, "
            "by repeating the call of add_levels with resume=True (--resume)"
        )
    begun = "append_pyramid" if "append" in fingerprint else "update_pyramid"
    begun = "rebuild_levels" if "rebuild" in fingerprint else "convert" if converted else begun
    if begun != function:
        raise ValueError(
            f"a change of {stored.group.store_path} by {begun} was interrupted; complete it first, by repeating that "
            f"call{'' if converted else ' with resume=True'}"
        )


def windows_of_levels(stored: stores.StoredPyramid) -> LevelOptions:
    """Return the factors and boundary of stored levels: as the recipe states, else as inferred from their shapes.

    Raises
    ------
    ValueError
        If no integer factors give these shapes, or there are no OME-NGFF metadata.
    """
    if stored.recipe and "scale_factors" in stored.recipe:
        return stored.recipe_options()
    if not stored.is_ngff:
        raise ValueError(
            f"{stored.group.store_path} has no OME-NGFF multiscales metadata, which would state how its levels follow "
            "from the base; write it again with write_pyramid"
        )
    return replace(stored.level_options(stored.unlabelled.dims), packing=stored.packing, mask=None)


def options_of_levels(
    stored: stores.StoredPyramid, method: Method | None, weights: xr.DataArray | None = None
) -> LevelOptions:
    """Return the options that the levels of a pyramid were computed with: as its recipe states, else the caller's.

    Raises
    ------
    ValueError
        If the method is unknown, or `method` or `weights` contradict the recipe.
    """
    windows = windows_of_levels(stored)
    made_by: Any = (stored.recipe or {}).get("method")
    if is_mixed(stored.recipe or {}):
        raise ValueError(
            f"the levels of {stored.group.store_path} were computed with different methods or parameters, because "
            "some were rebuilt or removed; recompute all of them with rebuild_levels"
        )
    if method is None and made_by not in REDUCERS:
        how = "by another writer" if made_by is None else f"by method {made_by!r}"
        raise ValueError(
            f"the levels of {stored.group.store_path} were made {how}, and the metadata do not state how to compute "
            "them from the base; name the method, as in method='mean' (verify_pyramid identifies it)"
        )
    _refuse_other_values(stored, made_by, method, weights)
    return replace(windows, method=made_by if method is None else method, weights=weights)


def _refuse_other_values(
    stored: stores.StoredPyramid, made_by: str | None, method: Method | None, weights: xr.DataArray | None
) -> None:
    """Raise if a part of the levels would be computed differently from the rest."""
    place = stored.group.store_path
    if needs_weights(made_by) and weights is None:
        raise ValueError(f"the levels of {place} are weighted means; pass the weights that they were computed with")
    if made_by not in REDUCERS:
        return
    if method is not None and get_reducer(method).name != made_by:
        raise ValueError(
            f"the levels of {place} were made by method {made_by!r}, not by {get_reducer(method).name!r}; "
            "omit the method, or recompute all of them with rebuild_levels"
        )
    if weights is not None:
        raise ValueError(
            f"the levels of {place} were computed without weights; omit the weights, or recompute all levels with "
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
    """Return the build that recomputes the parts of a stored pyramid that depend on the boxes `edited` of its base.

    `image` has the shape and coordinates of the base, `base` its values.
    """
    local = isinstance(base, AppendedBase) or options.weights is not None
    crew = None if local else crew_for([stored.arrays[0]], stores.place_of(stored.group))
    plan = plan_image(image, image_axes(image), options, resources_of(crew, storage))
    if stored.begun is None:
        _check_levels(stored, plan)
    if plan.reducer.bands:
        raise ValueError(
            f"level 0 of method {plan.reducer.name!r} is a band, and the image that it was computed from is not "
            "stored; write the pyramid again with write_pyramid"
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
    """Raise if stored levels do not have the shapes that the factors of a plan give."""
    found = [array.shape for array in stored.arrays]
    expected = [
        tuple(map(partial(coarsened_size, boundary=plan.boundary), plan.dims, found[0], level.factors))
        for level in plan.levels
    ]
    if found != expected:
        raise ValueError(
            f"the levels of {stored.group.store_path} have the shapes {found!r}, but coarsening the base gives "
            f"{expected!r}; write the pyramid again with write_pyramid"
        )


def record_of_change(build: Build, stored: stores.StoredPyramid, *, copy_base: bool) -> stores.Record:
    """Return the record by which a later call can resume a change."""
    array = stored.arrays[0]
    encoding = stores.encoding_like(array, array.metadata.zarr_format, "auto")
    return build.record(stored.multiscales.version, stored.layout, encoding, copy_base=copy_base)
