"""Partial access: records of which the attacker has only a part, the rest filled in.

A record is redacted once, and every target model is asked the same redacted record: the confidences of models that
were trained with it and of those that were not then differ by membership alone. The published study does not say how
it filled in what the attacker lacks, hence the choice of `fill`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailrisk.config.base import suggestion
from tailrisk.config.queries import Redacted
from tailrisk.datasets.contract import Prepared
from tailrisk.datasets.draws import unit_hash
from tailrisk.errors import UserError

BLOCK_BYTES = 2**27
"""Bytes of inputs read at once for medians, which take about twice as much memory."""


@dataclass(frozen=True)
class Redaction:
    """What is hidden of every record, and what stands in for it, in the units in which inputs are stored.

    `hidden` [*record shape] marks what the attacker lacks. Either `fill` [*record shape] has the values of all records
    (0 where nothing is hidden), or `donors` [n] the row numbers of the records whose values are taken instead.
    """

    hidden: NDArray[np.bool_]
    fill: NDArray[Any] | None
    donors: NDArray[np.int64] | None


def plan_redaction(query: Redacted, prepared: Prepared, rows: NDArray[np.int64], seed: int, where: str) -> Redaction:
    """The redaction of the audited records `rows` (row numbers [n]) under `query`; `where` names it in messages.

    Names are those of leads (in any case), or of a table's features: of a feature itself ("race = other"), or of the
    column from which several were encoded ("race"). The edges of a region are rounded to the nearest line between
    pixels (halves down and to the right), so that adjacent regions neither overlap nor leave a gap; a region holds all
    channels.

    - median: of each hidden value over `rows`; for integers rounded (halves to even).
    - zero: 0 as stored, which is the mean of a standardised feature, no level of an encoded one, 0 mV, or black.
    - donor: each record's hidden values come from one record of `rows` of another patient, all equally likely, by
      (seed, record id).

    UserError where a name is unknown, where names or regions do not suit the records, where all or nothing would be
    hidden, and where there is no other patient to take values from.
    """
    hidden = _hidden(query, prepared, where)
    if query.fill == "donor":
        return Redaction(hidden, None, _donors(prepared, rows, seed, where))
    fill = np.zeros(hidden.shape, dtype=prepared.inputs.dtype)
    if query.fill == "median":
        fill[hidden] = _medians(prepared.inputs, rows, hidden)
    return Redaction(hidden, fill, None)


def redact(x: Tensor, hidden: Tensor, fill: Tensor) -> Tensor:
    """Stored inputs `x` [n, *shape] with what is `hidden` [*shape] replaced by `fill`.

    `fill` is that of the redaction [*shape], or the inputs of the donors [n, *shape].
    """
    return torch.where(hidden, fill, x)


def _hidden(query: Redacted, prepared: Prepared, where: str) -> NDArray[np.bool_]:
    shape = prepared.inputs.shape[1:]
    key = next(key for key in ("known", "hidden", "known_region", "hidden_region") if getattr(query, key) is not None)
    stated = np.zeros(shape, dtype=bool)
    if key in ("known_region", "hidden_region"):
        if len(shape) != 3:
            raise UserError(f"{where}.{key}: only images have regions: name features or leads with known or hidden")
        height, width = shape[1:]
        top, left, bottom, right = getattr(query, key)
        stated[:, _pixels(top, bottom, height), _pixels(left, right, width)] = True
    else:
        if len(shape) == 3:
            raise UserError(f"{where}.{key}: images have no features to name: state known_region or hidden_region")
        stated[_named(getattr(query, key), prepared.features, len(shape) == 2, f"{where}.{key}")] = True
    hidden = ~stated if key in ("known", "known_region") else stated
    if hidden.all() or not hidden.any():
        has, change = ("nothing", "less") if hidden.all() else ("all", "more")
        raise UserError(f"{where}.{key}: the attacker would have {has} of a record: hide {change} of it")
    return hidden


def _named(names: list[str], features: list[str], signals: bool, where: str) -> NDArray[np.bool_]:
    """Which of `features`, a table's columns or the leads of `signals`, are meant by `names`."""
    spelt = [feature.casefold() if signals else feature for feature in features]
    stated = np.zeros(len(features), dtype=bool)
    for name in names:
        wanted = name.casefold() if signals else name
        meant = [feature == wanted or feature.startswith(f"{wanted} = ") for feature in spelt]
        if not any(meant):
            known = features if " = " in name else {feature.partition(" = ")[0] for feature in features}
            raise UserError(
                f"{where}: the records have no {'lead' if signals else 'feature'} '{name}'; {suggestion(name, known)}"
            )
        stated |= np.array(meant)
    return stated


def _pixels(start: float, stop: float, size: int) -> slice:
    return slice(int(start * size + 0.5), int(stop * size + 0.5))


def _medians(inputs: NDArray[Any], rows: NDArray[np.int64], hidden: NDArray[np.bool_]) -> NDArray[Any]:
    """Medians over `rows` of the hidden values, in their order, reading `inputs` (which may be on disk) in blocks."""
    flat, places = inputs.reshape(len(inputs), -1), np.flatnonzero(hidden)
    width = max(1, BLOCK_BYTES // (len(rows) * inputs.itemsize))
    blocks = [places[start : start + width] for start in range(0, len(places), width)]
    medians = np.concatenate([np.median(flat[rows[:, None], block], axis=0) for block in blocks])
    return np.rint(medians) if np.issubdtype(inputs.dtype, np.integer) else medians


def _donors(prepared: Prepared, rows: NDArray[np.int64], seed: int, where: str) -> NDArray[np.int64]:
    """For each of `rows` a row of another patient, uniformly among all such rows."""
    _, patient, n_own = np.unique(prepared.patient[rows].astype(str), return_inverse=True, return_counts=True)
    if len(n_own) == 1:
        raise UserError(f"{where}.fill: all records are of one patient, so that no other can be the donor: use median")
    # Sorted by patient, a patient's own records are one stretch, which the draw steps over.
    by_patient = rows[np.argsort(patient, kind="stable")]
    first_own = (np.cumsum(n_own) - n_own)[patient]
    others = len(rows) - n_own[patient]
    drawn = unit_hash("donor", seed, prepared.record[rows]) * others
    place = np.minimum(drawn.astype(np.int64), others - 1)  # a hash just below 1 rounds to 1
    return by_patient[place + np.where(place >= first_own, n_own[patient], 0)]
