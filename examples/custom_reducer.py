"""Custom methods: a function with the signature of numpy's reductions, or a `Reducer` with a name and a dtype."""

from functools import partial

import numpy as np

import multiscale_sampler as ms

counts = np.random.default_rng(0).poisson(20, (256, 256)).astype("uint16")
image = ms.to_image(counts, scale=0.2, units="micrometer")

# Any function that takes values and an axis; each level is computed from the previous one.
upper = ms.to_multiscale(image, [2, 4], partial(np.percentile, q=90))
print(float(upper["scale1/image"].mean()), ">", float(image.mean()))

# A method with a name, whose results have another dtype than the image.
variation = ms.Reducer(
    "variation", function=lambda windows, axis=-1: windows.std(axis=axis) / windows.mean(axis=axis), dtype="float32"
)
level = ms.coarsen(image, 8, method=variation)
print(level.dtype, "expected about", 20**-0.5, "and found", float(level.mean()))
assert abs(float(level.mean()) - 20**-0.5) < 0.01
