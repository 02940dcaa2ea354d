"""The histogram of lateness against numpy's percentiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.call.lateness import Lateness

ERROR = 1.125  # the worst that a bucket's end lies above what is in it


def histogram(seconds: list[float]) -> Lateness:
    lateness = Lateness()
    for value in seconds:
        lateness.add(value)
    return lateness


@pytest.mark.parametrize("percent", [0, 1, 50, 90, 99, 99.9, 100])
@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_percentiles_agree_with_numpy(percent: float, spread: float) -> None:
    seconds = np.random.default_rng(5).lognormal(np.log(0.0005), spread, 4999).clip(1e-6, 3000)
    truth = float(np.percentile(seconds, percent, method="inverted_cdf"))
    assert truth <= histogram(list(seconds)).percentile_s(percent) <= truth * ERROR


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(1e-6, 4000), min_size=1, max_size=50), st.floats(0.1, 100))
def test_a_percentile_is_never_too_small_and_little_too_large(seconds: list[float], percent: float) -> None:
    lateness = histogram(seconds)
    told = lateness.percentile_s(percent)
    # how many it covers is what counts; which of two neighbours is the percentile is a matter of definition
    assert sum(value <= told * (1 + 1e-9) for value in seconds) >= len(seconds) * percent / 100 - 1e-6
    assert any(value <= told <= value * ERROR * (1 + 1e-9) for value in seconds)
    assert told <= lateness.worst_s == max(seconds)


def test_an_empty_histogram_is_zero() -> None:
    assert Lateness().percentile_s(99) == 0.0


def test_what_is_shorter_than_a_microsecond_or_negative_counts_as_nothing() -> None:
    lateness = histogram([-5.0, 0.0, 1e-9])
    assert lateness.count == 3
    assert lateness.percentile_s(100) == lateness.worst_s == 1e-9


def test_what_is_longer_than_an_hour_is_told_by_the_worst() -> None:
    lateness = histogram([0.001, 1e6])
    assert lateness.worst_s == 1e6
    assert lateness.percentile_s(50) < 0.0012
    assert lateness.percentile_s(100) > 3600


def test_merging_is_counting_together() -> None:
    one, other = [0.001, 0.5, 0.02], [0.3, 0.00001]
    merged, together = histogram(one), histogram(one + other)
    merged.merge(histogram(other))
    assert merged.count == together.count
    assert merged.worst_s == together.worst_s
    assert [merged.percentile_s(p) for p in range(101)] == [together.percentile_s(p) for p in range(101)]
