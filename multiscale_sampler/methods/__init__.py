"""Methods bound to a dtype and a rule for missing values: what the lazy tree and the engine apply, block by block.

`bound` says what every one of them is, `sums` adds up, `picks` chooses or counts values, `spread` measures them,
`filters` weigh beyond the window, `bands` are differences of their levels, `functions` are the user's own, `views`
stand in for dtypes that kernels do not take. The loops are in `kernels`, imported only when a block is reduced.
"""

from ..image.boxes import Block
from .filters import FilterReduction, VoteReduction
from .functions import FunctionReduction
from .laplacian import BandReduction
from .picks import CountReduction, ExtremeReduction, PickReduction, SampleReduction, TruthReduction
from .reduction import Binding, Counts, Reduction, no_margins
from .spread import DeviationReduction, WeightedReduction
from .sums import SumReduction
from .views import ComplexReduction, TimeReduction

__all__ = [
    "BandReduction",
    "Binding",
    "Block",
    "ComplexReduction",
    "CountReduction",
    "Counts",
    "DeviationReduction",
    "ExtremeReduction",
    "FilterReduction",
    "FunctionReduction",
    "PickReduction",
    "Reduction",
    "SampleReduction",
    "SumReduction",
    "TimeReduction",
    "TruthReduction",
    "VoteReduction",
    "WeightedReduction",
    "no_margins",
]
