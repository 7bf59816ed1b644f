"""The command line ``multiscale-sampler``: thin calls of the public functions.

Exit codes: 0 done, 1 the input or the store is wrong (one line says how), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
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
from .reducers import REDUCERS

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
        prog="multiscale-sampler", description="From one zarr array to an exact, viewer-ready image pyramid (OME-Zarr)."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_build(commands)
    _add_add_levels(commands)
    _add_plan(commands)
    _add_info(commands)
    _add_validate(commands)
    _add_convert(commands)
    _add_demo(commands)
    return parser


def _command(commands: Any, name: str, run: Callable[[Arguments], int], summary: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    command.set_defaults(run=run)
    return command


def _add_label_options(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("labels of the image (default: what is stored)")
    group.add_argument("--dims", type=_dims, help="names of the axes: zyx, or time,lat,lon")
    group.add_argument("--scale", type=_by_dim(float), help="spacing of the samples: 0.5, or z=50,y=40,x=40")
    group.add_argument("--translation", type=_by_dim(float), help="position of the first sample, as --scale")
    group.add_argument("--unit", type=_units, help="unit of the spatial axes: micrometer, or t=second,x=micrometer")
    group.add_argument("--channel-names", type=_names, help="labels of the channels: DAPI,GFP")


def _add_level_options(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("levels")
    group.add_argument(
        "--factors",
        type=_factors,
        action="append",
        help="a step that is repeated: 2 (default), y=2,x=2 or isotropic; or factors from the base: 2,4,8 "
        "('2,' for one level); or one --factors z=1,y=2,x=2 for each level",
    )
    group.add_argument("--method", default="mean", choices=[*REDUCERS], help="how voxels are reduced (default: mean)")
    group.add_argument(
        "--boundary",
        default="pad",
        choices=BOUNDARIES,
        help="partial windows: pad reduces them, trim drops, exact refuses (default: pad)",
    )
    group.add_argument("--max-levels", type=int, help="the most levels, the base included (default: no limit)")
    group.add_argument(
        "--min-size", type=_by_dim(int), help="voxels at which an axis is small enough (default: a chunk)"
    )
    group.add_argument("--nodata", type=_number, help="a value that is left out, as -9999")
    group.add_argument(
        "--skipna", action=argparse.BooleanOptionalAction, help="leave NaN out (default: yes, for floats)"
    )
    group.add_argument(
        "--min-valid",
        type=float,
        default=0.0,
        help="least valid fraction of a window: 0.5 (default: 0, one voxel will do)",
    )
    group.add_argument(
        "--chunks", type=_by_dim(int), help="voxels per chunk: 64 or z=16,y=256,x=256 (default: as stored)"
    )
    group.add_argument("--shards", type=_shards, help="voxels per shard, as --chunks, or none (default: as stored)")
    group.add_argument("--memory-limit", help="memory to use: 512MiB, 8GB (default: half of what there is)")
    group.add_argument("--workers", type=int, help="regions at a time (default: the cores there are)")


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
    }


def _level_options(arguments: Arguments) -> dict[str, Any]:
    names = "method boundary max_levels min_size nodata skipna min_valid chunks shards memory_limit workers"
    return {"scale_factors": _scale_factors(arguments.factors), **{n: getattr(arguments, n) for n in names.split()}}


def _scale_factors(given: list[Any] | None) -> Any:
    """Return what --factors mean: given once, the value itself; given again, one entry per level."""
    if given is None:
        return 2
    return given[0] if len(given) == 1 else given


def _add_source(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", help="a zarr array or group (v2 or v3): a path, a URL or a .zip file")
    command.add_argument("--path", help="path of the array in the source, where a group holds several")


def _add_run_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--resume", action="store_true", help="go on with an interrupted build of the same image")
    _add_quiet(command)


def _add_quiet(command: argparse.ArgumentParser) -> None:
    command.add_argument("--quiet", action="store_true", help="show no progress")


# --- commands --------------------------------------------------------------------------------------------------


def _add_build(commands: Any) -> None:
    command = _command(commands, "build", _build, "Write the pyramid of an array into a new store.")
    _add_source(command)
    command.add_argument("target", help="the store to write: a path or a URL")
    command.add_argument("--name", help="name of the image (default: its own)")
    command.add_argument("--ngff", default="0.5", choices=[*ZARR_FORMATS], help="version of OME-NGFF (default: 0.5)")
    command.add_argument(
        "--layout", default="datatree", choices=["datatree", "flat"], help="scale0/image or 0 (default: datatree)"
    )
    command.add_argument("--overwrite", action="store_true", help="replace a pyramid of multiscale-sampler there")
    _add_run_options(command)
    _add_cluster_options(command)
    _add_label_options(command)
    _add_level_options(command)


def _build(arguments: Arguments) -> int:
    from . import open_image, write_pyramid

    image = open_image(arguments.source, arguments.path, name=arguments.name, **_label_options(arguments))
    with _on_cluster(arguments):
        write_pyramid(
            image,
            arguments.target,
            version=arguments.ngff,
            layout=arguments.layout,
            mode="w" if arguments.overwrite else "w-",
            resume=arguments.resume,
            progress=not arguments.quiet,
            **_level_options(arguments),
        )
    return 0


def _add_add_levels(commands: Any) -> None:
    command = _command(
        commands, "add-levels", _add_levels, "Add levels beside an existing base array, which stays untouched."
    )
    command.add_argument("store", help="the zarr store: a path or a URL")
    command.add_argument("--path", help="path of the group that holds the base")
    command.add_argument("--base", default="0", help="name of the base array (default: 0)")
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
    command = _command(commands, "plan", _plan, "Show what build would write, without reading a voxel.")
    _add_source(command)
    command.add_argument("--json", action="store_true", help="print JSON")
    _add_label_options(command)
    _add_level_options(command)


def _plan(arguments: Arguments) -> int:
    from . import open_image, plan_pyramid

    image = open_image(arguments.source, arguments.path, **_label_options(arguments))
    plan = plan_pyramid(image, **_level_options(arguments))
    print(json.dumps(plan.to_dict(), indent=2) if arguments.json else plan)
    return 0


def _add_info(commands: Any) -> None:
    command = _command(commands, "info", _info, "Show the levels of a pyramid of any writer.")
    command.add_argument("store", help="the OME-Zarr image: a path, a URL or a .zip file")
    command.add_argument("--path", help="path of the image's group in the store")
    command.add_argument("--json", action="store_true", help="print JSON")


def _info(arguments: Arguments) -> int:
    from . import open_pyramid
    from .pyramid import describe_levels, format_levels

    levels = describe_levels(open_pyramid(arguments.store, arguments.path))
    print(json.dumps(levels, indent=2) if arguments.json else format_levels(levels))
    return 0


def _add_validate(commands: Any) -> None:
    command = _command(commands, "validate", _validate, "Hold a pyramid of any writer against the specification.")
    command.add_argument("store", help="the OME-Zarr image: a path, a URL or a .zip file")
    command.add_argument("--path", help="path of the image's group in the store")
    command.add_argument("--strict", action="store_true", help="count as errors what the specification recommends")
    command.add_argument("--metadata-only", action="store_true", help="leave out arrays and labels, as schemas do")
    command.add_argument("--json", action="store_true", help="print JSON")


def _validate(arguments: Arguments) -> int:
    from . import validate

    report = validate(arguments.store, arguments.path, strict=arguments.strict, metadata_only=arguments.metadata_only)
    print(json.dumps(report.to_dict(), indent=2) if arguments.json else report)
    return 0 if report.ok else 1


def _add_convert(commands: Any) -> None:
    command = _command(commands, "convert", _convert, "Convert a pyramid of any writer to another version of OME-NGFF.")
    command.add_argument("source", help="the OME-Zarr image: a path, a URL or a .zip file")
    command.add_argument(
        "target", nargs="?", help="where to write a copy (default: convert in place, 0.5 to 0.6 or back)"
    )
    command.add_argument("--path", help="path of the image's group in the source")
    command.add_argument("--ngff", required=True, choices=[*ZARR_FORMATS], help="version of OME-NGFF to convert to")
    command.add_argument(
        "--chunks", type=_by_dim(int), help="voxels per chunk: 64 or z=16,y=256,x=256 (default: as stored)"
    )
    command.add_argument("--shards", type=_shards, help="voxels per shard, as --chunks, or none (default: as stored)")
    command.add_argument("--memory-limit", help="memory to use: 512MiB, 8GB (default: half of what there is)")
    command.add_argument("--workers", type=int, help="regions at a time (default: the cores there are)")
    _add_quiet(command)


def _convert(arguments: Arguments) -> int:
    from . import convert

    convert(
        arguments.source,
        arguments.target,
        path=arguments.path,
        version=arguments.ngff,
        progress=None if arguments.quiet or arguments.target is None else True,
        **{name: getattr(arguments, name) for name in ("chunks", "shards", "memory_limit", "workers")},
    )
    return 0


def _add_demo(commands: Any) -> None:
    command = _command(commands, "demo", _demo, "Make a 3-D test image, build its pyramid, validate and draw it.")
    command.add_argument("folder", type=Path, help="a new or empty folder for the results")
    command.add_argument("--size", type=int, default=DEMO_SIZE, help=f"voxels along each axis (default: {DEMO_SIZE})")
    _add_quiet(command)


def _demo(arguments: Arguments) -> int:
    from . import create_test_image, open_image, open_pyramid, validate, write_pyramid
    from .pyramid import describe_levels, format_levels
    from .view import require_matplotlib, save_levels_figure

    require_matplotlib()
    folder: Path = arguments.folder
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{str(folder)!r} is not empty; name a new folder")
    raw, target, picture = folder / "raw.zarr", folder / "demo.ome.zarr", folder / "levels.png"
    create_test_image(raw, "image", shape=(arguments.size,) * 3, chunks=(DEMO_CHUNK,) * 3)
    image = open_image(raw, "image", dims="zyx", scale=DEMO_SPACING, units="micrometer")
    write_pyramid(image, target, progress=not arguments.quiet)
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
