"""Simulated confidence tables of complementary pairs, for the tests of the statistics."""

import numpy as np
from scipy.special import ndtr


def membership(pairs, patient, rng):
    """Fair-coin membership [2 · pairs, N] of patients, models 2k and 2k+1 complementary."""
    coins = rng.random((pairs, int(patient.max()) + 1)) < 0.5
    member = np.empty((2 * pairs, patient.size), dtype=bool)
    member[0::2] = coins[:, patient]
    member[1::2] = ~coins[:, patient]
    return member


def table(pairs, sizes, rng, effect=0.0, within_patient=0.5, within_pair=0.0):
    """confidences float32 [2 · pairs, N], member, patient for patients with `sizes` records.

    Records of a patient correlate by `within_patient`, the two models of a pair by `within_pair`; `effect`
    (a number or one per record) is added where the patient is a member.
    """
    patient = np.repeat(np.arange(len(sizes)), sizes)
    member = membership(pairs, patient, rng)
    scores = np.sqrt(1 - within_patient) * _paired_noise(pairs, patient.size, within_pair, rng)
    scores += np.sqrt(within_patient) * _paired_noise(pairs, len(sizes), within_pair, rng)[:, patient]
    return (scores + effect * member).astype(np.float32), member, patient


def _paired_noise(pairs, width, correlation, rng):
    first, second = rng.standard_normal((2, pairs, width))
    noise = np.empty((2 * pairs, width))
    noise[0::2] = first
    noise[1::2] = correlation * first + np.sqrt(1 - correlation**2) * second
    return noise


def in_and_out(confidences, member):
    """IN and OUT values [pairs, N] by the definition, one at a time."""
    pairs, records = confidences.shape[0] // 2, confidences.shape[1]
    x, y = np.empty((2, pairs, records))
    for k in range(pairs):
        for r in range(records):
            inside = 2 * k if member[2 * k, r] else 2 * k + 1
            x[k, r], y[k, r] = confidences[inside, r], confidences[2 * k + (inside == 2 * k), r]
    return x, y


def all_labellings(pairs):
    """Every sign vector [2^pairs, pairs] of ±1."""
    return 1 - 2.0 * ((np.arange(2**pairs)[:, None] >> np.arange(pairs)) & 1)


def auc_under(signs, x, y):
    """Bi-normal AUC [..., N] after swapping IN and OUT in the pairs where signs [..., n] is −1."""
    keep = signs[..., None] > 0
    a, b = np.where(keep, x, y), np.where(keep, y, x)
    spread = np.sqrt(a.var(axis=-2, ddof=1) + b.var(axis=-2, ddof=1))
    return ndtr((a.mean(axis=-2) - b.mean(axis=-2)) / spread)
