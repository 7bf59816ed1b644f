"""The programs that print the tables of the README: `peers`, `scaling` and `kernels` run, small, as they are called."""

import dataclasses
import json

import pytest

from . import kernels, measuring, peers, scaling
from .cases import CASES
from .contenders import contenders
from .measuring import Measurement
from .reporting import Comparison, as_markdown

NAMED = ["--case", "3d", "--mode", "beside", "--size", "small", "--json", "--contenders", "ours", "limit"]
# For what is not about the images: those are not even written.
INSTANT = Measurement(1.0, 2 * 10**8, 10**8, "none")


def test_peers__measures_in_processes_and_leaves_nothing_behind(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(CASES["small"], "3d", dataclasses.replace(CASES["small"]["3d"], levels=2).tiny())
    assert peers.main([*NAMED, "--rounds", "1", "--folder", str(tmp_path)]) == 0
    (comparison,) = json.loads(capsys.readouterr().out)["comparisons"]
    rows = {row["name"]: row for row in comparison["rows"]}
    assert rows["ours"]["difference"] == "none"
    assert rows["limit"]["difference"] in ("none", "up to 1")
    assert rows["ours"]["to_ours"] == 1
    assert all(row["seconds"] > 0 and 10 < row["peak_megabytes"] < 2000 for row in rows.values())
    assert not list(tmp_path.iterdir())


def test_peers__contenders_take_turns(capsys, monkeypatch):
    monkeypatch.setattr(peers, "write_source", lambda case, folder: "")
    monkeypatch.setattr(peers, "measure", lambda contender, case, folder, cores: INSTANT)
    assert peers.main([*NAMED, "--rounds", "2"]) == 0
    turns = [line.split(":")[0] for line in capsys.readouterr().err.splitlines()[1:]]
    assert turns == [f"3d beside {n}/2 {name}" for n, name in [(1, "limit"), (1, "ours"), (2, "ours"), (2, "limit")]]


def test_peers__one_that_fails_is_not_tried_again(capsys, monkeypatch):
    def measure(contender, case, folder, cores):
        return Measurement(failure="OSError: full") if contender.name == "limit" else INSTANT

    monkeypatch.setattr(peers, "write_source", lambda case, folder: "")
    monkeypatch.setattr(peers, "measure", measure)
    assert peers.main([*NAMED, "--rounds", "3"]) == 0
    printed = capsys.readouterr()
    assert printed.err.count("limit: OSError: full") == 1
    limit, ours = json.loads(printed.out)["comparisons"][0]["rows"]
    assert limit["failure"] == "OSError: full"
    assert ours["seconds"] == 1


def test_peers__leaves_out_a_case_without_its_data(capsys, monkeypatch, tmp_path):
    def in_this_process(order, answer):
        measuring.main(order, answer)
        return json.loads(answer.read_text())

    monkeypatch.delenv("MSS_DATA", raising=False)
    monkeypatch.setattr(measuring, "_ask", in_this_process)
    assert peers.main(["--case", "labels", "--size", "small", "--folder", str(tmp_path)]) == 1
    assert "left out the case 'labels': FileNotFoundError: needs the real labels" in capsys.readouterr().err


def test_scaling__tells_time_and_memory_of_both_sizes(capsys, monkeypatch):
    def measure(contender, case, folder, cores):
        # Time that grows with the square of the length.
        return Measurement(case.nbytes * case.shape[0] / 2**25, 2 * 10**8, 10**8, "none")

    monkeypatch.setattr(scaling, "write_source", lambda case, folder: "")
    monkeypatch.setattr(scaling, "measure", measure)
    assert scaling.main(["--size", "small", "--rounds", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[2:6] == [
        f"| {length} x 64 x 64 uint16 | {limit} | {seconds} | {ratio} x | 200 (100) | none |"
        for limit in ("the plan's", "512 MiB")
        for length, seconds, ratio in ((64, "1.00", "1.00"), (256, "16.00", "4.00"))
    ]


@pytest.mark.filterwarnings(kernels.TINYBRAIN_MAY_WARN)
def test_kernels__prints_a_line_for_every_case(capsys):
    assert kernels.main(["--side", "12", "--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2 : 2 + len(kernels.CASES)]] == [
        f"| {case.title}" for case in kernels.CASES
    ]


def test_as_markdown__tells_medians_ratios_and_failures():
    limit, ours, tensorstore, sampler = contenders("beside")
    case = CASES["full"]["labels"]
    runs = {
        limit: [Measurement(failure="OSError: | is no file")],
        ours: [Measurement(seconds, 3 * 10**8, 2 * 10**8, "none") for seconds in (2.0, 1.0, 9.0)],
        tensorstore: [Measurement(seconds, 10**8, 10**8, "none") for seconds in (4.0, 4.0, 3.0)],
        sampler: [Measurement(seconds, 10**8, 10**8, "5.0% of voxels") for seconds in (4.0, 4.0, 9.0)],
    }
    lines = as_markdown([Comparison(case, "beside", runs)], "an abacus", 3).splitlines()
    assert lines[2:6] == [
        "| limit: bare files, no zarr | fails: OSError: \\| is no file |  |  |  |  |",
        "| multiscale_sampler `add_levels` | 2.00 (1.00 to 9.00) | 0.50 x | 1.00 x | 300 (200) | none |",
        "| TensorStore downsample | 4.00 (3.00 to 4.00) | 1.00 x | 2.00 x | 100 (100) | none |",
        "| pyramid_sampler (mean) | 4.00 (4.00 to 9.00) | 1.00 x | 2.00 x | 100 (100) | 5.0% of voxels |",
    ]
    assert "an abacus" in lines[-1]
