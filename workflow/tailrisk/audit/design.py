"""How membership was drawn, as stated, and whether the masks of a confidence table agree.

complementary: models 2k and 2k+1 are complements, a fair coin for every patient and pair. balanced: every patient is a
member of exactly half of the models, each half equally likely. independent: a fair coin for every patient and model.
unknown: anything else; there are estimates and intervals, but no p-values.
"""

from math import comb, log2
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, chi2, poisson

from tailrisk.errors import UserError

Design = Literal["complementary", "balanced", "independent", "unknown"]
DESIGNS: tuple[str, ...] = get_args(Design)
MIN_MODELS = 4
_CONTRADICTION_P = 1e-6  # a stated design is refused when its masks would be as unlikely as this
_CONTRADICTION_BITS = 20  # the same in bits
_MANY_MODELS = 20  # with so many, hardly a patient has fewer than two on a side
_MANY_PATIENTS = 30


def check(
    design: Design, confidences: NDArray[np.float32], member: NDArray[np.bool_], patient: NDArray[np.integer]
) -> None:
    """Raise UserError unless the masks [M, N] agree with the stated design; patient [N] holds codes 0 … P − 1.

    Whatever is stated but `unknown`, memberships must look as if drawn anew for every patient and every half.
    Only the shape of `confidences` is looked at; its values are checked block by block as they are read. Under
    `independent`, models with exactly half of the patients each are let through: that makes the coins of different
    patients slightly dependent, and the p-values nearly rather than strictly exact.
    """
    models, records = confidences.shape
    if member.shape != confidences.shape or patient.shape != (records,):
        raise UserError(
            f"confidences are {models} models × {records} records, membership is {member.shape} and patients are "
            f"{patient.shape}: give one membership per confidence and one patient per record"
        )
    if records == 0:
        raise UserError("the confidence table holds no records: check that the audit split has patients")
    if models < MIN_MODELS:
        raise UserError(f"{models} target models are too few: an audit needs at least {MIN_MODELS}")
    if design == "complementary":
        _check_pairs(member)
    first, coins = _coins(member, patient)
    if design == "complementary":
        _check_drawn(coins[0::2], models // 2 - 1, "pair", first)
        _check_sizes(coins[0::2], design)
        return
    count = np.count_nonzero(coins, axis=0)
    if design == "unknown":  # nothing is claimed that masks could contradict
        _check_sides(count, models, first)
        return
    _refuse_pairs(design, coins)
    if design == "balanced":
        _check_balanced(count, models, first)
        _check_drawn(coins, log2(comb(models, models // 2)) - 1, "model", first)
        return
    _check_sides(count, models, first)
    exactly = models % 2 == 0 and models >= _MANY_MODELS and (count == models // 2).all()
    if exactly and _balance_bits(models, count.size) >= _CONTRADICTION_BITS:
        raise UserError(
            f"every patient is IN exactly {models // 2} of {models} models: state `balanced`, not `{design}`"
        )
    if models >= _MANY_MODELS:
        _check_drawn(coins, models - 1, "model", first)
    _check_fair(coins, count)


def _check_drawn(coins: NDArray[np.bool_], bits: float, what: str, first: NDArray[np.intp]) -> None:
    """Refuse memberships [n, P] that repeat themselves: halves that serve twice, and patients who are drawn together.

    Two patients go the same way throughout, or opposite ways, with a chance of 2^−bits. p-values take every half and
    every patient's memberships for drawn anew.
    """
    n, patients = coins.shape
    if patients - 2 * log2(n) >= _CONTRADICTION_BITS:
        again = np.unique(np.packbits(coins ^ coins[:, :1], axis=1), axis=0, return_inverse=True)[1].ravel()
        same = np.flatnonzero(again == np.bincount(again).argmax())
        if same.size > 1:
            raise UserError(
                f"{what}s {same[0]} and {same[1]} have the same members, or opposite ones: halves must be drawn anew "
                f"for every {what}; where several models were trained on one half, average their confidences first"
            )
    again = np.unique(np.packbits(coins ^ coins[:1], axis=0), axis=1, return_inverse=True)[1].ravel()
    sizes = np.bincount(again)
    together = int((sizes * (sizes - 1) // 2).sum())
    if poisson.sf(together - 1, patients * (patients - 1) / 2 * 2.0**-bits) < _CONTRADICTION_P:
        same = np.flatnonzero(again == sizes.argmax())
        raise UserError(
            f"the patients of record number {first[same[0]]} and record number {first[same[1]]} are always members "
            "together, or never, and so are more others than chance would give: membership was not drawn for every "
            "patient alone; give whatever it was drawn for (a family, a hospital) as the patient, or state `unknown`"
        )


def _check_sizes(coins: NDArray[np.bool_], design: str) -> None:
    """Refuse models whose numbers of patients vary more than with fair coins; equal halves vary less."""
    n, patients = coins.shape
    sizes = np.count_nonzero(coins, axis=1)
    spread = float(((sizes - patients / 2) ** 2).sum() / (patients / 4))
    if chi2.sf(spread, n) < _CONTRADICTION_P:
        raise UserError(
            f"the number of patients in a model varies {spread / n:.2f} times as much as with fair coins: state "
            f"`unknown`, not `{design}`"
        )


def _check_pairs(member: NDArray[np.bool_]) -> None:
    models, records = member.shape
    if models % 2:
        raise UserError(f"{models} target models cannot form pairs: give an even number, 2k and 2k+1 complementary")
    for k in range(models // 2):
        overlap = int(np.count_nonzero(member[2 * k] == member[2 * k + 1]))
        if overlap:
            raise UserError(
                f"pair {k} (target models {2 * k} and {2 * k + 1}) is not complementary: {overlap} of {records} "
                "records are in both or in neither; every record must be IN exactly one model of each pair"
            )


def _coins(member: NDArray[np.bool_], patient: NDArray[np.integer]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The first record of every patient [P] and the membership of patients [M, P]."""
    first = np.unique(patient, return_index=True)[1]
    coins = np.empty((member.shape[0], first.size), dtype=bool)
    for model, mask in enumerate(member):
        coins[model] = mask[first]
        split = mask != coins[model][patient]
        if split.any():
            record = int(split.argmax())
            raise UserError(
                f"under target model {model}, record number {record} and record number {first[patient[record]]} belong "
                "to the same patient, but only one of them is a member: membership must be drawn per patient"
            )
    return first, coins


def _refuse_pairs(design: str, coins: NDArray[np.bool_]) -> None:
    """Complementary pairs, in whatever order, allow an exact test that a weaker statement would spoil."""
    models, patients = coins.shape
    if models % 2 or models / 2 * (patients - log2(models)) < _CONTRADICTION_BITS:
        return
    number = {row.tobytes(): model for model, row in enumerate(coins)}
    partner = [number.get((~row).tobytes()) for row in coins]
    if None in partner:
        return
    if partner == [model ^ 1 for model in range(models)]:
        raise UserError(
            f"target models 2k and 2k+1 are complementary throughout: state `complementary`, not `{design}`"
        )
    raise UserError(
        f"every target model has a complement (model 0 is that of model {partner[0]}): order the models so that "
        f"complements stand at 2k and 2k+1, and state `complementary`, not `{design}`"
    )


def _balance_bits(models: int, patients: int) -> float:
    """−log₂ of the chance that fair coins put every patient in exactly half of the models."""
    return patients * (models - log2(comb(models, models // 2)))


def _check_balanced(count: NDArray[np.intp], models: int, first: NDArray[np.intp]) -> None:
    if models % 2:
        raise UserError(f"{models} target models have no halves: `balanced` needs an even number of models")
    off = np.flatnonzero(count != models // 2)
    if off.size:
        raise UserError(
            f"the patient of record number {first[off[0]]} is IN {count[off[0]]} of {models} models, and so are "
            f"{off.size} of {count.size} patients not IN exactly half: correct the membership, or state `independent` "
            "if every membership was a fair coin"
        )


def _check_sides(count: NDArray[np.intp], models: int, first: NDArray[np.intp]) -> None:
    poor = np.flatnonzero(np.minimum(count, models - count) < 2)
    if poor.size:
        inside = int(count[poor[0]])
        raise UserError(
            f"record number {first[poor[0]]} is IN {inside} and OUT of {models - inside} of {models} models: a record "
            f"needs 2 of each; leave out the {poor.size} patients with fewer, or add models"
        )


def _check_fair(coins: NDArray[np.bool_], count: NDArray[np.intp]) -> None:
    """Refuse masks whose total, spread over patients, or spread over models fair coins would not give."""
    models, patients = coins.shape
    total = int(count.sum())
    if binomtest(total, coins.size).pvalue < _CONTRADICTION_P:
        raise UserError(
            f"{total / coins.size:.2%} of all memberships are IN, where fair coins give 50 %: state `unknown`, not "
            "`independent`"
        )
    spread = float(((count - models / 2) ** 2).sum() / (models / 4))
    # Counts of a few patients may well all be equal, which the continuous distribution does not know.
    # With few models, leaving out the patients with fewer than two on a side narrows the spread, too.
    enough = patients >= _MANY_PATIENTS and models >= _MANY_MODELS
    narrow = float(chi2.cdf(spread, patients)) if enough else 1.0
    if 2 * min(narrow, float(chi2.sf(spread, patients))) < _CONTRADICTION_P:
        raise UserError(
            f"the number of models that a patient is IN varies {spread / patients:.2f} times as much as with fair "
            "coins: state `unknown`, not `independent`"
        )
    _check_sizes(coins, "independent")
