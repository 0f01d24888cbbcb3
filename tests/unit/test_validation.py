"""The small version of the simulations with known truth, and that they would see a method that breaks."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[2] / "validation"))
import checks
import simulate


@pytest.fixture(scope="module")
def small():
    return simulate.simulations(full=False)


def test_every_method_keeps_its_promise_and_every_wrong_one_is_seen(small):
    assert not [one for one in small if not one.passed], checks.table([one for one in small if not one.passed])


@pytest.mark.parametrize("words", ["plain χ²", "best record's standard error", "uncorrected", "its references"])
def test_contrasts_are_far_outside_their_limits(small, words):
    found = [one for one in small if words in one.what]
    assert found
    assert all(one.contrast and not one.low <= one.value <= one.high for one in found)


def test_limits_are_those_of_the_binomial_distribution():
    one = checks.share("p", "a setting", 50, 1000, (0.05, 0.05))
    inside = stats.binom.cdf(1000 * one.high, 1000, 0.05) - stats.binom.cdf(1000 * one.low - 1, 1000, 0.05)
    assert 0.999 <= inside < 0.9999
    assert one.passed
    assert not checks.share("p", "a setting", 80, 1000, (0.05, 0.05)).passed
    assert checks.share("p", "a setting", 80, 1000, (0.05, 0.05), contrast=True).passed


def test_limits_of_a_mean():
    one = checks.mean("AUC", "a setting", 0.51, 0.002, 30, (0.5, 0.5))
    assert stats.t.cdf((one.high - 0.5) / 0.002, 29) == pytest.approx(0.9995)
    assert one.low == pytest.approx(1 - one.high)
    assert not one.passed


def test_table_says_what_is_wrong():
    good, bad = (checks.share("p", "s", hits, 1000, (0.05, 0.05)) for hits in (50, 500))
    unseen = checks.share("p", "s", 50, 1000, (0.05, 0.05), contrast=True)
    lines = checks.table([good, bad, unseen]).splitlines()[2:]
    assert [line.split("|")[-2].strip() for line in lines] == ["holds", "**FAILS**", "**NOT SEEN**"]


@pytest.mark.parametrize("design", ["complementary", "balanced", "independent"])
def test_simulated_tables_follow_their_design(design):
    rng = np.random.default_rng(0)
    sizes = np.array([1, 3, 2])
    confidences, member, patient = simulate.confidence_table(
        design, 4000, sizes, rng, effect=2.0, within_patient=0.6, within_pair=-0.5
    )
    assert patient.tolist() == [0, 1, 1, 1, 2, 2]
    assert (member[:, 1] == member[:, 3]).all()
    if design == "complementary":
        assert (member[0::2] != member[1::2]).all()
    if design == "balanced":
        assert (member.sum(axis=0) == 2000).all()
    assert member.mean() == pytest.approx(0.5, abs=0.03)
    noise = confidences - 2.0 * member
    assert noise.std() == pytest.approx(1.0, abs=0.03)
    assert np.corrcoef(noise[:, 1], noise[:, 2])[0, 1] == pytest.approx(0.6, abs=0.05)
    pair = np.corrcoef(noise[0::2, 0], noise[1::2, 0])[0, 1]
    assert pair == pytest.approx(-0.5 if design == "complementary" else 0.0, abs=0.07)
