"""Every block of the README runs, in order, in one folder; its table of methods is the table of reducers."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from multiscale_sampler.cli import main
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
    names: dict[str, object] = {}
    assert {language for language, _ in BLOCKS} == {"python", "bash"}
    for language, text in BLOCKS:
        if language == "python":
            exec(compile(text, "README.md", "exec"), names)
        else:
            for line in text.splitlines():
                command, *arguments = shlex.split(line)
                assert command == "multiscale-sampler"
                # In this process, which has loaded everything.
                assert main(arguments) == 0, line


def test_readme__its_table_of_methods_is_that_of_the_reducers(capsys):
    runpy.run_path(str(Path(__file__).parents[1] / "examples" / "methods_table.py"), run_name="__main__")
    table = capsys.readouterr().out
    assert table.count("\n") == len(REDUCERS) + 2
    assert f"\n\n{table}\n" in README
