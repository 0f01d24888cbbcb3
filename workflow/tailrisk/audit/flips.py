"""The null of a patient who leaves no trace: IN and OUT relabelled as the design could have, alike for every record.

Paired: such a patient makes the two models of a pair exchangeable, so every labelling is equally likely. Under flips
ε ∈ {−1, 1}ⁿ the mean of a pair is fixed and S² = a − b δ², with δ = mean(ε d), d = x − y,
a = [2 Σ(m − m̄)² + ½ Σ d²]/(n − 1) and b = n/(2(n − 1)). The AUC is therefore Φ(u/√(1 − b u²)), the same increasing
function for all records of u = Σ εₖ vₖ with v = d/(n √a): the whole null is one matrix product of signs and v, and
the maximum of u over a patient's records orders flips as the maximum of the AUC does.

Without pairs the same holds for M models of which half are IN, with n = M/2 and v = ±(z − z̄)/(n √a), + where the
model was IN, a = Σ(z − z̄)²/(n − 1): then δ = Σ ε v √a and Σ(z − z̄)² = (n − 1) S² + n δ²/2. Balanced designs draw
labellings with equally many IN and OUT. Under independent coins every flip of every model is equally likely, and the
null of u is exact whatever the number n₁ of IN models; the difference of means is then u √a M²/(4 n₁ n₀), and
`auc_scale` takes u to where `auc_of` gives the AUC, but for the two spreads being pooled by number.

v is ordered by pair, or by IN and then OUT models, so that the observed labelling is that of signs all +1 for every
patient. Without pairs the same row is then another model for another patient, and patients under common signs are as
little related as patients whose memberships were drawn separately.
"""

from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

_EXACT_UNIT = 2.0**-22


def sign_flips(n: int, flips: int, seed: int) -> NDArray[np.float32]:
    """Signs ±1 [n, F] of F = `flips` random relabellings of n pairs, or of n models with a coin each (Philox, keyed
    by seed).

    When there are no more than flips + 1 labellings at all, each of them except the observed one (F = 2ⁿ − 1), so
    that (1 + #{null ≥ observed})/(1 + F) is the exact p-value instead of a Monte Carlo one. They come in random
    order, so that the first few are a fair sample of all.
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    if n <= 60 and 2**n <= flips + 1:
        labelling = rng.permutation(np.arange(1, 2**n))
        bits = (labelling[None, :] >> np.arange(n)[:, None]) & 1
    else:
        bits = rng.integers(0, 2, size=(n, flips), dtype=np.int8)
    return (1 - 2 * bits).astype(np.float32)


def balanced_flips(models: int, flips: int, seed: int) -> NDArray[np.float32]:
    """As `sign_flips`, of a design in which every patient is a member of exactly half of the models: signs [M, F]
    relative to the observed labelling (+1 where a model keeps its side), which is left out of all M!/(M/2)!² of them.
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    half = models // 2
    observed = np.repeat([True, False], half)
    if models <= 60 and comb(models, half) <= flips + 1:
        masks = np.arange(2**models, dtype=np.int64)[np.bitwise_count(np.arange(2**models)) == half]
        inside = (masks[None, :] >> np.arange(models)[:, None]) & 1 == 1
        inside = inside[:, (inside != observed[:, None]).any(axis=0)]
        inside = rng.permutation(inside, axis=1)
    else:
        inside = rng.permuted(np.repeat(observed[:, None], flips, axis=1), axis=0)
    return np.where(inside == observed[:, None], np.float32(1), np.float32(-1))


def is_exhaustive(signs: NDArray[np.float32], balanced: bool = False) -> bool:
    """Whether signs from `sign_flips` or `balanced_flips` are all labellings."""
    n, flips = signs.shape
    return n <= 60 and flips == (comb(n, n // 2) if balanced else 2**n) - 1


def exact(v: NDArray[np.float64]) -> NDArray[np.float32]:
    """v rounded to multiples of 2⁻²², as float32.

    Every sum of ±v then has at most 24 significant bits as long as Σ|v| < 2, so that float32 matrix products are
    free of rounding: the same on every machine, for every block size, and equal differences tie exactly.
    """
    return (np.rint(v / _EXACT_UNIT) * _EXACT_UNIT).astype(np.float32)


def tolerance(n: int) -> float:
    """The most that the rounding of `exact` moves one sum of n terms against another."""
    return n * _EXACT_UNIT


def scaled_differences(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """v = d/(n √a) [n, B] from IN and OUT values [n, B]; zeros where all values of a record are equal.

    Σ|v| ≤ √(2(n − 1)/n) < √2 by Cauchy–Schwarz.
    """
    n = x.shape[0]
    d, middle = x - y, 0.5 * (x + y)
    centred = middle - middle.mean(axis=0)
    a = (2 * (centred * centred).sum(axis=0) + 0.5 * (d * d).sum(axis=0)) / (n - 1)
    return d / (n * np.sqrt(np.where(a > 0, a, 1.0)))


def scaled_contributions(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """v = ±(z − z̄)/(n √a) [n₁ + n₀, B] from unpaired IN values x [n₁, B] and OUT values y [n₀, B], n = (n₁ + n₀)/2;
    zeros where all values of a record are equal. Σ|v| < √2, as for `scaled_differences`."""
    n1, n = len(x), (len(x) + len(y)) / 2
    v = np.concatenate([x, y])
    v -= v.mean(axis=0)
    a = np.einsum("ij,ij->j", v, v) / (n - 1)
    v /= n * np.sqrt(np.where(a > 0, a, 1.0))
    v[n1:] *= -1
    return v


def auc_of(u: NDArray[np.floating], n: float) -> NDArray[np.float64]:
    """AUC of the flip statistic u = Σ ε v over n pairs (half as many as models); 0 or 1 where the spread vanishes."""
    u = np.asarray(u, dtype=np.float64)
    spread = np.maximum(1.0 - n / (2 * (n - 1)) * u * u, 1e-12)
    return ndtr(u / np.sqrt(spread))


def auc_scale(signs: NDArray[np.float32], n1: int) -> NDArray[np.float32]:
    """M²/(4 n₁ n₀) of every labelling [F], by signs [M, F] relative to one with n₁ IN models; as with two models of
    each kind where a labelling has fewer, which no audited patient has."""
    models = len(signs)
    inside = np.count_nonzero(signs[:n1] > 0, axis=0) + np.count_nonzero(signs[n1:] < 0, axis=0)
    inside = np.clip(inside, 2, models - 2)
    return (models**2 / (4 * inside * (models - inside))).astype(np.float32)


def statistic_of(auc: NDArray[np.float64], n: float) -> NDArray[np.float64]:
    """Inverse of `auc_of`: the flip statistic that gives an AUC."""
    tau = np.clip(ndtri(auc), -1e6, 1e6)
    return tau / np.sqrt(1 + n / (2 * (n - 1)) * tau * tau)


def null_statistics(v: NDArray[np.float64], signs: NDArray[np.float32]) -> NDArray[np.float32]:
    """u of every record under every flip [B, F]; v [n, B], signs [n, F]."""
    return np.ascontiguousarray(exact(v).T) @ signs


def observed_statistics(v: NDArray[np.float64]) -> NDArray[np.float32]:
    """u of every record under the observed labelling [B], in the arithmetic of `null_statistics`."""
    return exact(v).sum(axis=0, dtype=np.float64).astype(np.float32)


def patient_maximum(
    values: NDArray[np.floating], starts: NDArray[np.intp], sizes: NDArray[np.intp]
) -> NDArray[np.floating]:
    """Maximum over each patient's rows: values [B, …] → [P, …]."""
    # Patient by patient would be slow: all second records at once, then all third ones, …, largest patients first.
    order = np.argsort(-sizes, kind="stable")
    begins, descending = starts[order], -sizes[order]
    largest = values[begins]
    for rank in range(1, int(sizes.max(initial=1))):
        longer = int(np.searchsorted(descending, -rank))
        np.maximum(largest[:longer], values[begins[:longer] + rank], out=largest[:longer])
    result = np.empty_like(largest)
    result[order] = largest
    return result


def flip_p(observed: NDArray[np.float32], null: NDArray[np.float32], n: int) -> NDArray[np.float64]:
    """One-sided Monte Carlo p (1 + #{null ≥ observed})/(1 + F) of sums of n terms; observed [B], null [B, F]."""
    limit = (observed - np.float32(tolerance(n))).astype(np.float32)
    reached = np.count_nonzero(null >= limit[:, None], axis=1)
    return (1.0 + reached) / (1.0 + null.shape[1])


def familywise_auc(largest: NDArray[np.float32], n: float, level: float = 0.05) -> float | None:
    """AUC that the largest of all null AUCs exceeds with probability `level`; `largest` [F] per common flip.

    None where even the observed labelling alone has a probability 1/(F + 1) above `level`.
    """
    if 1 / (largest.size + 1) > level:
        return None
    u = np.quantile(largest.astype(np.float64), 1 - level, method="higher")
    return float(auc_of(np.array(u), n))
