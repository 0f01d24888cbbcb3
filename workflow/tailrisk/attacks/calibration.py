"""Thresholds that an attacker can set without the target: from the reference models alone.

The ROC of a target sets its threshold on the target's own non-members, whom no attacker knows. Here the threshold for a
nominal FPR is the median of the thresholds of all models outside the target's fold, each at that FPR on its own
non-members and under its own leave-pair-out scores. The target's pair is among the references of those scores, with
weight 1/(n − 1) of n pairs. What it then reaches on the target is reported: achieved FPR, TPR and precision.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailrisk.attacks.roc import PRIORS, REPORTED_FPR, Roc, mean_and_sd, precision


def calibrated_thresholds(results: list[Roc], fold: list[int]) -> NDArray[np.float64]:
    """Threshold of every target at each FPR of REPORTED_FPR, [T, 4]; fold: which targets share their references.

    Needs targets of at least two folds.
    """
    own, of = np.array([one.thresholds for one in results]), np.array(fold)
    medians = {one: np.median(own[of != one], axis=0) for one in set(fold)}
    return np.array([medians[one] for one in fold])


def calibrated_summary(
    results: list[Roc], rates: list[tuple[NDArray[np.float64], NDArray[np.float64]]]
) -> dict[str, dict[str, Any]]:
    """Per nominal FPR: fpr, tpr (means over targets), fpr_sd, tpr_sd, precision[prior] of the mean rates.

    results: of T targets; rates: the (FPR, TPR) at each of REPORTED_FPR that the calibrated thresholds reach on them,
    empty where there are none. None at an FPR that some target does not resolve; a precision is None where nobody is
    named.
    """
    summary = {}
    for column, nominal in enumerate(REPORTED_FPR):
        known = rates if all(one.resolves(nominal) for one in results) else []
        fpr, fpr_sd = mean_and_sd([float(reached[column]) for reached, _ in known])
        tpr, tpr_sd = mean_and_sd([float(reached[column]) for _, reached in known])
        by_prior = {
            str(prior): precision(tpr, fpr, prior) if fpr is not None and tpr is not None and fpr + tpr > 0 else None
            for prior in PRIORS
        }
        summary[str(nominal)] = {"fpr": fpr, "fpr_sd": fpr_sd, "tpr": tpr, "tpr_sd": tpr_sd, "precision": by_prior}
    return summary
