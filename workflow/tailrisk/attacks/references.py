"""What a target model is compared with: the IN and OUT values of all other models, without the target's own pair.

A target must not be part of its own references. With complementary pairs its partner must not be either: the two are
correlated, and of the models left over one more would be OUT than IN exactly where the target is IN. Where every record
is IN exactly half of the models without such pairs, the same imbalance names the target's membership; there the IN
models of each record are matched to its OUT models at random, and the match is left out as the partner. Swapping the
two is as likely an experiment as the one that was done, so that without a leak the scores say nothing about membership,
however few models there are. With a fair coin for every patient and model, leaving out the target alone does that.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_COLUMNS = 1 << 14  # records handled at once, so that temporaries stay in the processor's cache


def parts(records: int) -> Iterator[slice]:
    """Consecutive slices of at most 16,384 records."""
    return (slice(start, min(start + _COLUMNS, records)) for start in range(0, records, _COLUMNS))


Values = list[NDArray[np.float32]]
"""Values of a fold's first target and, where one is left out, of its partner, each [N]."""


@dataclass(frozen=True)
class Fold:
    """Target models that share their references.

    targets: both models of a pair, or one model; inside [N]: where the first of them has its members; partner: the
    other model of the pair, that of each record [N] where they are matched, or None where only the target is left out.
    """

    targets: tuple[int, ...]
    inside: NDArray[np.bool_]
    partner: int | NDArray[np.int16] | None

    def values(self, table: NDArray[np.float32]) -> Values:
        """What the fold leaves out of a table [M, N]."""
        own = table[self.targets[0]]
        if self.partner is None:
            return [own]
        if isinstance(self.partner, int):
            return [own, table[self.partner]]
        return [own, table[self.partner, np.arange(own.size)]]

    def gone(self) -> NDArray[np.bool_]:
        """Whether a value leaves the IN and the OUT values of each record: [2, N], or [2, 1] where all are alike."""
        if self.partner is None:
            return np.stack([self.inside, ~self.inside])
        return np.ones((2, 1), dtype=bool)


def folds(member: NDArray[np.bool_], paired: bool, seed: int) -> list[Fold]:
    """Every target model of member [M, N] with what its references lack; `paired`: models 2k and 2k+1 are complements.

    Without pairs, records that are all IN exactly half of the models are matched (Philox, keyed by seed), and
    otherwise each target is left out alone.
    """
    models, records = member.shape
    if paired:
        return [Fold((2 * k, 2 * k + 1), member[2 * k], 2 * k + 1) for k in range(models // 2)]
    balanced = models % 2 == 0 and all(
        (np.count_nonzero(member[:, part], axis=0) == models // 2).all() for part in parts(records)
    )
    partner = matched_partners(member, seed) if balanced else None
    return [Fold((t,), member[t], None if partner is None else partner[t]) for t in range(models)]


def matched_partners(member: NDArray[np.bool_], seed: int) -> NDArray[np.int16]:
    """For every model and record [M, N] a model of the other side, the match of its match; half of each column IN.

    The i-th IN model of a record belongs to its (i + s)-th OUT model, s uniform for each record: whichever side a model
    is on, each model of the other one is equally likely.
    """
    models, records = member.shape
    n = models // 2
    shift = np.random.Generator(np.random.Philox(key=seed)).integers(0, n, size=records)
    partner = np.empty((models, records), dtype=np.int16)
    for part in parts(records):
        order = np.argsort(~member[:, part], axis=0, kind="stable")
        inside, outside = order[:n], order[n:]
        match = np.take_along_axis(outside, (np.arange(n)[:, None] + shift[part]) % n, axis=0)
        np.put_along_axis(partner[:, part], inside, match.astype(np.int16), axis=0)
        np.put_along_axis(partner[:, part], match, inside.astype(np.int16), axis=0)
    return partner


def counts(member: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Number of IN and of OUT models of each record: [2, N], or [2, 1] where all records are alike."""
    inside = np.zeros(member.shape[1])
    for row in member:
        inside += row
    if (inside == inside[0]).all():
        inside = inside[:1]
    return np.stack([inside, member.shape[0] - inside])


def at(table: NDArray[Any], part: slice) -> NDArray[Any]:
    """Columns of a table [2, N], or all of a table [2, 1] that holds for every record."""
    return table if table.shape[1] == 1 else table[:, part]


def sides(inside: NDArray[np.bool_], values: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """What leaves the IN and the OUT values of each record [2, N] with the values of a target and of its partner.

    inside [N]: where the target is IN. Zero where nothing leaves: without a partner the target leaves one side only.
    """
    own = values[0]
    other = values[1] if len(values) > 1 else np.zeros_like(own)
    left = np.empty((2, own.size))
    left[0] = np.where(inside, own, other)
    left[1] = np.where(inside, other, own)
    return left
