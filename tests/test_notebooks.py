"""Every notebook runs from a fresh kernel in an empty folder, and is kept without outputs."""

import json
from pathlib import Path

import numba
import pytest

import multiscale_sampler
from tests.data import real

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
# What a notebook is about, and what it therefore needs.
CLIENTS = {"06": ["spatial_image", "ngff_zarr", "ome_zarr", "napari_ome_zarr", "neuroglancer"]}
REAL = {
    "01": "mouse_brain_2p",
    "02": "bbbc022_cyx",
    "03": "fib19_labels_u64",
    "04": "geo_small",
    "05": "cell_migration_t",
    "06": "mouse_brain_2p",
}
SECONDS = 300

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def require_clients(path):
    pytest.importorskip("matplotlib", reason="needs the extra 'plot'")
    for module in CLIENTS.get(path.stem[:2], []):
        pytest.importorskip(module, reason="needs the extras 'clients' and 'view'")


@each
def test_notebook__is_kept_without_outputs(path):
    notebook = json.loads(path.read_text())
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}


@each
def test_notebook__runs_and_warns_of_nothing(path, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="needs the extra 'notebooks'")
    nbformat = pytest.importorskip("nbformat", reason="needs the extra 'notebooks'")
    pytest.importorskip("ipykernel", reason="needs the extra 'notebooks'")
    require_clients(path)
    # As after a fresh install: no real images, compiled kernels; and the package that is tested here.
    monkeypatch.delenv("MSS_DATA", raising=False)
    monkeypatch.delenv("NUMBA_DISABLE_JIT", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(multiscale_sampler.__file__).parents[1]), prepend=":")
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    told = [output.text for output in outputs if output.get("name") == "stderr"]
    # Of latitude and longitude as names of axes, which not every client reads, writing says so.
    assert [text for text in told if "some clients will not open" not in text] == []
    assert any("image/png" in output.get("data", {}) for output in outputs) or "view" in path.read_text()


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="NUMBA_DISABLE_JIT: real images take minutes")
# What the clients' own imports warn of; a kernel shows none of it.
@pytest.mark.filterwarnings("default")
@each
def test_notebook__runs_on_real_images(path, tmp_path, monkeypatch):
    folder = real(REAL[path.stem[:2]])
    require_clients(path)
    pyplot = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MSS_DATA", str(folder.parent))
    # In this process, which has loaded everything already; pictures without a screen.
    pyplot.switch_backend("Agg")
    names: dict[str, object] = {"__name__": "__main__"}
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), path.name, "exec"), names)
    pyplot.close("all")
