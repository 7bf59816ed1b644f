"""Exact image pyramids of labelled arrays: lazily as an xarray DataTree, on disk as OME-Zarr.

    open_image / to_image -> plan_pyramid -> to_multiscale (lazy DataTree) -> write_pyramid -> open_pyramid

>>> import multiscale_sampler as ms
>>> store = {}
>>> array = ms.create_test_image(store, shape=(64, 64, 64), chunks=(32, 32, 32))
>>> tree = ms.to_multiscale(ms.open_image(array, scale=0.5, units="micrometer"))
>>> list(tree.children)
['scale0', 'scale1']
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import xarray as xr

from ._version import __version__

if TYPE_CHECKING:
    from .accessor import skip_non_dimension_nodes
    from .build.appending import append_pyramid
    from .build.converting import convert
    from .build.updating import rebuild_levels, remove_levels, update_pyramid
    from .build.writing import add_levels, write_labels, write_pyramid
    from .check.explanation import explain
    from .check.validation import Report, validate
    from .check.verification import verify_pyramid
    from .image.axes import Axis
    from .image.dataarray import to_image
    from .interop import from_itk, from_ngff_multiscales, to_itk, to_ngff_multiscales
    from .lazy.coarsening import coarsen
    from .lazy.pyramid import reconstruct, to_multiscale
    from .methods.reducer import Reducer
    from .methods.reducers import Methods
    from .plan.plan import Plan
    from .plan.planning import plan_pyramid
    from .sample_data import create_test_image
    from .store import open_image, open_pyramid
    from .viewer import view

__all__ = [
    "Axis",
    "Methods",
    "Plan",
    "Reducer",
    "Report",
    "__version__",
    "add_levels",
    "append_pyramid",
    "coarsen",
    "convert",
    "create_test_image",
    "explain",
    "from_itk",
    "from_ngff_multiscales",
    "open_image",
    "open_pyramid",
    "plan_pyramid",
    "rebuild_levels",
    "reconstruct",
    "remove_levels",
    "skip_non_dimension_nodes",
    "to_image",
    "to_itk",
    "to_multiscale",
    "to_ngff_multiscales",
    "update_pyramid",
    "validate",
    "verify_pyramid",
    "view",
    "write_labels",
    "write_pyramid",
]

# Public names by the module that defines them. It is imported when one of them is first used, so that neither the
# command line nor xarray, which imports this package when it lists its engines, waits for dask and zarr.
_DEFINED_IN = {
    "accessor": ("skip_non_dimension_nodes",),
    "build.appending": ("append_pyramid",),
    "build.converting": ("convert",),
    "build.updating": ("rebuild_levels", "remove_levels", "update_pyramid"),
    "build.writing": ("add_levels", "write_labels", "write_pyramid"),
    "check.explanation": ("explain",),
    "check.validation": ("Report", "validate"),
    "check.verification": ("verify_pyramid",),
    "image.axes": ("Axis",),
    "image.dataarray": ("to_image",),
    "interop": ("from_itk", "from_ngff_multiscales", "to_itk", "to_ngff_multiscales"),
    "lazy.coarsening": ("coarsen",),
    "lazy.pyramid": ("reconstruct", "to_multiscale"),
    "methods.reducer": ("Reducer",),
    "methods.reducers": ("Methods",),
    "plan.plan": ("Plan",),
    "plan.planning": ("plan_pyramid",),
    "sample_data": ("create_test_image",),
    "store": ("open_image", "open_pyramid"),
    "viewer": ("view",),
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        for module, names in _DEFINED_IN.items():
            if name in names:
                value = globals()[name] = getattr(import_module(f".{module}", __name__), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _accessor(tree: xr.DataTree) -> Any:
    from .accessor import MultiscaleAccessor

    return MultiscaleAccessor(tree)


xr.register_datatree_accessor("multiscale")(_accessor)
