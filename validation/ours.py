"""This package's aggregate attacks on the common matrix, with the population and the correction that all tools get."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from matrix import Matrix
from numpy.typing import NDArray

from tailrisk.attacks.attack_r import ranks_among_out
from tailrisk.attacks.lira import moments
from tailrisk.attacks.references import counts, folds
from tailrisk.attacks.rmia import probability_sums
from tailrisk.attacks.scorer import Losses, Population, References, Scorer


def all_scores(
    matrix: Matrix, targets: Sequence[int], population: int, offline_a: float
) -> dict[tuple[str, int], NDArray[np.float64]]:
    """Scores [N] of every attack on some targets, higher for members; RMIA against the first records."""
    log_likelihood = matrix.log_likelihood
    pairs = folds(matrix.member, paired=True, seed=0)
    with ThreadPoolExecutor(1) as pool:
        references = References(
            moments(matrix.confidences, matrix.member, pool), ranks_among_out(matrix.confidences, matrix.member, pool)
        )
        total = probability_sums(log_likelihood.__getitem__, matrix.member, pool)
    scorer = Scorer(
        confidences=lambda fold: fold.values(matrix.confidences),
        losses=Losses(log_likelihood.__getitem__, lambda fold: fold.values(log_likelihood)),
        references=references,
        population=Population(total, counts(matrix.member), np.arange(population), gamma=1.0),
        a={fold.targets[0]: offline_a for fold in pairs},
    )
    found = {}
    for pair in sorted({target // 2 for target in targets}):
        for attack, target, scores in scorer.scores(pairs[pair]):
            if target in targets:
                values = scores.values.astype(np.float64)
                if scores.levels is not None:
                    values = np.searchsorted(scores.levels, scores.values, side="right") / scores.levels.size
                found[attack, target] = values
    return found
