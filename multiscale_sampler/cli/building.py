"""Commands that build pyramids, or show what would be built."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..extras import required
from . import values
from .commands import Arguments, add_command, keywords
from .options import (
    AXIS_OPTIONS,
    BASE,
    BASE_PATH,
    EITHER_PATH,
    IMAGE_PATH,
    LABEL_DTYPE,
    LABEL_METHOD,
    LABELS_PATH,
    LEVEL_OPTIONS,
    NAME,
    OVERWRITE,
    PLACE_OPTIONS,
    QUIET,
    RESUME_BUILD,
    SOURCE_OPTIONS,
    STORAGE_OPTIONS,
    WRITING_OPTIONS,
)

if TYPE_CHECKING:
    from ..plan.options import LevelOptions
    from ..plan.plan import MissingShare, Plan

SOURCE = "a zarr array or group (v2 or v3), or a file such as TIFF: a path, a URL, a .zip or an .ozx file"

# How long a scheduler may take to answer.
CONNECT_SECONDS = 10


def add_building_commands(commands: Any) -> None:
    """Add the commands of this module to a parser."""
    _add_build(commands)
    _add_add_levels(commands)
    _add_plan(commands)
    _add_explain(commands)
    _add_write_labels(commands)


def _add_build(commands: Any) -> None:
    command = add_command(
        commands,
        "build",
        _build,
        "Write the pyramid of an array into a new store.",
        "raw.zarr out.ome.zarr --path 0 --scale z=50,y=40,x=40 --unit micrometer --factors 2",
        {
            "open_image": (*SOURCE_OPTIONS, NAME, *AXIS_OPTIONS),
            "write_pyramid": (*WRITING_OPTIONS, RESUME_BUILD, QUIET, *LEVEL_OPTIONS),
        },
    )
    command.add_argument("source", help=SOURCE)
    command.add_argument("target", help="the store to write: a path, a URL, a .zip or an .ozx file")
    _add_scheduler(command)


def _build(arguments: Arguments) -> int:
    from .. import open_image, write_pyramid
    from ..build.labels import with_labels
    from ..plan.options import LevelOptions
    from ..store import open_labels

    opening, writing = keywords(arguments, "open_image"), keywords(arguments, "write_pyramid")
    image: Any = open_image(arguments.source, **opening)
    _sampled_missing(image, LevelOptions(**{key: writing[key] for key in ("method", "nodata") if key in writing}))
    labels = open_labels(arguments.source, **{key: opening[key] for key in ("path", "level") if key in opening})
    if labels:
        is_placed = any(option.name in arguments for option in AXIS_OPTIONS)
        image, writing = with_labels(image, labels, writing, is_placed=is_placed)
    with _on_cluster(arguments):
        write_pyramid(image, arguments.target, **writing)
    return 0


def _add_add_levels(commands: Any) -> None:
    command = add_command(
        commands,
        "add-levels",
        _add_levels,
        "Add levels beside an existing base array, which is not changed.",
        "raw.zarr --scale z=50,y=40,x=40 --unit micrometer --factors 2,4,8",
        {"add_levels": (BASE_PATH, BASE, RESUME_BUILD, QUIET, *AXIS_OPTIONS, *LEVEL_OPTIONS)},
    )
    command.add_argument("store", help="the zarr store: a path or a URL")
    _add_scheduler(command)


def _add_levels(arguments: Arguments) -> int:
    from .. import add_levels

    with _on_cluster(arguments):
        add_levels(arguments.store, **keywords(arguments, "add_levels"))
    return 0


def _add_plan(commands: Any) -> None:
    command = add_command(
        commands,
        "plan",
        _plan,
        "Show what build would write, and what part of one chunk is nodata.",
        "raw.zarr --path 0 --factors 2 --memory-limit 2GiB",
        {"open_image": (*SOURCE_OPTIONS, *AXIS_OPTIONS), "plan_pyramid": LEVEL_OPTIONS},
    )
    command.add_argument("source", help=SOURCE)
    command.add_argument("--json", action="store_true", help="print JSON")


def _plan(arguments: Arguments) -> int:
    from .. import open_image, plan_pyramid

    image = open_image(arguments.source, **keywords(arguments, "open_image"))
    plan = plan_pyramid(image, **keywords(arguments, "plan_pyramid"))
    plan = plan.with_missing(_sampled_missing(image, plan))
    print(json.dumps(plan.to_dict(), indent=2) if arguments.json else plan)
    return 0


def _add_explain(commands: Any) -> None:
    command = add_command(
        commands,
        "explain",
        _explain,
        "Explain the shapes, scales, translations and chunks of levels.",
        "out.ome.zarr",
        {
            "explain": (EITHER_PATH,),
            "open_image": (EITHER_PATH, *AXIS_OPTIONS),
            "plan_pyramid": LEVEL_OPTIONS,
        },
    )
    command.add_argument(
        "source", help="a finished pyramid; or an array, or a pyramid with any option below, to explain what build does"
    )


def _explain(arguments: Arguments) -> int:
    from .. import explain, open_image, plan_pyramid
    from ..store import is_pyramid

    planned = any(option.name in arguments for option in (*AXIS_OPTIONS, *LEVEL_OPTIONS))
    path = keywords(arguments, "explain")
    if not planned and is_pyramid(arguments.source, **path):
        print(explain(arguments.source, **path))
        return 0
    image = open_image(arguments.source, **keywords(arguments, "open_image"))
    plan = plan_pyramid(image, **keywords(arguments, "plan_pyramid"))
    print(explain(plan.with_missing(_sampled_missing(image, plan))))
    return 0


def _sampled_missing(image: Any, rule: LevelOptions | Plan) -> MissingShare | None:
    """Return the share of one chunk that is missing, with a warning if it is large; None for images elsewhere."""
    from ..image.dataarray import unread
    from ..plan.notes import missing_share, warn_of_missing
    from ..plan.options import LevelOptions
    from ..store.origins import is_on_this_machine

    nodata = rule.values_of(image)[1] if isinstance(rule, LevelOptions) else rule.nodata
    missing = missing_share(image, nodata) if is_on_this_machine(unread(image)) else None
    warn_of_missing(missing)
    return missing


def _add_write_labels(commands: Any) -> None:
    command = add_command(
        commands,
        "write-labels",
        _write_labels,
        "Write the pyramid of labels beside their image.",
        "cells.zarr out.ome.zarr cells",
        {
            "open_image": (LABELS_PATH, *PLACE_OPTIONS),
            "write_labels": (IMAGE_PATH, LABEL_METHOD, LABEL_DTYPE, *STORAGE_OPTIONS, OVERWRITE, RESUME_BUILD, QUIET),
        },
    )
    command.add_argument("labels", help="the labels: a zarr array or group, or a file such as TIFF")
    command.add_argument("store", help="the OME-Zarr image to which they belong: a path or a URL")
    command.add_argument("name", help="name of the labels: cells")


def _write_labels(arguments: Arguments) -> int:
    from .. import open_image, write_labels

    labels = open_image(arguments.labels, **keywords(arguments, "open_image"))
    write_labels(labels, arguments.store, arguments.name, **keywords(arguments, "write_labels"))
    return 0


# --- clusters --------------------------------------------------------------------------------------------------


def _add_scheduler(command: ArgumentParser) -> None:
    group = command.add_argument_group("Dask cluster")
    group.add_argument(
        "--scheduler",
        type=values.scheduler,
        metavar="ADDRESS",
        help="build on the cluster of this scheduler: tcp://host:8786; or local: on --workers processes of this "
        "machine, started for this build (default: threads of this process)",
    )


@contextmanager
def _on_cluster(arguments: Arguments) -> Iterator[None]:
    """Make the cluster of --scheduler the active one, on which builds run."""
    address = arguments.scheduler
    if address is None:
        yield
        return
    need = f"--scheduler {address} needs dask.distributed"
    distributed = required("distributed", need, "'multiscale-sampler[distributed]'")
    if address == "local":
        from ..tasks.machine import available_cores

        processes = getattr(arguments, "workers", None) or available_cores()
        with (
            distributed.LocalCluster(n_workers=processes, threads_per_worker=1, dashboard_address=None) as cluster,
            distributed.Client(cluster),
        ):
            yield
        return
    try:
        # A client finds out too late that this is not an address: by then, dask sends all computations to it.
        distributed.comm.get_address_host(address)
        client = distributed.Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"no scheduler answers at {address!r} ({error}); start it first, or correct the address"
        ) from error
    with client:
        yield
