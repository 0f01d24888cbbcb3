"""How many target models an audit needs, before it is run: for a standard error, or for the power to find a patient.

A record is described by its AUC Φ(d), the ratio of the standard deviations of its confidence under IN and OUT models,
and the correlation of the two models of a pair (0 without pairs; then a "pair" is one IN and one OUT model). Numbers
are of pairs: twice as many models.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from scipy.stats import nct
from scipy.stats import t as student

from tailrisk.errors import UserError

MOST_PAIRS = 5000


def auc_standard_error(
    auc: ArrayLike, pairs: ArrayLike, ratio: float = 1.0, correlation: float = 0.0
) -> NDArray[np.float64]:
    """Standard error of a bi-normal AUC from n = `pairs` ≥ 2 pairs of models.

    φ(d)·√Var d with Var d = (1 − 2c)/n + (d²/2)·(σ₁⁴ + σ₀⁴ + 2c²)/(n − 1) in units of S = √(σ₁² + σ₀²) = 1, where
    ratio = σ₁/σ₀ and c = correlation·σ₁σ₀ (the formula of `records.record_statistics`).
    """
    d, n = ndtri(np.asarray(auc, dtype=np.float64)), np.asarray(pairs, dtype=np.float64)
    of_mean, of_spread = _variances(d, ratio, correlation)
    return np.exp(-0.5 * d * d) / np.sqrt(2 * np.pi) * np.sqrt(of_mean / n + of_spread / (n - 1))


def pairs_for_standard_error(se: float, auc: float, ratio: float = 1.0, correlation: float = 0.0) -> int:
    """Fewest pairs with which a record of this AUC has a standard error of at most `se`.

    Raises UserError for values out of range, and where MOST_PAIRS are not enough.
    """
    _check_record(auc, ratio, correlation)
    _check_positive(se)
    return _fewest(auc_standard_error(auc, _CANDIDATES, ratio, correlation) <= se, f"a standard error of {se:g}")


def pairs_for_observed_error(se: float, auc_se: NDArray[np.float64], pairs: int) -> int:
    """Fewest pairs with which the mean standard error of the observed records is at most `se`.

    auc_se [N]: standard errors of the records' AUC that an audit with `pairs` pairs reported; each of their variances
    falls as 1/n (the part that falls as 1/(n − 1) makes no difference of more than 1/n). Records without a standard
    error are left out.
    """
    _check_positive(se)
    known = auc_se[np.isfinite(auc_se)]
    if not known.size:
        raise UserError("no record has a standard error: plan from an assumed AUC instead")
    needed = pairs * (float(known.mean()) / se) ** 2
    return max(2, int(np.ceil(needed * (1 - 1e-12))))


def discovery_level(fdr: float, patients: int, rank: int = 1) -> float:
    """p-value that a patient must reach: that of the Benjamini–Hochberg procedure when `rank` patients are found.

    rank = 1 is the worst case, a single vulnerable patient among `patients`, and equals Bonferroni's level. For a
    patient with several records, whose largest AUC is tested, divide by their number: an upper bound of what the
    selection costs.
    """
    if not 0 < fdr < 1 or not 1 <= rank <= patients:
        raise UserError(
            f"a false-discovery rate of {fdr:g} with {rank} of {patients} patients found makes no level: give a rate "
            "between 0 and 1, and no more found than patients"
        )
    return fdr * rank / patients


def flip_power(
    auc: float, pairs: ArrayLike, level: float, ratio: float = 1.0, correlation: float = 0.0
) -> NDArray[np.float64]:
    """Probability that the one-sided sign-flip test of a single record with this true AUC gives p ≤ level.

    For normal confidences the test over n pairs is nearly the paired t-test: the power is that of a noncentral t with
    n − 1 degrees of freedom and noncentrality √n·d/√(1 − 2c). p-values are multiples of 2⁻ⁿ, so that the test has the
    level ⌊level·2ⁿ⌋/2ⁿ, and no power at all while that is 0. Against simulated flip tests the power is right to 0.04
    where 2⁻ⁿ is far below the level; where it is only a few times smaller, it is too high (20 pairs, p ≤ 1e-6, AUC 0.9:
    0.27 for 0.13).
    """
    d, n = float(ndtri(auc)), np.asarray(pairs, dtype=np.float64)
    of_mean, _ = _variances(np.asarray(d), ratio, correlation)
    labellings = np.exp2(np.minimum(n, 1000))
    reached = np.floor(level * labellings * (1 + 1e-12)) / labellings
    critical = student.isf(np.maximum(reached, 1e-300), n - 1)
    power = nct.sf(critical, n - 1, np.sqrt(n / of_mean) * d)
    return np.where(reached > 0, np.clip(np.nan_to_num(power), 0.0, 1.0), 0.0)


def pairs_for_power(power: float, auc: float, level: float, ratio: float = 1.0, correlation: float = 0.0) -> int:
    """Fewest pairs from which on the sign-flip test finds a record of this AUC at `level` with probability `power`.

    Raises UserError for values out of range, an AUC that is not above 0.5, and where MOST_PAIRS are not enough.
    """
    _check_record(auc, ratio, correlation)
    if auc <= 0.5:
        raise UserError(f"an AUC of {auc:g} leaves no trace to find: plan for one above 0.5")
    if not 0 < power < 1 or not 0 < level < 1:
        raise UserError(f"a power of {power:g} at level {level:g} cannot be planned: give numbers between 0 and 1")
    # Below the smallest n the discreteness of p lets the power fall again with one more pair.
    return _fewest(flip_power(auc, _CANDIDATES, level, ratio, correlation) >= power, f"a power of {power:g}")


_CANDIDATES = np.arange(2, MOST_PAIRS + 1)


def _fewest(enough: NDArray[np.bool_], aim: str) -> int:
    """The candidate from which on every one is enough."""
    if not enough[-1]:
        raise UserError(f"{aim} needs more than {2 * MOST_PAIRS} models: ask for less")
    return int(_CANDIDATES[np.flatnonzero(~enough)[-1] + 1]) if not enough.all() else int(_CANDIDATES[0])


def _variances(d: NDArray[np.float64], ratio: float, correlation: float) -> tuple[float, NDArray[np.float64]]:
    """The parts of Var d that fall as 1/n and as 1/(n − 1), in units of S²."""
    var_in, var_out = ratio**2 / (1 + ratio**2), 1 / (1 + ratio**2)
    c = correlation * ratio / (1 + ratio**2)
    return 1 - 2 * c, d * d / 2 * (var_in**2 + var_out**2 + 2 * c**2)


def _check_record(auc: float, ratio: float, correlation: float) -> None:
    if not 0 < auc < 1:
        raise UserError(f"an AUC of {auc:g} cannot be planned for: give one between 0 and 1")
    if not ratio > 0:
        raise UserError(f"a ratio of standard deviations of {ratio:g} does not exist: give a positive one")
    if not -1 <= correlation < 1:
        raise UserError(f"a pair correlation of {correlation:g} does not exist: give one from -1 to below 1")


def _check_positive(se: float) -> None:
    if not se > 0:
        raise UserError(f"a standard error of {se:g} cannot be reached: ask for a positive one")
