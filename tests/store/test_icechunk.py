"""icechunk repositories as targets: a build is one commit, which is there whole or not at all."""

import numpy as np
import pytest
import zarr

from multiscale_sampler import add_levels, create_test_image, open_pyramid, validate, write_labels, write_pyramid
from multiscale_sampler.build import engine
from multiscale_sampler.store import is_in_memory, place_of
from tests.data import noise

icechunk = pytest.importorskip("icechunk", reason="pip install 'multiscale-sampler[icechunk]'")


@pytest.fixture
def repository():
    return icechunk.Repository.create(icechunk.in_memory_storage())


def commits(repository):
    return [snapshot.message for snapshot in repository.ancestry(branch="main")]


def test_write_pyramid__is_one_commit(repository):
    # A part of it is fill, of which nothing is stored.
    data = noise((40, 50))
    data[:20, :20] = 0
    write_pyramid(data, repository, scale_factors=[2, 4], chunks=8, memory_limit="5KB", workers=2)
    assert commits(repository) == ["multiscale_sampler.write_pyramid", "Repository initialized"]
    expected = {}
    write_pyramid(data, expected, scale_factors=[2, 4], chunks=8)
    assert open_pyramid(repository).identical(open_pyramid(expected))
    assert validate(repository.readonly_session("main").store).ok
    write_labels((data > 9).astype("uint8"), repository, "cells")
    assert len(commits(repository)) == 3
    assert "cells" in open_pyramid(repository)["labels"].children
    with pytest.raises(FileExistsError, match="exists"):
        write_pyramid(data, repository)
    write_pyramid(data[:10], repository, mode="w", scale_factors=[2])
    assert open_pyramid(repository)["scale0/image"].shape == (10, 50)


def test_write_pyramid__that_fails_leaves_no_commit(repository, monkeypatch):
    def fail(*arguments):
        raise OSError("no more")

    monkeypatch.setattr(engine, "reduce_region", fail)
    with pytest.raises(OSError, match="no more"):
        write_pyramid(noise((40, 50)), repository, scale_factors=[2])
    assert commits(repository) == ["Repository initialized"]
    with pytest.raises(FileNotFoundError):
        open_pyramid(repository)


def test_add_levels__is_one_commit(repository):
    session = repository.writable_session("main")
    base = create_test_image(session.store, "0", shape=(40, 40), chunks=(16, 16))[:]
    session.commit("base")
    add_levels(repository, scale_factors=[2])
    assert len(commits(repository)) == 3
    np.testing.assert_array_equal(open_pyramid(repository)["scale0/image"], base)


def test_write_pyramid__the_store_of_a_session_is_committed_by_its_owner(repository):
    session = repository.writable_session("main")
    write_pyramid(noise((40, 50)), session.store, scale_factors=[2])
    assert commits(repository) == ["Repository initialized"]
    # Which no other process sees, a worker of a cluster say.
    assert is_in_memory(place_of(session.store))
    session.commit("mine")
    assert sorted(zarr.open_group(repository.readonly_session("main").store, mode="r")) == ["scale0", "scale1"]
    assert not is_in_memory(place_of(repository.readonly_session("main").store))
