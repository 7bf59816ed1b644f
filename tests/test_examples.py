"""Every example runs, is short, and the picture that the README shows is what its script draws."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import zarr

from multiscale_sampler import create_test_image, open_pyramid, validate

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Return what runs an example, in this process, which has loaded everything, and returns what it prints."""
    monkeypatch.chdir(tmp_path)
    # Pictures without a screen.
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setitem(sys.modules, "napari", None)

    def run(name: str, *arguments: str) -> str:
        script = str(EXAMPLES / f"{name}.py")
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        runpy.run_path(script, run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_example__fits_a_page(script):
    assert len(script.read_text().splitlines()) <= 40


def test_voxel_positions__draws_the_picture_of_the_readme(tmp_path, run):
    matplotlib = pytest.importorskip("matplotlib", reason="needs the extra 'plot'")
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        run("voxel_positions", str(tmp_path / "drawn.svg"))
    drawn, kept = (path.read_text() for path in (tmp_path / "drawn.svg", EXAMPLES / "voxel_positions.svg"))
    if f"Matplotlib v{matplotlib.__version__}" not in kept:
        # Releases of matplotlib place text differently; the picture itself is that of one of them.
        assert drawn.count("<path") == kept.count("<path")
    else:
        assert drawn == kept


# What others warn of is no concern of ours.
@pytest.mark.filterwarnings("ignore")
def test_compare_brightness__prints_the_table_of_the_readme(run):
    pytest.importorskip("ngff_zarr", reason="needs the extra 'clients'")
    pytest.importorskip("ome_zarr", reason="needs the extra 'clients'")
    printed = run("compare_brightness")
    means = {line[:32].strip(): line[32:].split() for line in printed.splitlines()}
    assert len(means) == 5
    assert all(abs(float(mean) - 4.994) < 0.01 for mean in means["multiscale_sampler mean"])


def test_drop_in__prints_what_the_readme_of_multiscale_spatial_image_shows(tmp_path, run):
    printed = run("drop_in")
    for line in (
        "image    (y, x) uint8 16kB dask.array<chunksize=(128, 128), meta=np.ndarray>",
        "image    (y, x) uint8 4kB dask.array<chunksize=(64, 64), meta=np.ndarray>",
        "* y        (y) float64 512B 0.5 2.5 4.5 6.5 8.5 ... 120.5 122.5 124.5 126.5",
        "image    (y, x, c) float64 160kB dask.array<",
        "* x        (x) float64 400B 1.5 5.5 9.5 13.5 17.5 ... 185.5 189.5 193.5 197.5",
    ):
        assert line in printed
    level = open_pyramid(tmp_path / "multiscale.zarr")["scale2/image"]
    assert [float(position) for position in level.x[:3]] == [1.5, 5.5, 9.5]
    assert validate(tmp_path / "multiscale.zarr").ok


@pytest.mark.parametrize(
    ("name", "printed", "made"),
    [
        ("quickstart", "peak memory", "brain.ome.zarr"),
        ("add_levels_in_place", "['1', '2', 'raw']", "scan.zarr"),
        ("custom_reducer", "float32 expected about", None),
        ("resume", "50% of the source is done", "scan.ome.zarr"),
        ("labels", "the mean would give 8818 voxels", "cells.ome.zarr"),
        ("export_for_napari", "[('DAPI', [(256, 256), (128, 128), (64, 64)])", "cells.ome.zarr"),
    ],
)
def test_example__runs_and_leaves_a_valid_image(name, printed, made, tmp_path, run):
    assert printed in run(name)
    assert made is None or validate(tmp_path / made).ok


def test_examples__are_all_run():
    tested = Path(__file__).read_text()
    assert [script.stem for script in SCRIPTS if script.stem not in tested and script.stem != "methods_table"] == []


def test_cluster__builds_on_two_processes(tmp_path):
    pytest.importorskip("distributed", reason="needs the extra 'distributed'")
    # In a process of its own: workers import the script that began it.
    command = [sys.executable, str(EXAMPLES / "cluster.py"), str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "'scale2': (24, 32, 32)" in done.stdout
    assert validate(tmp_path / "brain.ome.zarr").ok


def test_s3__builds_from_one_place_to_another(run, object_server, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    store = zarr.storage.FsspecStore.from_url(object_server.url("raw.zarr"), storage_options=object_server.options)
    create_test_image(store, "image", shape=(60, 70, 80), chunks=(32, 32, 32))
    target = object_server.url("brain.ome.zarr")
    printed = run("s3", object_server.url("raw.zarr"), target, object_server.endpoint)
    assert "level  factors" in printed
    assert "Dimensions:" in printed
    assert len(open_pyramid(target, storage_options=object_server.options).children) == 3
