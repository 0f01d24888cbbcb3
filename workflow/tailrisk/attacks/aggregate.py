"""Every aggregate attack on every target model: what papers usually report, all records together."""

from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tailrisk.attacks import rmia
from tailrisk.attacks.attack_r import ranks_among_out
from tailrisk.attacks.calibration import calibrated_summary, calibrated_thresholds
from tailrisk.attacks.lira import LIRA_MIN_PAIRS, moments
from tailrisk.attacks.references import Fold, counts, folds
from tailrisk.attacks.roc import Roc, exceeding, roc, roc_summary, roc_table
from tailrisk.attacks.scorer import ATTACKS, LogLikelihood, Losses, Population, References, Scorer

_RMIA = ("rmia_online", "rmia_offline")
UNMATCHED = 20
"""Fewest IN and OUT models of a record for LiRA online where neither pairs nor halves make a target's references equal
in number whether it is a member or not: with fewer, AUCs down to 0.41 were seen without a leak."""


@dataclass(frozen=True)
class Aggregated:
    """table: attack, target_model, fpr, tpr; summary: per attack, whether it is available and what it reaches."""

    table: pd.DataFrame
    summary: dict[str, Any]


def attack_all(
    confidences: NDArray[np.float32],
    member: NDArray[np.bool_],
    paired: bool,
    log_likelihood: LogLikelihood | None,
    seed: int,
    threads: int,
    gamma: float = 1.0,
) -> Aggregated:
    """All ATTACKS on confidences [M, N] with membership [M, N]; `paired`: models 2k and 2k+1 are complements.

    log_likelihood: None where the table has no losses. It is called three times for every model, from any thread;
    without pairs its answers are kept instead, M × N float32. seed: of the population of RMIA, and of the matches that
    take the place of pairs; gamma: of RMIA. The result does not depend on the number of threads.

    summary[attack]: `available`; if not, the `reason`; the keys of `roc_summary`, and `calibrated` as in
    `calibrated_summary`, with None for what there is not; of rmia_offline `a`, as chosen for most targets. Target
    models without members or without non-members among the records are no targets.

    Scores are made twice, for the ROC and the thresholds, and then for what calibrated thresholds reach: memory beside
    the inputs is a few dozen vectors of N float32 a thread and ranks of half the size of the confidences.
    """
    targets = folds(member, paired, seed)
    losses = None
    if log_likelihood is not None and paired:
        losses = Losses(log_likelihood, lambda fold: [log_likelihood(target) for target in fold.targets])
    elif log_likelihood is not None:
        table = np.stack([log_likelihood(model) for model in range(member.shape[0])])
        losses = Losses(table.__getitem__, lambda fold: fold.values(table))
    usable = [fold for fold in targets if 0 < np.count_nonzero(fold.inside) < fold.inside.size]
    missing = _missing(usable, counts(member), paired, losses is not None)
    with ThreadPoolExecutor(threads) as pool:
        scorer = _scorer(confidences, member, losses, usable, missing, paired, seed, gamma, pool)

        def first(fold: Fold) -> dict[tuple[str, int], Roc]:
            return {
                (attack, target): roc(scores, member[target])
                for attack, target, scores in scorer.scores(fold)
                if attack not in missing
            }

        rocs = {key: one for of_fold in pool.map(first, usable) for key, one in of_fold.items()}
        thresholds = _thresholds(rocs, usable)

        def second(fold: Fold) -> dict[tuple[str, int], tuple[NDArray[np.float64], NDArray[np.float64]]]:
            return {
                (attack, target): exceeding(scores, member[target], thresholds[attack, target])
                for attack, target, scores in scorer.scores(fold)
                if attack not in missing
            }

        again = usable if thresholds else []
        reached = {key: rates for of_fold in pool.map(second, again) for key, rates in of_fold.items()}

    tables, summary = [], {}
    for attack in ATTACKS:
        of_attack = [(target, one) for (name, target), one in rocs.items() if name == attack]
        rates = [one for (name, _), one in reached.items() if name == attack]
        results = [one for _, one in of_attack]
        tables.append(roc_table(attack, of_attack))
        summary[attack] = (
            {"available": attack not in missing}
            | ({"reason": missing[attack]} if attack in missing else {})
            | roc_summary(results)
            | {"calibrated": calibrated_summary(results, rates)}
        )
    if scorer.a:
        summary["rmia_offline"]["a"] = scorer.a[usable[-1].targets[0]]
    return Aggregated(pd.concat(tables, ignore_index=True), summary)


def _missing(usable: list[Fold], count: NDArray[np.float64], paired: bool, losses: bool) -> dict[str, str]:
    """Why an attack is not available, for those that are not."""
    if not usable:
        return dict.fromkeys(ATTACKS, "no target model has both members and non-members among the records")
    missing = {}
    if count.min() < LIRA_MIN_PAIRS:
        few = (
            f"fewer than {LIRA_MIN_PAIRS} pairs of target models"
            if paired
            else f"some record is IN or OUT in fewer than {LIRA_MIN_PAIRS} target models"
        )
        missing = {attack: few for attack in ATTACKS if attack != "loss"}
    elif usable[0].partner is None and count.min() < UNMATCHED:
        # What is left of a fixed or cut number of IN models names the target's own membership.
        few = f"some record is IN or OUT in fewer than {UNMATCHED} target models without pairs or halves"
        missing = {attack: few for attack in ATTACKS if attack.startswith("lira_online")}
    if len(usable) < 2 * _chosen_on(paired):
        missing.setdefault("rmia_offline", "too few target models to choose its correction on others")
    if not losses:
        missing |= dict.fromkeys((*_RMIA, "loss"), "the table has no losses")
    return missing


def _chosen_on(paired: bool) -> int:
    """Number of folds that the correction of offline RMIA is chosen on: those of two models."""
    return 1 if paired else 2


def _scorer(
    confidences: NDArray[np.float32],
    member: NDArray[np.bool_],
    losses: Losses | None,
    usable: list[Fold],
    missing: dict[str, str],
    paired: bool,
    seed: int,
    gamma: float,
    pool: Executor,
) -> Scorer:
    """What is computed once for all models, of the attacks that are not missing."""
    references, population = None, None
    a: dict[int, float] = {}
    if "lira_offline" not in missing:
        references = References(moments(confidences, member, pool), ranks_among_out(confidences, member, pool))
    if losses is not None and "rmia_online" not in missing:
        rng, records = np.random.Generator(np.random.Philox(key=seed + 1)), member.shape[1]
        drawn = rng.choice(records, min(rmia.POPULATION, records), replace=False, shuffle=False)
        total = rmia.probability_sums(losses.of_model, member, pool)
        population = Population(total, counts(member), np.sort(drawn), gamma)
        if "rmia_offline" not in missing:
            # Never on the target itself: on the first two models, and for these on the next two.
            width = _chosen_on(paired)
            best = [
                population.best_a([(fold, losses.of_fold(fold)) for fold in chosen_on], member)
                for chosen_on in (usable[:width], usable[width : 2 * width])
            ]
            a = {fold.targets[0]: best[number < width] for number, fold in enumerate(usable)}
    return Scorer(lambda fold: fold.values(confidences), losses, references, population, a)


def _thresholds(rocs: dict[tuple[str, int], Roc], usable: list[Fold]) -> dict[tuple[str, int], NDArray[np.float64]]:
    """Calibrated thresholds of every attack and target, none where there is a single fold."""
    if len(usable) < 2:
        return {}
    fold_of = {target: number for number, fold in enumerate(usable) for target in fold.targets}
    thresholds: dict[tuple[str, int], NDArray[np.float64]] = {}
    for attack in {attack for attack, _ in rocs}:
        of = {target: one for (name, target), one in rocs.items() if name == attack}
        calibrated = calibrated_thresholds(list(of.values()), [fold_of[target] for target in of])
        thresholds |= {(attack, target): row for target, row in zip(of, calibrated, strict=True)}
    return thresholds
