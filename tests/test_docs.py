"""The documentation builds without a warning, and leaves no public name out. Its code is run by `test_readme`."""

import subprocess
import sys
from pathlib import Path

import pytest

import multiscale_sampler
from multiscale_sampler.cli import parser

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for module in ("sphinx", "myst_parser", "pydata_sphinx_theme"):
        pytest.importorskip(module, reason="needs the extra 'docs'")
    folder = tmp_path_factory.mktemp("site")
    # On the path stands what the tests import, be it this folder or what is installed.
    code = f"import sys; sys.path[:0] = {sys.path!r}; from sphinx.cmd.build import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "-q", "-W", "--keep-going", "-d", str(folder / "trees"), str(DOCS)]
    done = subprocess.run([*command, str(folder / "html")], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_docs__have_every_public_name(site):
    text = (site / "reference.html").read_text()
    missing = [
        name
        for name in multiscale_sampler.__all__
        if f'id="multiscale_sampler.{name}"' not in text and name != "__version__"
    ]
    assert missing == []


def test_docs__have_every_command(site):
    text = (site / "command-line.html").read_text()
    (commands,) = (action.choices for action in parser()._actions if action.dest == "==SUPPRESS==" and action.choices)
    assert [name for name in commands if f'id="command-{name}"' not in text] == []


def test_docs__take_tables_from_the_readme(site):
    assert "Three halvings of a dim image" in (site / "comparison.html").read_text()
    assert "mode_nonzero" in (site / "methods.html").read_text()
    assert "How it compares" not in (site / "methods.html").read_text().split("<article")[1].split("</article>")[0]


def test_docs__load_nothing_from_elsewhere(site):
    pages = [page.read_text() for page in site.glob("*.html")]
    assert len(pages) > 10
    for page in pages:
        assert 'src="http' not in page
        assert not any('rel="stylesheet" href="http' in line for line in page.splitlines())
