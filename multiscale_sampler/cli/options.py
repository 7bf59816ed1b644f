"""The table of options: each row is an option of the command line and the keyword argument that it sets.

A row has no default: an option that is not used is not passed on, so that the defaults of the public functions apply
and stand in one place.
"""

from __future__ import annotations

from argparse import SUPPRESS, BooleanOptionalAction
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..image.axes import BOUNDARIES
from ..metadata import DEFAULT_VERSION, WRITTEN_VERSIONS
from ..methods.reducers import REDUCERS
from . import values

AXES = "axes and coordinates of the image (default: as stored)"
LEVELS = "levels"


def _as_parsed(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Option:
    """An option, and the keyword argument of a public function that it sets."""

    flag: str
    """The option as it is written: "--min-size"."""
    keyword: str
    """Name of the keyword argument: "min_size"."""
    settings: Mapping[str, Any]
    """How argparse parses the option, with its help."""
    group: str | None = None
    """Title of its group in the help; None for the first group."""
    value: Callable[[Any], Any] = _as_parsed
    """From what was parsed to the value of the keyword argument."""
    absent: Any = SUPPRESS
    """Value of the keyword argument without the option; by default the function's own."""

    @property
    def name(self) -> str:
        """Attribute of the parsed arguments that contains the option, if it was used."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def constant(self) -> Any:
        """Value that a switch sets; None for an option with a value of its own."""
        return self.settings.get("const")


def option(flag: str, keyword: str, group: str | None = None, **settings: Any) -> Option:
    """Return an option that takes a value; `settings` are those of argparse's ``add_argument``."""
    return Option(flag, keyword, {"default": SUPPRESS, **settings}, group)


def switch(flag: str, keyword: str, constant: Any, text: str, *, absent: Any = SUPPRESS) -> Option:
    """Return an option without a value, which sets its keyword argument to a constant."""
    settings = {"action": "store_const", "const": constant, "default": SUPPRESS, "help": text}
    return Option(flag, keyword, settings, absent=absent)


def _factors(parsed: list[Any]) -> Any:
    """Return scale_factors: what --factors says, or one entry per level where it is repeated."""
    return parsed[0] if len(parsed) == 1 else parsed


# --- where the data are ----------------------------------------------------------------------------------------

ARRAY_PATH = option("--path", "path", help="path of the array in the source: images/0 (default: the only array)")
IMAGE_PATH = option("--path", "path", help="path of the image's group in the store: images/a (default: the root)")
EITHER_PATH = option(
    "--path", "path", help="path of the image's group, or of the array: images/0 (default: the root, or the only array)"
)
BASE_PATH = option("--path", "path", help="path of the group that contains the base: images (default: the root)")
LABELS_PATH = option(
    "--labels-path", "path", help="path of the array in the store of the labels: images/0 (default: the only array)"
)
STORE_PATH = option("--store-path", "path", help="path of the image's group in the store: images/a (default: the root)")
SERIES = option("--series", "series", type=values.integer, help="image of a TIFF file, from 0: 1 (default: the first)")
LEVEL = option(
    "--level", "level", type=values.integer, help="level of a source that has several, from 0: 1 (default: 0)"
)
BASE = option("--base", "base", help="name of the base array: s0 (default: 0)")
SOURCE_OPTIONS = (ARRAY_PATH, SERIES, LEVEL)

# --- what the image is -----------------------------------------------------------------------------------------

DIMS = option("--dims", "dims", AXES, type=values.axes, metavar="NAMES", help="names of the axes: zyx, or time,lat,lon")
PLACE_OPTIONS = (
    DIMS,
    option(
        "--scale",
        "scale",
        AXES,
        type=values.by_axis(values.decimal, "0.5"),
        metavar="NUMBERS",
        help="spacing of the samples, in --unit: 0.5, or z=50,y=40,x=40",
    ),
    option(
        "--translation",
        "translation",
        AXES,
        type=values.by_axis(values.decimal, "0.5"),
        metavar="NUMBERS",
        help="position of the center of the first sample, in --unit: 0, or z=25,y=20,x=20",
    ),
    option(
        "--unit",
        "units",
        AXES,
        type=values.units,
        metavar="UNITS",
        help="unit of the spatial axes: micrometer, or t=second,x=micrometer",
    ),
)
AXIS_OPTIONS = (
    *PLACE_OPTIONS,
    option(
        "--channel-names",
        "channel_names",
        AXES,
        type=values.names,
        metavar="NAMES",
        help="names of the channels: DAPI,GFP",
    ),
    option(
        "--orientation",
        "orientation",
        AXES,
        type=values.orientation,
        metavar="CODE",
        help="anatomical orientation of the axes: RAS, or z=superior-to-inferior",
    ),
)
NAME = option("--name", "name", help="name of the image: brain (default: as stored)")

# --- resources and runs ----------------------------------------------------------------------------------------

RESOURCE_OPTIONS = (
    option(
        "--memory-limit",
        "memory_limit",
        metavar="BYTES",
        help="memory to use: 512MiB, 8GB (default: half of what is available)",
    ),
    option(
        "--workers", "workers", type=values.integer, metavar="N", help="regions at a time: 4 (default: one per core)"
    ),
)
QUIET = switch("--quiet", "progress", False, "show no progress", absent=True)
RESUME_BUILD = switch("--resume", "resume", True, "continue an interrupted build of the same image")
RESUME_CHANGE = switch("--resume", "resume", True, "continue the same change after an interruption")
RESUME_COPY = switch("--resume", "resume", True, "continue an interrupted copy")

# --- how levels are made and stored ----------------------------------------------------------------------------

STORAGE_OPTIONS = (
    option(
        "--chunks",
        "chunks",
        type=values.chunks,
        metavar="VOXELS",
        help="voxels per chunk: 64, or z=16,y=256,x=256; or by level, each also for those after it that are not "
        "named: 0=64,2=16x32x32 (default: as stored)",
    ),
    option(
        "--shards",
        "shards",
        type=values.shards,
        metavar="VOXELS",
        help="voxels per shard: 512, or z=64,y=1024,x=1024, or none; or by level: 0=512,3=none (default: as stored)",
    ),
    *RESOURCE_OPTIONS,
)
LEVEL_OPTIONS = (
    Option(
        "--factors",
        "scale_factors",
        {
            "type": values.factors,
            "action": "append",
            "metavar": "FACTORS",
            "default": SUPPRESS,
            "help": "isotropic (default): the axes with the finest spacing first; or a step that is repeated: 2 or "
            "y=2,x=2; or one factor per level, each from the base: 2,4,8 ('2,' for one level); or "
            "--factors z=1,y=2,x=2 once for each level",
        },
        LEVELS,
        _factors,
    ),
    option(
        "--method",
        "method",
        LEVELS,
        type=values.method,
        metavar="METHOD",
        help=f"how voxels are reduced: {', '.join(REDUCERS)}, or a name that the spatial-image family uses, such as "
        "xarray-coarsen or DASK_IMAGE_GAUSSIAN (default: mean)",
    ),
    option(
        "--boundary",
        "boundary",
        LEVELS,
        choices=BOUNDARIES,
        help="partial windows at the end of an axis: pad reduces them, trim drops them, exact refuses them "
        "(default: pad)",
    ),
    option(
        "--max-levels",
        "max_levels",
        LEVELS,
        type=values.integer,
        metavar="N",
        help="largest number of levels, including the base: 4 (default: no limit)",
    ),
    option(
        "--min-size",
        "min_size",
        LEVELS,
        type=values.by_axis(values.integer, "64"),
        metavar="VOXELS",
        help="stop reducing an axis once it has this many voxels or fewer: 64, or z=16,y=256,x=256 (default: all "
        "axes together end at the longest edge of a chunk, or at 256)",
    ),
    option(
        "--nodata",
        "nodata",
        LEVELS,
        type=values.nodata,
        metavar="VALUE",
        help="a value to ignore: -9999, or none (default: stated, the one that the source states)",
    ),
    option("--skipna", "skipna", LEVELS, action=BooleanOptionalAction, help="ignore NaN (default: yes, for floats)"),
    option(
        "--min-valid",
        "min_valid",
        LEVELS,
        type=values.decimal,
        metavar="FRACTION",
        help="smallest valid fraction of a window that gives a valid voxel: 0.5 (default: 0, one voxel is enough)",
    ),
    *(replace(each, group=LEVELS) for each in STORAGE_OPTIONS),
)
LABEL_METHOD = option(
    "--method",
    "method",
    type=values.method,
    metavar="METHOD",
    help="a method that creates no new ids: mode, mode_nonzero, nearest, label_gaussian (default: mode)",
)
LABEL_DTYPE = option(
    "--dtype",
    "dtype",
    help="integer dtype of the labels: uint32, or auto for the smallest that holds all of them (default: as in the "
    "source, uint8 for bools)",
)
STORED_METHOD = option(
    "--method",
    "method",
    type=values.method,
    metavar="METHOD",
    help="how the levels are made, one of the methods of build: mean (default: as the store states)",
)
NEW_METHOD = option(
    "--method",
    "method",
    type=values.method,
    metavar="METHOD",
    help="how to recompute the levels, one of the methods of build: max (default: none; required without --remove)",
)

# --- what is written -------------------------------------------------------------------------------------------

NGFF = option(
    "--ngff", "version", choices=[*WRITTEN_VERSIONS], help=f"version of OME-NGFF to write (default: {DEFAULT_VERSION})"
)
NGFF_OF_COPY = option(
    "--ngff", "version", choices=[*WRITTEN_VERSIONS], required=True, help="version of OME-NGFF to convert to"
)
OVERWRITE = switch("--overwrite", "mode", "w", "replace what multiscale-sampler wrote there before")
WRITING_OPTIONS = (
    NGFF,
    option(
        "--layout",
        "layout",
        choices=["datatree", "flat"],
        help="paths of the levels: datatree for scale0/image, flat for 0 (default: datatree)",
    ),
    option("--dtype", "dtype", help="dtype of the values in the pyramid: float32 (default: as in the source)"),
    option(
        "--metadata", "metadata", type=values.names, metavar="NAMES", help="ome, geozarr or ome,geozarr (default: ome)"
    ),
    option(
        "--ascending",
        "ascending",
        action=BooleanOptionalAction,
        help="store descending axes ascending, as several clients refuse others (default: yes, except for maps)",
    ),
    OVERWRITE,
    switch("--digests", "digests", True, "store digests of chunks, for update --changed auto"),
)

# --- which part of a pyramid -----------------------------------------------------------------------------------

REGION = option(
    "--region",
    "region",
    type=values.region,
    help="what was edited: z=0:64,y=10:20, all of the other axes (default: see --changed)",
)
BY = option(
    "--by",
    "by",
    choices=["index", "coordinate"],
    help="whether --region counts samples or states positions in the image's units (default: index)",
)
CHANGED = option(
    "--changed",
    "changed",
    choices=["auto"],
    help="auto: find what was edited, from the digests of build --digests (default: --region alone)",
)
DIM = option("--dim", "dim", required=True, help="the axis to append along: t")
CHANGED_LEVELS = option(
    "--levels",
    "levels",
    type=values.levels_or_paths,
    help="levels to change, by numbers or paths: 1,2 or scale2/image (default: all but 0)",
)
VERIFIED_LEVELS = option("--levels", "levels", type=values.levels, help="levels to check: 1, or 1,2 (default: all)")

# --- how a pyramid is checked and viewed -----------------------------------------------------------------------

STRICT = switch("--strict", "strict", True, "count recommendations of the specification as requirements")
METADATA_ONLY = switch("--metadata-only", "metadata_only", True, "check neither arrays nor labels, as schemas do")
SAMPLE = option(
    "--sample", "sample", type=values.integer, metavar="N", help="check N random regions: 20 (default: every voxel)"
)
SEED = option(
    "--seed", "seed", type=values.integer, help="seed of the random choice of regions, with --sample: 1 (default: 0)"
)
PORT = option("--port", "port", type=values.integer, help="port to listen at: 8080 (default: one that is free)")
HOST = option(
    "--host",
    "host",
    help="address to listen at; 0.0.0.0 for everyone who has the URL (default: 127.0.0.1, this machine alone)",
)
NO_BROWSER = switch("--no-browser", "browser", False, "print the URL without opening a browser", absent=True)
