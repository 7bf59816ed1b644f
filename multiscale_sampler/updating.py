"""Pyramids that stay true: levels made anew where the base was edited, and images that go on along an axis.

What a change touches is a matter of `changes`; the engine makes it, in the passes that build pyramids, while the
pyramid stays readable. A store says while it is being changed, so that a change that was interrupted can be gone on
with.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from . import ngff
from . import store as stores
from .axes import coordinate_variable, image_axes, position_tolerance, to_image
from .builds import Build, crew_for, resources_of, weights_base
from .coarsening import label_level
from .engine import run_sweeps
from .parts import Region
from .plan import Plan, plan_as_stored, plan_pyramid
from .progress import ProgressCallback
from .pyramid import recipe_of
from .reducers import REDUCERS, Method
from .regions import AppendedBase, Base, base_of, unread
from .writing import omero_of

Along: TypeAlias = "slice | int | float | str"
Selector: TypeAlias = "Mapping[str, Any] | Sequence[Any]"


@dataclass(frozen=True)
class _Remaking:
    """How the levels of a stored pyramid are made anew, where it does not say so itself."""

    method: Method | None
    weights: xr.DataArray | None
    memory_limit: int | str | None
    workers: int | None

    def shaping(self, stored: stores.StoredPyramid) -> dict[str, Any]:
        """Return the options by which the levels were made: what the store says of them, else what was given."""
        recipe = dict(stored.recipe or {})
        made_by = recipe.pop("method", None)
        if "scale_factors" not in recipe:
            described = stores.described_image(stored.group)
            recipe = described.shaping(stored.image.dims)
        if self.method is None and made_by not in REDUCERS:
            how = "by another writer" if made_by is None else f"by method {made_by!r}"
            raise ValueError(
                f"the levels of {stored.group.store_path} were made {how}, which does not say how they follow from the "
                "base; name the method, as in method='mean' (verify_pyramid finds it out)"
            )
        if self.weights is not None:
            recipe["weights"] = self.weights
        return {**recipe, "method": made_by if self.method is None else self.method}


def update_pyramid(
    store: Any,
    region: Selector | None = None,
    path: str | None = None,
    *,
    by: Literal["index", "coordinate"] = "index",
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
        each axis. None only with `resume`.
    by
        Whether `region` counts samples ("index") or tells positions ("coordinate"): then all samples of which a part
        lies there, ends included.
    method, weights
        How the levels were made, where the store does not say so: of other writers, of methods of your own, of
        weighted means.
    memory_limit, workers, progress, storage_options
        As in `write_pyramid`.
    resume
        Go on with an update that was interrupted. Without it, its region is made anew with the one that is given.

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
    if by not in ("index", "coordinate"):
        raise ValueError(f"unknown by={by!r}; choose 'index' or 'coordinate'")
    node = stores.open_node(store, path, storage_options=storage_options)
    with stores.claim(stores.place_of(node)):
        stored = stores.StoredPyramid.of(node)
        begun = _edits_begun(stored)
        if region is None and not (resume and begun):
            raise ValueError("name the region that was edited, as in region={'y': slice(0, 64), 'x': slice(0, 64)}")
        edited = list(begun)
        if region is not None:
            box = box_of(region, stored.image, by=by)
            if resume and begun and box not in begun:
                raise ValueError(f"the update that was interrupted is of {begun!r}; resume it without a region")
            edited = edited if box in edited else [*edited, box]
        how = _Remaking(method, weights, memory_limit, workers)
        build = _build_of_edit(stored, tuple(edited), how)
        target = stored.target(_record(build, stored, copy_base=False), resume=resume)
        run_sweeps(build, dict(enumerate(stored.arrays)), target, progress)
        stored.finish()


def append_pyramid(
    image: Any,
    store: Any,
    dim: str,
    path: str | None = None,
    *,
    method: Method | None = None,
    memory_limit: int | str | None = None,
    workers: int | None = None,
    resume: bool = False,
    progress: bool | ProgressCallback | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """Let a stored pyramid go on along an axis: new time points, channels or planes, at every level.

    Levels become those of a pyramid that is built afresh from all of the image, with the levels that are there: where
    the axis is reduced, windows that were partial at the old end are made anew. Readers see the new samples when all
    of them are there. Labels of the image keep their size; append to them too, by their `path`.

    Parameters
    ----------
    image
        What is appended, of the image's size along all other axes, and of its dtype: an array, or a labelled image,
        whose positions must go on where those of the store end.
    store, path
        Place of the group with the ``multiscales`` metadata.
    dim
        The axis to go on along.
    method
        How the levels were made, where the store does not say so.
    memory_limit, workers, progress, storage_options
        As in `write_pyramid`.
    resume
        Go on with an append of the same image that was interrupted.

    Raises
    ------
    FileNotFoundError
        If nothing is stored there.
    FileExistsError
        If another build or change is writing there.
    ValueError, TypeError
        If the image does not fit the one that is stored, or an interrupted change of the store is to be completed
        before; before anything is written.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> store = {}
    >>> ms.write_pyramid(np.zeros((5, 64), "uint8"), store, scale_factors=[2])
    >>> ms.append_pyramid(np.ones((3, 64), "uint8"), store, "y")
    >>> ms.open_pyramid(store)["scale1/image"].shape
    (4, 32)
    """
    node = stores.open_node(store, path, storage_options=storage_options)
    with stores.claim(stores.place_of(node)):
        stored = stores.StoredPyramid.of(node)
        if _edits_begun(stored):
            raise ValueError(
                f"an update of {stored.group.store_path} was interrupted; complete it first, by "
                "update_pyramid(store, resume=True)"
            )
        start = _start(stored, dim, resume=resume)
        addition = _Addition.of(image, stored, dim, start)
        how = _Remaking(method, None, memory_limit, workers)
        build = _build_of_append(stored, addition, how)
        record = _record(build, stored, copy_base=True)
        record = replace(record, fingerprint={**record.fingerprint, "append": [dim, start]})
        target = stored.target(record, resume=resume)
        arrays = stored.grown([level.shape for level in build.levels])
        run_sweeps(build, dict(enumerate(arrays)), target, progress)
        stored.publish_shapes(target, build.images)
        stored.finish(_channels_displayed(stored, build, addition))
    _warn_of_labels(stored, dim)


# --- regions ---------------------------------------------------------------------------------------------------


def box_of(region: Selector, image: xr.DataArray, *, by: Literal["index", "coordinate"]) -> Region:
    """Return the samples of an image that a region names.

    Raises
    ------
    ValueError, TypeError
        If it names other dims, or samples that there are not.
    """
    if not isinstance(region, Mapping):
        if len(region) != image.ndim:
            raise ValueError(f"region={region!r} has {len(region)} entries for the axes {image.dims!r}; name the dims")
        region = dict(zip(map(str, image.dims), region, strict=True))
    if unknown := [dim for dim in region if dim not in image.dims]:
        raise ValueError(f"region={dict(region)!r} names {unknown!r}, but the dims are {image.dims!r}")
    along = (region.get(str(dim), slice(None)) for dim in image.dims)
    choose = _by_index if by == "index" else _by_coordinate
    return tuple(choose(wanted, image, str(dim)) for wanted, dim in zip(along, image.dims, strict=True))


def _by_index(wanted: Any, image: xr.DataArray, dim: str) -> slice:
    size = image.sizes[dim]
    if isinstance(wanted, int | np.integer) and not isinstance(wanted, bool):
        wanted = slice(int(wanted), int(wanted) + 1 or None)
    whole = isinstance(wanted, slice) and wanted.step in (None, 1)
    if not whole or any(
        end is not None and not isinstance(end, int | np.integer) for end in (wanted.start, wanted.stop)
    ):
        raise TypeError(f"{dim}={wanted!r} counts no samples; give a slice of integers, or positions by='coordinate'")
    start, stop, _ = wanted.indices(size)
    if start >= stop or (wanted.stop is not None and wanted.stop > size):
        raise ValueError(f"{dim}={wanted!r} is not within the {size!r} samples of {dim!r}")
    return slice(start, stop)


def _by_coordinate(wanted: Any, image: xr.DataArray, dim: str) -> slice:
    axis = image_axes(image)[image.dims.index(dim)]
    positions = axis.coordinates()
    first, last = (wanted.start, wanted.stop) if isinstance(wanted, slice) else (wanted, wanted)
    if positions.dtype.kind in "US":
        inside = np.ones(positions.shape, np.bool_) if first is None is last else np.isin(positions, [first, last])
    else:
        half = abs(axis.scale) / 2 if axis.is_regular else positions.dtype.type(0) * 0
        inside = np.ones(positions.shape, np.bool_)
        # A descending axis is sliced from its greater position to its lesser one.
        descends = first is not None and last is not None and first > last
        low, high = (last, first) if descends else (first, last)
        inside &= True if low is None else positions + half >= np.asarray(low, positions.dtype)
        inside &= True if high is None else positions - half <= np.asarray(high, positions.dtype)
    found = np.flatnonzero(inside)
    if not len(found):
        raise ValueError(f"{dim}={wanted!r} is not within {positions[0]!r} to {positions[-1]!r}, where {dim!r} lies")
    return slice(int(found[0]), int(found[-1]) + 1)


def _edits_begun(stored: stores.StoredPyramid) -> tuple[Region, ...]:
    """Return the boxes of an update that was interrupted."""
    fingerprint: Any = (stored.begun or {}).get("fingerprint", {})
    if "append" in fingerprint:
        return ()
    return tuple(tuple(slice(*ends) for ends in box) for box in fingerprint.get("edited", ()))


# --- builds ----------------------------------------------------------------------------------------------------


def _build_of_edit(stored: stores.StoredPyramid, edited: tuple[Region, ...], how: _Remaking) -> Build:
    if "append" in (stored.begun or {}).get("fingerprint", {}):
        raise ValueError(
            f"an append to {stored.group.store_path} was interrupted; complete it first, by "
            "append_pyramid(image, store, dim, resume=True)"
        )
    return _build(stored, stored.image, stores.Access.of(stored.arrays[0]), edited, how)


def _build(
    stored: stores.StoredPyramid, image: xr.DataArray, base: Base, edited: tuple[Region, ...], how: _Remaking
) -> Build:
    """Return what makes parts of a stored pyramid anew, whose base is read at `base` and labelled as `image`."""
    shaping = how.shaping(stored)
    if stored.begun is None:
        _check_levels(stored, plan_pyramid(stored.image, workers=1, **{**shaping, "weights": None}))
    local = isinstance(base, AppendedBase) or shaping.get("weights") is not None
    crew = None if local else crew_for([stored.image.data], stores.place_of(stored.group))
    storing = {"memory_limit": how.memory_limit, "workers": how.workers}
    plan = plan_pyramid(image, **shaping, **resources_of(crew, storing))
    if plan.reduction.bands:
        raise ValueError(
            f"level 0 of method {plan.reducer.name!r} is a band, and the image that the levels were made of is not "
            "stored; write the pyramid anew with write_pyramid"
        )
    plan = plan_as_stored(
        plan, [(array.chunks, array.shards) for array in stored.arrays], [array.dtype for array in stored.arrays]
    )
    images = [image]
    for level in plan.levels[1:]:
        images.append(label_level(image, np.broadcast_to(np.zeros((), level.dtype), level.shape), plan, level.index))
    return Build(
        name=str(image.name),
        levels=plan.levels,
        images=tuple(images),
        data=(stored.arrays[0],),
        plans=(plan,),
        recipe=recipe_of(plan),
        bases=(base,),
        weights=weights_base(how.weights, image),
        source=stored.arrays[0],
        crew=crew,
        edited=edited,
    )


def _check_levels(stored: stores.StoredPyramid, plan: Plan) -> None:
    """Refuse levels that are not those that a plan makes of the base."""
    found, expected = [array.shape for array in stored.arrays], [level.shape for level in plan.levels]
    if found != expected:
        raise ValueError(
            f"the levels of {stored.group.store_path} have the shapes {found!r}, but windows of the base would have "
            f"{expected!r}; write the pyramid anew with write_pyramid"
        )


def _record(build: Build, stored: stores.StoredPyramid, *, copy_base: bool) -> stores.Record:
    array = stored.arrays[0]
    encoding = stores.encoding_like(array, array.metadata.zarr_format, "auto")
    return build.record(stored.multiscales.version, stored.layout, encoding, copy_base=copy_base)


# --- appending -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Addition:
    """What is appended to a stored image."""

    whole: xr.DataArray
    """A stand-in without values for the image as it will be, with its labels."""
    base: Base
    """Where the appended values are read."""
    source: Any
    """The array that they are computed from."""
    axis: int
    """The axis that goes on."""
    start: int
    """Its size before."""

    @classmethod
    def of(cls, image: Any, stored: stores.StoredPyramid, dim: str, start: int) -> _Addition:
        """Hold an image against the one that it is appended to.

        Raises
        ------
        ValueError, TypeError
            If it does not fit.
        """
        before = stored.image.isel({dim: slice(0, start)})
        given = image if isinstance(image, xr.DataArray) else None
        if given is None:
            array = stores.open_image(image).data if stores.is_zarr(image) else image
            image = to_image(array, tuple(map(str, before.dims)))
        _check_fit(before, image, dim, labelled=given is not None)
        ordered = image.transpose(*before.dims)
        shape = tuple(size + ordered.sizes[dim] * (name == dim) for name, size in before.sizes.items())
        whole = xr.DataArray(
            np.broadcast_to(np.zeros((), before.dtype), shape),
            _coordinates(before, ordered if given is not None else None, dim, ordered.sizes[dim]),
            before.dims,
            before.name,
            before.attrs,
        )
        whole.encoding = before.encoding
        ngff.check_exportable(image_axes(whole))
        order = tuple(image.dims.index(name) for name in before.dims)
        return cls(whole, base_of(image, order), unread(image), before.dims.index(dim), start)


def _check_fit(before: xr.DataArray, image: xr.DataArray, dim: str, *, labelled: bool) -> None:
    if set(image.dims) != set(before.dims):
        raise ValueError(f"the image has the axes {image.dims!r}, the store {before.dims!r}; they must be the same")
    if image.dtype != before.dtype:
        raise TypeError(
            f"the image has dtype {str(image.dtype)!r}, the store {str(before.dtype)!r}; convert it by "
            f"astype({str(before.dtype)!r})"
        )
    for name, size in before.sizes.items():
        if name == dim:
            continue
        if image.sizes[name] != size:
            raise ValueError(f"the image has {image.sizes[name]!r} samples of {name!r}, the store {size!r}")
        if labelled and name in image.coords and name in before.coords:
            _check_positions(str(name), before[name].values, image[name].values, _tolerance(before, str(name)))


def _tolerance(image: xr.DataArray, dim: str) -> float:
    axis = image_axes(image)[image.dims.index(dim)]
    return position_tolerance(axis.coordinates(), axis.scale) if axis.is_regular else 0.0


def _check_positions(dim: str, expected: npt.NDArray[Any], found: npt.NDArray[Any], tolerance: float) -> None:
    numbers = expected.dtype.kind in "iuf" and found.dtype.kind in "iuf"
    equal = np.abs(expected - found).max() <= tolerance if numbers else np.array_equal(expected, found)
    if not equal:
        raise ValueError(
            f"the image lies at {dim}={found[0]!r} to {found[-1]!r}, the store wants {expected[0]!r} to "
            f"{expected[-1]!r}; correct it with image.assign_coords, or pass the bare array, which takes the positions "
            "of the store"
        )


def _coordinates(before: xr.DataArray, image: xr.DataArray | None, dim: str, count: int) -> dict[Any, Any]:
    """Return the coordinates of an image with `count` samples appended along an axis, whose labels `image` may tell."""
    coordinates = dict(before.coords.variables)
    for name, variable in before.coords.variables.items():
        if dim not in variable.dims:
            continue
        told = image is not None and name in image.coords
        if name == dim:
            coordinates[name] = _axis_coordinate(before, image if told else None, dim, count)
        elif told:
            coordinates[name] = xr.concat([before[name], cast("xr.DataArray", image)[name]], dim).variable
        else:
            raise ValueError(f"the store has the coordinate {name!r} along {dim!r}; give the image one of that name")
    return coordinates


def _axis_coordinate(before: xr.DataArray, image: xr.DataArray | None, dim: str, count: int) -> xr.Variable:
    axis = image_axes(before)[before.dims.index(dim)]
    attrs = before[dim].attrs
    if axis.is_regular:
        longer = replace(axis, size=axis.size + count)
        if image is not None:
            expected = longer.coordinates()[axis.size :]
            _check_positions(dim, expected, image[dim].values, position_tolerance(expected, axis.scale))
        return coordinate_variable(longer, attrs)
    if image is not None:
        return xr.Variable((dim,), np.concatenate([before[dim].values, image[dim].values]), attrs)
    if axis.type != "channel":
        raise ValueError(f"the store has positions along {dim!r} that are no grid; give the image those that follow")
    numbered = ngff.numbered_labels(axis.size + count)[axis.size :]
    return xr.Variable((dim,), np.concatenate([before[dim].values.astype(str), np.asarray(numbered)]), attrs)


def _start(stored: stores.StoredPyramid, dim: str, *, resume: bool) -> int:
    """Return the size of an axis before what is appended to it."""
    if dim not in stored.image.dims:
        raise ValueError(f"there is no axis {dim!r} to append along, the dims are {stored.image.dims!r}")
    begun: Any = (stored.begun or {}).get("fingerprint", {}).get("append")
    if begun is None:
        return int(stored.image.sizes[dim])
    if not resume:
        raise ValueError(
            f"an append to {stored.group.store_path} was interrupted; complete it first, with the same image and "
            "resume=True (--resume)"
        )
    return int(begun[1]) if begun[0] == dim else int(stored.image.sizes[dim])


def _build_of_append(stored: stores.StoredPyramid, addition: _Addition, how: _Remaking) -> Build:
    stores.refuse_source_in_target([addition.source], stored.group)
    whole = addition.whole
    shapes = [array.shape for array in stored.arrays]
    (level_0,) = replace(stored, arrays=stored.arrays[:1]).grown([whole.shape])
    base = AppendedBase(stores.Access.of(level_0), addition.base, addition.axis, addition.start)
    after = slice(addition.start, whole.shape[addition.axis])
    box = tuple(after if axis == addition.axis else slice(0, n) for axis, n in enumerate(whole.shape))
    build = _build(stored, whole, base, (box,), how)
    if len(build.levels) != len(shapes):
        raise ValueError(f"the store has {len(shapes)!r} levels, its metadata make {len(build.levels)!r}")
    return build


def _channels_displayed(stored: stores.StoredPyramid, build: Build, addition: _Addition) -> dict[str, Any]:
    """Return the attributes that change where channels were appended: how to display these."""
    axis = build.levels[0].axes[addition.axis]
    if axis.type != "channel":
        return {}
    coarsest = cast("zarr.Array[Any]", stored.group[stored.paths[-1]])
    display = omero_of(build.images[-1], coarsest)
    return ngff.channels_added(stored.group.attrs.asdict(), display or {}, addition.start)


def _warn_of_labels(stored: stores.StoredPyramid, dim: str) -> None:
    labels = stored.group.get(stores.LABELS)
    listed = ngff.listed_labels(labels.attrs.asdict()) if isinstance(labels, zarr.Group) else ()
    if listed:
        warnings.warn(
            f"the labels {', '.join(map(repr, listed))} keep their size along {dim!r}; append to each of them too, "
            f"with path='{stores.LABELS}/{listed[0]}'",
            UserWarning,
            stacklevel=3,
        )
