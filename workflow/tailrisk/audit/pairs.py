"""From a table of confidences to paired IN and OUT values, in blocks of whole patients."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailrisk.errors import UserError

BLOCK_RECORDS = 1024


@dataclass(frozen=True)
class Block:
    """The records of some whole patients, patient after patient.

    columns [B]: their columns in the confidence matrix; x, y [n, B] float64: confidences under each pair's IN
    and OUT model; starts [P]: where each patient begins; sizes [P]: its number of records; patient [P]: its code.
    """

    columns: NDArray[np.intp]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    starts: NDArray[np.intp]
    sizes: NDArray[np.intp]
    patient: NDArray[np.intp]


def check_pairs(confidences: NDArray[np.float32], member: NDArray[np.bool_], patient: NDArray[np.integer]) -> int:
    """Number of pairs n, after checking shapes and that models 2k and 2k+1 have complementary members.

    Raises UserError for a table that cannot be audited.
    """
    models, records = confidences.shape
    if member.shape != confidences.shape or patient.shape != (records,):
        raise UserError(
            f"confidences are {models} models × {records} records, membership is {member.shape} and patients are "
            f"{patient.shape}: give one membership per confidence and one patient per record"
        )
    if records == 0:
        raise UserError("the confidence table holds no records: check that the audit split has patients")
    if models % 2:
        raise UserError(f"{models} target models cannot form pairs: give an even number, 2k and 2k+1 complementary")
    if models < 4:
        raise UserError(f"{models // 2} pair of target models is too few: an audit needs at least 2 pairs (4 models)")
    for k in range(models // 2):
        overlap = int(np.count_nonzero(member[2 * k] == member[2 * k + 1]))
        if overlap:
            raise UserError(
                f"pair {k} (target models {2 * k} and {2 * k + 1}) is not complementary: {overlap} of {records} "
                "records are in both or in neither; every record must be IN exactly one model of each pair"
            )
    return models // 2


def blocks(
    confidences: NDArray[np.float32],
    member: NDArray[np.bool_],
    patient: NDArray[np.integer],
    size: int = BLOCK_RECORDS,
) -> Iterator[Block]:
    """Blocks of about `size` records of whole patients, by ascending patient code; columns in any order.

    Only one block is held in memory. Raises UserError for a non-finite confidence, and for a patient whose
    records differ in membership (a flip of the pair would then not be a possible experiment).
    """
    order = np.argsort(patient, kind="stable")
    codes = patient[order]
    first = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    edges = np.append(first, codes.size)
    begin = 0
    while begin < first.size:
        end = max(begin + 1, int(np.searchsorted(edges, edges[begin] + size, side="right")) - 1)
        columns = order[edges[begin] : edges[end]]
        starts, sizes = first[begin:end] - edges[begin], np.diff(edges[begin : end + 1])
        x, y = _in_and_out(confidences, member, columns, starts, sizes)
        yield Block(columns, x, y, starts, sizes, codes[first[begin:end]].astype(np.intp))
        begin = end


def _in_and_out(
    confidences: NDArray[np.float32],
    member: NDArray[np.bool_],
    columns: NDArray[np.intp],
    starts: NDArray[np.intp],
    sizes: NDArray[np.intp],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # A slice reads a memory map in long runs where a sorted table allows it.
    contiguous = columns.size == columns[-1] - columns[0] + 1 and bool((np.diff(columns) == 1).all())
    chosen = slice(int(columns[0]), int(columns[-1]) + 1) if contiguous else columns
    values = np.asarray(confidences[:, chosen])
    first_in = np.asarray(member[0::2, chosen])
    split = (first_in != np.repeat(first_in[:, starts], sizes, axis=1)).any(axis=1)
    if split.any():
        raise UserError(
            f"membership in pair {int(split.argmax())} differs between records of one patient: "
            "membership must be drawn per patient"
        )
    if not np.isfinite(values.sum(dtype=np.float64)):  # one pass; finite float32 values cannot overflow the sum
        model, column = np.argwhere(~np.isfinite(values))[0]
        raise UserError(
            f"the confidence of target model {model} for record number {columns[column]} is not finite: "
            "drop this model's pair, or correct the table"
        )
    even, odd = values[0::2], values[1::2]
    x, y = np.where(first_in, even, odd), np.where(first_in, odd, even)
    return x.astype(np.float64), y.astype(np.float64)
