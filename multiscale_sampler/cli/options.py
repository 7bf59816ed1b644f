"""Options that several commands have, and what they come to."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from ..extras import required
from ..image.axes import BOUNDARIES
from ..methods.reducers import REDUCERS
from . import values

Arguments: TypeAlias = argparse.Namespace

# In which a scheduler is to answer.
CONNECT_SECONDS = 10


def add_command(
    commands: Any, name: str, run: Callable[[Arguments], int], summary: str, example: str | None = None
) -> argparse.ArgumentParser:
    """Add a subcommand; `example` is what follows its name in the example that its help ends with."""
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  multiscale-sampler {name} {example}" if example else None,
        # A command is there to be copied, in one line.
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    return command


def add_label_options(command: argparse.ArgumentParser) -> None:
    """Add what overrules the stored labels of an image."""
    group = command.add_argument_group("labels of the image (default: what is stored)")
    group.add_argument("--dims", type=values.dims, metavar="NAMES", help="names of the axes: zyx, or time,lat,lon")
    group.add_argument(
        "--scale",
        type=values.by_dim(float),
        metavar="NUMBERS",
        help="spacing of the samples, in --unit: 0.5, or z=50,y=40,x=40",
    )
    group.add_argument(
        "--translation",
        type=values.by_dim(float),
        metavar="NUMBERS",
        help="position of the first sample's centre, in --unit: 0, or z=25,y=20,x=20",
    )
    group.add_argument(
        "--unit",
        type=values.units,
        metavar="UNITS",
        help="unit of the spatial axes: micrometer, or t=second,x=micrometer",
    )
    group.add_argument("--channel-names", type=values.names, metavar="NAMES", help="labels of the channels: DAPI,GFP")
    group.add_argument(
        "--orientation",
        type=values.orientation,
        metavar="CODE",
        help="anatomical orientation of the axes: RAS, or z=superior-to-inferior",
    )


def add_level_options(command: argparse.ArgumentParser) -> None:
    """Add what decides on levels, and how they are stored."""
    group = command.add_argument_group("levels")
    group.add_argument(
        "--factors",
        type=values.factors,
        action="append",
        metavar="FACTORS",
        help="a step that is repeated: 2 (default), y=2,x=2 or isotropic; or factors from the base: 2,4,8 "
        "('2,' for one level); or one --factors z=1,y=2,x=2 for each level",
    )
    group.add_argument(
        "--method",
        type=values.method,
        default="mean",
        metavar="METHOD",
        help=f"how voxels are reduced: {', '.join(REDUCERS)}, or a name that the spatial-image family has, as "
        "xarray-coarsen or DASK_IMAGE_GAUSSIAN (default: mean)",
    )
    group.add_argument(
        "--boundary",
        default="pad",
        choices=BOUNDARIES,
        help="partial windows: pad reduces them, trim drops, exact refuses (default: pad)",
    )
    group.add_argument(
        "--max-levels", type=int, metavar="N", help="the most levels, the base included: 4 (default: no limit)"
    )
    group.add_argument(
        "--min-size",
        type=values.by_dim(int),
        metavar="VOXELS",
        help="voxels at which an axis is small enough: 64, or z=16,y=256,x=256 (default: a chunk)",
    )
    group.add_argument(
        "--nodata", type=values.number, metavar="VALUE", help="a value that is left out: -9999 (default: none but NaN)"
    )
    group.add_argument(
        "--skipna", action=argparse.BooleanOptionalAction, help="leave NaN out (default: yes, for floats)"
    )
    group.add_argument(
        "--min-valid",
        type=float,
        default=0.0,
        metavar="FRACTION",
        help="least valid fraction of a window: 0.5 (default: 0, one voxel will do)",
    )
    add_storage_options(group)


def add_storage_options(command: Any) -> None:
    """Add how values are stored, and with what memory and workers."""
    command.add_argument(
        "--chunks",
        type=values.by_dim(int),
        metavar="VOXELS",
        help="voxels per chunk: 64, or z=16,y=256,x=256 (default: as stored)",
    )
    command.add_argument(
        "--shards",
        type=values.shards,
        metavar="VOXELS",
        help="voxels per shard: 512, or z=64,y=1024,x=1024, or none (default: as stored)",
    )
    add_resource_options(command)


def add_resource_options(command: Any) -> None:
    """Add what memory and how many workers there are."""
    command.add_argument(
        "--memory-limit", metavar="BYTES", help="memory to use: 512MiB, 8GB (default: half of what there is)"
    )
    command.add_argument("--workers", type=int, metavar="N", help="regions at a time: 4 (default: one for each core)")


def add_cluster_options(command: argparse.ArgumentParser) -> None:
    """Add where a build runs."""
    group = command.add_argument_group("Dask cluster")
    group.add_argument(
        "--scheduler",
        help="build on the cluster of this scheduler, as tcp://host:8786; or local: on a cluster of --workers "
        "processes of this machine, for the time of the build (default: threads of this process)",
    )


@contextmanager
def on_cluster(arguments: Arguments) -> Iterator[None]:
    """Let builds go to the cluster that was asked for, until this ends."""
    if arguments.scheduler is None:
        yield
        return
    need = f"--scheduler {arguments.scheduler} needs dask.distributed"
    distributed = required("distributed", need, "'multiscale-sampler[distributed]'")
    if arguments.scheduler == "local":
        from ..tasks.machine import available_cores

        with (
            distributed.LocalCluster(
                n_workers=arguments.workers or available_cores(), threads_per_worker=1, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster),
        ):
            yield
        return
    if "://" not in arguments.scheduler:
        raise ValueError(
            f"--scheduler {arguments.scheduler!r} is no address; give one as tcp://host:8786, or local for processes "
            "of this machine"
        )
    with distributed.Client(arguments.scheduler, timeout=CONNECT_SECONDS):
        yield


def label_options(arguments: Arguments) -> dict[str, Any]:
    """Return the labels that were given, as `open_image` takes them."""
    return {
        "dims": arguments.dims,
        "scale": arguments.scale,
        "translation": arguments.translation,
        "units": arguments.unit,
        "channel_names": arguments.channel_names,
        "orientation": arguments.orientation,
    }


def source_image(arguments: Arguments, **more: Any) -> Any:
    """Open the source with the labels that were given."""
    from .. import open_image

    part = {"series": arguments.series, "level": arguments.level}
    return open_image(arguments.source, arguments.path, **part, **label_options(arguments), **more)


def level_options(arguments: Arguments) -> dict[str, Any]:
    """Return what decides on levels, as `plan_pyramid` takes it."""
    names = "method boundary max_levels min_size nodata skipna min_valid chunks shards memory_limit workers"
    return {"scale_factors": _scale_factors(arguments.factors), **{n: getattr(arguments, n) for n in names.split()}}


def _scale_factors(given: list[Any] | None) -> Any:
    """Return what --factors mean: given once, the value itself; given again, one entry per level."""
    if given is None:
        return 2
    return given[0] if len(given) == 1 else given


def add_source(command: argparse.ArgumentParser) -> None:
    """Add the array that a command reads."""
    command.add_argument(
        "source", help="a zarr array or group (v2 or v3), or a file as TIFF: a path, a URL, a .zip or an .ozx file"
    )
    command.add_argument("--path", help="path of the array in the source: images/0 (default: the only array)")
    command.add_argument("--series", type=int, help="which image of a TIFF file, from 0: 1 (default: the first)")
    command.add_argument(
        "--level", type=int, default=0, help="which level of a source that has several: 1 (default: 0)"
    )


def add_run_options(command: argparse.ArgumentParser) -> None:
    """Add how a build runs."""
    command.add_argument("--resume", action="store_true", help="go on with an interrupted build of the same image")
    add_quiet(command)


def add_quiet(command: argparse.ArgumentParser) -> None:
    """Add how to silence progress."""
    command.add_argument("--quiet", action="store_true", help="show no progress")


def add_pyramid(command: argparse.ArgumentParser) -> None:
    """Add the pyramid that a command changes."""
    command.add_argument("store", help="the OME-Zarr image: a path or a URL")
    command.add_argument("--path", help="path of the image's group in the store: labels/cells (default: the root)")
