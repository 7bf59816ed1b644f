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


def test_readme__its_table_of_methods_is_that_of_the_reducers():
    script = Path(__file__).parents[1] / "examples" / "methods_table.py"
    table = subprocess.run([sys.executable, str(script)], check=True, capture_output=True, text=True).stdout
    assert table.count("\n") == len(REDUCERS) + 2
    assert f"\n\n{table}\n" in README
