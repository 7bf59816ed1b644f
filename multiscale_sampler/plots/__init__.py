"""Pictures of a pyramid: matplotlib figures, thumbnails and the HTML of notebooks, each of one plane of one level.

`planes` chooses the plane and the level, `layers` reads it, `colors` turns values into colours, `figures` draws with
matplotlib, and `thumbnails` makes small arrays and HTML.
"""

from .colors import QUANTILES
from .figures import plot, require_matplotlib, save_levels_figure
from .thumbnails import html, thumbnail

__all__ = ["QUANTILES", "html", "plot", "require_matplotlib", "save_levels_figure", "thumbnail"]
