"""How many models are enough: the audit repeated on subsamples of the target models that are at hand."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import rankdata

from tailrisk.audit.shrinkage import shrunk_auc
from tailrisk.audit.survival import AUC_GRID, counts_at_or_above

MODELS = (20, 50, 100, 200)
SUBSAMPLES = 8  # of each size, where that many fit beside each other
TAIL = 0.01
_CURVE = AUC_GRID[AUC_GRID >= 0.45]
_COLUMNS = 1024  # records handled at once, so that temporaries stay in the processor's cache


@dataclass(frozen=True)
class Moments:
    """Moments of every record under every subsample of models, arrays [K, N], numbers of IN and OUT models [K, 1] with
    pairs: difference of means, variances (ddof 1) and covariance of the two models of a pair (zeros without pairs)."""

    n_in: NDArray[np.float32]
    n_out: NDArray[np.float32]
    difference: NDArray[np.float32]
    var_in: NDArray[np.float32]
    var_out: NDArray[np.float32]
    covariance: NDArray[np.float32]


def convergence_table(
    confidences: NDArray[np.float32],
    member: NDArray[np.bool_],
    patient: NDArray[np.integer],
    paired: bool,
    seed: int,
    threads: int = 1,
) -> pd.DataFrame:
    """What the audit would have found with fewer models: table n_models, quantity, auc, value, low, high.

    confidences, member [M, N]; patient [N] codes 0…P − 1; paired: models 2k and 2k+1 are complementary, and whole pairs
    are drawn. Subsamples are the same models for all records, of MODELS (those below M) and, last, all of them; value
    is the mean over the subsamples of a size, low and high their range. `auc` is NaN but for the last group.

    - se_all, se_tail: mean standard error of the record AUC (bi-normal, with pair covariance; statistics of this
      audit for records that fail normality differ), over all records and over the tail, the top 1 % by all models;
    - error, error_tail, error_shrunk, error_shrunk_tail: root mean square difference of the record AUC, as it is and
      with shrunk variances (`shrinkage`), from that by all models as it is. The models of a subsample are among all
      models, so this is a lower bound of the error, and with half of them it favours the estimate as it is;
    - rank_correlation, tail_overlap: Spearman correlation of the patients' largest AUCs with those by all models, and
      the share of the patients in the top 1 % by all models who are found there again;
    - survival: share of patients whose largest AUC is at least `auc`.

    Memory: 16 bytes (24 without pairs) a record and subsample, of which there are about 20. Raises ValueError with less
    than 4 models.
    """
    units = confidences.shape[0] // 2 if paired else confidences.shape[0]
    if confidences.shape[0] < 4:
        raise ValueError(f"the models cannot be subsampled: there are only {confidences.shape[0]}")
    sizes = [size // 2 if paired else size for size in MODELS if size < confidences.shape[0]]
    chosen = [subsamples(units, size, seed) for size in sizes]
    selection = np.concatenate([*chosen, np.ones((1, units), dtype=bool)])
    moments = subset_moments(confidences, member, selection, paired, threads)
    order = np.argsort(patient, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(patient[order]) != 0])

    reference = _everything(moments, order, starts)
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda k: _compared(moments, k, order, starts, reference), range(len(selection) - 1)))
    models = 2 if paired else 1
    rows: list[_Row] = []
    for size, some in zip(sizes, chosen, strict=True):
        rows += _rows(size * models, [found.pop(0) for _ in some])
    rows += _rows(units * models, [_Found(reference.patient, reference.values)])
    values = np.array([[np.mean(several), min(several), max(several)] for *_, several in rows])
    return pd.DataFrame(
        {
            "n_models": np.array([row[0] for row in rows], dtype=np.int32),
            "quantity": pd.Categorical([row[1] for row in rows]),
            "auc": np.array([row[2] for row in rows]),
            "value": values[:, 0],
            "low": values[:, 1],
            "high": values[:, 2],
        }
    )


def subsamples(units: int, size: int, seed: int) -> NDArray[np.bool_]:
    """Selections [K, units] of `size` units each, from one random order (Philox, keyed by seed).

    They are windows of the order, evenly spaced and closed to a ring: as many as fit side by side, which are then
    disjoint, at most SUBSAMPLES; two that overlap as little as they can where only one fits.
    """
    order = np.random.Generator(np.random.Philox(key=seed)).permutation(units)
    number = int(np.clip(units // size, 2, SUBSAMPLES))
    selection = np.zeros((number, units), dtype=bool)
    for k in range(number):
        selection[k, order[(k * units // number + np.arange(size)) % units]] = True
    return selection


def subset_moments(
    confidences: NDArray[np.float32],
    member: NDArray[np.bool_],
    selection: NDArray[np.bool_],
    paired: bool,
    threads: int,
) -> Moments:
    """Moments of every record under the models of each selection, [K, N]; selection [K, pairs], or [K, M] unpaired.

    Sums over selections are matrix products. The record's value under model 0 is subtracted first: exact for float32
    values, so that constant records have a variance of exactly zero and others lose nothing to their level.
    """
    records = confidences.shape[1]
    weights = selection.astype(np.float64)
    counts, shape = (len(selection), 1 if paired else records), (len(selection), records)
    moments = Moments(*(np.empty(size, dtype=np.float32) for size in (counts, counts, shape, shape, shape, shape)))
    if paired:
        moments.n_in[:], moments.n_out[:] = weights.sum(axis=1, keepdims=True), weights.sum(axis=1, keepdims=True)

    def fill(part: slice) -> None:
        z = np.asarray(confidences[:, part], dtype=np.float64)
        z -= z[0].copy()
        inside = np.asarray(member[:, part])
        sums = _paired_sums(z, inside, weights) if paired else _unpaired_sums(z, inside, weights)
        n_in, n_out, sum_in, sum_out, square_in, square_out, cross = sums
        with np.errstate(divide="ignore", invalid="ignore"):
            mean_in, mean_out = sum_in / n_in, sum_out / n_out
            moments.difference[:, part] = mean_in - mean_out
            moments.var_in[:, part] = np.maximum(square_in - sum_in * mean_in, 0) / (n_in - 1)
            moments.var_out[:, part] = np.maximum(square_out - sum_out * mean_out, 0) / (n_out - 1)
            moments.covariance[:, part] = (cross - sum_in * mean_out) / (n_in - 1) if paired else 0.0
        if not paired:
            moments.n_in[:, part], moments.n_out[:, part] = n_in, n_out

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, _parts(records)))
    return moments


def _parts(records: int) -> Iterator[slice]:
    return (slice(begin, min(begin + _COLUMNS, records)) for begin in range(0, records, _COLUMNS))


def _paired_sums(
    z: NDArray[np.float64], inside: NDArray[np.bool_], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    x, y = np.where(inside[0::2], z[0::2], z[1::2]), np.where(inside[0::2], z[1::2], z[0::2])
    n = weights.sum(axis=1, keepdims=True)
    return n, n, weights @ x, weights @ y, weights @ (x * x), weights @ (y * y), weights @ (x * y)


def _unpaired_sums(
    z: NDArray[np.float64], inside: NDArray[np.bool_], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    x, y = np.where(inside, z, 0.0), np.where(inside, 0.0, z)
    n_in = weights @ inside.astype(np.float64)
    n_out = weights.sum(axis=1, keepdims=True) - n_in
    nothing = np.zeros_like(n_in)
    return n_in, n_out, weights @ x, weights @ y, weights @ (x * x), weights @ (y * y), nothing


@dataclass(frozen=True)
class _Reference:
    """By all models: AUC and tail (bool) of records [N], the patients' largest d [P], and values for the table."""

    auc: NDArray[np.float64]
    tail: NDArray[np.bool_]
    patient: NDArray[np.float64]
    values: dict[str, float]


@dataclass(frozen=True)
class _Found:
    """By one subsample: the patients' largest d [P], and values for the table."""

    patient: NDArray[np.float64]
    values: dict[str, float]


def _everything(moments: Moments, order: NDArray[np.intp], starts: NDArray[np.intp]) -> _Reference:
    d, se = _d_and_se(moments, -1)
    tail = _top(d)
    return _Reference(ndtr(d), tail, _largest(d, order, starts), _mean_errors(se, tail))


def _compared(
    moments: Moments, k: int, order: NDArray[np.intp], starts: NDArray[np.intp], reference: _Reference
) -> _Found:
    d, se = _d_and_se(moments, k)
    dof_in, dof_out = np.maximum(moments.n_in[k] - 1, 0), np.maximum(moments.n_out[k] - 1, 0)
    able = np.isfinite(moments.difference[k])
    var_in, var_out = (
        np.where(dof > 0, var, 0) for dof, var in ((dof_in, moments.var_in[k]), (dof_out, moments.var_out[k]))
    )
    shrunk = shrunk_auc(np.where(able, moments.difference[k], 0.0), var_in, var_out, dof_in, dof_out)
    values = _mean_errors(se, reference.tail)
    for name, auc in (("error", ndtr(d)), ("error_shrunk", shrunk)):
        square = (auc - reference.auc) ** 2
        values[name] = float(np.sqrt(square.mean()))
        values[f"{name}_tail"] = float(np.sqrt(square[reference.tail].mean()))
    patient = _largest(d, order, starts)
    values["rank_correlation"] = _rank_correlation(patient, reference.patient)
    values["tail_overlap"] = _share_again(_top(reference.patient), _top(patient))
    return _Found(patient, values)


def _d_and_se(moments: Moments, k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """d and the standard error of the AUC [N] under selection k; 0 and NaN for a record without two IN and OUT models.

    Var d = (σ₁²/n₁ + σ₀²/n₀)/S² − 2c/(nS²) + d²/(2S⁴)·[σ₁⁴/(n₁ − 1) + σ₀⁴/(n₀ − 1) + 2c²/(n − 1)].
    """
    n_in, n_out = moments.n_in[k].astype(np.float64), moments.n_out[k].astype(np.float64)
    var_in, var_out = moments.var_in[k].astype(np.float64), moments.var_out[k].astype(np.float64)
    difference, c = moments.difference[k].astype(np.float64), moments.covariance[k].astype(np.float64)
    able = (n_in > 1) & (n_out > 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        s2 = var_in + var_out
        d = np.where(able & ~((s2 == 0) & (difference == 0)), difference / np.sqrt(s2), 0.0)
        fourth = var_in**2 / (n_in - 1) + var_out**2 / (n_out - 1) + 2 * c**2 / (n_in - 1)
        variance = (var_in / n_in + var_out / n_out - 2 * c / n_in) / s2 + d * d * fourth / (2 * s2**2)
        se = np.exp(-0.5 * d * d) / np.sqrt(2 * np.pi) * np.sqrt(np.maximum(variance, 0.0))
    return d, np.where(able, np.where(s2 == 0, 0.0, se), np.nan)


def _largest(d: NDArray[np.float64], order: NDArray[np.intp], starts: NDArray[np.intp]) -> NDArray[np.float64]:
    """Each patient's largest d [P]; order: records sorted by patient, starts: where each patient begins in it."""
    return np.maximum.reduceat(d[order], starts)


def _top(d: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The top 1 % (at least one), with all that equal the last of them, so that no order of records decides."""
    size = max(1, int(TAIL * d.size * (1 + 1e-12)))
    return d >= np.partition(d, d.size - size)[d.size - size]


def _mean_errors(se: NDArray[np.float64], tail: NDArray[np.bool_]) -> dict[str, float]:
    return {"se_all": _mean(se), "se_tail": _mean(se[tail])}


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _share_again(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / first.sum()) if first.any() else float("nan")


def _rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Spearman correlation; NaN where one side is constant."""
    ranks = np.stack([rankdata(first), rankdata(second)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    norm = np.sqrt((ranks * ranks).sum(axis=1)).prod()
    return float((ranks[0] @ ranks[1]) / norm) if norm > 0 else float("nan")


_Row = tuple[int, str, float, list[float]]


def _rows(models: int, found: list[_Found]) -> list[_Row]:
    rows = [(models, name, np.nan, [one.values[name] for one in found]) for name in found[0].values]
    shares = np.stack([counts_at_or_above(ndtr(one.patient), _CURVE) / one.patient.size for one in found])
    return rows + [(models, "survival", float(auc), list(shares[:, i])) for i, auc in enumerate(_CURVE)]
