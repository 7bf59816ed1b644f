"""Bands of a Laplacian pyramid compared with those of the image that they add up to.

Level 0 is a band, too, and the image is not stored. Bands hold more numbers than their image, so that only those of one
image are the bands of their sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dask.array as da
import numpy as np

from ..image.tree import assemble, levels_of_tree
from ..lazy.pyramid import reconstruct, to_multiscale
from ..metadata.specification import Finding
from ..methods.reducers import REDUCERS
from ..plan.options import LevelOptions
from ..store import StoredPyramid

# Rounding errors of adding up the bands and of computing them again, as a part of the largest value.
BAND_ERRORS = 64
ONE_IMAGE = "The bands of a Laplacian pyramid are those of the image that they add up to."


def holds_bands(stored: StoredPyramid) -> bool:
    """Whether the recipe of this package states that levels are bands that add up to their image."""
    recipe = stored.recipe or {}
    # Where NaN was not ignored, bands are missing around it.
    adds_up = recipe.get("skipna") is not False and "scale_factors" in recipe
    return recipe.get("method") in REDUCERS and REDUCERS[recipe["method"]].bands and adds_up


def band_findings(stored: StoredPyramid, workers: int) -> Iterator[Finding]:
    """Yield a finding for each level that is not the band of the image that all levels add up to.

    All bands are read. One that is wrong also changes the sum, so that the others differ as well.
    """
    options = LevelOptions.of_recipe(stored.recipe or {})
    levels = [image.rename("image") for image in stored.images]
    try:
        image = reconstruct(assemble([level.to_dataset() for level in levels]))
        again: Any = to_multiscale(
            image, options.scale_factors, options.reducer, boundary=options.boundary, min_valid=options.min_valid
        )
    except (ValueError, TypeError) as error:
        yield Finding("error", "datasets", f"levels that are not bands ({error})", "bands of one image", ONE_IMAGE)
        return
    pairs = list(zip(levels, levels_of_tree(again), strict=True))
    lazy = [number for found, expected in pairs for number in _distances(found.data, expected.data)]
    numbers: Any = da.stack([_largest_value(image.data), *lazy])
    largest, *computed = map(float, numbers.compute(scheduler="threads", num_workers=workers))
    distances = zip(computed[::2], computed[1::2], strict=True)
    for path, (count, distance), (found, _) in zip(stored.paths, distances, pairs, strict=True):
        allowed = BAND_ERRORS * float(np.finfo(found.dtype).eps) * largest
        if count or distance > allowed:
            text = f"values that differ by up to {distance:.3g} from the band of the image that all bands add up to"
            if count:
                text = f"{count:.0f} values are missing either here or in the image that all bands add up to"
            yield Finding("error", path, text, f"differences up to {allowed:.2g}", ONE_IMAGE)


def _largest_value(data: da.Array) -> Any:
    """Return the largest magnitude of the finite values of a lazy array, lazily."""
    return da.where(da.isfinite(data), abs(data), 0).max()


def _distances(found: da.Array, expected: da.Array) -> tuple[da.Array, da.Array]:
    """Return how many values are missing in only one of two arrays, and how far the others are apart, lazily."""
    expected = expected.rechunk(found.chunks, method="tasks")
    distance = abs(found - expected)
    missing = (da.isnan(found) != da.isnan(expected)).sum()
    return missing, da.where(da.isfinite(distance), distance, 0).max()
