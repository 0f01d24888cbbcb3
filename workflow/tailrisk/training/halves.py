"""The training halves: which records a target model is trained on, and whether a half can be trained on."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tailrisk.datasets.contract import Prepared
from tailrisk.errors import UserError
from tailrisk.membership import membership


def record_members(prepared: Prepared, seed: int, models: Sequence[int], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Membership [len(models), len(rows)] of records: their patients', negative controls included."""
    patients, of_row = np.unique(prepared.patient[rows].astype(str), return_inverse=True)
    return membership(seed, patients.tolist(), models)[:, of_row]


def training_rows(
    prepared: Prepared, models: Sequence[int], rows: NDArray[np.int64], members: NDArray[np.bool_]
) -> list[NDArray[np.int64]]:
    """Row numbers that each model is trained on: its members without negative controls.

    UserError, with class and pair, where a half lacks a class (or both values of a label) that the whole has.
    """
    trainable = ~prepared.control[rows]
    needed = _presence(prepared.labels[rows[trainable]], prepared)
    pools = []
    for model, member in zip(models, members, strict=True):
        pool = rows[member & trainable]
        lacking = np.flatnonzero(needed & ~_presence(prepared.labels[pool], prepared))
        if len(lacking):
            raise UserError(
                f"pair {model // 2}: the training half of target model {model} has no record of "
                f"{_named(int(lacking[0]), prepared)}: leave that class out, or add patients who have it"
            )
        pools.append(pool)
    return pools


def _presence(labels: NDArray[np.generic], prepared: Prepared) -> NDArray[np.bool_]:
    """Which classes occur; for several labels: which labels occur as 0 and as 1, one after the other."""
    if prepared.task == "multilabel":
        return np.stack([(labels == value).any(axis=0) for value in (0, 1)], axis=1).ravel()
    n_classes = 2 if prepared.task == "binary" else prepared.n_outputs
    return np.bincount(labels.astype(np.int64), minlength=n_classes) > 0


def _named(index: int, prepared: Prepared) -> str:
    if prepared.task == "multilabel":
        return f"label '{prepared.classes[index // 2]}' with value {index % 2}"
    return f"class '{prepared.classes[index]}'"
