"""The likelihood-ratio attack (LiRA, Carlini et al. 2022), every target model against all other pairs."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# Scores are stored as float32: a spread below their resolution is not measurable, and a variance of zero would
# turn rounding into certainty.
_RESOLUTION = float(np.finfo(np.float32).eps)
_COLUMNS = 1 << 14  # records handled at once, so that temporaries stay in the processor's cache

LIRA_MIN_PAIRS = 3  # a variance needs two pairs beside the target's own


def lira_online(
    confidences: NDArray[np.float32], member: NDArray[np.bool_]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (target model, scores [N]) for each of the 2n target models; higher scores mean "member".

    confidences and member are [2n, N], models 2k and 2k+1 a complementary pair, n ≥ 3. The score is
    log N(φ; μ_in, σ²_in) − log N(φ; μ_out, σ²_out) with per-record moments (ddof 1) of all pairs except the
    target's: its partner is left out as well because the two are correlated, which would push the AUC of a
    model without any leak away from 0.5. Moments without pair k follow in closed form from those of all pairs:
    μ₋ₖ = μ − δ/(n−1) and SS₋ₖ = SS − δ²·n/(n−1) with δ = x_k − μ. Memory: a few vectors of N float64.
    """
    models, records = confidences.shape
    n = models // 2
    if n < LIRA_MIN_PAIRS:
        raise ValueError(f"LiRA without the target's pair needs {LIRA_MIN_PAIRS} pairs, not {n}")
    mean = np.zeros((2, records))
    for k in range(n):
        for part in _parts(records):
            mean[:, part] += _in_and_out(confidences, member, k, part)
    mean /= n
    squares = np.zeros((2, records))
    for k in range(n):
        for part in _parts(records):
            squares[:, part] += (_in_and_out(confidences, member, k, part) - mean[:, part]) ** 2
    floor = (_RESOLUTION * (1.0 + np.abs(mean))) ** 2

    for k in range(n):
        scores = np.empty((2, records), dtype=np.float32)
        for part in _parts(records):
            delta = _in_and_out(confidences, member, k, part) - mean[:, part]
            centre = mean[:, part] - delta / (n - 1)
            variance = (squares[:, part] - delta**2 * (n / (n - 1))) / (n - 2)
            variance = np.maximum(variance, floor[:, part])
            log_ratio = 0.5 * np.log(variance[1] / variance[0])
            for side in (0, 1):
                z = (confidences[2 * k + side, part] - centre) ** 2 / variance
                scores[side, part] = log_ratio + 0.5 * (z[1] - z[0])
        yield 2 * k, scores[0]
        yield 2 * k + 1, scores[1]


def _parts(records: int) -> list[slice]:
    return [slice(start, min(start + _COLUMNS, records)) for start in range(0, records, _COLUMNS)]


def _in_and_out(
    confidences: NDArray[np.float32], member: NDArray[np.bool_], k: int, part: slice
) -> NDArray[np.float64]:
    """IN and OUT confidences of pair k, float64 [2, width]."""
    even = confidences[2 * k, part].astype(np.float64)
    odd = confidences[2 * k + 1, part].astype(np.float64)
    first_in = member[2 * k, part]
    return np.stack([np.where(first_in, even, odd), np.where(first_in, odd, even)])
