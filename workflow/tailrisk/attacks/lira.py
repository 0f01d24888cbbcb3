"""The likelihood-ratio attack (LiRA, Carlini et al. 2022) in all its forms, every target model against all others.

Where φ is a record's confidence under the target, and the moments are those of its references (`references`):
- online: log N(φ; μ_in, σ²_in) − log N(φ; μ_out, σ²_out);
- offline (their equation 4): P(Z ≤ φ) for Z ~ N(μ_out, σ²_out), given as (φ − μ_out)/σ_out, which has the same order;
- offline two-sided: −log N(φ; μ_out, σ²_out), so that far from OUT on either side means "member".
σ² is the record's own (ddof 1), fixed (the pooled within-record variance of the IN values for IN and of the OUT values
for OUT), or shrunk (the record's own, drawn towards a prior common to all records).
"""

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tailrisk.attacks.references import Fold, Values, at, counts, folds, parts, sides
from tailrisk.audit.shrinkage import Prior, fit_prior, shrink

# Confidences are stored as float32: a spread below their resolution is not measurable, and a variance of zero would
# turn rounding into certainty.
_RESOLUTION = float(np.finfo(np.float32).eps)

LIRA_MIN_PAIRS = 3  # a variance needs two models on each side beside the target's own pair
LIRA = (
    "lira_online",
    "lira_online_fixed",
    "lira_online_shrunk",
    "lira_offline",
    "lira_offline_fixed",
    "lira_offline_two_sided",
    "lira_offline_two_sided_fixed",
)


@dataclass(frozen=True)
class Moments:
    """Of all models, IN in row 0 and OUT in row 1: mean, sum of squared deviations, least variance of its
    references, each [2, N], and count, [2, N] or [2, 1].

    prior: of the variances of each side; a few numbers from all records, in which no single model can be seen.
    """

    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    floor: NDArray[np.float64]
    count: NDArray[np.float64]
    prior: tuple[Prior, Prior]


def moments(confidences: NDArray[np.float32], member: NDArray[np.bool_], pool: Executor) -> Moments:
    """Moments of confidences [M, N] in float64, in two passes; each side needs two models for every record."""
    count = counts(member)
    mean, squares = np.zeros((2, 2, member.shape[1]))

    def add(part: slice) -> None:
        centre, deviations = mean[:, part], squares[:, part]
        for values, inside in zip(confidences, member, strict=True):
            centre[0] += values[part] * inside[part]
            centre[1] += values[part]
        centre[1] -= centre[0]
        centre /= at(count, part)
        for values, inside in zip(confidences, member, strict=True):
            squared = (values[part] - np.where(inside[part], centre[0], centre[1])) ** 2
            of_in = squared * inside[part]
            deviations[0] += of_in
            deviations[1] += squared - of_in

    list(pool.map(add, parts(member.shape[1])))
    variance = squares / (count - 1)
    prior = fit_prior(variance[0], count[0] - 1), fit_prior(variance[1], count[1] - 1)
    return Moments(mean, squares, (_RESOLUTION * (1 + np.abs(mean))) ** 2, count, prior)


class _Normal(NamedTuple):
    """Centred normal distributions of IN and OUT [2, width], float32: log σ and 1/(2σ²)."""

    log_sd: NDArray[np.floating]
    weight: NDArray[np.floating]

    @classmethod
    def of(cls, variance: NDArray[np.float64]) -> "_Normal":
        narrow = variance.astype(np.float32)
        return cls(np.log(narrow) / np.float32(2), np.float32(0.5) / narrow)

    def surprise(self, squared: NDArray[np.float32]) -> NDArray[np.floating]:
        """−log density at squared distances from the mean [2, width], without the constant."""
        return squared * self.weight + self.log_sd


def lira_scores(fold: Fold, values: Values, m: Moments) -> dict[str, NDArray[np.float32]]:
    """Scores of every attack in LIRA, [targets, N] each, from the confidences that the fold leaves out.

    Moments without the fold follow in closed form: with δ the deviation of what leaves one side of c values,
    μ − δ/(c − 1) and SS − δ²·c/(c − 1). Differences from the means and variances are float64, what follows float32:
    scores have an error of about 1e-7 times the larger squared distance in units of σ².
    """
    targets = values[: len(fold.targets)]
    delta, fixed = _removed(fold, values, m)
    gone, of_fixed = fold.gone(), _Normal.of(fixed)
    scores = {name: np.empty((len(targets), fold.inside.size), dtype=np.float32) for name in LIRA}
    for part in parts(fold.inside.size):
        count, floor = at(m.count, part), m.floor[:, part]
        left = count - at(gone, part)
        shift = delta[:, part] / left
        variance = (m.squares[:, part] - delta[:, part] * shift * count) / (left - 1)
        drawn = np.stack([shrink(variance[side], left[side] - 1, m.prior[side]) for side in (0, 1)])
        of_record, of_shrunk = _Normal.of(np.maximum(variance, floor)), _Normal.of(np.maximum(drawn, floor))
        scale = np.sqrt(2 * of_record.weight[1])
        for i, confidence in enumerate(targets):
            away = ((confidence[part] - m.mean[:, part]) + shift).astype(np.float32)
            squared = away * away
            for variety, normal in (("", of_record), ("_fixed", of_fixed), ("_shrunk", of_shrunk)):
                surprise = normal.surprise(squared)
                np.subtract(surprise[1], surprise[0], out=scores[f"lira_online{variety}"][i, part])
                if variety != "_shrunk":
                    scores[f"lira_offline_two_sided{variety}"][i, part] = surprise[1]
            np.multiply(away[1], scale, out=scores["lira_offline"][i, part])
            np.multiply(away[1], np.sqrt(2 * of_fixed.weight[1]), out=scores["lira_offline_fixed"][i, part])
    return scores


def _removed(fold: Fold, values: Values, m: Moments) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Deviation from the mean of what leaves each side [2, N], and the pooled variance of what stays [2, 1]."""
    gone = fold.gone()
    delta = np.empty_like(m.mean)
    squares, dof = np.zeros((2, 2))
    for part in parts(fold.inside.size):
        count, leaving = at(m.count, part), at(gone, part)
        left = count - leaving
        delta[:, part] = sides(fold.inside[part], [one[part] for one in values])
        delta[:, part] -= m.mean[:, part]
        delta[:, part] *= leaving
        squares += (m.squares[:, part] - delta[:, part] ** 2 * (count / left)).sum(axis=1)
        dof += np.broadcast_to(left - 1, delta[:, part].shape).sum(axis=1)
    return delta, np.maximum(squares / dof, m.floor.mean(axis=1))[:, None]


def lira_online(
    confidences: NDArray[np.float32], member: NDArray[np.bool_]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (target model, scores [N]) of LiRA online for each of 2n models in complementary pairs, n ≥ 3."""
    if confidences.shape[0] < 2 * LIRA_MIN_PAIRS:
        raise ValueError(
            f"LiRA without the target's pair needs {LIRA_MIN_PAIRS} pairs, not {confidences.shape[0] // 2}"
        )
    with ThreadPoolExecutor(1) as pool:
        of_all = moments(confidences, member, pool)
    for fold in folds(member, paired=True, seed=0):
        yield from zip(fold.targets, lira_scores(fold, fold.values(confidences), of_all)["lira_online"], strict=True)
