"""One store for each layout, version and kind of image, what it holds, and what a client has seen of it."""

import hashlib
from dataclasses import dataclass

import numpy as np

from multiscale_sampler import to_image, write_labels, write_pyramid
from multiscale_sampler.metadata import WRITTEN_VERSIONS
from tests.data import noise
from tests.oracles import expected_level

LAYOUTS = ("datatree", "flat")
IMAGES = {
    "yx": (("y", "x"), (11, 14)),
    "zyx": (("z", "y", "x"), (6, 7, 8)),
    "czyx": (("c", "z", "y", "x"), (2, 4, 6, 7)),
    "tczyx": (("t", "c", "z", "y", "x"), (2, 2, 4, 6, 5)),
    "lat/lon": (("lat", "lon"), (11, 14)),
    # There are clients that rewrite the list of labels when they open an image.
    "labelled": (("y", "x"), (9, 10)),
}
SPACING = {"t": 3.0, "c": 1.0, "z": 2.0, "y": 0.5, "x": 0.25, "lat": 0.5, "lon": 0.25}
# The first sample is not at the origin, so that a client that drops origins is found out.
ORIGIN = {"x": -3.0, "lat": 40.0}
FACTORS = (1, 2, 3)


@dataclass(frozen=True)
class Level:
    """What a client shows of a level; None for what it knows nothing of."""

    checksum: str
    axes: tuple[str, ...] | None
    spacing: dict[str, float] | None = None
    """By axis, without channels."""
    origins: dict[str, float] | None = None


@dataclass(frozen=True)
class Stored:
    """A store of the matrix."""

    place: str
    version: str
    layout: str
    image: str
    levels: tuple[Level, ...]


def checksum(values):
    """Return what tells values from others: dtype, shape and every byte."""
    values = np.ascontiguousarray(values)
    return f"{values.dtype.name} {list(values.shape)} {hashlib.sha256(values.tobytes()).hexdigest()}"


def write_all(folder):
    """Write every store of the matrix below a folder."""
    return [
        write_one(folder, version, layout, image)
        for version in WRITTEN_VERSIONS
        for layout in LAYOUTS
        for image in IMAGES
    ]


def write_one(folder, version, layout, image):
    """Write a store of the matrix below a folder."""
    dims, shape = IMAGES[image]
    base = noise(shape)
    placed = [dim for dim in dims if dim != "c"]
    place = folder / version / f"{layout}-{image.replace('/', '')}.ome.zarr"
    unit = "degree" if image == "lat/lon" else "micrometer"
    labelled = to_image(
        base,
        dims,
        scale={dim: SPACING[dim] for dim in placed},
        translation={dim: ORIGIN.get(dim, 0.0) for dim in placed},
        units={dim: "second" if dim == "t" else unit for dim in placed},
        channel_names=["DAPI", "GFP"] if "c" in dims else None,
        name="cells",
    )
    chunks = {dims[-2]: 4, dims[-1]: 4}
    write_pyramid(labelled, place, scale_factors=[2, 3], layout=layout, version=version, chunks=chunks)
    if image == "labelled":
        write_labels((base % 7).astype("uint32"), place, "nuclei", chunks=chunks)
    return Stored(str(place), version, layout, image, tuple(_level(base, dims, factor) for factor in FACTORS))


def _level(base, dims, factor):
    along = {dim: factor if dim not in ("t", "c") else 1 for dim in dims}
    placed = [dim for dim in dims if dim != "c"]
    return Level(
        checksum(base if factor == 1 else expected_level(base, tuple(along.values()))),
        tuple(dims),
        {dim: SPACING[dim] * along[dim] for dim in placed},
        # A mean belongs to the centre of its window.
        {dim: ORIGIN.get(dim, 0.0) + (along[dim] - 1) / 2 * SPACING[dim] for dim in placed},
    )


def outcome(seen, stored):
    """Return in words what of a store was seen as it is: "pixels, axes, spacing, origins" at best."""
    if len(seen) != len(stored.levels):
        return f"{len(seen)} levels"
    said = []
    for what, same in (
        ("pixels", lambda a, b: a == b),
        ("axes", lambda a, b: a == b),
        ("spacing", _close),
        ("origins", _close),
    ):
        name = what if what != "pixels" else "checksum"
        pairs = [(getattr(a, name), getattr(b, name)) for a, b in zip(seen, stored.levels, strict=True)]
        known = [number for number, (a, _) in enumerate(pairs) if a is not None]
        if any(not same(*pairs[number]) for number in known):
            said.append(f"wrong {what}")
        elif known:
            said.append(what if len(known) == len(pairs) else f"{what} of level 0")
    return ", ".join(said)


def _close(seen, held):
    return seen.keys() == held.keys() and all(np.isclose(seen[dim], held[dim], rtol=1e-12) for dim in held)


def changes(before, after):
    """Return which files are not as they were."""
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
