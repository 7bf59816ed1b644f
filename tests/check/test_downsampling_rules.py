"""Rules of other tools against windows that are reduced one by one, in Python."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from multiscale_sampler.check.downsampling_rules import (
    ANY_TIE,
    COUNTLESS,
    IGNORING_NAN,
    ROUNDINGS,
    SIGNED_ROUNDINGS,
    TIES,
    Rule,
    WindowLines,
    differing,
)

GENERATOR = np.random.default_rng(20)
NAN = float("nan")


def windows_of(dtype, count, gaps=False):
    """Return 200 windows of few values, so that they are often equal; with `gaps` some are NaN, one window all."""
    low = -4 if np.dtype(dtype).kind in "if" else 0
    samples = GENERATOR.integers(low, 5, (count, 200)).astype(dtype)
    if gaps:
        samples[GENERATOR.random(samples.shape) < 0.3] = np.nan
        samples[:, 7] = np.nan
    return samples


def assert_rule(rule, samples, expected, dtype=None):
    """Check that a rule gives these values for windows, and that it notices each one that is another."""
    right = np.array(expected, samples.dtype if dtype is None else dtype)
    shape = (len(samples),)
    assert not differing(rule, WindowLines(samples, right, shape)).any()
    wrong = right.copy()
    changed = np.zeros(len(right), bool)
    changed[::3] = True
    wrong[changed] = np.where(right[changed] == right[changed], right[changed] + right.dtype.type(1), 1)
    np.testing.assert_array_equal(differing(rule, WindowLines(samples, wrong, shape)), changed)


def without_nan(column):
    return [value for value in column.tolist() if value == value]


@pytest.mark.parametrize(("family", "choose"), [("min", min), ("max", max)])
@pytest.mark.parametrize("count", [1, 4, 7])
def test_extremes__are_those_of_all_samples_or_of_those_that_are_not_nan(family, choose, count):
    samples = windows_of("int16", count)
    assert_rule(Rule(family), samples, [choose(column.tolist()) for column in samples.T])
    samples = windows_of("float32", count, gaps=True)
    ignoring = [choose(valid) if (valid := without_nan(column)) else NAN for column in samples.T]
    assert_rule(Rule(family, IGNORING_NAN), samples, ignoring)
    strict = [NAN if len(without_nan(column)) < count else choose(column.tolist()) for column in samples.T]
    assert_rule(Rule(family), samples, strict)


def middle(values):
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]


def rounded_to(value, how):
    """Return a fraction as an integer."""
    below = math.floor(value)
    match how:
        case "half to even":
            return round(value)
        case "half up":
            return math.floor(value + Fraction(1, 2))
        case "half away from zero":
            return math.floor(abs(value) + Fraction(1, 2)) * (-1 if value < 0 else 1)
        case "towards zero":
            return math.trunc(value)
        case "up":
            return math.ceil(value)
    return below


@pytest.mark.parametrize("how", [*ROUNDINGS, *SIGNED_ROUNDINGS])
@pytest.mark.parametrize("count", [4, 6])
def test_medians_and_means__of_integers_are_rounded(how, count):
    samples = windows_of("int8", count)
    medians = [rounded_to(Fraction(sum(middle(column.tolist())), 2), how) for column in samples.T]
    assert_rule(Rule("median", how), samples, medians)
    means = [rounded_to(Fraction(sum(column.tolist()), count), how) for column in samples.T]
    assert_rule(Rule("mean", how), samples, means)


@pytest.mark.parametrize(("how", "which"), [("to the lower", 0), ("to the upper", 1)])
def test_medians__of_integers_can_be_either_of_the_two_in_the_middle(how, which):
    samples = windows_of("uint8", 6)
    assert_rule(Rule("median", how), samples, [middle(column.tolist())[which] for column in samples.T])


@pytest.mark.parametrize("how", ["", "down"])
def test_medians__of_an_odd_number_of_integers_are_one_of_them(how):
    samples = windows_of("int32", 5)
    assert_rule(Rule("median", how), samples, [middle(column.tolist())[0] for column in samples.T])


@pytest.mark.parametrize("count", [4, 5])
def test_medians__of_floats_are_between_the_two_in_the_middle(count):
    samples = windows_of("float64", count, gaps=True)
    ignoring = [sum(middle(valid)) / 2 if (valid := without_nan(column)) else NAN for column in samples.T]
    assert_rule(Rule("median", IGNORING_NAN), samples, ignoring)
    strict = [
        value if len(without_nan(column)) == count else NAN for value, column in zip(ignoring, samples.T, strict=True)
    ]
    assert_rule(Rule("median"), samples, strict)


@pytest.mark.parametrize("count", [4, 5])
def test_means_and_sums__of_floats_count_what_is_not_nan_or_are_nan(count):
    samples = windows_of("float64", count, gaps=True)
    valid = [without_nan(column) for column in samples.T]
    assert_rule(Rule("mean", IGNORING_NAN), samples, [math.fsum(v) / len(v) if v else NAN for v in valid])
    assert_rule(Rule("sum", IGNORING_NAN), samples, [math.fsum(v) if v else NAN for v in valid])
    whole = [len(v) == count for v in valid]
    assert_rule(
        Rule("mean"), samples, [math.fsum(v) / count if all_ else NAN for v, all_ in zip(valid, whole, strict=True)]
    )
    assert_rule(Rule("sum"), samples, [math.fsum(v) if all_ else NAN for v, all_ in zip(valid, whole, strict=True)])


def most_frequent(values):
    """Return the most frequent values, in the order of their first samples."""
    counts = Counter(values)
    return [value for value in dict.fromkeys(values) if counts[value] == max(counts.values())]


CHOICES = {
    "the smallest": lambda values: min(most_frequent(values)),
    "the largest": lambda values: max(most_frequent(values)),
    "the first": lambda values: most_frequent(values)[0],
    "the last": lambda values: next(value for value in values[::-1] if value in most_frequent(values)),
}


@pytest.mark.parametrize("tie", TIES)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_modes__settle_ties(tie, dtype):
    samples = windows_of(dtype, 6, gaps=dtype == "float32")
    valid = [without_nan(column) for column in samples.T]
    assert_rule(Rule("mode", tie), samples, [CHOICES[tie](values) if values else NAN for values in valid])


def test_modes__of_any_tie_are_any_of_the_most_frequent():
    samples = np.array([[1, 1, 2, 2, 3]]).T.repeat(4, axis=1)
    values = np.array([1, 2, 3, 4])
    found = differing(Rule("mode", ANY_TIE), WindowLines(samples, values, (5,)))
    assert found.tolist() == [False, False, True, True]


def test_modes__without_zero_are_zero_only_where_there_is_nothing_else():
    samples = windows_of("uint8", 5) // 2
    samples[:, 3] = 0
    others = [[value for value in column.tolist() if value] for column in samples.T]
    assert_rule(
        Rule("mode_nonzero", TIES[0]), samples, [CHOICES[TIES[0]](values) if values else 0 for values in others]
    )


def test_modes__of_countless_are_the_first_of_two_equal_samples_else_the_last():
    samples = windows_of("uint8", 4) % 4
    expected = [
        next((value for value, other in ((a, b), (a, c), (b, c)) if value == other), d)
        for a, b, c, d in samples.T.tolist()
    ]
    assert_rule(Rule("mode", COUNTLESS), samples, expected)
