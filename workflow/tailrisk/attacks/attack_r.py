"""Attack-R (Ye et al. 2022): a threshold of its own for every record, from models that were not trained on it.

The score is the share of a record's OUT references (`references`) whose value lies below the target's, ties half. A
value of any increasing scale gives the same score, so that confidences serve: for a class or a binary label they order
models as their losses do. With several labels they are the study's score, which need not order as the loss.
"""

from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from tailrisk.attacks.references import Fold, Values

_RECORDS = 2048  # sorted at once


def ranks_among_out(confidences: NDArray[np.float32], member: NDArray[np.bool_], pool: Executor) -> NDArray[np.int16]:
    """Twice the number of OUT models of each record below every model, equal ones half (itself as well): [M, N].

    Half as large as the confidences.
    """
    ranks = np.empty(confidences.shape, dtype=np.int16)

    def rank(start: int) -> None:
        part = slice(start, start + _RECORDS)
        values, out = np.ascontiguousarray(confidences[:, part].T), np.ascontiguousarray(~member[:, part].T)
        order = np.argsort(values, axis=1)
        values, out = np.take_along_axis(values, order, axis=1), np.take_along_axis(out, order, axis=1)
        upto = np.cumsum(out, axis=1, dtype=np.int16)
        below = upto - out
        same = values[:, 1:] == values[:, :-1]
        tied = np.flatnonzero(same.any(axis=1))
        first, last = np.ones((2, tied.size, values.shape[1]), dtype=bool)
        first[:, 1:] = last[:, :-1] = ~same[tied]
        below[tied] = np.maximum.accumulate(np.where(first, below[tied], 0), axis=1)
        after = np.where(last, upto[tied], np.iinfo(np.int16).max)[:, ::-1]
        upto[tied] = np.minimum.accumulate(after, axis=1)[:, ::-1]
        of_model = np.empty_like(upto)
        np.put_along_axis(of_model, order, below + upto, axis=1)
        ranks[:, part] = of_model.T

    list(pool.map(rank, range(0, confidences.shape[1], _RECORDS)))
    return ranks


def attack_r_scores(
    fold: Fold, values: Values, ranks: NDArray[np.int16], count: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Scores [targets, N] from the confidences that the fold leaves out; count as in `references`."""
    references = (count - fold.gone())[1]
    scores = np.empty((len(fold.targets), fold.inside.size), dtype=np.float32)
    for i, target in enumerate(fold.targets):
        inside = fold.inside if i == 0 else ~fold.inside
        leaving = (~inside).astype(np.int16)  # a target that is OUT has been counted as equal to itself
        if len(values) > 1:
            value, other = values[i], values[1 - i]
            leaving += inside * (2 * (other < value).astype(np.int16) + (other == value))
        scores[i] = (ranks[target] - leaving) / (2 * references)
    return scores
