"""Sessions that check the package: `nox -l` lists them, `nox -s tests -- -k plan` hands options to pytest."""

import shutil
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.default_venv_backend = "uv|virtualenv"
# A session that did not run must not look like one that passed.
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["lint", "types", "tests"]

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")["project"]
EXTRAS = PROJECT["optional-dependencies"]
OLDEST, NEWEST = "3.11", "3.13"


@nox.session(python=[OLDEST, NEWEST])
def tests(session: nox.Session) -> None:
    """Run the tests with the newest releases of everything."""
    session.install("--upgrade", "-e", ".[test]")
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session(python=NEWEST)
def thorough(session: nox.Session) -> None:
    """Run what takes longer: the whole matrix, and more examples of property tests."""
    session.install("--upgrade", "-e", ".[test]")
    session.run("pytest", "-n", "auto", "-m", "thorough", *session.posargs)


@nox.session(python=OLDEST)
def mutants(session: nox.Session) -> None:
    """Change the package in small ways, drawn by a seed, and list the changes that no test notices."""
    session.install("-e", ".[test]", "cosmic-ray", "pytest-cov")
    session.run("python", "-m", "tests.mutants", *session.posargs)


@nox.session(python=OLDEST, venv_backend="uv")
def floors(session: nox.Session) -> None:
    """Run the tests with the core dependencies at their declared floors; tests of other clients skip."""
    lowest = ["uv", "pip", "install", "--resolution", "lowest-direct"]
    session.run_install(*lowest, "-r", "pyproject.toml", "--extra", "distributed")
    # Everything that the floors brought stays as it is; the tools on top of it are the newest that agree.
    frozen = Path(session.create_tmp()).resolve() / "floors.txt"
    frozen.write_text(session.run("uv", "pip", "freeze", "--quiet", silent=True))
    tools = [need for need in EXTRAS["test"] if not need.startswith(PROJECT["name"])]
    session.install("--constraint", str(frozen), "-e", ".[distributed,plot,view]", *tools)
    session.run("uv", "pip", "freeze", "--exclude-editable")
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session(python=OLDEST)
def no_jit(session: nox.Session) -> None:
    """Run the tests with the kernels as plain Python."""
    session.install("-e", ".[test]")
    session.run("pytest", "-n", "auto", *session.posargs, env={"NUMBA_DISABLE_JIT": "1"})


@nox.session(python=NEWEST)
def wheel(session: nox.Session) -> None:
    """Run the tests against the built wheel, where the checkout cannot be imported."""
    session.install("build")
    # All that stands beside the package goes along, so that only the installed one is there to be found.
    beside = [
        path
        for path in session.run("git", "ls-files", external=True, silent=True, log=False).splitlines()
        if not path.startswith("multiscale_sampler/")
    ]
    with tempfile.TemporaryDirectory() as folder:
        dist, outside = Path(folder, "dist"), Path(folder, "outside")
        session.run("python", "-m", "build", "--outdir", str(dist))
        (built,) = dist.glob("*.whl")
        session.install(f"{PROJECT['name']}[test] @ {built.as_uri()}")
        for path in beside:
            (outside / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, outside / path)
        with session.chdir(outside):
            code = "import multiscale_sampler as m; print(m.__file__)"
            where = session.run("python", "-c", code, silent=True)
            if "site-packages" not in where:
                session.error(f"the package comes from {where}")
            session.run("pytest", "-n", "auto", *session.posargs)


@nox.session(python=OLDEST)
def lint(session: nox.Session) -> None:
    """Check style, form and the project file."""
    session.install("ruff", "validate-pyproject")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("validate-pyproject", "pyproject.toml")


@nox.session(python=OLDEST)
def types(session: nox.Session) -> None:
    """Check the types."""
    session.install("-e", ".[distributed,plot]", "mypy")
    session.run("mypy")
