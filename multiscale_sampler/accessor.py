"""The accessor ``tree.multiscale``: lists, chooses, draws, writes and edits the levels of a pyramid.

`transpose`, `reindex_data_arrays` and `assign_coords` take the arguments of multiscale-spatial-image's accessor
``msi``. They also edit the labels of the image, along the axes that the labels have.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, cast

import xarray as xr
from dask.utils import format_bytes, parse_bytes

from . import plots
from .build.writing import write_pyramid
from .image.axes import Axis
from .image.dataarray import image_axes
from .image.encodings import transposed_encoding
from .image.tree import NODE_PREFIX, describe_levels, format_levels, levels_of_tree
from .viewer import Viewer, view

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LevelArguments = ParamSpec("LevelArguments")

# Relative: the spacing of a level may exceed the requested one by a rounding error.
SPACING_TOLERANCE = 1e-6


def skip_non_dimension_nodes(
    function: Callable[Concatenate[xr.Dataset, LevelArguments], xr.Dataset],
) -> Callable[Concatenate[xr.Dataset, LevelArguments], xr.Dataset]:
    """Make a function of a Dataset return Datasets without dimensions unchanged, such as the root of a pyramid's tree.

    Parameters
    ----------
    function
        A function of a Dataset and other arguments, to pass to ``tree.map_over_datasets``.

    Returns
    -------
    callable
        The function with the same arguments.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> @ms.skip_non_dimension_nodes
    ... def transpose(level, *dims):
    ...     return level.transpose(*dims)
    >>> tree = ms.to_multiscale(np.zeros((4, 6)), [2])
    >>> tree.map_over_datasets(transpose, "x", "y")["scale1/image"].shape
    (3, 2)
    """

    @functools.wraps(function)
    def wrapper(dataset: xr.Dataset, /, *args: LevelArguments.args, **kwargs: LevelArguments.kwargs) -> xr.Dataset:
        return function(dataset, *args, **kwargs) if dataset.dims else dataset

    return wrapper


class LevelTable(list[dict[str, Any]]):
    """A list of one dict of plain values per level, which prints as a table."""

    def __repr__(self) -> str:
        """Return the levels as a table."""
        return format_levels(self)


class MultiscaleAccessor:
    """Methods of a pyramid, a tree as returned by `to_multiscale` and `open_pyramid`.

    Examples
    --------
    >>> import numpy as np
    >>> import multiscale_sampler as ms
    >>> tree = ms.to_multiscale(ms.to_image(np.ones((64, 64), "uint8"), scale=0.5), [2, 4])
    >>> tree.multiscale.levels
    dims y x
    level  shape  dtype  chunks  scale  translation  units  size
    0      64 64  uint8  64 64   0.5 0.5  0 0        -      4.00 kiB
    1      32 32  uint8  32 32   1 1    0.25 0.25    -      1.00 kiB
    2      16 16  uint8  16 16   2 2    0.75 0.75    -         256 B
    >>> tree.multiscale.at(x=1.5).shape
    (32, 32)
    >>> tree.multiscale.fit(nbytes="2 kiB").shape
    (32, 32)
    """

    def __init__(self, tree: xr.DataTree) -> None:
        self._tree = tree

    @property
    def levels(self) -> LevelTable:
        """Shape, dtype, chunks, scale, translation, units and bytes of every level; prints as a table."""
        return LevelTable(describe_levels(self._tree))

    def at(self, *, spacing: float | None = None, **spacings: float) -> xr.DataArray:
        """Return the coarsest level whose samples are at most some distance apart.

        Along an axis whose spacing is larger than that in level 0 already, the level has the spacing of level 0.

        Parameters
        ----------
        spacing
            Largest distance between samples along all spatial axes.
        **spacings
            Largest distance between samples by axis, in the unit of the axis, as in ``x=0.5``.

        Raises
        ------
        ValueError
            If neither or both of these are given, a distance is not positive, an axis does not exist, or its samples
            are not evenly spaced.
        """
        levels = [_axes_by_name(level) for level in levels_of_tree(self._tree)]
        requested = _requested_spacings(levels[0], spacing, spacings)
        limits = {name: max(distance, abs(levels[0][name].scale)) for name, distance in requested.items()}
        fine = [
            number
            for number, axes in enumerate(levels)
            if all(abs(axes[name].scale) <= limit * (1 + SPACING_TOLERANCE) for name, limit in limits.items())
        ]
        return levels_of_tree(self._tree)[fine[-1]]

    def fit(self, *, nbytes: int | str | None = None, pixels: int | None = None) -> xr.DataArray:
        """Return the finest level that is not larger than a limit.

        Parameters
        ----------
        nbytes
            Largest size of the values of the level: bytes, or a text such as "512MiB".
        pixels
            Largest number of values of the level.

        Raises
        ------
        ValueError
            If not exactly one limit is given, or the coarsest level is larger than the limit.
        """
        if (nbytes is None) == (pixels is None):
            raise ValueError(f"got nbytes={nbytes!r} and pixels={pixels!r}; give exactly one of them")
        levels = levels_of_tree(self._tree)
        if pixels is not None:
            fitting = [level for level in levels if level.size <= pixels]
        else:
            limit = _bytes(cast("int | str", nbytes))
            fitting = [level for level in levels if level.nbytes <= limit]
        if not fitting:
            stated = f"pixels={pixels!r}" if nbytes is None else f"nbytes={nbytes!r}"
            raise ValueError(
                f"no level is within {stated}: the coarsest has {levels[-1].size!r} pixels in "
                f"{format_bytes(levels[-1].nbytes)}; raise the limit, or build more levels"
            )
        return fitting[0]

    def plot(
        self,
        positions: Mapping[str, Any] | None = None,
        *,
        ax: Axes | None = None,
        across: Sequence[str] | None = None,
        level: int | None = None,
        labels: str | xr.DataTree | None = None,
        kind: Literal["image", "labels"] | None = None,
        cmap: Any = None,
        quantiles: tuple[float, float] = plots.QUANTILES,
        vmin: float | None = None,
        vmax: float | None = None,
        alpha: float = 0.5,
        colorbar: bool = False,
        nbytes: int | str | None = None,
        **positions_kwargs: Any,
    ) -> Axes:
        """Draw a plane of the image with matplotlib, in physical coordinates, from a level that fills the axes' pixels.

        Rows run down the picture, as in images. They run up for latitudes, along y of an image with a
        coordinate reference system, for an axis with the attribute ``positive="up"``, and for an axis whose coordinates
        descend. Missing values (NaN, `nodata`) have a colour that
        the common colour maps do not contain.

        Parameters
        ----------
        positions
            Where to cut, by axis: the coordinate of the plane; for channels a name or a list of names; for an axis of
            the picture a slice of coordinates, to draw a part. Default: the middle of each axis.
        ax
            Axes to draw into. Default: pyplot's current ones.
        across
            The vertical and the horizontal axis of the picture. Default: of the spatial axes without a position
            latitude and longitude or y and x, else the last two.
        level
            Number of the level to draw. Default: the coarsest with a sample for every pixel of the axes, or a coarser
            one if that would read more than `nbytes`.
        labels
            Labels to draw over the image: their name in ``tree["labels"]``, or their tree.
        kind
            What the values are: "image", or "labels", which get a colour by id, and none for 0. Default: "labels" if
            the tree contains an image's labels or was built with a method for labels, else "image".
            Channels of an image are drawn over each other, in the colours of the attribute ``omero`` of the channel
            coordinate, else in default colours. A last axis of three or four uint8 channels without names is taken
            for red, green and blue.
        cmap
            Colour map of a single channel. Default: viridis for floats, else gray.
        quantiles
            Quantiles of the drawn values, by channel, that are the darkest and the brightest.
        vmin, vmax
            Values to use instead of these quantiles.
        alpha
            Opacity of `labels`, 0 to 1.
        colorbar
            Whether to add a colour bar, for a single channel.
        nbytes
            Largest size of the decoded chunks to read, of the image and of the labels each, as 2**24 or "64MiB". If
            every level reads more, the one that reads least is drawn. Default: 16 MiB, or more where a sample would
            cover more than two pixels of the axes.
        **positions_kwargs
            Positions by keyword, as in ``z=12.5``.

        Returns
        -------
        matplotlib.axes.Axes
            Its limits are the borders of level 0, whatever level is drawn.

        Raises
        ------
        ModuleNotFoundError
            If matplotlib is not installed.
        TypeError
            If `kind` is "labels" and the values are not integers.
        ValueError
            If a position or name does not exist, fewer than two axes remain for the picture, or it would read more
            than 1 GiB.

        Examples
        --------
        >>> import multiscale_sampler as ms
        >>> store = {}
        >>> image = ms.open_image(ms.create_test_image(store, shape=(64, 96, 96)), scale=0.5, units="micrometer")
        >>> tree = ms.to_multiscale(image, [2, 4])
        >>> tree.multiscale.plot(z=12.5).get_title()  # doctest: +SKIP
        'image, level 0, z = 12.5 micrometer'
        """
        return plots.plot(
            self._tree,
            {**(positions or {}), **positions_kwargs},
            ax=ax,
            across=across,
            level=level,
            labels=labels,
            kind=kind,
            cmap=cmap,
            quantiles=quantiles,
            limits=(vmin, vmax),
            alpha=alpha,
            colorbar=colorbar,
            nbytes=None if nbytes is None else _bytes(nbytes),
        )

    def thumbnail(self, size: int = 256) -> xr.DataArray:
        """Return a small picture of the plane through the middle of the image, as an array.

        Parameters
        ----------
        size
            Pixels along the longer edge; fewer if the image has fewer samples.

        Returns
        -------
        xarray.DataArray
            uint8, with the contrast of `plot`: brightness of axes (rows, columns), or colours of axes (rows, columns,
            "rgb"), with the coordinates of the samples shown.

        Examples
        --------
        >>> import numpy as np
        >>> import multiscale_sampler as ms
        >>> tree = ms.to_multiscale(np.ones((2000, 1000), "uint16"), 2)
        >>> tree.multiscale.thumbnail(100).shape
        (100, 50)
        """
        return plots.thumbnail(self._tree, size)

    def _repr_html_(self) -> str:
        """Return HTML for a notebook: the table of levels, and a picture if drawing it reads little."""
        return plots.html(self._tree)

    def to_zarr(self, store: Any, **options: Any) -> None:
        """Write the tree as an OME-Zarr image.

        Parameters
        ----------
        store
            Where to write, as in `write_pyramid`.
        **options
            Options of `write_pyramid`.
        """
        write_pyramid(self._tree, store, **options)

    def view(self, **options: Any) -> Viewer:
        """Show the pyramid with Neuroglancer in a browser, or in a frame of a notebook.

        Parameters
        ----------
        **options
            Options of `view`.
        """
        return view(self._tree, **options)

    def transpose(self, *dims: str) -> xr.DataTree:
        """Return the pyramid with the axes of every level in another order; without `dims`, in reverse order.

        Parameters
        ----------
        *dims
            Names of all axes in the new order; ``...`` stands for all others.
        """
        return self._map_levels(lambda level, absent: _transposed(level, [dim for dim in dims if dim not in absent]))

    def reindex_data_arrays(
        self,
        indexers: Mapping[Any, Any] | None = None,
        method: Any = None,
        tolerance: float | Iterable[float] | str | None = None,
        copy: bool = False,
        fill_value: Any = None,
        **indexers_kwargs: Any,
    ) -> xr.DataTree:
        """Return the pyramid with every level reindexed, as by ``xarray.Dataset.reindex``.

        Parameters
        ----------
        indexers
            New coordinates, by dimension.
        method, tolerance, copy
            As in ``xarray.Dataset.reindex``.
        fill_value
            Value at new coordinates that a level does not have. Default: NaN.
        **indexers_kwargs
            New coordinates by keyword, as in ``c=["DAPI"]``.
        """
        options: dict[str, Any] = {"method": method, "tolerance": tolerance, "copy": copy}
        if fill_value is not None:
            options["fill_value"] = fill_value
        coords = dict(indexers or {}) | indexers_kwargs
        return self._map_levels(lambda level, absent: level.reindex(_without(coords, absent), **options))

    def assign_coords(self, coords: Mapping[Any, Any] | None = None, **coords_kwargs: Any) -> xr.DataTree:
        """Return the pyramid with coordinates of every level added or replaced.

        Parameters
        ----------
        coords
            Coordinates by name, as in ``xarray.Dataset.assign_coords``; a function is called with each level.
        **coords_kwargs
            Coordinates by keyword, as in ``c=["DAPI", "GFP"]``.
        """
        assigned = dict(coords or {}) | coords_kwargs
        return self._map_levels(lambda level, absent: level.assign_coords(_without(assigned, absent)))

    def _map_levels(self, function: Callable[[xr.Dataset, Set[Any]], xr.Dataset]) -> xr.DataTree:
        """Return the tree with a function applied to every level, of the image and of its labels.

        The second argument of the function is the axes of the image that the level does not have.
        """
        base = self._tree.children.get(f"{NODE_PREFIX}0")
        axes = set() if base is None else set(base.dims)

        @skip_non_dimension_nodes
        def edited(level: xr.Dataset) -> xr.Dataset:
            return function(level, axes - set(level.dims))

        return self._tree.map_over_datasets(edited)


def _without(coords: Mapping[Any, Any], names: Set[Any]) -> dict[Any, Any]:
    return {name: value for name, value in coords.items() if name not in names}


def _axes_by_name(level: xr.DataArray) -> dict[str, Axis]:
    return {axis.name: axis for axis in image_axes(level)}


def _requested_spacings(
    axes: Mapping[str, Axis], spacing: float | None, spacings: Mapping[str, float]
) -> dict[str, float]:
    """Return the largest distance between samples by axis, from the arguments of `MultiscaleAccessor.at`."""
    if (spacing is None) == (not spacings):
        raise ValueError(
            f"got spacing={spacing!r} and {dict(spacings)!r} by axis; give exactly one of them, as in at(spacing=2.0) "
            "or at(x=2.0, y=2.0)"
        )
    spatial = [name for name, axis in axes.items() if axis.type == "space"]
    requested = dict(spacings) if spacing is None else dict.fromkeys(spatial, spacing)
    for name, distance in requested.items():
        if name not in axes:
            raise ValueError(f"{name}={distance!r}: the levels have the axes {list(axes)!r}; name only those")
        if not axes[name].is_regular:
            raise ValueError(f"{name}={distance!r}: the samples of {name!r} are not evenly spaced; choose other axes")
        if not distance > 0:
            raise ValueError(f"{name}={distance!r} is not a distance between samples; give a positive number")
    return requested


def _bytes(nbytes: int | str) -> int:
    try:
        return int(parse_bytes(nbytes))
    except (ValueError, TypeError) as error:
        raise ValueError(f"nbytes={nbytes!r} is not an amount of memory; write it as '512MiB'") from error


def _transposed(level: xr.Dataset, dims: Sequence[Any]) -> xr.Dataset:
    """Return a level with its axes in another order, and its stored chunks and shards (`encoding`) in that order."""
    transposed = level.transpose(*dims)
    for name, image in transposed.data_vars.items():
        image.encoding = transposed_encoding(level[name], image.dims)
    return transposed
