"""The largest attack AUC that a differential privacy guarantee allows, for a record and for a patient's records.

An attacker who knows everything but one membership has a ROC curve below 1 − f, where f is the trade-off function of
the guarantee (Dong, Roth, Su 2022, "Gaussian differential privacy"), so that AUC ≤ 1 − ∫ f; 1 − ceiling is the floor.
A ceiling bounds the true AUC, not its estimate: a violation needs a lower limit above it. With a guarantee for single
records, a patient's AUC may reach the ceiling of all of the patient's records together, on any one of them, too.
"""

import math

from scipy.special import expit, ndtr

from tailrisk.errors import UserError


def auc_ceiling(epsilon: float, delta: float) -> float:
    """AUC that (ε, δ)-differential privacy allows: 1 − (1 − δ)²/(1 + e^ε).

    The integral of f(α) = max(0, 1 − δ − e^ε α, e^−ε (1 − δ − α)). Raises UserError for ε < 0 or δ outside [0, 1].
    """
    _check_guarantee(epsilon, delta)
    return float(1 - (1 - delta) ** 2 * expit(-epsilon))


def gaussian_auc_ceiling(mu: float) -> float:
    """AUC that μ-Gaussian differential privacy allows: Φ(μ/√2). Raises UserError for μ < 0.

    Valid where μ is a guarantee; one from a central limit theorem is an approximation and no evidence of a violation.
    """
    if not mu >= 0:
        raise UserError(f"mu is {mu}: a Gaussian privacy guarantee has a mu of 0 or more")
    return float(ndtr(mu / math.sqrt(2)))


def group_guarantee(epsilon: float, delta: float, records: int) -> tuple[float, float]:
    """(kε, δ(e^{kε} − 1)/(e^ε − 1)): what a record-level (ε, δ) guarantees to a patient with k = `records` records.

    Changing one record after another adds the δ of each step, magnified by those after it: δ Σ e^{iε} over
    i = 0 … k − 1, at most 1. Under μ-Gaussian differential privacy the patient has kμ. Raises UserError as
    `auc_ceiling` does, and for fewer than one record.
    """
    _check_guarantee(epsilon, delta)
    if records < 1:
        raise UserError(f"{records} records: a patient has at least one record")
    if delta == 0:
        return records * epsilon, 0.0
    # In logarithms, because e^{kε} may be beyond every float.
    if epsilon == 0:
        log_steps = math.log(records)
    else:
        log_steps = (records - 1) * epsilon + math.log(math.expm1(-records * epsilon) / math.expm1(-epsilon))
    return records * epsilon, math.exp(min(0.0, math.log(delta) + log_steps))


def _check_guarantee(epsilon: float, delta: float) -> None:
    if not epsilon >= 0:
        raise UserError(f"epsilon is {epsilon}: a privacy guarantee has an epsilon of 0 or more")
    if not 0 <= delta <= 1:
        raise UserError(f"delta is {delta}: a privacy guarantee has a delta between 0 and 1")
