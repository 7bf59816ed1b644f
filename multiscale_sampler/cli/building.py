"""Commands that make pyramids, or say what would be made."""

from __future__ import annotations

import json
from typing import Any

from ..metadata import DEFAULT_VERSION, WRITTEN_VERSIONS
from . import values
from .options import (
    Arguments,
    add_cluster_options,
    add_command,
    add_label_options,
    add_level_options,
    add_run_options,
    add_source,
    add_storage_options,
    label_options,
    level_options,
    on_cluster,
    source_image,
)


def add_commands(commands: Any) -> None:
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
    )
    add_source(command)
    command.add_argument("target", help="the store to write: a path, a URL, a .zip or an .ozx file")
    command.add_argument("--name", help="name of the image: brain (default: its own)")
    command.add_argument(
        "--ngff",
        default=DEFAULT_VERSION,
        choices=[*WRITTEN_VERSIONS],
        help=f"version of OME-NGFF (default: {DEFAULT_VERSION})",
    )
    command.add_argument(
        "--layout",
        default="datatree",
        choices=["datatree", "flat"],
        help="levels as scale0/image, or as 0 (default: datatree)",
    )
    command.add_argument("--dtype", help="dtype of the values that are written: float32 (default: the source's)")
    command.add_argument(
        "--metadata",
        type=values.names,
        default=["ome"],
        metavar="NAMES",
        help="ome, geozarr, or ome,geozarr (default: ome)",
    )
    command.add_argument("--overwrite", action="store_true", help="replace a pyramid of multiscale-sampler there")
    command.add_argument("--digests", action="store_true", help="store digests of chunks, for update --changed auto")
    add_run_options(command)
    add_cluster_options(command)
    add_label_options(command)
    add_level_options(command)


def _build(arguments: Arguments) -> int:
    from .. import write_pyramid

    image = source_image(arguments, name=arguments.name)
    with on_cluster(arguments):
        write_pyramid(
            image,
            arguments.target,
            dtype=arguments.dtype,
            version=arguments.ngff,
            layout=arguments.layout,
            metadata=arguments.metadata,
            mode="w" if arguments.overwrite else "w-",
            digests=arguments.digests,
            resume=arguments.resume,
            progress=not arguments.quiet,
            **level_options(arguments),
        )
    return 0


def _add_add_levels(commands: Any) -> None:
    command = add_command(
        commands,
        "add-levels",
        _add_levels,
        "Add levels beside an existing base array, which stays untouched.",
        "raw.zarr --scale z=50,y=40,x=40 --unit micrometer --factors 2,4,8",
    )
    command.add_argument("store", help="the zarr store: a path or a URL")
    command.add_argument("--path", help="path of the group that holds the base: images (default: the root)")
    command.add_argument("--base", default="0", help="name of the base array: s0 (default: 0)")
    add_run_options(command)
    add_cluster_options(command)
    add_label_options(command)
    add_level_options(command)


def _add_levels(arguments: Arguments) -> int:
    from .. import add_levels

    with on_cluster(arguments):
        add_levels(
            arguments.store,
            arguments.path,
            base=arguments.base,
            resume=arguments.resume,
            progress=not arguments.quiet,
            **label_options(arguments),
            **level_options(arguments),
        )
    return 0


def _add_plan(commands: Any) -> None:
    command = add_command(
        commands,
        "plan",
        _plan,
        "Show what build would write, without reading a voxel.",
        "raw.zarr --path 0 --factors isotropic --memory-limit 2GiB",
    )
    add_source(command)
    command.add_argument("--json", action="store_true", help="print JSON")
    add_label_options(command)
    add_level_options(command)


def _plan(arguments: Arguments) -> int:
    from .. import plan_pyramid

    plan = plan_pyramid(source_image(arguments), **level_options(arguments))
    print(json.dumps(plan.to_dict(), indent=2) if arguments.json else plan)
    return 0


def _add_explain(commands: Any) -> None:
    command = add_command(
        commands,
        "explain",
        _explain,
        "Say why levels have their shapes, scales, translations and chunks.",
        "out.ome.zarr",
    )
    command.add_argument(
        "source", help="a pyramid of any writer; or an array (or a pyramid, with any option below) that is to be built"
    )
    command.add_argument("--path", help="path of the image's group, or of the array: images/0 (default: the root)")
    add_label_options(command)
    add_level_options(command)
    command.set_defaults(usual=vars(command.parse_args(["source"])))


def _explain(arguments: Arguments) -> int:
    from .. import explain, open_image, plan_pyramid
    from ..store import is_pyramid

    asked = any(
        vars(arguments)[name] != value for name, value in arguments.usual.items() if name not in ("source", "path")
    )
    if not asked and is_pyramid(arguments.source, arguments.path):
        print(explain(arguments.source, arguments.path))
        return 0
    image = open_image(arguments.source, arguments.path, **label_options(arguments))
    print(explain(plan_pyramid(image, **level_options(arguments))))
    return 0


def _add_write_labels(commands: Any) -> None:
    command = add_command(
        commands,
        "write-labels",
        _write_labels,
        "Write the pyramid of labels beside their image.",
        "cells.zarr out.ome.zarr cells",
    )
    command.add_argument("labels", help="an array of integers: a path, a URL, a .zip or an .ozx file")
    command.add_argument("store", help="the OME-Zarr image that they label: a path or a URL")
    command.add_argument("name", help="name of the labels: cells")
    command.add_argument("--labels-path", help="path of the array in its store: images/0 (default: the only array)")
    command.add_argument("--path", help="path of the image's group in the store: images/a (default: the root)")
    command.add_argument(
        "--dims",
        type=values.dims,
        metavar="NAMES",
        help="names of the axes of the labels: zyx (default: what is stored)",
    )
    command.add_argument(
        "--method",
        type=values.method,
        default="mode",
        metavar="METHOD",
        help="a method that makes no ids: mode, mode_nonzero, nearest, label_gaussian (default: mode)",
    )
    add_storage_options(command)
    command.add_argument("--overwrite", action="store_true", help="replace labels of multiscale-sampler there")
    add_run_options(command)


def _write_labels(arguments: Arguments) -> int:
    from .. import open_image, write_labels

    labels = open_image(arguments.labels, arguments.labels_path, dims=arguments.dims)
    names = ("method", "chunks", "shards", "memory_limit", "workers", "resume")
    write_labels(
        labels,
        arguments.store,
        arguments.name,
        arguments.path,
        mode="w" if arguments.overwrite else "w-",
        progress=not arguments.quiet,
        **{name: getattr(arguments, name) for name in names},
    )
    return 0
