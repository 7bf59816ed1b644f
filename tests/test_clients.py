"""Other people's schemas and readers, where the matrix of `test_client_matrix` does not go."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from multiscale_sampler import add_levels, open_pyramid, to_image, write_pyramid

from .data import make_array, noise, strict_json
from .oracles import expected_level

RANKS = {
    "yx": (11, 14),
    "zyx": (6, 7, 8),
    "cyx": (2, 9, 8),
    "tyx": (2, 9, 8),
    "czyx": (2, 4, 6, 7),
    "tczyx": (2, 2, 4, 6, 5),
}
STORES = {
    f"{layout}-{version}-{dims}": (layout, version, dims)
    for layout in ("datatree", "flat")
    for version in ("0.4", "0.5")
    for dims in RANKS
}


def client(module):
    return pytest.importorskip(module, reason=f"the extra 'clients' brings {module.split('.')[0].replace('_', '-')}")


@pytest.fixture(scope="module", params=STORES.values(), ids=STORES)
def pyramid(request, tmp_path_factory):
    """A store, what it holds, and how it is laid out: written once for all clients."""
    layout, version, dims = request.param
    base = noise(RANKS[dims])
    place = tmp_path_factory.mktemp("clients") / "p.ome.zarr"
    image = to_image(
        base,
        dims,
        scale={dim: {"z": 2.0, "y": 0.5, "x": 0.25, "t": 3.0}[dim] for dim in dims if dim != "c"},
        translation={"x": -3.0},
        units={dim: "second" if dim == "t" else "micrometer" for dim in dims if dim != "c"},
        channel_names=["DAPI", "GFP"] if "c" in dims else None,
        name="cells",
    )
    write_pyramid(image, place, scale_factors=[2, 3], layout=layout, version=version, chunks={"y": 4, "x": 4})
    spatial = [tuple(factor if dim in "zyx" else 1 for dim in dims) for factor in (1, 2, 3)]
    levels = [base, *(expected_level(base, factors) for factors in spatial[1:])]
    return place, version, dims, levels, spatial


def described(place, version):
    """Return the multiscales entry, with its datasets' (path, scale, translation)."""
    attributes = strict_json(place / (".zattrs" if version == "0.4" else "zarr.json"))
    document = attributes if version == "0.4" else attributes["attributes"]["ome"]
    return document["multiscales"][0], document


# --- schemas ---------------------------------------------------------------------------------------------------


def schemas(version):
    """Return the official schemas of a version as ngff-zarr brings them, by file name, and a registry of them."""
    client("ngff_zarr")
    referencing = pytest.importorskip("referencing", reason="jsonschema brings referencing")
    folder = Path(importlib.util.find_spec("ngff_zarr").origin).parent / "spec" / version / "schemas"
    found = {path.name: json.loads(path.read_text()) for path in folder.glob("*.schema")}
    assert found
    registry = referencing.Registry().with_resources(
        (schema["$id"], referencing.Resource.from_contents(schema, referencing.jsonschema.DRAFT202012))
        for schema in found.values()
    )
    return found, registry


@pytest.mark.parametrize("name", ["image.schema", "strict_image.schema"])
def test_official_schemas__accept_the_metadata(pyramid, name):
    jsonschema = pytest.importorskip("jsonschema", reason="the extra 'test' brings jsonschema")
    place, version, *_ = pyramid
    found, registry = schemas(version)
    attributes = strict_json(place / (".zattrs" if version == "0.4" else "zarr.json"))
    attributes = attributes if version == "0.4" else attributes["attributes"]
    validator = jsonschema.Draft202012Validator(found[name], registry=registry)
    assert [error.message for error in validator.iter_errors(attributes)] == []


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_official_schemas__refuse_what_lacks_a_name(tmp_path, version):
    jsonschema = pytest.importorskip("jsonschema", reason="the extra 'test' brings jsonschema")
    write_pyramid(noise((8, 8)), tmp_path / "p.zarr", scale_factors=[2], version=version)
    entry, document = described(tmp_path / "p.zarr", version)
    del entry["name"]
    found, registry = schemas(version)
    attributes = document if version == "0.4" else {"ome": document}
    strict = jsonschema.Draft202012Validator(found["strict_image.schema"], registry=registry)
    assert [error.message for error in strict.iter_errors(attributes)] == ["'name' is a required property"]


# --- readers ---------------------------------------------------------------------------------------------------


def test_tensorstore__reads_shards(tmp_path):
    tensorstore = client("tensorstore")
    base = noise((30, 20))
    write_pyramid(base, tmp_path / "p.zarr", scale_factors=[2], chunks=4, shards=8)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{tmp_path}/p.zarr/scale1/image/"}}
    values = tensorstore.open(spec, read=True).result().read().result()
    np.testing.assert_array_equal(values, expected_level(base, (2, 2)))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_clients__read_what_add_levels_made(tmp_path, zarr_format):
    base = noise((9, 10, 11))
    place = tmp_path / "all.zarr" / "field1"
    make_array(place, base, zarr_format=zarr_format, chunks=(4, 4, 4), dims=("z", "y", "x"))
    zarr.open_group(place, mode="a", zarr_format=zarr_format)
    add_levels(place, scale_factors=[2, 3], scale=2.0)
    multiscales = client("ngff_zarr").from_ngff_zarr(str(place), validate=True)
    (node,) = list(client("ome_zarr.reader").Reader(client("ome_zarr.io").parse_url(str(place)))())
    client("yaozarrs").validate_zarr_store(str(place))
    client("ome_zarr_models").open_ome_zarr(zarr.open_group(place, mode="r"))
    for number, factor in enumerate((1, 2, 3)):
        values = base if factor == 1 else expected_level(base, (factor,) * 3)
        np.testing.assert_array_equal(np.asarray(multiscales.images[number].data), values)
        np.testing.assert_array_equal(np.asarray(node.data[number]), values)
        assert multiscales.images[number].scale["z"] == 2.0 * factor
        assert multiscales.images[number].translation["z"] == factor - 1


@pytest.mark.filterwarnings("ignore:The 'coordinate_transformations' argument is deprecated:DeprecationWarning")
@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("writer", ["ngff_zarr", "ome_zarr"])
def test_open_pyramid__reads_what_clients_wrote(tmp_path, writer, version):
    base = noise((32, 48))
    place = str(tmp_path / "p.ome.zarr")
    if writer == "ngff_zarr":
        ngff_zarr = client("ngff_zarr")
        image = ngff_zarr.to_ngff_image(
            base, dims=("y", "x"), scale={"y": 2.0, "x": 3.0}, translation={"y": 5.0, "x": 0.0}, name="em"
        )
        multiscales = ngff_zarr.to_multiscales(image, scale_factors=[2], method=ngff_zarr.Methods.DASK_BIN_SHRINK)
        ngff_zarr.to_ngff_zarr(place, multiscales, version=version)
        # It rounds half up.
        expected, shift = np.asarray(multiscales.images[1].data), [5.0, 0.0]
    else:
        ome_writer = client("ome_zarr.writer")
        formats = client("ome_zarr.format")
        fmt = formats.FormatV04() if version == "0.4" else formats.FormatV05()
        transforms = [
            [{"type": "scale", "scale": [2.0 * f, 3.0 * f]}, {"type": "translation", "translation": [f - 1.0, 0.0]}]
            for f in (1, 2)
        ]
        group = zarr.open_group(place, mode="w", zarr_format=2 if version == "0.4" else 3)
        ome_writer.write_multiscale(
            [base, base[::2, ::2]], group, axes="yx", coordinate_transformations=transforms, fmt=fmt
        )
        expected, shift = base[::2, ::2], [0.0, 0.0]
    tree = open_pyramid(place)
    levels = [next(iter(node.data_vars.values())) for node in tree.children.values()]
    np.testing.assert_array_equal(levels[0].values, base)
    np.testing.assert_array_equal(levels[1].values, expected)
    assert [float(levels[1][dim][1] - levels[1][dim][0]) for dim in "yx"] == [4.0, 6.0]
    assert [float(levels[0][dim][0]) for dim in "yx"] == shift


# --- the zarr convention ---------------------------------------------------------------------------------------


def test_zarr_convention__is_said_by_the_default_layout_of_zarr_v3_only(pyramid):
    place, version, dims, levels, ladder = pyramid
    attributes = strict_json(place / ("zarr.json" if version == "0.5" else ".zattrs"))
    if version == "0.4" or not (place / "scale0").exists():
        attributes = attributes if version == "0.4" else attributes["attributes"]
        assert "zarr_conventions" not in attributes
        # In 0.4 the name belongs to OME-NGFF.
        assert isinstance(attributes.get("multiscales", []), list)
        return
    attributes = attributes["attributes"]
    (convention,) = [c for c in attributes["zarr_conventions"] if c["name"] == "multiscales"]
    assert convention["uuid"] == "d35379db-88df-4056-af3a-620245f8e347"
    base = "https://raw.githubusercontent.com/zarr-conventions/multiscales/refs/tags/v0.1"
    assert convention["schema_url"] == f"{base}/schema.json"
    assert convention["spec_url"] == "https://github.com/zarr-conventions/multiscales/blob/v0.1/README.md"
    assert attributes["multiscales"]["resampling_method"] == "average"
    layout = attributes["multiscales"]["layout"]
    assert len(layout) == len(levels)
    group = zarr.open_group(place)
    origins = {layout[0]["asset"]: ([1.0] * len(dims), [0.0] * len(dims))}
    for number, item in enumerate(layout):
        assert not item["asset"].startswith("/")
        assert ".." not in item["asset"]
        assert item["asset"] in group
        assert ("derived_from" in item) == (number > 0)
        if number == 0:
            continue
        scale, translation = item["transform"]["scale"], item["transform"]["translation"]
        finer_scale, finer_translation = origins[item["derived_from"]]
        absolute = (
            [a * b for a, b in zip(scale, finer_scale, strict=True)],
            [s * t + o for s, t, o in zip(finer_scale, translation, finer_translation, strict=True)],
        )
        origins[item["asset"]] = absolute
        assert absolute == ([float(f) for f in ladder[number]], [(f - 1) / 2 for f in ladder[number]])
