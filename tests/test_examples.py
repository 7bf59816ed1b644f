"""Every example runs, is short, and the picture that the README shows is what its script draws."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


def run(script: Path, *arguments: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, str(script), *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_example__fits_a_page(script):
    assert len(script.read_text().splitlines()) <= 40


def test_voxel_positions__draws_the_picture_of_the_readme(tmp_path):
    matplotlib = pytest.importorskip("matplotlib", reason="needs the extra 'plot'")
    run(EXAMPLES / "voxel_positions.py", str(tmp_path / "drawn.svg"), cwd=tmp_path)
    drawn, kept = (path.read_text() for path in (tmp_path / "drawn.svg", EXAMPLES / "voxel_positions.svg"))
    if f"Matplotlib v{matplotlib.__version__}" not in kept:
        # Releases of matplotlib place text differently; the picture itself is that of one of them.
        assert drawn.count("<path") == kept.count("<path")
    else:
        assert drawn == kept


def test_compare_brightness__prints_the_table_of_the_readme(tmp_path):
    pytest.importorskip("ngff_zarr", reason="needs the extra 'clients'")
    pytest.importorskip("ome_zarr", reason="needs the extra 'clients'")
    printed = run(EXAMPLES / "compare_brightness.py", cwd=tmp_path)
    means = {line[:32].strip(): line[32:].split() for line in printed.splitlines()}
    assert len(means) == 5
    assert all(abs(float(mean) - 4.994) < 0.01 for mean in means["multiscale_sampler mean"])
