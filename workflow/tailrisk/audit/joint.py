"""The joint attack on a patient: all of its records together, as one pseudo-record.

Every record is standardised without looking at membership, by the mean and standard deviation over all models, so
that records on different scales count alike and swapping IN and OUT changes nothing.
"""

import numpy as np
from numpy.typing import NDArray

FOLDS = 10
MIN_TRAINING = 2  # values of each side that means and covariances are estimated from
_MEAN_WEIGHT = 0.5  # of the mean over the patient's records, in the records' estimated effects
_RIDGE = 0.2  # of the identity, in the estimated covariance of the standardised records


def standardised(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x [n₁, B] and y [n₀, B] less their common mean, over their common standard deviation (ddof 1); 0 where all
    values of a record are equal."""
    models = len(x) + len(y)
    mean = (x.sum(axis=0) + y.sum(axis=0)) / models
    x, y = x - mean, y - mean
    variance = (np.einsum("ij,ij->j", x, x) + np.einsum("ij,ij->j", y, y)) / (models - 1)
    scale = np.sqrt(np.where(variance > 0, variance, 1.0))
    return x / scale, y / scale


def equal_weight(
    x: NDArray[np.float64], y: NDArray[np.float64], starts: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """IN [n₁, P] and OUT values [n₀, P] of one pseudo-record a patient: the sum of its standardised records.

    The weights know nothing of membership, so that everything that holds for a record holds for it.
    """
    x, y = standardised(x, y)
    return np.add.reduceat(x, starts, axis=1), np.add.reduceat(y, starts, axis=1)


def linear(
    x: NDArray[np.float64], y: NDArray[np.float64], sizes: NDArray[np.intp], paired: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Held-out scores IN [n₁, P] and OUT [n₀, P] of a regularised linear attack fitted for every patient.

    Ten folds over pairs (over each side's models without pairs; as many folds as there are, when fewer). From the
    other folds: Δ = max(0, ½Δ̂ + ½ mean Δ̂) with the records' differences of means Δ̂, W = 0.8 Ŵ + 0.2 I with their
    covariance Ŵ within IN and within OUT, w = W⁻¹Δ/√(Δ′W⁻¹Δ), and the scores of the fold are w′(z − the midpoint of
    both means). All scores of a fold are 0 where no record shows a positive effect. NaN with fewer than 3 values a
    side.

    The scores of different folds share training models, so no relabelling of finished scores has their null
    distribution: it would have to repeat the fit, and there is no p-value. An interval from these scores takes the
    fits as given and is too narrow: of 20 records it held the mean AUC of such attacks in 84–92 % (100 pairs) where
    there was a leak, and in 66–81 % where there was none.
    """
    x, y = standardised(x, y)
    n1, n0 = len(x), len(y)
    held_in, held_out = np.full((n1, sizes.size), np.nan), np.full((n0, sizes.size), np.nan)
    if min(n1, n0) <= MIN_TRAINING:
        return held_in, held_out
    folds = min(FOLDS, n1, n0)
    fold_in, fold_out = np.arange(n1) % folds, np.arange(n0) % folds
    starts = np.cumsum(sizes) - sizes
    for size in np.unique(sizes):
        group = np.flatnonzero(sizes == size)
        rows = starts[group][:, None] + np.arange(size)
        inside, outside = np.moveaxis(x[:, rows], 0, 1), np.moveaxis(y[:, rows], 0, 1)  # [patients, models, records]
        for fold in range(folds):
            in_test, out_test = fold_in == fold, fold_out == fold
            w, midpoint = _fit(inside[:, ~in_test], outside[:, ~out_test])
            held_in[np.ix_(in_test, group)] = _scores(inside[:, in_test], w, midpoint)
            held_out[np.ix_(out_test, group)] = _scores(outside[:, out_test], w, midpoint)
    return held_in, held_out


def _fit(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights and midpoint [Q, R] from training values [Q, n₁, R] and [Q, n₀, R]."""
    mean_in, mean_out = inside.mean(axis=1), outside.mean(axis=1)
    effect = mean_in - mean_out
    effect = np.maximum(0.0, (1 - _MEAN_WEIGHT) * effect + _MEAN_WEIGHT * effect.mean(axis=1, keepdims=True))
    a, b = inside - mean_in[:, None], outside - mean_out[:, None]
    within = (a.transpose(0, 2, 1) @ a + b.transpose(0, 2, 1) @ b) / (a.shape[1] + b.shape[1] - 2)
    regular = (1 - _RIDGE) * within + _RIDGE * np.eye(effect.shape[1])
    direction = np.linalg.solve(regular, effect[..., None])[..., 0]
    length = np.sqrt((effect * direction).sum(axis=1, keepdims=True))
    return direction / np.where(length > 0, length, 1.0), 0.5 * (mean_in + mean_out)


def _scores(values: NDArray[np.float64], w: NDArray[np.float64], midpoint: NDArray[np.float64]) -> NDArray[np.float64]:
    """w′(z − midpoint) [models, Q] of values [Q, models, R]."""
    return np.einsum("qmr,qr->mq", values - midpoint[:, None], w)
