"""From a table of confidences to IN and OUT values, in blocks of whole patients."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailrisk.errors import UserError

BLOCK_RECORDS = 2048


@dataclass(frozen=True)
class Span:
    """Which records make up one block of whole patients, patient after patient.

    columns [B]: their columns in the confidence matrix; starts [P]: where each patient begins; sizes [P]: its number
    of records; patient [P]: its code.
    """

    columns: NDArray[np.intp]
    starts: NDArray[np.intp]
    sizes: NDArray[np.intp]
    patient: NDArray[np.intp]


@dataclass(frozen=True)
class Block(Span):
    """A span with its confidences x [n₁, B] under the IN and y [n₀, B] under the OUT models, float64.

    Paired: row k of both comes from pair k, so n₁ = n₀ = n. Otherwise the models of each side in ascending order,
    which are the same models for all records of a patient.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]


def spans(
    patient: NDArray[np.integer], size: int = BLOCK_RECORDS, strata: NDArray[np.integer] | None = None
) -> list[Span]:
    """Spans of about `size` records of whole patients, by ascending patient code; patient [N] in any order.

    strata [N], constant within patients: spans then go stratum by stratum and never mix two.
    """
    order = np.argsort(patient, kind="stable") if strata is None else np.lexsort((patient, strata))
    codes = patient[order]
    first = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    edges = np.append(first, codes.size)
    ends = np.array([first.size])  # numbers of patients at which a stratum ends
    if strata is not None:
        ends = np.append(np.flatnonzero(np.diff(strata[order][first])) + 1, first.size)
    result, begin = [], 0
    while begin < first.size:
        full = int(np.searchsorted(edges, edges[begin] + size, side="right")) - 1
        end = min(max(begin + 1, full), int(ends[np.searchsorted(ends, begin, side="right")]))
        columns = order[edges[begin] : edges[end]]
        starts, sizes = first[begin:end] - edges[begin], np.diff(edges[begin : end + 1])
        result.append(Span(columns, starts, sizes, codes[first[begin:end]].astype(np.intp)))
        begin = end
    return result


def read_block(confidences: NDArray[np.float32], member: NDArray[np.bool_], span: Span, paired: bool = True) -> Block:
    """The confidences of a span. Without pairs, its patients must be members of equally many models.

    Raises UserError for a confidence that is not finite.
    """
    # A slice reads a memory map in long runs where a sorted table allows it.
    columns = span.columns
    contiguous = columns.size == columns[-1] - columns[0] + 1 and bool((np.diff(columns) == 1).all())
    chosen = slice(int(columns[0]), int(columns[-1]) + 1) if contiguous else columns
    values = np.asarray(confidences[:, chosen])
    if not np.isfinite(values.sum(dtype=np.float64)):  # one pass; finite float32 values cannot overflow the sum
        model, column = np.argwhere(~np.isfinite(values))[0]
        raise UserError(
            f"the confidence of target model {model} for record number {columns[column]} is not finite: "
            "drop this model (and its pair), or correct the table"
        )
    if paired:
        first_in = np.asarray(member[0::2, chosen])
        even, odd = values[0::2], values[1::2]
        x, y = np.where(first_in, even, odd), np.where(first_in, odd, even)
    else:
        inside, by_record = np.asarray(member[:, chosen]).T, values.T
        x, y = by_record[inside].reshape(columns.size, -1).T, by_record[~inside].reshape(columns.size, -1).T
    return Block(
        columns,
        span.starts,
        span.sizes,
        span.patient,
        *(np.ascontiguousarray(side, dtype=np.float64) for side in (x, y)),
    )


def blocks(
    confidences: NDArray[np.float32],
    member: NDArray[np.bool_],
    patient: NDArray[np.integer],
    size: int = BLOCK_RECORDS,
    paired: bool = True,
) -> Iterator[Block]:
    """Blocks of about `size` records of whole patients, by ascending patient code; columns in any order.

    Without pairs, blocks hold patients who are members of equally many models. Only one block is held in memory.
    Raises UserError for a confidence that is not finite; the masks must have passed `design.check`.
    """
    strata = None if paired else np.count_nonzero(member, axis=0)
    for span in spans(patient, size, strata):
        yield read_block(confidences, member, span, paired)
