"""How the documentation is built: ``sphinx-build -W docs FOLDER``, without a network."""

import argparse
from collections.abc import Iterator

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

import multiscale_sampler
from multiscale_sampler.cli import parser

project = "multiscale_sampler"
author = "the multiscale_sampler developers"
release = multiscale_sampler.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
html_theme = "pydata_sphinx_theme"
# A dozen pages fit into one list beside each of them.
html_sidebars = {"**": ["globaltoc.html"]}
html_theme_options = {"show_toc_level": 2, "navbar_center": [], "secondary_sidebar_items": ["page-toc"]}
html_title = "multiscale_sampler"
html_show_sourcelink = False
html_copy_source = False

# Headings can be linked to as GitHub's.
myst_heading_anchors = 3
# Names in backticks are links where they are documented.
default_role = "py:obj"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
# As it is written, not as the dozen types that it stands for.
autodoc_type_aliases = {"npt.DTypeLike": "npt.DTypeLike"}
autosummary_generate = False
napoleon_google_docstring = False
napoleon_use_rtype = False
python_maximum_signature_line_length = 80


class CommandLine(Directive):
    """What ``--help`` says: of the program, and of each of its commands in a section of its own."""

    def run(self) -> list[nodes.Node]:
        """Return the texts, as argparse formats them."""
        program = parser()
        return [_literal(program), *map(_section, _commands(program))]


def _commands(program: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in program._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def _section(command: argparse.ArgumentParser) -> nodes.section:
    name = command.prog.split()[-1]
    return nodes.section("", nodes.title(text=name), _literal(command), ids=[f"command-{name}"], names=[name])


def _literal(command: argparse.ArgumentParser) -> nodes.literal_block:
    text = command.format_help()
    return nodes.literal_block(text, text, language="text")


def setup(app: Sphinx) -> None:
    """Add what only these pages use."""
    app.add_directive("command-line", CommandLine)
