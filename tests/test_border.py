"""Images as users hold them, through every function that makes or reads levels, against numpy on decoded values.

Draws dtypes, packings, missing values, the kinds of coordinates, orders of axes, the program that wrote the source and
how it was opened, and what was done to the image before it came here, with the encoding that this leaves behind.
"""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import multiscale_sampler as ms

# Clients that refuse an image are not what this is about, nor what xarray says of two missing values.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore:variable .* has multiple fill values"),
]

PACKINGS = {
    "none": {},
    "scale": {"scale_factor": 0.25, "add_offset": 10.0, "_FillValue": -99},
    "negative scale": {"scale_factor": -0.5, "_FillValue": -99},
    "fill": {"_FillValue": -99},
    "missing_value": {"missing_value": -99},
    "two": {"_FillValue": -99, "missing_value": -98},
    "unsigned": {"_Unsigned": "true", "_FillValue": -1},
}
DTYPES = ("int8", "int16", "int32", "float32", "float64", "uint8", "uint16")
TIMES = {
    "dates": lambda n: pd.date_range("2000-01-31", periods=n, freq="6h"),
    "durations": lambda n: pd.to_timedelta(np.arange(n) * 2, "h"),
    "noleap": lambda n: xr.date_range("2000-02-28", periods=n, calendar="noleap", use_cftime=True),
    "texts": lambda n: np.array(["a", "bb", "ccc"][:n]),
    "numbers": lambda n: np.arange(n, dtype="int64") * 3 + 1,
    "floats": lambda n: np.arange(n, dtype="float32") / 3,
}
# How a source is stored and opened.
SOURCES = ("zarr 3", "zarr 2", "zarr 3 in chunks", "zarr 3 as stored", "netCDF", "memory", "ours")
STEPS = {
    "none": lambda image: image,
    "isel": lambda image: image.isel(t=0),
    "squeeze": lambda image: image.isel(t=[0]).squeeze(),
    "rename": lambda image: image.rename(y="lat", x="lon"),
    "transpose": lambda image: image.transpose("x", "t", "y"),
    "expand_dims": lambda image: image.expand_dims("c", axis=1),
    "concat": lambda image: xr.concat([image, image], pd.Index(["one", "two"], name="c")),
    "slice": lambda image: image.isel(y=slice(1, None), x=slice(None, -1)),
    "where": lambda image: image.where(image.notnull()),
    "arithmetic": lambda image: image * 1,
}


@st.composite
def stored_images(draw):
    """Packed values with their attributes, as a program would store them."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES), "dtype"))
    kinds = [kind for kind in PACKINGS if dtype.kind == "i" or kind not in ("unsigned",)]
    kind = draw(st.sampled_from(kinds), "packing")
    packing = dict(PACKINGS[kind])
    if dtype.kind == "u":
        packing |= {key: -value for key, value in packing.items() if key in ("_FillValue", "missing_value")}
    shape = (draw(st.integers(1, 3), "t"), draw(st.integers(4, 9), "y"), draw(st.integers(4, 9), "x"))
    rng = np.random.default_rng(draw(st.integers(0, 99), "seed"))
    low = 0 if dtype.kind == "u" else -90
    values = rng.integers(low, 90, shape).astype(dtype)
    for key in ("_FillValue", "missing_value"):
        if key in packing:
            packing[key] = dtype.type(packing[key])
            values[rng.random(shape) < 0.1] = packing[key]
    times = TIMES[draw(st.sampled_from(sorted(TIMES)), "coordinate")](shape[0])
    descending = draw(st.booleans(), "descending")
    y = 50 + np.arange(shape[1]) * 0.5
    coords = {"t": times, "y": y[::-1] if descending else y, "x": np.arange(shape[2]) * 2.0}
    return xr.DataArray(values, coords, ("t", "y", "x"), "v", packing)


def opened(image, source, place):
    """Store an image as a program would, and return it as it is opened again."""
    dataset = image.to_dataset()
    if source == "memory":
        return image
    if source == "netCDF":
        dataset.to_netcdf(place / "v.nc")
        with xr.open_dataset(place / "v.nc") as found:
            return found["v"].load()
    dataset.to_zarr(place / "v.zarr", zarr_format=2 if source == "zarr 2" else 3, consolidated=False)
    if source == "ours":
        return ms.open_image(place / "v.zarr", "v")
    options = {"chunks": {"t": 1, "y": 3}} if source == "zarr 3 in chunks" else {"chunks": None}
    return xr.open_zarr(place / "v.zarr", consolidated=False, mask_and_scale=source != "zarr 3 as stored", **options)[
        "v"
    ]


def decoded(image):
    """Return what the values of an image stand for, as plain floats in memory."""
    found = xr.conventions.decode_cf_variable("v", image.variable, decode_times=False).load()
    return xr.DataArray(np.asarray(found.values, float), dims=image.dims)


def ascending(image):
    """Return an image with axes of space in the order in which they are stored."""
    turned = [dim for dim in ("y", "lat") if dim in image.dims and image[dim][0] > image[dim][-1]]
    return image.isel(dict.fromkeys(turned, slice(None, None, -1)))


def reduced(values, dims):
    """Return the means of windows of two along some dims; the last window of an odd size has one sample."""
    padded = values.pad({dim: (0, values.sizes[dim] % 2) for dim in dims}, constant_values=np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return padded.coarsen(dict.fromkeys(dims, 2)).reduce(np.nanmean)


def check_level(found, expected, image, *, atol):
    """Check the values of a level, and the coordinates of the axes that are not reduced."""
    values = decoded(found).transpose(*expected.dims)
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=atol)
    if "t" in image.coords and "t" in found.coords:
        assert found["t"].dtype.kind == image["t"].dtype.kind
        assert np.array_equal(np.asarray(found["t"].values), np.asarray(image["t"].values))


def chunks_of(place):
    return {
        path: path.read_bytes()
        for path in sorted(Path(place).rglob("*"))
        if path.is_file() and path.name != "zarr.json"
    }


def step_of(packing, dtype):
    """Return how far rounding moves a mean of packed values: half of a packed step."""
    return 0.5 * abs(packing.get("scale_factor", 1.0)) * 1.0001 if np.dtype(dtype).kind in "iu" else 1e-5


@given(
    image=stored_images(),
    source=st.sampled_from(SOURCES),
    step=st.sampled_from(sorted(STEPS)),
    version=st.sampled_from(["0.4", "0.5"]),
)
def test_an_image__as_it_is_held_has_right_levels_everywhere(image, source, step, version):
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if image["t"].dtype.kind == "U" and (source == "netCDF" or step in ("concat", "expand_dims")):
            # One axis of names is the channels.
            image["t"] = np.arange(image.sizes["t"])
        held = STEPS[step](opened(image, source, place))
        base, written = decoded(held), decoded(ascending(held))
        dims = [dim for dim in held.dims if dim in ("y", "x", "lat", "lon")]
        expected = [base, reduced(base, dims)]
        written = [written, reduced(written, dims)]
        atol = step_of(image.attrs, image.dtype)
        factors = [dict.fromkeys(dims, 2)]

        tree = ms.to_multiscale(held, factors)
        for number, values in enumerate(expected):
            check_level(tree[f"scale{number}/v"], values, held, atol=number * atol)

        ms.write_pyramid(held, place / "a", scale_factors=factors, version=version)
        ms.write_pyramid(tree, place / "b", version=version)
        before = chunks_of(place / "a")
        ms.update_pyramid(place / "a", {dims[0]: slice(None)})
        assert chunks_of(place / "a") == before
        ms.write_pyramid(ms.open_pyramid(place / "a"), place / "c", version=version)
        for name in "abc":
            pyramid = ms.open_pyramid(place / name)
            assert ms.verify_pyramid(place / name).ok
            for number, values in enumerate(written):
                plain = xr.open_zarr(place / name, group=f"scale{number}")["v"]
                opened_again = ms.open_image(place / name, f"scale{number}/v")
                for found in (pyramid[f"scale{number}/v"], plain, opened_again):
                    check_level(found, values, held, atol=number * atol)


@given(
    image=stored_images(),
    zarr_format=st.sampled_from([2, 3]),
    method=st.sampled_from(["mean", "min", "max", "std", "median"]),
)
def test_levels_beside_a_base__are_those_of_its_decoded_values(image, zarr_format, method):
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "v.zarr"
        image.to_dataset().to_zarr(place, zarr_format=zarr_format, consolidated=False)
        base = decoded(image)
        padded = base.pad({dim: (0, base.sizes[dim] % 2) for dim in "yx"}, constant_values=np.nan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            expected = padded.coarsen(y=2, x=2).reduce(getattr(np, f"nan{method}"))
        atol = step_of(image.attrs, image.dtype) if method in ("mean", "median") else 1e-4
        ms.add_levels(place, base="v", scale_factors=[{"y": 2, "x": 2}], method=method)
        before = chunks_of(place)
        ms.update_pyramid(place, {"y": slice(None)})
        assert chunks_of(place) == before
        assert ms.verify_pyramid(place).ok
        for number, values in enumerate((base, expected)):
            name = str(number) if number else "v"
            (level,) = ms.open_pyramid(place)[f"scale{number}"].data_vars.values()
            variable = xr.conventions.decode_cf_variable("v", _raw(place, name))
            for found in (level, ms.open_image(place, name), xr.DataArray(variable)):
                check_level(found, values, found, atol=number * atol)


def _raw(place, name):
    """Return an array as xarray's engine hands it over, before it decodes."""
    others = {"t", "y", "x", "v", "1"} - {name}
    group = xr.open_zarr(place, consolidated=False, decode_cf=False, drop_variables=others)
    return group[name].variable
