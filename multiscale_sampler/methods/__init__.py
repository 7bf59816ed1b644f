"""Methods of reduction, and their form bound to a dtype and a rule for missing values, applied block by block.

`reducer` and `reducers` have the table of methods; `reduction` has the interface of bound methods, the other modules
one family of them each. Their loops are in `kernels`, which are imported only when a block is reduced, because they
import numba.
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
