"""The domain-agnostic ``multiscales`` convention: https://github.com/zarr-conventions/multiscales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..image.axes import Axis
from .writing import ngff_line

MULTISCALES_CONVENTION = {
    "uuid": "d35379db-88df-4056-af3a-620245f8e347",
    "name": "multiscales",
    "description": "Multiscale layout of zarr datasets",
    "schema_url": "https://raw.githubusercontent.com/zarr-conventions/multiscales/refs/tags/v0.1/schema.json",
    "spec_url": "https://github.com/zarr-conventions/multiscales/blob/v0.1/README.md",
}


def convention_attributes(
    levels: Sequence[Sequence[Axis]], parents: Sequence[int], assets: Sequence[str], *, resampling_method: str
) -> dict[str, Any]:
    """Return the attributes of the zarr-conventions ``multiscales`` object.

    "transform" is relative to the level that an entry is derived from (`parents`), in that level's samples;
    `resampling_method` is what the convention calls the method of the levels.
    """
    layout: list[dict[str, Any]] = [{"asset": assets[0]}]
    for axes, parent, asset in zip(levels[1:], parents[1:], assets[1:], strict=True):
        steps = [relative_line(axis, other) for axis, other in zip(axes, levels[parent], strict=True)]
        transform = {"scale": [scale for scale, _ in steps], "translation": [offset for _, offset in steps]}
        layout.append({"asset": asset, "derived_from": assets[parent], "transform": transform})
    return {
        "zarr_conventions": [dict(MULTISCALES_CONVENTION)],
        "multiscales": {"resampling_method": resampling_method, "layout": layout},
    }


def relative_line(axis: Axis, finer: Axis) -> tuple[float, float]:
    """Return spacing and position of an axis in samples of a finer one, free of the units' rounding."""
    (scale, translation, _), (finer_scale, finer_translation, _) = ngff_line(axis), ngff_line(finer)
    return round(scale / finer_scale, 9), round((translation - finer_translation) / finer_scale, 9)


def shorter_layout(
    layout: Sequence[Mapping[str, Any]], levels: Mapping[str, Sequence[Axis]], removed: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the layout of the zarr convention without some levels; what was derived from these is of the base."""
    axes = {path.rpartition("/")[0] or path: along for path, along in levels.items()}
    gone = {path.rpartition("/")[0] or path for path in removed}
    base = layout[0]["asset"]
    kept = []
    for item in layout:
        if item["asset"] in gone:
            continue
        if item.get("derived_from") in gone:
            steps = [relative_line(axis, other) for axis, other in zip(axes[item["asset"]], axes[base], strict=True)]
            transform = {"scale": [scale for scale, _ in steps], "translation": [offset for _, offset in steps]}
            item = {**item, "derived_from": base, "transform": transform}
        kept.append(dict(item))
    return kept
