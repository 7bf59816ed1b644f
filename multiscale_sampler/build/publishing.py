"""The attributes of a finished pyramid's group: OME-NGFF, the convention ``multiscales``, geospatial conventions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import store as stores
from ..metadata import OWN_METADATA, VERSIONS, NgffVersion, convention_attributes, image_attributes, namespace_of
from ..metadata.display import Display, image_label_to_publish, omero_to_publish
from ..metadata.geozarr import attributes_of_group, check_on_map, convention_with_geozarr, map_axes, stated_crs
from ..metadata.json_values import json_attributes
from ..methods.reducers import resampling_name
from .build import Arrays, Build


def published_attributes(
    build: Build,
    target: stores.Target,
    version: NgffVersion,
    arrays: Arrays,
    stated: Display,
    *,
    made_by: str,
    labels_of: str | None = None,
) -> dict[str, Any]:
    """Return the attributes of a pyramid's group; reads samples of the coarsest level for display settings."""
    levels = [level.axes for level in build.levels]
    method = str(build.recipe["method"])
    coarsest = arrays[len(levels) - 1]
    nodata = build.recipe.get("nodata")
    attributes = image_attributes(
        levels,
        target.paths,
        version=version,
        name=target.name or build.name,
        method=method,
        made_by=made_by,
        recipe=build.recipe,
        written=target.written,
        omero=None if labels_of else omero_to_publish(build.images[-1], levels[-1], coarsest, stated, nodata),
        image_label=image_label_to_publish(levels[-1], coarsest, stated, version=version, source=labels_of),
        systems=stated.systems,
    )
    if target.layout == "datatree" and VERSIONS[version].namespace is not None:
        # In versions without a namespace, OME-NGFF has an attribute of the same name.
        attributes |= _convention(build, target)
    return attributes


def _convention(build: Build, target: stores.Target) -> dict[str, Any]:
    """Return the attributes of the convention ``multiscales``, which list the levels' groups, or else their arrays."""
    levels, parents = [level.axes for level in build.levels], [level.parent for level in build.levels]
    assets = [path.rpartition("/")[0] or path for path in target.paths]
    resampling_method = resampling_name(str(build.recipe["method"]))
    return convention_attributes(levels, parents, assets, resampling_method=resampling_method)


def crs_to_write(build: Build) -> dict[str, Any]:
    """Return the attributes of an image's coordinate reference system, as `geozarr` writes them.

    Raises
    ------
    ValueError
        If it has none, or its pixels do not form a map grid.
    """
    crs = stated_crs(build.images[0])
    if not crs:
        raise ValueError(
            f"metadata include 'geozarr', but {build.name!r} has no coordinate reference system; set one, as "
            "image.attrs['crs'] = 'EPSG:4326', or by image.rio.write_crs('EPSG:4326')"
        )
    for level in build.levels:
        map_axes(level.axes)
    check_on_map(build.images[0], build.levels[0].axes)
    return json_attributes(crs, build.name)


def with_geozarr(
    attributes: Mapping[str, Any], build: Build, target: stores.Target, crs: Mapping[str, Any], *, alone: bool
) -> dict[str, Any]:
    """Return a pyramid's attributes with the geospatial conventions, and write those of the levels' groups.

    With `alone`, OME-NGFF metadata are left out.
    """
    levels = [level.axes for level in build.levels]
    geospatial = convention_with_geozarr(_convention(build, target), levels, crs, build.images[0].attrs)
    for path, axes in zip(target.paths, levels, strict=True):
        if group := path.rpartition("/")[0]:
            target.group[group].attrs.update(attributes_of_group(axes, crs, build.images[0].attrs))
    if alone:
        # Otherwise kept in OME-NGFF: what mode="w" may replace, and the recipe of the levels.
        (entry,) = namespace_of(attributes)["multiscales"]
        geospatial["multiscales"] = {**geospatial["multiscales"], OWN_METADATA: entry["metadata"]}
        return geospatial
    return {**attributes, **geospatial}
