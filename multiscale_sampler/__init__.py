"""From one zarr array to a complete, exact, viewer-ready image pyramid.

    open_image / to_image -> plan_pyramid -> to_multiscale (lazy DataTree) -> write_pyramid -> open_pyramid

>>> import multiscale_sampler as ms
>>> store = {}
>>> array = ms.create_test_image(store, shape=(64, 64, 64), chunks=(32, 32, 32))
>>> tree = ms.to_multiscale(ms.open_image(array, scale=0.5, units="micrometer"))
>>> list(tree.children)
['scale0', 'scale1']
"""

from ._version import __version__
from .axes import Axis, to_image
from .coarsening import coarsen
from .converting import convert
from .engine import add_levels, write_pyramid
from .plan import Plan, plan_pyramid
from .pyramid import reconstruct, to_multiscale
from .reducers import Reducer
from .sample_data import create_test_image
from .store import open_image, open_pyramid
from .verify import Report, validate

__all__ = [
    "Axis",
    "Plan",
    "Reducer",
    "Report",
    "__version__",
    "add_levels",
    "coarsen",
    "convert",
    "create_test_image",
    "open_image",
    "open_pyramid",
    "plan_pyramid",
    "reconstruct",
    "to_image",
    "to_multiscale",
    "validate",
    "write_pyramid",
]
