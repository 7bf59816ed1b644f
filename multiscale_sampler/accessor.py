"""What a tree of levels can do by itself: ``tree.multiscale``, registered with xarray by importing the package.

Bindings only. The changes of all levels at once (`transpose`, `reindex_data_arrays`, `assign_coords`) are called as
those of multiscale-spatial-image's accessor ``msi``. Labels of the image are changed with it, along the axes that they
have.
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
from .image.dataarray import image_axes, transposed_encoding
from .image.tree import NODE_PREFIX, describe_levels, format_levels, levels_of_tree
from .viewer import Viewer, view

if TYPE_CHECKING:
    from matplotlib.axes import Axes

P = ParamSpec("P")

# A spacing this much wider than the one that is wanted is that one, rounded.
SPACING_TOLERANCE = 1e-6


def skip_non_dimension_nodes(
    function: Callable[Concatenate[xr.Dataset, P], xr.Dataset],
) -> Callable[Concatenate[xr.Dataset, P], xr.Dataset]:
    """Let a function of a Dataset leave those without dimensions as they are, as is the root of a tree of levels.

    Parameters
    ----------
    function
        A function of a Dataset and anything else, as ``tree.map_over_datasets`` takes it.

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
    def of_levels(dataset: xr.Dataset, /, *args: P.args, **kwargs: P.kwargs) -> xr.Dataset:
        return function(dataset, *args, **kwargs) if dataset.dims else dataset

    return of_levels


class LevelTable(list[dict[str, Any]]):
    """What each level is, as plain values; printed, a table."""

    def __repr__(self) -> str:
        """Return the table."""
        return format_levels(self)


class MultiscaleAccessor:
    """The levels of a pyramid, as `to_multiscale` and `open_pyramid` make them.

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
        """Shape, dtype, chunks, spacing, position, units and bytes of every level; printed, a table."""
        return LevelTable(describe_levels(self._tree))

    def at(self, *, spacing: float | None = None, **spacings: float) -> xr.DataArray:
        """Return the coarsest level that is as fine as a spacing asks for.

        An axis that is coarser than that in level 0 already counts as fine enough where it is not coarser still.

        Parameters
        ----------
        spacing
            Distance between samples along all spatial axes.
        **spacings
            Distance between samples by axis, in its unit, as ``x=0.5``.

        Raises
        ------
        ValueError
            If no distance is given, an axis is not there, or its samples are not evenly spaced.
        """
        levels = [_regular_axes(level) for level in levels_of_tree(self._tree)]
        wanted = _wanted(levels[0], spacing, spacings)
        limits = {name: max(most, abs(levels[0][name].scale)) for name, most in wanted.items()}
        fine = [
            number
            for number, axes in enumerate(levels)
            if all(abs(axes[name].scale) <= most * (1 + SPACING_TOLERANCE) for name, most in limits.items())
        ]
        return levels_of_tree(self._tree)[fine[-1]]

    def fit(self, *, nbytes: int | str | None = None, pixels: int | None = None) -> xr.DataArray:
        """Return the finest level that is not larger than a limit.

        Parameters
        ----------
        nbytes
            The most bytes of all of a level's values, or a text as "512MiB".
        pixels
            The most values that a level may have.

        Raises
        ------
        ValueError
            If not exactly one limit is given, or even the coarsest level is larger.
        """
        if (nbytes is None) == (pixels is None):
            raise ValueError(f"nbytes={nbytes!r} and pixels={pixels!r} are no one limit; give one of them")
        levels = levels_of_tree(self._tree)
        if pixels is not None:
            fitting = [level for level in levels if level.size <= pixels]
        else:
            most = _bytes(cast("int | str", nbytes))
            fitting = [level for level in levels if level.nbytes <= most]
        if not fitting:
            raise ValueError(
                f"no level is as small as {pixels if nbytes is None else nbytes!r}: the coarsest has "
                f"{levels[-1].size!r} pixels in {format_bytes(levels[-1].nbytes)}; build more levels"
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
        """Draw a plane by matplotlib, on its physical extent, from the level that the axes have the pixels for.

        Rows go down the picture as those of images do; up go those of latitudes, of an axis that says so
        (``positive``), and of one that is stored from the top. Columns go to the right. What is missing (NaN,
        `nodata`) stands out from all shades.

        Parameters
        ----------
        positions
            Where to cut, by axis: the coordinate of a plane (of a channel its name, or a list of names), or, of an
            axis across the picture, a slice of coordinates to draw of it. Default: the middle.
        ax
            Axes to draw into; default: pyplot's current ones.
        across
            The axes down and along the picture; default: the last two spatial ones without a position.
        level
            Number of the level to draw; default: the coarsest that has a sample for every pixel of the axes, or a
            coarser one that is read from `nbytes`.
        labels
            Labels to lay over the image: the name of some in ``tree["labels"]``, or their tree.
        kind
            What the values are; "labels" get a colour by id, and 0 none. Default: labels where the tree is one of an
            image's, or was made by a method for labels, else an image. Channels are laid over each other in
            the colours of ``tree.attrs["omero"]``, else in plain ones; three or four nameless bytes at the last axis
            are taken (a guess) for red, green and blue.
        cmap
            Colour map of a single channel; default: gray, of floats viridis.
        quantiles
            Quantiles of the values drawn, by channel, that are darkest and brightest.
        vmin, vmax
            Values to take in the place of quantiles.
        alpha
            How opaque `labels` lie over the image, 0 to 1.
        colorbar
            Whether to add the scale of a single channel's values.
        nbytes
            The most bytes of decoded chunks to read, of the image and of the labels each, as 2**24 or "64MiB"; more
            only where no level comes with less. Default: 16 MiB, or more where a sample would cover more than two
            pixels of the axes.
        **positions_kwargs
            Positions by keyword, as ``z=12.5``.

        Returns
        -------
        matplotlib.axes.Axes
            With limits at the borders of level 0, whatever level is drawn.

        Raises
        ------
        ModuleNotFoundError
            If matplotlib is not installed.
        ValueError
            If a position or name is not there, fewer than two axes are left, or only gigabytes would do.

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
        """Return a small picture of the middle, read from a level that is little larger.

        Parameters
        ----------
        size
            Pixels along the longer edge; fewer where the image has fewer samples.

        Returns
        -------
        xarray.DataArray
            uint8, contrast as of `plot`: brightness (rows, columns), or colours (rows, columns, "rgb"), with the
            positions of the samples that are shown.

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
        """Return what a notebook shows: the levels, and a picture where one is read from little."""
        return plots.html(self._tree)

    def to_zarr(self, store: Any, **options: Any) -> None:
        """Write the tree as an OME-Zarr image.

        Parameters
        ----------
        store
            Where to write.
        **options
            As in `write_pyramid`.
        """
        write_pyramid(self._tree, store, **options)

    def view(self, **options: Any) -> Viewer:
        """Show the tree in a browser, in a notebook as a frame.

        Parameters
        ----------
        **options
            As in `view`.
        """
        return view(self._tree, **options)

    def transpose(self, *dims: str) -> xr.DataTree:
        """Return the tree with the axes of every level in another order; without `dims`, in the reverse one.

        Parameters
        ----------
        *dims
            Names of all axes in the order that is wanted; ``...`` stands for all others.
        """
        return self._mapped(lambda level, lacks: _transposed(level, [dim for dim in dims if dim not in lacks]))

    def reindex_data_arrays(
        self,
        indexers: Mapping[Any, Any] | None = None,
        method: Any = None,
        tolerance: float | Iterable[float] | str | None = None,
        copy: bool = False,
        fill_value: Any = None,
        **indexers_kwargs: Any,
    ) -> xr.DataTree:
        """Return the tree with every level conformed to new coordinates, as ``Dataset.reindex`` does.

        Parameters
        ----------
        indexers
            New coordinates, by dimension.
        method, tolerance, copy
            As in ``xarray.Dataset.reindex``.
        fill_value
            What stands where a level had no such coordinate; None: NaN.
        **indexers_kwargs
            New coordinates by keyword, as ``c=["DAPI"]``.
        """
        options: dict[str, Any] = {"method": method, "tolerance": tolerance, "copy": copy}
        if fill_value is not None:
            options["fill_value"] = fill_value
        wanted = dict(indexers or {}) | indexers_kwargs
        return self._mapped(lambda level, lacks: level.reindex(_without(wanted, lacks), **options))

    def assign_coords(self, coords: Mapping[Any, Any] | None = None, **coords_kwargs: Any) -> xr.DataTree:
        """Return the tree with coordinates added to every level, or put in the place of others.

        Parameters
        ----------
        coords
            Coordinates by name, as ``xarray.Dataset.assign_coords`` takes them: a function is called with each level.
        **coords_kwargs
            Coordinates by keyword, as ``c=["DAPI", "GFP"]``.
        """
        wanted = dict(coords or {}) | coords_kwargs
        return self._mapped(lambda level, lacks: level.assign_coords(_without(wanted, lacks)))

    def _mapped(self, function: Callable[[xr.Dataset, Set[Any]], xr.Dataset]) -> xr.DataTree:
        """Return the tree with a function applied to all levels, and to the image's axes that those of labels lack."""
        base = self._tree.children.get(f"{NODE_PREFIX}0")
        axes = set() if base is None else set(base.dims)

        @skip_non_dimension_nodes
        def of_level(level: xr.Dataset) -> xr.Dataset:
            return function(level, axes - set(level.dims))

        return self._tree.map_over_datasets(of_level)


def _without(wanted: Mapping[Any, Any], names: Set[Any]) -> dict[Any, Any]:
    return {name: value for name, value in wanted.items() if name not in names}


def _regular_axes(level: xr.DataArray) -> dict[str, Axis]:
    return {axis.name: axis for axis in image_axes(level)}


def _wanted(axes: Mapping[str, Axis], spacing: float | None, spacings: Mapping[str, float]) -> dict[str, float]:
    """Return the spacing that is wanted of each axis."""
    if (spacing is None) == (not spacings):
        raise ValueError(
            "a level is chosen by one number, at(spacing=2.0), or by axis, at(x=2.0, y=2.0); give one of them"
        )
    spatial = [name for name, axis in axes.items() if axis.type == "space"]
    wanted = dict(spacings) if spacing is None else dict.fromkeys(spatial, spacing)
    for name, most in wanted.items():
        if name not in axes:
            raise ValueError(f"{name}={most!r}: the levels have the axes {list(axes)!r}; name only those")
        if not axes[name].is_regular:
            raise ValueError(f"{name}={most!r}: the samples of {name!r} are not evenly spaced; choose by other axes")
        if not most > 0:
            raise ValueError(f"{name}={most!r} is no distance between samples; give a positive number")
    return wanted


def _bytes(nbytes: int | str) -> int:
    try:
        return int(parse_bytes(nbytes))
    except (ValueError, TypeError) as error:
        raise ValueError(f"nbytes={nbytes!r} is no amount of memory; write it as '512MiB'") from error


def _transposed(level: xr.Dataset, dims: Sequence[Any]) -> xr.Dataset:
    """Return a level with its axes in another order, and so what is known of how it was stored."""
    moved = level.transpose(*dims)
    for name, image in moved.data_vars.items():
        order = [level[name].dims.index(dim) for dim in image.dims]
        image.encoding = transposed_encoding(image.encoding, order)
    return moved
