"""Confidence tables of every design, and the references of a target by the definition, for the tests of the attacks."""

import numpy as np
from paired_scores import table

from tailrisk.attacks.references import folds

DESIGNS = ("complementary", "balanced", "independent")


def designed(design, models, records, rng, effect=0.0, spread=0.3, between=1.0, within_pair=0.0):
    """confidences and log-likelihoods float32 [models, records] and member; records differ in mean (sd `between`) and
    spread (sd `spread` of its logarithm)."""
    confidences, member, _ = table(models // 2, [1] * records, rng, within_pair=within_pair)
    if design == "balanced":
        member = rng.permuted(np.repeat([[True], [False]], models // 2, axis=0).repeat(records, axis=1), axis=0)
    elif design == "independent":
        member = rng.random((models, records)) < 0.5
    scale = np.exp(spread * rng.standard_normal(records))
    confidences = 1 + between * rng.standard_normal(records) + scale * (confidences + effect * member)
    confidences = confidences.astype(np.float32)
    return confidences, (-np.logaddexp(0, -confidences.astype(np.float64))).astype(np.float32), member


def folds_by_target(member, design, seed):
    """The fold of every target model and its number among the fold's targets."""
    of = {}
    for fold in folds(member, design == "complementary", seed):
        of |= {target: (fold, i) for i, target in enumerate(fold.targets)}
    return of


def references(fold, target, record, models):
    """The models that a record of a target is compared with."""
    gone = {target, *fold.targets}
    if isinstance(fold.partner, np.ndarray):
        gone.add(int(fold.partner[record]))
    return [model for model in range(models) if model not in gone]
