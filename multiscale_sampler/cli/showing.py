"""Commands that show pyramids."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

from . import values
from .commands import Arguments, add_command, keywords
from .options import HOST, IMAGE_PATH, NO_BROWSER, PORT, QUIET

DEMO_SIZE = 256
DEMO_CHUNK = 64
DEMO_SPACING = {"z": 2.0, "y": 0.5, "x": 0.5}


def add_showing_commands(commands: Any) -> None:
    """Add the commands of this module to a parser."""
    _add_view(commands)
    _add_demo(commands)


def _add_view(commands: Any) -> None:
    command = add_command(
        commands,
        "view",
        _view,
        "View pyramids in the browser, served from this machine until Ctrl-C.",
        "out.ome.zarr other.ome.zarr",
        {"view": (IMAGE_PATH, PORT, HOST, NO_BROWSER)},
    )
    command.add_argument("stores", nargs="+", metavar="STORE", help="a pyramid: a path, a URL, a .zip or an .ozx file")
    command.add_argument("--verbose", action="store_true", help="log every request")


def _view(arguments: Arguments) -> int:
    from .. import view

    if arguments.verbose:
        logging.basicConfig(format="%(message)s")
        logging.getLogger("multiscale_sampler").setLevel(logging.DEBUG)
    # Ctrl-C is how it ends.
    with contextlib.suppress(KeyboardInterrupt):
        view(*arguments.stores, **keywords(arguments, "view")).wait()
    return 0


def _add_demo(commands: Any) -> None:
    command = add_command(
        commands,
        "demo",
        _demo,
        "Make a 3-D test image, build its pyramid, validate and draw it.",
        "demo-output --size 128",
        {"create_test_image": (QUIET,), "write_pyramid": (QUIET,)},
    )
    command.add_argument("folder", type=Path, help="a new or empty folder for the results")
    command.add_argument(
        "--size",
        type=values.integer,
        default=DEMO_SIZE,
        metavar="VOXELS",
        help=f"voxels along each axis: 128 (default: {DEMO_SIZE})",
    )


def _demo(arguments: Arguments) -> int:
    from .. import create_test_image, open_image, open_pyramid, validate, write_pyramid
    from ..image.tree import describe_levels, format_levels
    from ..plots import require_matplotlib, save_levels_figure

    require_matplotlib()
    folder: Path = arguments.folder
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{str(folder)!r} is not empty; name a new folder")
    raw, target, picture = folder / "raw.zarr", folder / "demo.ome.zarr", folder / "levels.png"
    shape, chunks = (arguments.size,) * 3, (DEMO_CHUNK,) * 3
    create_test_image(raw, "image", shape=shape, chunks=chunks, **keywords(arguments, "create_test_image"))
    image = open_image(raw, "image", dims="zyx", scale=DEMO_SPACING, units="micrometer")
    write_pyramid(image, target, **keywords(arguments, "write_pyramid"))
    tree = open_pyramid(target)
    print(format_levels(describe_levels(tree)))
    report = validate(target)
    print(report)
    save_levels_figure(tree, picture)
    print(f"\n{picture} shows one slice of every level. To open the pyramid in Python:\n")
    print("    import multiscale_sampler as ms")
    print(f"    tree = ms.open_pyramid({str(target)!r})")
    coarsest = list(tree.children)[-1]
    print(f'    tree["{coarsest}/image"].sel(z={arguments.size / 2 * DEMO_SPACING["z"]}, method="nearest")')
    return 0 if report.ok else 1
