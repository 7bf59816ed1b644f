"""A pyramid of a terabyte that takes no memory: its store returns the same bytes for every chunk, and counts them."""

import numpy as np
import zarr

import multiscale_sampler as ms
from multiscale_sampler.metadata import image_attributes

from ..data import Recording, is_chunk

SHAPE = (8192, 8192, 8192)
CHUNKS = (64, 64, 64)


class Virtual(Recording):
    """A store in which every chunk of every array has the same values."""

    chunk = np.random.default_rng(0).integers(0, 2**16, CHUNKS, np.uint16).tobytes()

    async def get(self, key, prototype, byte_range=None):
        if not is_chunk(key):
            return await super().get(key, prototype, byte_range)
        self.log["read"].append(key)
        return prototype.buffer.from_bytes(self.chunk)

    @property
    def nbytes(self):
        """Bytes of all chunk reads, repeated ones included."""
        return sum(self.chunks("read").values()) * len(self.chunk)


def virtual_pyramid(shape=SHAPE):
    """Return a store with a pyramid of a uint16 image of that shape, and the opened pyramid."""
    store = Virtual(zarr.storage.MemoryStore())
    flat = np.broadcast_to(np.zeros((), np.uint16), shape)
    image = ms.to_image(flat, "zyx", scale=0.5, units="micrometer")
    levels = ms.plan_pyramid(image, 2, chunks=CHUNKS, workers=1).levels
    paths = [str(level.index) for level in levels]
    options = {"name": "image", "method": "mean", "made_by": "test", "recipe": {}, "written": ()}
    attributes = image_attributes([level.axes for level in levels], paths, version="0.5", **options)
    group = zarr.create_group(store, attributes=attributes)
    for level in levels:
        options = {"shape": level.shape, "chunks": CHUNKS, "dtype": "uint16", "compressors": None}
        group.create_array(str(level.index), **options)
    return store, ms.open_pyramid(store)
