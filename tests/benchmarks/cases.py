"""What is benchmarked: images, their chunks, and the levels that are built of them.

A case is a value that goes to every contender's process as JSON; nothing heavy is imported here.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Size: TypeAlias = Literal["small", "full"]
SIZES: tuple[Size, ...] = ("small", "full")


@dataclass(frozen=True)
class Case:
    """An image and the pyramid that is built of it, in steps of 2 along every axis."""

    name: str
    """What the command line calls it."""
    content: Literal["image", "labels", "pinky"]
    """The test image with noise, made-up labels, or the real segmentation `pinky_seg512`."""
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str
    method: Literal["mean", "mode"]
    levels: int
    """Levels besides the base."""

    @classmethod
    def of(cls, document: dict[str, Any]) -> Case:
        """Return the case that `dataclasses.asdict` and JSON made a document of."""
        return cls(**{**document, "shape": tuple(document["shape"]), "chunks": tuple(document["chunks"])})

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes."""
        return ("z", "y", "x")[-len(self.shape) :]

    @property
    def scale_factors(self) -> list[int]:
        """Factors of the levels, from the base."""
        return [2**level for level in range(1, self.levels + 1)]

    @property
    def nbytes(self) -> int:
        """Bytes of the base, uncompressed."""
        voxels = 1
        for size in self.shape:
            voxels *= size
        return voxels * (int(self.dtype.removeprefix("uint")) // 8)

    @property
    def title(self) -> str:
        """The case in words."""
        size = " x ".join(map(str, self.shape))
        chunks = " x ".join(map(str, self.chunks))
        real = "real labels, " if self.content == "pinky" else ""
        return f"{real}{size} {self.dtype}, chunks {chunks}, {self.levels} levels, {self.method}"

    def tiny(self) -> Case:
        """Return a case of the same kind, small enough to warm up on: it compiles and imports the same."""
        chunk = 4
        shape = (chunk * 2**self.levels,) * len(self.shape)
        content: Literal["image", "labels"] = "image" if self.content == "image" else "labels"
        return dataclasses.replace(self, content=content, shape=shape, chunks=(chunk,) * len(self.shape))


FULL = (
    Case("3d", "image", (512,) * 3, (64,) * 3, "uint16", "mean", 3),
    Case("2d", "image", (16384,) * 2, (512,) * 2, "uint16", "mean", 5),
    Case("labels", "pinky", (512,) * 3, (64,) * 3, "uint32", "mode", 3),
)
SMALL = (
    Case("3d", "image", (128,) * 3, (16,) * 3, "uint16", "mean", 3),
    Case("2d", "image", (1024,) * 2, (32,) * 2, "uint16", "mean", 5),
    Case("labels", "pinky", (128,) * 3, (16,) * 3, "uint32", "mode", 3),
)
CASES: dict[Size, dict[str, Case]] = {
    "small": {case.name: case for case in SMALL},
    "full": {case.name: case for case in FULL},
}
