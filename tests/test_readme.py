"""Every block of the README runs, in order, in one folder; its table of methods is the table of reducers."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from multiscale_sampler.reducers import REDUCERS

README = (Path(__file__).parents[1] / "README.md").read_text()
# The two commands that set up an environment are run as they are written by .ci/run.
BLOCKS = [
    (language, text)
    for marked, language, text in re.findall(r"(<!-- ci: \w+ -->\n)?```(\w+)\n(.*?)```", README, flags=re.S)
    if not marked
]


def test_readme__blocks_run_in_order(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="needs the extra 'plot'")
    monkeypatch.chdir(tmp_path)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    names: dict[str, object] = {}
    assert {language for language, _ in BLOCKS} == {"python", "bash"}
    for language, text in BLOCKS:
        if language == "python":
            exec(compile(text, "README.md", "exec"), names)
        else:
            subprocess.run(["bash", "-euc", text], check=True, env={**os.environ, "PATH": path}, capture_output=True)


def test_readme__lists_every_method():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", README, flags=re.M))
    expected = {
        name: f"{reducer.summary} | {reducer.cascade} | {'centre' if reducer.position == 'center' else 'first voxel'}"
        for name, reducer in REDUCERS.items()
    }
    assert rows == expected
