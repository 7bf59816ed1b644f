"""Messages that are written for Python, in the words of the command line."""

import ast
import inspect
import re
from pathlib import Path

import pytest
from hypothesis import given, strategies

import multiscale_sampler as ms
from multiscale_sampler import cli
from multiscale_sampler.cli import words

KNOWN = cli.parser().get_default("known")
PACKAGE = Path(ms.__file__).parent
# What no command reaches: notebooks, other libraries' objects, the command line itself.
ELSEWHERE = ("accessor", "backend", "interop", "plots", "cli", "dropin")


@pytest.mark.parametrize(
    ("text", "translated"),
    [
        ("replace it with mode='w'", "replace it with --overwrite"),
        ("with mode='w-'", "with no --overwrite"),
        ("continue with resume=True.", "continue with --resume."),
        ("continue with resume=True (--resume), or", "continue with --resume, or"),
        ("(resume=True)", "(--resume)"),
        ("drop skipna=False", "drop --no-skipna"),
        ("skipna=True is", "--skipna is"),
        ("shards=False", "--shards none"),
        ("shards={'y': 3} is not", "--shards y=3 is not"),
        ("name one with path=", "name one with --path"),
        ("as in dims=('c', 'y', 'x')", "as in --dims c,y,x"),
        ("region={'y': slice(0, 64), 'x': slice(8, None)}", "--region y=0:64,x=8:"),
        ("y=slice(90, 99, None) is outside", "y=90:99 is outside"),
        ("scale_factors=[2, 4] do", "--factors 2,4 do"),
        ("scale_factors=[2] do", "--factors 2, do"),
        ("scale_factors=[{'y': 2}, {'y': 4, 'x': 2}]", "--factors y=2 --factors y=4,x=2"),
        ("scale_factors[0]=1 would", "--factors 1 would"),
        ("nodata=-9999 is", "--nodata -9999 is"),
        ("pass nodata=None", "pass --nodata none"),
        ("memory_limit=2.5 GiB is", "--memory-limit 2.5 GiB is"),
        ("name='a b'", "--name 'a b'"),
        ("write version='0.5' or '0.6'", "write --ngff 0.5 or '0.6'"),
        ("its channel_names are", "its --channel-names are"),
        ("by write_pyramid(..., digests=True)", "by multiscale-sampler build(..., --digests)"),
        ("as in image.astype('float32')", "as with build --dtype float32"),
        ("open it with dims=('t', 'x'), or as in image.rename({'time': 't'})", "open it with --dims t,x"),
        ("rename it with image.rename('image')", "rename it with --name image"),
        ("levels=[9]: there is no level 9", "--levels 9: there is no level 9"),
        ("dims=('t',)", "--dims t"),
        ("chunks=[8]", "--chunks 8,"),
        ("or by axis, as {'x': 'left-to-right'}", "or by axis, as x=left-to-right"),
        ("chunks {'y': 0, 'x': 0} must be", "chunks y=0,x=0 must be"),
        ("found {'name': 'y', 'unit': None}", "found {'name': 'y', 'unit': None}"),
        ("as {'x': <no Python>}", "as {'x': <no Python>}"),
        # Neither paths nor what is no option.
        ("nothing is at '/data/level=0/x.zarr'", "nothing is at '/data/level=0/x.zarr'"),
        ("nothing is at 'level=0'", "nothing is at 'level=0'"),
        ("nothing is at /data/min_size/x.zarr", "nothing is at /data/min_size/x.zarr"),
        ("https://host/x?path=0&level=1", "https://host/x?path=0&level=1"),
        ("scale_factor=0.1 is packed; weights=None", "scale_factor=0.1 is packed; weights=None"),
        ("1 == 2 and x=3", "1 == 2 and x=3"),
    ],
)
def test_translated__names_options_and_commands(text, translated):
    assert words.translated(text, KNOWN) == translated


@given(strategies.lists(strategies.sampled_from([*"={}[](),'\\0x: ", "mode", "chunks", "slice(", "as "])).map("".join))
def test_translated__never_fails(text):
    """It runs where an error is about to be shown."""
    assert isinstance(words.translated(text, KNOWN), str)


def test_translated__takes_the_options_of_the_call_that_failed():
    """`path` is --path of one call of append, and --store-path of the other."""
    arguments = cli.parser().parse_args(["append", "new", "store", "--dim", "t"])

    def open_image():
        raise ValueError("name one with path=")

    def append_pyramid():
        raise ValueError("name one with path=")

    found = []
    for function in (open_image, append_pyramid):
        with pytest.raises(ValueError, match="path=") as caught:
            function()
        found.append(words.options_by_keyword(arguments.known, arguments.calls, caught.value)["path"].flag)
    assert found == ["--path", "--store-path"]
    assert words.options_by_keyword(arguments.known, arguments.calls)["path"].flag == "--store-path"


def test_commands__stand_for_public_functions():
    assert set(words.COMMANDS) <= set(ms.__all__)
    commands = cli.parser().format_help()
    assert all(
        f"    {command.split()[0]} " in commands or f"    {command}\n" in commands
        for command in words.COMMANDS.values()
    )


# --- every message of the package ------------------------------------------------------------------------------


def messages():
    """Yield every text that the package raises or warns with, as it reads with sample values."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0].removesuffix(".py") in ELSEWHERE:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            raised = node.exc if isinstance(node, ast.Raise) else None
            warned = isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("warn", "add_note")
            call = node if warned else raised
            if isinstance(call, ast.Call) and call.args:
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", sample(call.args[0])


def parameters(function):
    """Return the names of a public function's keyword arguments."""
    return [name for name in inspect.signature(getattr(ms, function)).parameters if len(name) > 2]


def sample(node):
    """Return an f-string with a value for each of its expressions."""
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "'v'" for part in node.values)
    return node.value if isinstance(node, ast.Constant) else ""


# Messages about what a command cannot pass: trees, functions, arrays with coordinates.
UNREACHED = (
    "image.assign_coords",
    "array.rename(",
    "array.compute_chunk_sizes(",
    "tree.map_over_datasets",
    "function=",
    "pass a store or a tree",
    "a mapping with",
)
KEYWORDS = {name for function in ms.__all__ if callable(getattr(ms, function)) for name in parameters(function)}
# Python in a message: keyword=, attributes and methods, names of functions.
PYTHON = re.compile(
    rf"(?<![\w./'-])(?:{'|'.join(KEYWORDS)})=|\b(?:image|array|dataset|tree|ms|np)\.\w+"
    r"|\b[a-z]+_(?:image|pyramid|levels|labels)\b"
)


@pytest.mark.parametrize(
    "text", ["mode='w'", "give it a name=", "image.astype('float32')", "by np.abs", "with write_pyramid"]
)
def test_messages__the_guard_sees_python(text):
    assert PYTHON.search(text)


def test_messages__of_what_commands_call_show_no_python():
    texts = {place: text for place, text in messages() if not any(part in text for part in UNREACHED)}
    assert len(texts) > 150
    found = {place: words.translated(text, KNOWN) for place, text in texts.items()}
    assert {place: text for place, text in found.items() if PYTHON.search(text)} == {}
