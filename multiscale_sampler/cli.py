"""The command line ``multiscale-sampler``: thin calls of the public functions.

Exit codes: 0 done, 1 the input or the store is wrong (one line says how), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from . import __version__
from .axes import BOUNDARIES
from .extras import required
from .ngff import ZARR_FORMATS
from .reducers import REDUCERS, SAME_JOB

Arguments: TypeAlias = argparse.Namespace
T = TypeVar("T")

# 128 + SIGINT, as shells count it.
INTERRUPTED = 130
# In which a scheduler is to answer.
CONNECT_SECONDS = 10
DEMO_SIZE = 256
DEMO_CHUNK = 64
DEMO_SPACING = {"z": 2.0, "y": 0.5, "x": 0.5}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    arguments = _parser().parse_args(argv)
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = _show_warning
        try:
            return int(arguments.run(arguments))
        except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
            print(" ".join(["multiscale-sampler: error:", str(error), *_notes(error)]), file=sys.stderr)
            return 1
        except KeyboardInterrupt as stop:
            print(" ".join(["multiscale-sampler: interrupted.", *_notes(stop)]), file=sys.stderr)
            return INTERRUPTED


def _notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    print(f"multiscale-sampler: warning: {message}", file=sys.stderr)


# --- values ----------------------------------------------------------------------------------------------------


def _by_dim(number: Callable[[str], T]) -> Callable[[str], T | list[T] | dict[str, T]]:
    """Return a parser of "2", "2,4" and "z=1,y=2" into a value, a list or a mapping."""

    def parse(text: str) -> T | list[T] | dict[str, T]:
        parts = [part for part in text.split(",") if part]
        if not parts:
            raise argparse.ArgumentTypeError("is empty; write a number, as 2, or numbers by axis, as z=1,y=2,x=2")
        try:
            if all("=" in part for part in parts):
                return {dim.strip(): number(value) for dim, _, value in (part.partition("=") for part in parts)}
            values = [number(part) for part in parts]
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} is no number and no list of numbers by axis; write 2, or z=1,y=2,x=2"
            ) from None
        return values[0] if len(values) == 1 and "," not in text else values

    return parse


def _factors(text: str) -> Any:
    return text if text == "isotropic" else _by_dim(int)(text)


def _shards(text: str) -> Any:
    return False if text == "none" else _by_dim(int)(text)


def _dims(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if "," in text else tuple(text)


def _units(text: str) -> str | dict[str, str]:
    parsed: Any = _by_dim(str)(text)
    if isinstance(parsed, list):
        raise argparse.ArgumentTypeError(f"{text!r} names several units; write t=second,x=micrometer, or one unit")
    return parsed  # type: ignore[no-any-return]  # a text or a mapping of texts, by the parser above


def _orientation(text: str) -> str | dict[str, str]:
    parsed: Any = _by_dim(str)(text)
    return text if isinstance(parsed, list) else parsed


def _method(text: str) -> str:
    """Return a method of the table, by its own name or by one that the spatial-image family has, however written."""
    plain = text.lower().replace("-", "_")
    if plain in SAME_JOB or plain in REDUCERS:
        return plain
    raise argparse.ArgumentTypeError(f"unknown method {text!r}; choose one of {', '.join(REDUCERS)}")


def _names(text: str) -> list[str]:
    return text.split(",")


def _number(text: str) -> float | int:
    try:
        return int(text)
    except ValueError:
        return float(text)


# --- options ---------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="multiscale-sampler",
        description="From one zarr array to an exact, viewer-ready image pyramid (OME-Zarr).",
        epilog="example:\n  multiscale-sampler build raw.zarr out.ome.zarr --scale z=50,y=40,x=40 --unit micrometer",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_build(commands)
    _add_add_levels(commands)
    _add_plan(commands)
    _add_explain(commands)
    _add_info(commands)
    _add_validate(commands)
    _add_verify(commands)
    _add_convert(commands)
    _add_update(commands)
    _add_append(commands)
    _add_rebuild(commands)
    _add_view(commands)
    _add_write_labels(commands)
    _add_demo(commands)
    return parser


def _command(
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


def _add_label_options(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("labels of the image (default: what is stored)")
    group.add_argument("--dims", type=_dims, metavar="NAMES", help="names of the axes: zyx, or time,lat,lon")
    group.add_argument(
        "--scale",
        type=_by_dim(float),
        metavar="NUMBERS",
        help="spacing of the samples, in --unit: 0.5, or z=50,y=40,x=40",
    )
    group.add_argument(
        "--translation",
        type=_by_dim(float),
        metavar="NUMBERS",
        help="position of the first sample's centre, in --unit: 0, or z=25,y=20,x=20",
    )
    group.add_argument(
        "--unit", type=_units, metavar="UNITS", help="unit of the spatial axes: micrometer, or t=second,x=micrometer"
    )
    group.add_argument("--channel-names", type=_names, metavar="NAMES", help="labels of the channels: DAPI,GFP")
    group.add_argument(
        "--orientation",
        type=_orientation,
        metavar="CODE",
        help="anatomical orientation of the axes: RAS, or z=superior-to-inferior",
    )


def _add_level_options(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("levels")
    group.add_argument(
        "--factors",
        type=_factors,
        action="append",
        metavar="FACTORS",
        help="a step that is repeated: 2 (default), y=2,x=2 or isotropic; or factors from the base: 2,4,8 "
        "('2,' for one level); or one --factors z=1,y=2,x=2 for each level",
    )
    group.add_argument(
        "--method",
        type=_method,
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
        type=_by_dim(int),
        metavar="VOXELS",
        help="voxels at which an axis is small enough: 64, or z=16,y=256,x=256 (default: a chunk)",
    )
    group.add_argument(
        "--nodata", type=_number, metavar="VALUE", help="a value that is left out: -9999 (default: none but NaN)"
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
    _add_storage_options(group)


def _add_storage_options(command: Any) -> None:
    command.add_argument(
        "--chunks",
        type=_by_dim(int),
        metavar="VOXELS",
        help="voxels per chunk: 64, or z=16,y=256,x=256 (default: as stored)",
    )
    command.add_argument(
        "--shards",
        type=_shards,
        metavar="VOXELS",
        help="voxels per shard: 512, or z=64,y=1024,x=1024, or none (default: as stored)",
    )
    command.add_argument(
        "--memory-limit", metavar="BYTES", help="memory to use: 512MiB, 8GB (default: half of what there is)"
    )
    command.add_argument("--workers", type=int, metavar="N", help="regions at a time: 4 (default: one for each core)")


def _add_cluster_options(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("Dask cluster")
    group.add_argument(
        "--scheduler",
        help="build on the cluster of this scheduler, as tcp://host:8786; or local: on a cluster of --workers "
        "processes of this machine, for the time of the build (default: threads of this process)",
    )


@contextmanager
def _on_cluster(arguments: Arguments) -> Iterator[None]:
    """Let builds go to the cluster that was asked for, until this ends."""
    if arguments.scheduler is None:
        yield
        return
    need = f"--scheduler {arguments.scheduler} needs dask.distributed"
    distributed = required("distributed", need, "'multiscale-sampler[distributed]'")
    if arguments.scheduler == "local":
        from .resources import available_cores

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


def _label_options(arguments: Arguments) -> dict[str, Any]:
    return {
        "dims": arguments.dims,
        "scale": arguments.scale,
        "translation": arguments.translation,
        "units": arguments.unit,
        "channel_names": arguments.channel_names,
        "orientation": arguments.orientation,
    }


def _source_image(arguments: Arguments, **more: Any) -> Any:
    from . import open_image

    part = {"series": arguments.series, "level": arguments.level}
    return open_image(arguments.source, arguments.path, **part, **_label_options(arguments), **more)


def _level_options(arguments: Arguments) -> dict[str, Any]:
    names = "method boundary max_levels min_size nodata skipna min_valid chunks shards memory_limit workers"
    return {"scale_factors": _scale_factors(arguments.factors), **{n: getattr(arguments, n) for n in names.split()}}


def _scale_factors(given: list[Any] | None) -> Any:
    """Return what --factors mean: given once, the value itself; given again, one entry per level."""
    if given is None:
        return 2
    return given[0] if len(given) == 1 else given


def _add_source(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "source", help="a zarr array or group (v2 or v3), or a file as TIFF: a path, a URL, a .zip or an .ozx file"
    )
    command.add_argument("--path", help="path of the array in the source: images/0 (default: the only array)")
    command.add_argument("--series", type=int, help="which image of a TIFF file, from 0: 1 (default: the first)")
    command.add_argument(
        "--level", type=int, default=0, help="which level of a source that has several: 1 (default: 0)"
    )


def _add_run_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--resume", action="store_true", help="go on with an interrupted build of the same image")
    _add_quiet(command)


def _add_quiet(command: argparse.ArgumentParser) -> None:
    command.add_argument("--quiet", action="store_true", help="show no progress")


# --- commands --------------------------------------------------------------------------------------------------


def _add_build(commands: Any) -> None:
    command = _command(
        commands,
        "build",
        _build,
        "Write the pyramid of an array into a new store.",
        "raw.zarr out.ome.zarr --path 0 --scale z=50,y=40,x=40 --unit micrometer --factors 2",
    )
    _add_source(command)
    command.add_argument("target", help="the store to write: a path, a URL, a .zip or an .ozx file")
    command.add_argument("--name", help="name of the image: brain (default: its own)")
    command.add_argument("--ngff", default="0.5", choices=[*ZARR_FORMATS], help="version of OME-NGFF (default: 0.5)")
    command.add_argument(
        "--layout",
        default="datatree",
        choices=["datatree", "flat"],
        help="levels as scale0/image, or as 0 (default: datatree)",
    )
    command.add_argument("--dtype", help="dtype of the values that are written: float32 (default: the source's)")
    command.add_argument(
        "--metadata", type=_names, default=["ome"], metavar="NAMES", help="ome, geozarr, or ome,geozarr (default: ome)"
    )
    command.add_argument("--overwrite", action="store_true", help="replace a pyramid of multiscale-sampler there")
    command.add_argument("--digests", action="store_true", help="store digests of chunks, for update --changed auto")
    _add_run_options(command)
    _add_cluster_options(command)
    _add_label_options(command)
    _add_level_options(command)


def _build(arguments: Arguments) -> int:
    from . import write_pyramid

    image = _source_image(arguments, name=arguments.name)
    with _on_cluster(arguments):
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
            **_level_options(arguments),
        )
    return 0


def _add_add_levels(commands: Any) -> None:
    command = _command(
        commands,
        "add-levels",
        _add_levels,
        "Add levels beside an existing base array, which stays untouched.",
        "raw.zarr --scale z=50,y=40,x=40 --unit micrometer --factors 2,4,8",
    )
    command.add_argument("store", help="the zarr store: a path or a URL")
    command.add_argument("--path", help="path of the group that holds the base: images (default: the root)")
    command.add_argument("--base", default="0", help="name of the base array: s0 (default: 0)")
    _add_run_options(command)
    _add_cluster_options(command)
    _add_label_options(command)
    _add_level_options(command)


def _add_levels(arguments: Arguments) -> int:
    from . import add_levels

    with _on_cluster(arguments):
        add_levels(
            arguments.store,
            arguments.path,
            base=arguments.base,
            resume=arguments.resume,
            progress=not arguments.quiet,
            **_label_options(arguments),
            **_level_options(arguments),
        )
    return 0


def _add_plan(commands: Any) -> None:
    command = _command(
        commands,
        "plan",
        _plan,
        "Show what build would write, without reading a voxel.",
        "raw.zarr --path 0 --factors isotropic --memory-limit 2GiB",
    )
    _add_source(command)
    command.add_argument("--json", action="store_true", help="print JSON")
    _add_label_options(command)
    _add_level_options(command)


def _plan(arguments: Arguments) -> int:
    from . import plan_pyramid

    plan = plan_pyramid(_source_image(arguments), **_level_options(arguments))
    print(json.dumps(plan.to_dict(), indent=2) if arguments.json else plan)
    return 0


def _add_explain(commands: Any) -> None:
    command = _command(
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
    _add_label_options(command)
    _add_level_options(command)
    command.set_defaults(usual=vars(command.parse_args(["source"])))


def _explain(arguments: Arguments) -> int:
    from . import explain, open_image, plan_pyramid
    from .store import is_pyramid

    asked = any(
        vars(arguments)[name] != value for name, value in arguments.usual.items() if name not in ("source", "path")
    )
    if not asked and is_pyramid(arguments.source, arguments.path):
        print(explain(arguments.source, arguments.path))
        return 0
    image = open_image(arguments.source, arguments.path, **_label_options(arguments))
    print(explain(plan_pyramid(image, **_level_options(arguments))))
    return 0


def _add_info(commands: Any) -> None:
    command = _command(commands, "info", _info, "Show the levels of a pyramid of any writer.", "out.ome.zarr --json")
    command.add_argument("store", help="the OME-Zarr image: a path, a URL, a .zip or an .ozx file")
    command.add_argument("--path", help="path of the image's group in the store: images/a (default: the root)")
    command.add_argument("--json", action="store_true", help="print JSON")


def _info(arguments: Arguments) -> int:
    from . import open_pyramid
    from .pyramid import describe_levels, format_levels

    levels = describe_levels(open_pyramid(arguments.store, arguments.path))
    print(json.dumps(levels, indent=2) if arguments.json else format_levels(levels))
    return 0


def _add_validate(commands: Any) -> None:
    command = _command(
        commands,
        "validate",
        _validate,
        "Hold a pyramid of any writer against the specification.",
        "out.ome.zarr --strict --json",
    )
    command.add_argument("store", help="the OME-Zarr image: a path, a URL, a .zip or an .ozx file")
    command.add_argument("--path", help="path of the image's group in the store: images/a (default: the root)")
    command.add_argument("--strict", action="store_true", help="count as errors what the specification recommends")
    command.add_argument("--metadata-only", action="store_true", help="leave out arrays and labels, as schemas do")
    command.add_argument("--json", action="store_true", help="print JSON")


def _validate(arguments: Arguments) -> int:
    from . import validate

    report = validate(arguments.store, arguments.path, strict=arguments.strict, metadata_only=arguments.metadata_only)
    print(json.dumps(report.to_dict(), indent=2) if arguments.json else report)
    return 0 if report.ok else 1


def _add_verify(commands: Any) -> None:
    command = _command(
        commands,
        "verify",
        _verify,
        "Hold the voxels of a pyramid of any writer against its metadata.",
        "out.ome.zarr --sample 20",
    )
    command.add_argument("store", help="the OME-Zarr image: a path, a URL, a .zip or an .ozx file")
    command.add_argument("--path", help="path of the image's group in the store: images/a (default: the root)")
    command.add_argument("--levels", type=_by_dim(int), help="levels to judge: 1, or 1,2 (default: all)")
    command.add_argument("--sample", type=int, metavar="N", help="read N regions at random (default: every voxel)")
    command.add_argument("--seed", type=int, default=0, help="what the choice of regions depends on (default: 0)")
    command.add_argument("--memory-limit", help="memory to use: 512MiB, 8GB (default: half of what there is)")
    command.add_argument("--workers", type=int, help="regions at a time (default: the cores there are)")
    command.add_argument("--json", action="store_true", help="print JSON")
    _add_quiet(command)


def _verify(arguments: Arguments) -> int:
    from . import verify_pyramid

    names = ("levels", "sample", "seed", "memory_limit", "workers")
    report = verify_pyramid(
        arguments.store,
        arguments.path,
        progress=not arguments.quiet,
        **{name: getattr(arguments, name) for name in names},
    )
    print(json.dumps(report.to_dict(), indent=2) if arguments.json else report)
    return 0 if report.ok else 1


def _add_convert(commands: Any) -> None:
    command = _command(
        commands,
        "convert",
        _convert,
        "Convert a pyramid of any writer to another version of OME-NGFF.",
        "old.zarr new.ome.zarr --ngff 0.5",
    )
    command.add_argument("source", help="the OME-Zarr image: a path, a URL, a .zip or an .ozx file")
    command.add_argument(
        "target", nargs="?", help="where to write a copy (default: convert in place, 0.5 to 0.6 or back)"
    )
    command.add_argument("--path", help="path of the image's group in the source: images/a (default: the root)")
    command.add_argument("--ngff", required=True, choices=[*ZARR_FORMATS], help="version of OME-NGFF to convert to")
    _add_storage_options(command)
    command.add_argument("--resume", action="store_true", help="go on with an interrupted copy")
    _add_quiet(command)


def _convert(arguments: Arguments) -> int:
    from . import convert

    convert(
        arguments.source,
        arguments.target,
        path=arguments.path,
        version=arguments.ngff,
        progress=None if arguments.quiet or arguments.target is None else True,
        **{name: getattr(arguments, name) for name in ("chunks", "shards", "memory_limit", "workers", "resume")},
    )
    return 0


def _add_write_labels(commands: Any) -> None:
    command = _command(
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
        "--dims", type=_dims, metavar="NAMES", help="names of the axes of the labels: zyx (default: what is stored)"
    )
    command.add_argument(
        "--method",
        type=_method,
        default="mode",
        metavar="METHOD",
        help="a method that makes no ids: mode, mode_nonzero, nearest, label_gaussian (default: mode)",
    )
    _add_storage_options(command)
    command.add_argument("--overwrite", action="store_true", help="replace labels of multiscale-sampler there")
    _add_run_options(command)


def _write_labels(arguments: Arguments) -> int:
    from . import open_image, write_labels

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


def _add_pyramid(command: argparse.ArgumentParser) -> None:
    command.add_argument("store", help="the OME-Zarr image: a path or a URL")
    command.add_argument("--path", help="path of the image's group in the store: labels/cells (default: the root)")


def _add_change_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--method", choices=[*REDUCERS], help="how levels are made: mean (default: as the store says)")
    command.add_argument("--memory-limit", help="memory to use: 512MiB, 8GB (default: half of what there is)")
    command.add_argument("--workers", type=int, help="regions at a time: 4 (default: the cores there are)")
    command.add_argument("--resume", action="store_true", help="go on with the same change that was interrupted")
    _add_quiet(command)


def _change_options(arguments: Arguments) -> dict[str, Any]:
    names = ("path", "method", "memory_limit", "workers", "resume")
    return {**{name: getattr(arguments, name) for name in names}, "progress": not arguments.quiet}


def _region(text: str) -> dict[str, Any]:
    """Parse z=0:64,y=10 to slices and single samples; numbers with a point are positions."""
    region: dict[str, Any] = {}
    for part in text.split(","):
        dim, _, ends = part.partition("=")
        if not dim or not ends:
            raise argparse.ArgumentTypeError(f"{text!r} is no region; write z=0:64,y=10:20")
        values = [_end(end) for end in ends.split(":")]
        if len(values) > 2:
            raise argparse.ArgumentTypeError(f"{ends!r} has more than two ends; write {dim}=0:64")
        region[dim] = values[0] if len(values) == 1 else slice(*values)
    return region


def _end(text: str) -> Any:
    if not text:
        return None
    try:
        return _number(text)
    except ValueError:
        return text


def _add_update(commands: Any) -> None:
    command = _command(
        commands,
        "update",
        _update,
        "Make the levels of a pyramid anew where its level 0 was edited, and nowhere else.",
        "out.ome.zarr --region z=0:64,y=10:20",
    )
    _add_pyramid(command)
    command.add_argument(
        "--region", type=_region, help="what was edited: z=0:64,y=10:20, axes left out whole (default: see --changed)"
    )
    command.add_argument(
        "--by",
        default="index",
        choices=["index", "coordinate"],
        help="whether --region counts samples or tells positions in the image's units (default: index)",
    )
    command.add_argument(
        "--changed",
        choices=["auto"],
        help="auto: find what was edited by digests (build --digests) (default: --region)",
    )
    _add_change_options(command)


def _update(arguments: Arguments) -> int:
    from . import update_pyramid

    options = _change_options(arguments)
    update_pyramid(arguments.store, arguments.region, by=arguments.by, changed=arguments.changed, **options)
    return 0


def _add_append(commands: Any) -> None:
    command = _command(
        commands,
        "append",
        _append,
        "Let a pyramid go on along an axis, at every level.",
        "new.zarr out.ome.zarr --dim t",
    )
    _add_source(command)
    command.add_argument("store", help="the OME-Zarr image that goes on: a path or a URL")
    command.add_argument("--dim", required=True, help="the axis to go on along: t")
    command.add_argument("--store-path", help="path of the image's group in the store: images/a (default: the root)")
    _add_change_options(command)


def _append(arguments: Arguments) -> int:
    from . import append_pyramid, open_image

    # The values alone: they go on where those of the store end.
    image = open_image(arguments.source, arguments.path).data
    options = {**_change_options(arguments), "path": arguments.store_path}
    append_pyramid(image, arguments.store, arguments.dim, **options)
    return 0


def _add_rebuild(commands: Any) -> None:
    command = _command(
        commands,
        "rebuild",
        _rebuild,
        "Make levels of a pyramid anew by another method, or remove them.",
        "out.ome.zarr --levels 1,2 --method max",
    )
    _add_pyramid(command)
    command.add_argument(
        "--levels", type=lambda text: [int(part) for part in text.split(",")], help="which: 1,2 (default: all but 0)"
    )
    command.add_argument("--remove", action="store_true", help="remove the levels that --levels names")
    _add_change_options(command)


def _rebuild(arguments: Arguments) -> int:
    from . import rebuild_levels, remove_levels

    if arguments.remove:
        if arguments.levels is None:
            raise ValueError("--remove wants --levels, as in --levels 3,4")
        remove_levels(arguments.store, arguments.levels, arguments.path)
        return 0
    if arguments.method is None:
        raise ValueError("name the method, as in --method max")
    rebuild_levels(arguments.store, arguments.levels, **_change_options(arguments))
    return 0


def _add_view(commands: Any) -> None:
    command = _command(
        commands,
        "view",
        _view,
        "Show pyramids in the browser, from this machine; Ctrl-C ends it.",
        "out.ome.zarr other.ome.zarr",
    )
    command.add_argument("stores", nargs="+", metavar="STORE", help="a pyramid: a path, a URL, a .zip or an .ozx file")
    command.add_argument("--path", help="path of the image's group in the stores: images/a (default: the root)")
    command.add_argument("--port", type=int, default=0, help="port to listen at: 8080 (default: one that is free)")
    command.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at; 0.0.0.0 for everyone who has the URL (default: 127.0.0.1, this machine alone)",
    )
    command.add_argument("--no-browser", action="store_true", help="print the URL, and open no browser")
    command.add_argument("--verbose", action="store_true", help="tell every request")


def _view(arguments: Arguments) -> int:
    from . import view

    if arguments.verbose:
        logging.basicConfig(format="%(message)s")
        logging.getLogger(__package__).setLevel(logging.DEBUG)
    # Ctrl-C is how it ends.
    with contextlib.suppress(KeyboardInterrupt):
        viewer = view(
            *arguments.stores,
            path=arguments.path,
            host=arguments.host,
            port=arguments.port,
            browser=not arguments.no_browser,
        )
        viewer.wait()
    return 0


def _add_demo(commands: Any) -> None:
    command = _command(
        commands,
        "demo",
        _demo,
        "Make a 3-D test image, build its pyramid, validate and draw it.",
        "demo-output --size 128",
    )
    command.add_argument("folder", type=Path, help="a new or empty folder for the results")
    command.add_argument(
        "--size",
        type=int,
        default=DEMO_SIZE,
        metavar="VOXELS",
        help=f"voxels along each axis: 128 (default: {DEMO_SIZE})",
    )
    _add_quiet(command)


def _demo(arguments: Arguments) -> int:
    from . import create_test_image, open_image, open_pyramid, validate, write_pyramid
    from .pictures import require_matplotlib, save_levels_figure
    from .pyramid import describe_levels, format_levels

    require_matplotlib()
    folder: Path = arguments.folder
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{str(folder)!r} is not empty; name a new folder")
    raw, target, picture = folder / "raw.zarr", folder / "demo.ome.zarr", folder / "levels.png"
    progress = not arguments.quiet
    create_test_image(raw, "image", shape=(arguments.size,) * 3, chunks=(DEMO_CHUNK,) * 3, progress=progress)
    image = open_image(raw, "image", dims="zyx", scale=DEMO_SPACING, units="micrometer")
    write_pyramid(image, target, progress=progress)
    tree = open_pyramid(target)
    print(format_levels(describe_levels(tree)))
    report = validate(target)
    print(report)
    save_levels_figure(tree, picture)
    print(f"\n{picture} shows one slice of every level. To open the pyramid in Python:\n")
    print("    import multiscale_sampler as ms")
    print(f"    tree = ms.open_pyramid({str(target)!r})")
    print('    tree["scale1/image"].sel(z=100, method="nearest")')
    return 0 if report.ok else 1
