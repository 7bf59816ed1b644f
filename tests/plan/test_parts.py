import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from multiscale_sampler.image.boxes import pieces, whole_part


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 12), st.integers(1, 15)), min_size=1, max_size=3))
def test_pieces__cover_everything_once(axes):
    starts, sizes, shape = zip(*axes, strict=True)
    region = tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
    seen = np.zeros([along.stop for along in region], int)
    for piece in pieces(region, shape):
        along = zip(piece, region, shape, strict=True)
        assert all((p.start - r.start) % n == 0 and p.stop <= r.stop for p, r, n in along)
        seen[piece] += 1
    assert (seen[region] == 1).all()
    assert seen.sum() == np.prod(sizes)


def test_pieces__come_one_at_a_time():
    first = next(pieces(whole_part((10**5,) * 4), (1,) * 4))
    assert first == (slice(0, 1),) * 4
