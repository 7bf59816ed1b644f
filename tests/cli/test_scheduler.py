"""--scheduler: on which cluster a build runs. Clusters are replaced; `tests/tasks` builds on real ones."""

from unittest.mock import MagicMock

import numpy as np
import pytest

import multiscale_sampler as ms
from multiscale_sampler.cli import main
from multiscale_sampler.tasks import machine

distributed = pytest.importorskip("distributed", reason="needs the extra 'distributed'")


@pytest.fixture
def clusters(monkeypatch):
    """Return recorders of LocalCluster and Client, and for each build whether a client was open."""
    cluster, client, seen = MagicMock(name="LocalCluster"), MagicMock(name="Client"), []

    def build(*places, **options):
        opened = client.return_value.__enter__.call_count
        seen.append(opened > client.return_value.__exit__.call_count)

    monkeypatch.setattr(distributed, "LocalCluster", cluster)
    monkeypatch.setattr(distributed, "Client", client)
    for function in ("write_pyramid", "add_levels"):
        monkeypatch.setattr(ms, function, build)
    monkeypatch.setattr(ms, "open_image", MagicMock(return_value=ms.to_image(np.zeros((4, 4)))))
    monkeypatch.setattr("multiscale_sampler.store.open_labels", MagicMock(return_value={}))
    return cluster, client, seen


COMMANDS = [["build", "raw.zarr", "out.zarr"], ["add-levels", "store.zarr"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_scheduler__that_is_named_gets_the_build(clusters, command):
    cluster, client, seen = clusters
    assert main([*command, "--scheduler", "tcp://host:8786"]) == 0
    assert client.call_args.args == ("tcp://host:8786",)
    assert seen == [True]
    assert client.return_value.__exit__.called
    assert not cluster.called


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize(("options", "processes"), [(["--workers", "3"], 3), ([], machine.available_cores())])
def test_scheduler__local_is_a_cluster_for_the_time_of_the_build(clusters, command, options, processes):
    cluster, client, seen = clusters
    assert main([*command, "--scheduler", "local", *options]) == 0
    assert (cluster.call_args.kwargs["n_workers"], cluster.call_args.kwargs["threads_per_worker"]) == (processes, 1)
    assert client.call_args.args == (cluster.return_value.__enter__.return_value,)
    assert seen == [True]
    assert cluster.return_value.__exit__.called


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_scheduler__is_none_unless_it_is_named(clusters, command):
    cluster, client, seen = clusters
    assert main(command) == 0
    assert seen == [False]
    assert not cluster.called
    assert not client.called


def test_scheduler__that_does_not_answer_is_named(clusters, capsys):
    _, client, seen = clusters
    client.side_effect = TimeoutError("timed out after 10 s")
    assert main([*COMMANDS[0], "--scheduler", "tcp://host:8786"]) == 1
    expected = (
        "no scheduler answers at 'tcp://host:8786' (timed out after 10 s); start it first, or correct the address"
    )
    assert capsys.readouterr().err == f"multiscale-sampler: error: {expected}\n"
    assert seen == []
