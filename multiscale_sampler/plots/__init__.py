"""Pictures of pyramids: one plane of one level, read no finer than it is shown.

`planes` chooses the plane and the level, `colors` turns its values into colours, `thumbnails` makes small arrays and
the representation in notebooks, `figures` draws by matplotlib, which is imported there where it is used.
"""

from .colors import QUANTILES
from .figures import plot, require_matplotlib, save_levels_figure
from .thumbnails import html, thumbnail

__all__ = ["QUANTILES", "html", "plot", "require_matplotlib", "save_levels_figure", "thumbnail"]
