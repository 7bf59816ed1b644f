"""The commands that show pyramids: `view` with its server replaced, and `demo`."""

import logging
import sys
from unittest.mock import Mock

import pytest

import multiscale_sampler as ms
from multiscale_sampler.cli import main


@pytest.fixture
def viewer(monkeypatch):
    """Return a recorder of `view`, whose viewer is interrupted as by Ctrl-C."""
    recorder = Mock(name="view")
    recorder.return_value.wait.side_effect = KeyboardInterrupt
    monkeypatch.setattr(ms, "view", recorder)
    return recorder


@pytest.fixture
def logger(monkeypatch):
    """Return the logger of the package, which gets its level back."""
    logger = logging.getLogger("multiscale_sampler")
    monkeypatch.setattr(logging, "basicConfig", Mock())
    before = logger.level
    yield logger
    logger.setLevel(before)


def test_view__shows_all_stores_until_it_is_interrupted(viewer):
    assert main(["view", "a.zarr", "b.zarr"]) == 0
    viewer.assert_called_once_with("a.zarr", "b.zarr", browser=True)
    viewer.return_value.wait.assert_called_once_with()


@pytest.mark.parametrize(("options", "level"), [([], logging.NOTSET), (["--verbose"], logging.DEBUG)])
def test_view__verbose_logs_every_request(viewer, logger, options, level):
    assert main(["view", "a.zarr", *options]) == 0
    assert logger.level == level
    assert logging.basicConfig.called == bool(options)


@pytest.fixture
def folder(tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra 'plot'")
    return tmp_path / "demo"


def test_demo__draws_an_image_of_the_size_and_names_a_level_that_exists(folder, capsys):
    assert main(["demo", str(folder), "--size", "131"]) == 0
    captured = capsys.readouterr()
    assert "making the image: 100% of" in captured.err
    assert "building: 100% of" in captured.err
    assert "\x1b" not in captured.out + captured.err
    assert ": valid" in captured.out
    assert (folder / "levels.png").read_bytes().startswith(b"\x89PNG")
    assert ms.open_pyramid(folder / "demo.ome.zarr")["scale0/image"].shape == (131, 131, 131)
    code = [line.strip() for line in captured.out.splitlines() if line.startswith("    ")]
    names = {}
    exec("\n".join(code[-3:-1]), names)
    level = eval(code[-1], names)
    assert level.ndim == 2
    # The coarsest of five levels, in the middle of the axis, of 131 samples at 2 micrometers.
    assert code[-1].startswith('tree["scale4/image"].sel(z=131.0, ')
    assert list(ms.open_pyramid(folder / "demo.ome.zarr").children)[-1] == "scale4"
    assert abs(float(level.z) - 131) <= 4


def test_demo__quiet_shows_no_progress(folder, capsys):
    assert main(["demo", str(folder), "--size", "16", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_demo__takes_no_folder_with_files(folder, capsys):
    folder.mkdir()
    assert main(["demo", str(folder), "--size", "16", "--quiet"]) == 0
    assert main(["demo", str(folder), "--size", "16", "--quiet"]) == 1
    assert "is not empty; name a new folder" in capsys.readouterr().err


def test_demo__says_by_its_exit_code_whether_the_pyramid_is_valid(folder, monkeypatch):
    monkeypatch.setattr(ms, "validate", lambda store: Mock(ok=False))
    assert main(["demo", str(folder), "--size", "16", "--quiet"]) == 1


def test_demo__without_matplotlib_names_the_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["demo", str(tmp_path / "demo")]) == 1
    assert "pip install 'multiscale-sampler[plot]'" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()
