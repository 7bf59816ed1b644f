"""Who builds the pyramids: ours, and the other projects by the way their documentation recommends.

A contender is one function that takes a `Job` and returns the path of the coarsest level it wrote. It runs in a
process of its own and imports what it needs itself, so that its peak memory is its own too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from . import bare_files
from .cases import Case
from .machine import cores

Mode: TypeAlias = Literal["beside", "export"]
MODES: tuple[Mode, ...] = ("beside", "export")


@dataclass(frozen=True)
class Job:
    """One pyramid to build."""

    case: Case
    group: Path
    """The group that holds the base as "0": the place of the levels, if they go beside it."""
    target: Path
    """Where a new store goes, which does not exist yet."""

    @property
    def base(self) -> str:
        """Path of the base array."""
        return str(self.group / "0")

    def chunks(self, level: int) -> list[int]:
        """Return the chunks of a level: those of the base, no greater than the level."""
        return [min(chunk, size >> level) for chunk, size in zip(self.case.chunks, self.case.shape, strict=True)]


@dataclass(frozen=True)
class Contender:
    """A way to build a pyramid."""

    name: str
    """What the command line calls it."""
    title: str
    """What the table calls it."""
    mode: Mode
    build: Callable[[Job], Path]
    distribution: str
    """What to install for it."""
    calls: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What it calls the cases' methods, where the table is to tell."""
    lacks: tuple[str, ...] = ()
    """The cases' methods that it does not have; it takes the one in `calls` instead."""
    optional: bool = False
    """Whether it runs only if it is asked for by name."""

    def title_for(self, case: Case) -> str:
        """Return the title, with the method where its name is another than the case's."""
        return f"{self.title} ({self.calls[case.method]})" if case.method in self.calls else self.title


# --- levels beside the base ------------------------------------------------------------------------------------


def _ours_beside(job: Job) -> Path:
    import multiscale_sampler as ms

    ms.add_levels(job.group, scale_factors=job.case.scale_factors, method=job.case.method)
    return job.group / str(job.case.levels)


def _tensorstore_beside(job: Job) -> Path:
    return _tensorstore_levels(job, Path(job.base), job.group)


def _pyramid_sampler(job: Job) -> Path:
    from pyramid_sampler import Downsampler

    case = job.case
    sampler = Downsampler(str(job.group.parent), (2,) * len(case.shape), case.shape, case.chunks)
    sampler.downsample(case.levels + 1, job.group.name)
    return job.group / str(case.levels)


def _bare_files(job: Job) -> Path:
    case = job.case
    bare_files.build(job.group, case.shape, case.chunks, case.dtype, case.method, case.levels, cores())
    return job.group / str(case.levels)


# --- a new store with a copy of the base -----------------------------------------------------------------------


def _ours_export(job: Job, **options: Any) -> Path:
    import multiscale_sampler as ms

    image = ms.open_image(job.group, "0")
    ms.write_pyramid(image, job.target, scale_factors=job.case.scale_factors, method=job.case.method, **options)
    return job.target / f"scale{job.case.levels}" / str(image.name)


def _ours_chunks(job: Job) -> Path:
    return _ours_export(job, chunks=[2 * chunk for chunk in job.case.chunks])


def _ours_codec(job: Job) -> Path:
    from zarr.codecs import ZstdCodec

    # As costly as the source's codec, but not the same, so that level 0 has to be encoded anew.
    return _ours_export(job, compressors=ZstdCodec(level=0, checksum=True))


def _ours_limited(job: Job) -> Path:
    return _ours_export(job, memory_limit="512MiB")


def _ours_tree(job: Job) -> Path:
    import multiscale_sampler as ms

    image = ms.open_image(job.group, "0")
    ms.write_pyramid(ms.to_multiscale(image, job.case.scale_factors, job.case.method), job.target)
    return job.target / f"scale{job.case.levels}" / str(image.name)


def _tensorstore_export(job: Job) -> Path:
    base = job.target / "0"
    _open_tensorstore(base, job, 0).write(_open_tensorstore(Path(job.base))).result()
    return _tensorstore_levels(job, base, job.target)


def _tensorstore_levels(job: Job, base: Path, folder: Path) -> Path:
    """Write every level from the one before, through TensorStore's downsample driver."""
    import tensorstore

    for level in range(1, job.case.levels + 1):
        finer = _open_tensorstore(base)
        coarser = tensorstore.downsample(finer, [2] * finer.rank, job.case.method)
        base = folder / str(level)
        _open_tensorstore(base, job, level).write(coarser).result()
    return base


def _open_tensorstore(path: Path, job: Job | None = None, level: int = 0) -> Any:
    """Open an array, or create the one of a level if there is a job."""
    import tensorstore

    spec: dict[str, Any] = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}}
    if job is not None:
        grid = {"name": "regular", "configuration": {"chunk_shape": job.chunks(level)}}
        zstd = {"name": "zstd", "configuration": {"level": 0, "checksum": False}}
        little = {"name": "bytes", "configuration": {"endian": "little"}}
        spec["metadata"] = {
            "shape": [size >> level for size in job.case.shape],
            "data_type": job.case.dtype,
            "chunk_grid": grid,
            "codecs": [little, zstd],
        }
    context = tensorstore.Context({"data_copy_concurrency": {"limit": cores()}})
    return tensorstore.open(spec, context=context, create=job is not None).result()


def _ome_zarr(job: Job) -> Path:
    import dask.array as da
    from ome_zarr.scale import Methods
    from ome_zarr.writer import write_image

    case = job.case
    write_image(
        da.from_zarr(job.base),
        str(job.target),
        scale_factors=[dict.fromkeys(case.dims, factor) for factor in case.scale_factors],
        method=Methods.LOCAL_MEAN if case.method == "mean" else Methods.NEAREST,
        axes=list(case.dims),
        storage_options=[{"chunks": tuple(job.chunks(level))} for level in range(case.levels + 1)],
    )
    return job.target / f"s{case.levels}"


def _ngff_zarr(job: Job) -> Path:
    import dask.array as da
    import ngff_zarr

    case = job.case
    method = ngff_zarr.Methods.DASK_BIN_SHRINK if case.method == "mean" else ngff_zarr.Methods.DASK_IMAGE_MODE
    image = ngff_zarr.to_ngff_image(da.from_zarr(job.base), dims=case.dims)
    pyramid = ngff_zarr.to_multiscales(image, case.scale_factors, method, chunks=case.chunks)
    ngff_zarr.to_ome_zarr(str(job.target), pyramid, version="0.5")
    return job.target / str(pyramid.metadata.datasets[-1].path)


def _xarray(job: Job) -> Path:
    import dask.array as da
    import xarray as xr

    case = job.case
    # Blocks of which a reduced one is a chunk: faster than blocks of one chunk, and no chunk has two writers.
    levels = [xr.DataArray(da.from_zarr(job.base, chunks=[2 * n for n in case.chunks]), dims=case.dims, name="image")]
    for _ in range(case.levels):
        mean = levels[-1].coarsen(dict.fromkeys(case.dims, 2)).mean().round().astype(case.dtype)
        levels.append(mean.chunk({dim: 2 * n for dim, n in zip(case.dims, case.chunks, strict=True)}))
    names = [f"scale{level}" for level in range(case.levels + 1)]
    tree = xr.DataTree.from_dict({name: image.to_dataset() for name, image in zip(names, levels, strict=True)})
    encoding = {f"/{name}": {"image": {"chunks": job.chunks(level)}} for level, name in enumerate(names)}
    tree.to_zarr(job.target, zarr_format=3, encoding=encoding)
    return job.target / names[-1] / "image"


# Their names for the methods of the cases, and the cases' methods that they do not have.
ONLY_MEAN: tuple[Mapping[str, str], tuple[str, ...]] = ({"mode": "mean"}, ("mode",))
OME_ZARR: tuple[Mapping[str, str], tuple[str, ...]] = ({"mean": "local_mean", "mode": "nearest"}, ("mode",))
NGFF_ZARR: tuple[Mapping[str, str], tuple[str, ...]] = ({"mean": "dask_bin_shrink", "mode": "dask_image_mode"}, ())
OURS = "multiscale-sampler"
CONTENDERS: tuple[Contender, ...] = (
    Contender("limit", "limit: bare files, no zarr", "beside", _bare_files, "numcodecs"),
    Contender("ours", "multiscale_sampler `add_levels`", "beside", _ours_beside, OURS),
    Contender("tensorstore", "TensorStore downsample", "beside", _tensorstore_beside, "tensorstore"),
    Contender("pyramid_sampler", "pyramid_sampler", "beside", _pyramid_sampler, "pyramid-sampler", *ONLY_MEAN),
    Contender("ours", "multiscale_sampler `write_pyramid`", "export", _ours_export, OURS),
    Contender("ours-codec", "the same, level 0 encoded anew", "export", _ours_codec, OURS),
    Contender("ours-chunks", "the same, chunks doubled", "export", _ours_chunks, OURS),
    Contender("ours-tree", "the same, from the tree of `to_multiscale`", "export", _ours_tree, OURS),
    Contender("ours-512MiB", "the same, within 512 MiB", "export", _ours_limited, OURS, optional=True),
    Contender("tensorstore", "TensorStore copy and downsample", "export", _tensorstore_export, "tensorstore"),
    Contender("ome-zarr-py", "ome-zarr-py", "export", _ome_zarr, "ome-zarr", *OME_ZARR),
    Contender("ngff-zarr", "ngff-zarr", "export", _ngff_zarr, "ngff-zarr", *NGFF_ZARR),
    Contender("xarray", "xarray coarsen and `to_zarr`", "export", _xarray, "xarray", *ONLY_MEAN),
)
NAMES: tuple[str, ...] = tuple(dict.fromkeys(contender.name for contender in CONTENDERS))
DISTRIBUTIONS: tuple[str, ...] = tuple({contender.distribution for contender in CONTENDERS} | {"dask", "numba", "zarr"})


def contenders(mode: Mode, names: list[str] | None = None) -> list[Contender]:
    """Return the contenders of a mode: the named ones, else all but the optional."""
    return [
        contender
        for contender in CONTENDERS
        if contender.mode == mode and (not contender.optional if names is None else contender.name in names)
    ]
