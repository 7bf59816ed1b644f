"""Anatomical orientation of axes, in the terms of OME-NGFF RFC 4, and from letter codes ("RAS") and matrices.

"The directional orientation values specify the direction from lowest to highest coordinates along the axis."
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..messages import check_choice

OrientationOption: TypeAlias = "str | Mapping[str, Any]"

# Each line is one anatomical axis, of which "a set of axes MUST only have one".
ANATOMICAL_AXES = (
    ("left-to-right", "right-to-left"),
    ("anterior-to-posterior", "posterior-to-anterior"),
    ("inferior-to-superior", "superior-to-inferior"),
    ("dorsal-to-ventral", "ventral-to-dorsal"),
    ("dorsal-to-palmar", "palmar-to-dorsal"),
    ("dorsal-to-plantar", "plantar-to-dorsal"),
    ("rostral-to-caudal", "caudal-to-rostral"),
    ("cranial-to-caudal", "caudal-to-cranial"),
    ("proximal-to-distal", "distal-to-proximal"),
    ("superficial-to-deep", "deep-to-superficial"),
    ("apical-to-basal", "basal-to-apical"),
    ("apex-to-base", "base-to-apex"),
)
ORIENTATIONS = frozenset(word for pair in ANATOMICAL_AXES for word in pair)
# A letter names the direction in which coordinates grow, as in nibabel, ITK and openMINDS: "RAS" grows to the right.
LETTERS = {
    "R": "left-to-right",
    "L": "right-to-left",
    "A": "posterior-to-anterior",
    "P": "anterior-to-posterior",
    "S": "inferior-to-superior",
    "I": "superior-to-inferior",
}
LETTERED_DIMS = ("x", "y", "z")
# Attributes of an image whose axes are rotated in space: the directions of its axes, as itk's xarray bridge names them,
# and the position of its first sample.
DIRECTION, ORIGIN = "direction", "origin"
# An axis follows the direction that it is nearer to; at 45 degrees, as far as rounding tells, it follows neither.
DIAGONAL = 0.7072


def orientations_of(option: OrientationOption, spatial: Sequence[str]) -> dict[str, str]:
    """Return the orientation of each axis by name, from a letter code or a mapping.

    Parameters
    ----------
    option
        Three letters for x, y and z ("RAS", "LPS"), or a mapping from axes to terms of RFC 4.
    spatial
        The spatial axes.

    Raises
    ------
    ValueError
        If a letter, a term or an axis is not known, or two axes follow the same anatomical axis.
    """
    if isinstance(option, str):
        return _of_letters(option, spatial)
    if unknown := [dim for dim in option if dim not in spatial]:
        # "The orientation field MUST only be used on spatial axes"
        raise ValueError(f"orientation names {unknown!r}, but the spatial axes are {tuple(spatial)!r}; name only those")
    words = {dim: word["value"] if isinstance(word, Mapping) else word for dim, word in option.items()}
    check_orientations(words)
    return words


def _of_letters(letters: str, spatial: Sequence[str]) -> dict[str, str]:
    code = letters.upper()
    along = [pair for letter in code for pair in ANATOMICAL_AXES if LETTERS.get(letter) in pair]
    if len(code) != len(LETTERED_DIMS) or len(set(along)) != len(LETTERED_DIMS):
        raise ValueError(
            f"orientation={letters!r} is not a code of three letters, one each of R or L, A or P, S or I; write it as "
            "'RAS', or by axis, as in {'x': 'left-to-right'}"
        )
    if not set(spatial) <= set(LETTERED_DIMS):
        raise ValueError(
            f"orientation={letters!r} names the axes x, y and z, but the spatial axes are {tuple(spatial)!r}; name "
            "them, as in {'depth': 'superior-to-inferior'}"
        )
    return {dim: LETTERS[letter] for dim, letter in zip(LETTERED_DIMS, code, strict=True) if dim in spatial}


def check_orientations(words: Mapping[str, Any]) -> None:
    """Refuse terms that RFC 4 does not define, and two axes along the same anatomical axis.

    Raises
    ------
    ValueError
        With the axes and terms concerned.
    """
    for dim, word in words.items():
        check_choice(f"orientation of {dim!r}", word, sorted(ORIENTATIONS))
    for pair in ANATOMICAL_AXES:
        if len(shared := [dim for dim, word in words.items() if word in pair]) > 1:
            raise ValueError(
                f"the axes {shared!r} have the orientations {[words[dim] for dim in shared]!r}, which lie along the "
                "same anatomical axis; give each axis its own"
            )


def orientations_along(directions: npt.ArrayLike, letters: str) -> tuple[str | None, ...]:
    """Return the orientation of each column of a matrix of directions.

    Parameters
    ----------
    directions
        A matrix with the direction of each axis in its columns; square, or with more rows than columns.
    letters
        What the rows are: "RAS" (NIfTI) or "LPS" (ITK).

    Returns
    -------
    tuple of str or None
        None for an axis that lies halfway between two directions.
    """
    found: list[str | None] = []
    for column in np.asarray(directions, np.float64).T:
        length = float(np.linalg.norm(column))
        row = int(np.argmax(np.abs(column)))
        if not length or not np.isfinite(length) or abs(column[row]) < DIAGONAL * length:
            found.append(None)
            continue
        word = LETTERS[letters[row]]
        found.append(word if column[row] > 0 else opposite(word))
    # If two axes are nearest to the same direction, neither of them is known.
    return tuple(None if word is not None and _leads_twice(word, found) else word for word in found)


def _leads_twice(word: str, words: Sequence[str | None]) -> bool:
    return sum(other in (word, opposite(word)) for other in words if other is not None) > 1


def opposite(word: str) -> str:
    """Return the orientation of the same axis the other way."""
    start, _, end = word.partition("-to-")
    return f"{end}-to-{start}"
