"""The confidence score against its definition in exact or high-precision arithmetic."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrisk.attacks.confidence import confidence, loss

logit = st.floats(-1e4, 1e4, allow_nan=False)


def exact_multiclass(logits, label):
    with localcontext() as context:
        context.prec = 60
        context.Emin, context.Emax = -(10**6), 10**6
        weights = [Decimal(z).exp() for z in logits]
        others = sum(w for c, w in enumerate(weights) if c != label)
        return float((weights[label] / others).ln())


@given(st.lists(logit, min_size=2, max_size=5), st.data())
def test_multiclass_is_the_exact_log_odds_of_the_true_class(logits, data):
    label = data.draw(st.integers(0, len(logits) - 1))
    got = confidence(np.array(logits), np.array(label), "multiclass")
    # log-sum-exp rounds in units of the largest logit, here at most 1e4.
    assert got == pytest.approx(exact_multiclass(logits, label), rel=1e-12, abs=1e-11)


@given(logit, st.integers(0, 1))
def test_binary_is_the_signed_logit_and_agrees_with_two_classes(z, y):
    got = confidence(np.array([z]), np.array(y), "binary")
    assert got == (z if y else -z)
    assert got == pytest.approx(confidence(np.array([0.0, z]), np.array(y), "multiclass"), abs=1e-12)


def test_binary_is_log_p_true_minus_log_p_wrong():
    p = 1 / (1 + math.exp(-1.5))
    assert confidence(np.array([1.5]), 1, "binary") == pytest.approx(math.log(p) - math.log(1 - p))
    assert confidence(np.array([1.5]), 0, "binary") == pytest.approx(math.log(1 - p) - math.log(p))


def test_multilabel_sums_observed_labels_and_ignores_unobserved_ones():
    logits = np.array([[2.0, -3.0, 5.0], [1.0, 1.0, 1e4]])
    labels = np.array([[1.0, 0.0, np.nan], [np.nan, np.nan, 0.0]])
    np.testing.assert_array_equal(confidence(logits, labels, "multilabel"), [5.0, -1e4])
    np.testing.assert_array_equal(confidence(logits, np.full((2, 3), np.nan), "multilabel"), [0.0, 0.0])


def test_labels_broadcast_over_models_and_float16_logits_are_scored_in_float64():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 6, 3)).astype(np.float16)
    labels = rng.integers(0, 3, 6)
    got = confidence(logits, labels, "multiclass")
    assert got.shape == (4, 6)
    assert got.dtype == np.float64
    want = [[exact_multiclass([float(z) for z in row], y) for row, y in zip(m, labels, strict=True)] for m in logits]
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("width", "task"), [(2, "binary"), (1, "multiclass"), (3, "regression")], ids=str)
def test_impossible_tasks_are_refused(width, task):
    with pytest.raises(ValueError, match=r"task|logit"):
        confidence(np.zeros((5, width)), np.zeros(5, dtype=int), task)


def test_the_loss_is_minus_log_p_of_all_observed_labels_and_follows_from_a_single_one():
    rng = np.random.default_rng(2)
    logits, labels = 3 * rng.normal(size=(50, 4)), rng.integers(0, 2, (50, 4)).astype(float)
    labels[7, 2] = np.nan
    p = 1 / (1 + np.exp(-logits))
    true = np.where(labels == 1, p, 1 - p)
    true[7, 2] = 1.0
    np.testing.assert_allclose(loss(logits, labels), -np.log(true).sum(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(loss(np.array([[1e4, -1e4]]), np.array([[0.0, 0.0]])), [1e4])
    one = confidence(logits[:, :1], labels[:, 0].astype(int), "binary")
    np.testing.assert_allclose(loss(logits[:, :1], labels[:, :1]), np.logaddexp(0, -one), rtol=1e-12)
