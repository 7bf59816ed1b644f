"""What every test module shares: deterministic hypothesis profiles, and a dask that may not compute or is counted."""

import importlib.util
import sys
from collections.abc import Callable, Iterator

import dask
import numba
import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings

from .strategies import is_thorough

# A run finds the same cases every time; with `-m thorough` it looks further.
settings.register_profile(
    "quick",
    derandomize=True,
    deadline=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=200)

# dask looks for this package whenever it meets an image. Where it is missing, all of sys.path is searched each time, a
# tenth of what it takes to make a small tree.
if importlib.util.find_spec("dask_array") is None:
    sys.modules["dask_array"] = None  # type: ignore[assignment]

# No test waits for a store that is to fail.
dask.config.set({"multiscale_sampler.request_delay": 0.0})

# Loops that run in the interpreter warn where compiled ones follow IEEE 754 in silence (inf - inf, say).
INTERPRETED_KERNELS = "ignore:(invalid value|overflow|divide by zero) encountered:RuntimeWarning"


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("thorough" if is_thorough(config) else "quick")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if is_thorough(config):
        # Property tests are worth another run, since they draw more examples.
        for item in items:
            if is_hypothesis_test(getattr(item, "obj", None)):
                item.add_marker("thorough")
    if numba.config.DISABLE_JIT:
        for item in items:
            item.add_marker(pytest.mark.filterwarnings(INTERPRETED_KERNELS))


@pytest.fixture
def refuse_to_compute() -> Iterator[None]:
    """Let every computation of dask fail."""

    def refuse(graph: object, keys: object, **options: object) -> None:
        raise AssertionError(f"dask was asked to compute {keys!r}")

    with dask.config.set(scheduler=refuse):
        yield


@pytest.fixture
def computations() -> Iterator[list[object]]:
    """Count the computations of dask: one entry for each."""
    seen: list[object] = []
    get: Callable[..., object] = dask.get

    def count(graph: object, keys: object, **options: object) -> object:
        seen.append(keys)
        return get(graph, keys, **options)

    with dask.config.set(scheduler=count):
        yield seen


@pytest.fixture(scope="session")
def object_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """Run a server that speaks S3, and counts requests."""
    for module in ("moto.moto_server", "flask", "s3fs"):
        pytest.importorskip(module, reason="the extra 'test' brings moto and s3fs")
    from .object_server import running

    with running(tmp_path_factory.mktemp("object_server")) as server:
        yield server
