"""Attack success per patient: the maximum over records, calibrated for having been selected."""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from tailrisk.audit.flips import exact, flip_p, patient_maximum
from tailrisk.audit.records import Z95, RecordStatistics
from tailrisk.audit.tails import COINS, TAIL_P, TIE, Law, maximum_p, number_of_draws

INTERVAL_FLIPS = 399


@dataclass(frozen=True)
class PatientInterval:
    """95 % interval and median-unbiased estimate of each patient's largest AUC, arrays [P]."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    median_unbiased: NDArray[np.float64]


def patient_interval(
    records: RecordStatistics,
    starts: NDArray[np.intp],
    sizes: NDArray[np.intp],
    signs: NDArray[np.float32],
) -> PatientInterval:
    """Interval of the maximum that accounts for its selection among a patient's records; signs [n, F] of fair coins,
    one for every row of the records' influence values.

    On the d scale, low = max_r (d_r − c SE_r) with c the 97.5 % quantile over flips of max_r Σ ε ψ_r/√Σψ_r², and
    high = max_r (d_r + 1.96 SE_r). The point estimate has the median quantile for c and only the records with
    d_r + 2 SE_r ≥ low. A single record has its own interval d ± 1.96 SE, and d as the estimate.
    """
    low = patient_maximum(records.d - Z95 * records.d_se, starts, sizes)
    high = patient_maximum(records.d + Z95 * records.d_se, starts, sizes)
    middle = patient_maximum(records.d, starts, sizes)
    several = np.flatnonzero(sizes > 1)
    if several.size:
        rows, first, counts = _rows_of(several, starts, sizes)
        d, se = records.d[rows], records.d_se[rows]
        null = _influence_null(records.influence[:, rows], records.degenerate[rows], signs)
        c = np.quantile(patient_maximum(null, first, counts), 0.975, axis=1).astype(np.float64)
        low[several] = patient_maximum(d - np.repeat(c, counts) * se, first, counts)
        near = d + 2 * se >= np.repeat(low[several], counts)
        null[~near] = -np.inf
        c = np.median(patient_maximum(null, first, counts), axis=1).astype(np.float64)
        estimate = np.where(near, d - np.repeat(c, counts) * se, -np.inf)
        middle[several] = patient_maximum(estimate, first, counts)
    return PatientInterval(low=ndtr(low), high=ndtr(high), median_unbiased=ndtr(middle))


def _influence_null(
    influence: NDArray[np.float64], degenerate: NDArray[np.bool_], signs: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Σ ε ψ/√Σψ² of every record under every flip, float32 [B, F]; 0 for degenerate records."""
    norm = np.sqrt((influence**2).sum(axis=0))
    unit = influence / np.where(degenerate | (norm == 0), np.inf, norm)
    root = np.sqrt(influence.shape[0])  # Σ|ψ|/(√n √Σψ²) ≤ 1, as `exact` needs
    return np.ascontiguousarray(exact(unit / root).T) @ signs * np.float32(root)


def patient_p(
    v: NDArray[np.float64],
    observed: NDArray[np.float32],
    null: NDArray[np.float32],
    record_p: NDArray[np.float64],
    starts: NDArray[np.intp],
    sizes: NDArray[np.intp],
    uniforms: NDArray[np.float32] | None,
    law: Law = COINS,
) -> NDArray[np.float64]:
    """One-sided p of each patient's largest AUC under common flips, [P].

    v [n, B] and observed [B] as in `flips`; null [P, F]: the patient's maximum under each flip; record_p [B]. Below
    0.02 the tail comes from importance sampling with `uniforms` under the law of the signs, or for a single record
    from its own p; None means that the flips are exhaustive and their p exact.
    """
    n = v.shape[0]
    p = flip_p(patient_maximum(observed, starts, sizes), null, n)
    if uniforms is None:
        return p
    single = sizes == 1
    p[single] = record_p[starts[single]]
    small = np.flatnonzero(~single & (p < TAIL_P))
    if small.size == 0:
        return p
    rows, first, counts = _rows_of(small, starts, sizes)
    v = v[:, rows]
    x = np.repeat(patient_maximum(v.sum(axis=0), first, counts), counts)
    able = np.abs(v).sum(axis=0) * (1 + TIE) >= x
    owner = np.repeat(np.arange(small.size), counts)[able]
    # The strongest record first, so that the draws do not depend on the order of a patient's records.
    strongest = np.flatnonzero(able)[np.lexsort((-v.sum(axis=0)[able], owner))]
    v, x = v[:, strongest], x[strongest]
    t, k = law.tilt(v, x)
    edges = np.searchsorted(owner, np.arange(small.size + 1))
    for i, (begin, end) in enumerate(itertools.pairwise(edges)):
        drawn = uniforms[: number_of_draws(end - begin)]
        p[small[i]] = maximum_p(v[:, begin:end], float(x[begin]), t[begin:end], k[begin:end], drawn, law)
    return p


def _rows_of(
    patients: NDArray[np.intp], starts: NDArray[np.intp], sizes: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Rows of the records of chosen patients, and where each begins and its size among those rows."""
    counts = sizes[patients]
    first = np.cumsum(counts) - counts
    rows = np.repeat(starts[patients] - first, counts) + np.arange(int(counts.sum()))
    return rows, first, counts
