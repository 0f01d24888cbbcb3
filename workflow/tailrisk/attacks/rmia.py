"""The robust membership-inference attack (RMIA; Zarifzadeh, Liu and Shokri 2024), every target against all others.

The score of a record x is the share of population records z with [P(x|θ)/P(x)] / [P(z|θ)/P(z)] ≥ γ, where P(·|θ) is
the probability that the target gives to the true label and P(·) that of its references (`references`). Online, P(x) is
the mean of the IN and the OUT mean; offline it is ½((1 + a) P_OUT(x) + 1 − a), the same for z. With several labels the
probability is that of all of them together. The population is drawn from the audited records whatever their membership,
as an attacker with a sample of the population has it.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from tailrisk.attacks.references import Fold, Values, at, parts, sides
from tailrisk.errors import UserError

POPULATION = 10_000  # of which ten are the highest 0.1 %: enough to resolve the TPR there
OFFLINE_A = tuple(step / 10 for step in range(11))

_SMALLEST = 1e-37  # of a probability: its reciprocal is a float32
_ROUNDING = 1e-13  # of a sum of probabilities from which one is removed

Blend = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From the mean probabilities of IN and OUT references [2, width] to P(x) [width]."""


def online(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """P(x) from IN and OUT references."""
    return 0.5 * (means[0] + means[1])


def offline(a: float) -> Blend:
    """P(x) from OUT references alone, corrected by a in [0, 1]: at 1 the OUT mean itself, at 0 halfway to 1."""
    return lambda means: 0.5 * ((1 + a) * means[1] + 1 - a)


def probability_sums(
    log_likelihood: Callable[[int], NDArray[np.float32]], member: NDArray[np.bool_], pool: Executor
) -> NDArray[np.float64]:
    """Sum of the true label's probability over the IN and over the OUT models of each record [2, N].

    Raises UserError for a log-likelihood that is not a number.
    """
    models, records = member.shape
    total = np.zeros((2, records))
    for model in range(models):
        values = log_likelihood(model)
        if np.isnan(values.max()):
            raise UserError(
                f"the loss of target model {model} is not a number for record number {int(np.isnan(values).argmax())}: "
                "drop this model's pair, or correct the table"
            )

        def add(part: slice, model: int = model, values: NDArray[np.float32] = values) -> None:
            p = np.exp(values[part], dtype=np.float64)
            of_in = p * member[model, part]
            total[0, part] += of_in
            total[1, part] += p - of_in

        list(pool.map(add, parts(records)))
    return total


def ratios(
    fold: Fold,
    values: Values,
    total: NDArray[np.float64],
    count: NDArray[np.float64],
    blends: Sequence[Blend],
) -> NDArray[np.float32]:
    """P(x|θ)/P(x) of every record under the fold's targets by each blend, [blends, targets, N], on another scale.

    values: log-likelihoods that the fold leaves out; total, count: `probability_sums` and number of the IN and OUT
    models. The scale is (P(x|θ) − P(x))/min(P(x|θ), P(x)), which orders as the ratio does and in
    float32 tells ratios near 1 apart that the ratio itself would tie.
    """
    targets = len(fold.targets)
    result = np.empty((len(blends), targets, fold.inside.size), dtype=np.float32)
    gone = fold.gone()
    for part in parts(fold.inside.size):
        p = [np.exp(one[part], dtype=np.float64) for one in values]
        means = total[:, part] - sides(fold.inside[part], p)
        np.maximum(means, total[:, part] * _ROUNDING, out=means)
        means /= at(count, part) - at(gone, part)
        for row, blend in enumerate(blends):
            expected = np.maximum(blend(means), _SMALLEST)
            for i in range(targets):
                given = np.maximum(p[i], _SMALLEST)
                result[row, i, part] = (given - expected) / np.minimum(given, expected)
    return result


def levels(population: NDArray[np.float32], gamma: float) -> NDArray[np.float32]:
    """γ times the ratios of the population records, on the scale of `ratios`, ascending.

    A record's score is the number of these that its own ratio reaches, out of Z.
    """
    if gamma == 1:
        return np.sort(population)
    scaled = population.astype(np.float64)
    ratio = gamma * np.where(scaled >= 0, 1 + scaled, 1 / (1 - np.minimum(scaled, 0)))
    return np.sort(np.where(ratio >= 1, ratio - 1, 1 - 1 / np.minimum(ratio, 1)).astype(np.float32))
