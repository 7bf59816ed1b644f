"""Progress: to a program, a terminal, or a log."""

import pytest

from multiscale_sampler.tasks.progress import Progress, reporting


def test_progress__fraction():
    assert Progress(25, 100, 1.0).fraction == 0.25
    assert Progress(0, 0, 0.0).fraction == 1.0


@pytest.mark.parametrize("progress", [None, False])
def test_reporting__is_silent_unless_asked(capsys, progress):
    with reporting(progress, 10, "building") as report:
        report(10)
    assert capsys.readouterr() == ("", "")


def test_reporting__counts_for_a_program(capsys):
    seen = []
    with reporting(seen.append, 100, "building") as report:
        for nbytes in (10, 30, 60):
            report(nbytes)
    assert [(point.done, point.total) for point in seen] == [(10, 100), (40, 100), (100, 100)]
    assert [point.elapsed for point in seen] == sorted(point.elapsed for point in seen)
    assert seen[0].elapsed >= 0
    assert capsys.readouterr() == ("", "")


def test_reporting__prints_a_line_for_each_tenth_in_a_log(capsys):
    with reporting(True, 1000, "building") as report:
        for _ in range(1000):
            report(1)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 11
    assert lines[0].startswith("building: 0% of 0.98 kiB after") or lines[0].startswith("building: 0% of 1000 B after")
    assert lines[5].startswith("building: 50% of")
    assert lines[-1].startswith("building: 100% of")


def test_reporting__prints_few_lines_where_steps_are_large(capsys):
    with reporting(True, 10, "building") as report:
        report(7)
        report(3)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" of ")[0] for line in lines] == ["building: 70%", "building: 100%"]


def test_reporting__shows_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with reporting(True, 2**20, "building") as report:
        report(2**19)
        report(2**19)
    out, err = capsys.readouterr()
    assert out == ""
    assert "building" in err
    assert "1.0" in err


@pytest.mark.parametrize("terminal", [True, False])
def test_reporting__lets_an_error_through(capsys, monkeypatch, terminal):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)

    def fail():
        with reporting(True, 10, "building") as report:
            report(5)
            raise RuntimeError("no luck")

    with pytest.raises(RuntimeError, match="no luck"):
        fail()
