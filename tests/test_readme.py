"""Every block of the README and of the documentation runs, page by page, each in order and in a folder of its own.

The README's table of methods is the table of reducers.
"""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from multiscale_sampler.cli import main
from multiscale_sampler.methods.reducers import REDUCERS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {page.name: page.read_text() for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
# The two commands that set up an environment are run as they are written by .ci/run; a page says of others why they
# are not run, in a comment before them.
BLOCK = re.compile(r"(<!-- (?:ci: \w+|not run: .+) -->\n)?^```(\w+)\n(.*?)^```", flags=re.S | re.M)
# A page whose blocks write files of many formats, each of which needs its reader.
FILES_PAGE = "how-files-are-read.md"
BLOCKS = {
    page: [(language, code) for marked, language, code in BLOCK.findall(text) if not marked]
    for page, text in PAGES.items()
}


@pytest.mark.parametrize("page", [page for page, blocks in BLOCKS.items() if blocks and page != FILES_PAGE])
def test_page__blocks_run_in_order(page, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="needs the extra 'plot'")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    assert {language for language, _ in BLOCKS[page]} <= {"python", "bash", "console"}
    for language, text in BLOCKS[page]:
        if language == "python":
            exec(compile(text, page, "exec"), names)
        elif language == "bash":
            for line in text.splitlines():
                command, *arguments = shlex.split(line, comments=True)
                assert command == "multiscale-sampler"
                # In this process, which has loaded everything.
                assert main(arguments) == 0, line


READERS = ("h5py", "imageio", "nibabel", "netCDF4", "rasterio", "SimpleITK", "tifffile")
# A row of a table whose last two cells are code: an example, and what it returns.
EXAMPLE = re.compile(r"^\| .* \| `(?P<example>[^`|]+)` \| `(?P<result>[^`|]+)` \|$", flags=re.M)


@pytest.fixture(scope="module")
def files_of_page(tmp_path_factory):
    """Return what the code of the page on files defines, in a folder with the files that it writes."""
    for reader in READERS:
        pytest.importorskip(reader)
    names: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("files"))
        for _, code in BLOCKS[FILES_PAGE]:
            exec(compile(code, FILES_PAGE, "exec"), names)
        yield names


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
@pytest.mark.parametrize(("example", "result"), EXAMPLE.findall(PAGES[FILES_PAGE]))
def test_page__rows_of_conventions_return_what_they_say(files_of_page, example, result):
    assert repr(eval(example, files_of_page)) == result


def test_page__every_convention_has_an_example():
    rows = [line for line in PAGES[FILES_PAGE].splitlines() if line.startswith("| ") and "| example |" not in line]
    assert len(rows) == len(EXAMPLE.findall(PAGES[FILES_PAGE])) > 40


def test_readme__has_blocks_of_both_kinds():
    assert {language for language, _ in BLOCKS["README.md"]} == {"python", "bash"}


def test_readme__its_table_of_methods_is_that_of_the_reducers(capsys):
    runpy.run_path(str(ROOT / "examples" / "methods_table.py"), run_name="__main__")
    table = capsys.readouterr().out
    assert table.count("\n") == len(REDUCERS) + 2
    assert f"\n\n{table}\n" in README
