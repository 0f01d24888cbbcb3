"""Are the same patients at risk in other models: of another seed, recipe or architecture?

Experiments of one seed train on the same halves, and then chance itself is shared: what a model says of a patient
depends on who else was in the half, in much the same way in every architecture. Measured with patients who were
assigned but never trained on (100 models of ridge, kernel and random-feature classifiers): their AUCs, pure chance,
had rank correlations of 0.47 to 0.93 between kinds of model on the same halves and overlaps of the top 1 % of up to
7 of 15, and −0.03 to 0.01 between different halves. So nothing is read off two experiments on the same halves without
`shared_chance`, which flips the pairs of both at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tailrisk.audit import flips
from tailrisk.audit.agreement import Agreement, agreement, centred_ranks, in_tail
from tailrisk.audit.pairs import blocks
from tailrisk.audit.subgroups import tie_breakers
from tailrisk.errors import UserError
from tailrisk.tables import SCHEMAS, Confidences, metadata, read_confidences, read_json, read_table, write_table

COLUMNS = tuple(SCHEMAS["stability"].names)
PATIENT_COLUMNS = ["patient", "n_records", "auc", "q_value"]
FLIPS = 99
SETTINGS = {"seed": ("seed",), "model": ("model", "code")}  # keys of a recipe's stamp; all others are of the recipe


class SharedChance(NamedTuple):
    """Spearman's correlation and overlap of the tails under F flips, arrays [F]; empty where none can be had."""

    rank_correlation: NDArray[np.float64]
    tail_overlap: NDArray[np.intp]


NO_FLIPS = SharedChance(np.empty(0), np.empty(0, dtype=np.intp))


def shared_chance(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    member: NDArray[np.bool_],
    patient: NDArray[np.intp],
    ties: NDArray[np.uint64],
    tail: float,
    seed: int,
) -> SharedChance:
    """Agreement under each of 99 flips (fewer where there are not so many) of two experiments on the same halves.

    a, b, member [2n, N] in complementary pairs; patient [N]: 0 … P − 1; ties [P]. IN and OUT change places in the same
    pairs of both experiments and for all patients, which changes nothing where no patient leaves a trace in either;
    what the experiments have in common by their halves stays.
    """
    signs = flips.sign_flips(len(a) // 2, FLIPS, seed)
    null = np.empty((2, signs.shape[1], ties.size), dtype=np.float32)
    for one, confidences in zip(null, (a, b), strict=True):
        for block in blocks(confidences, member, patient):
            u = flips.null_statistics(flips.scaled_differences(block.x, block.y), signs)
            one[:, block.patient] = flips.patient_maximum(u, block.starts, block.sizes).T
    correlations, overlaps = [], []
    for one, other in (flipped.astype(np.float64) for flipped in null.swapaxes(0, 1)):
        correlations.append((centred_ranks(one) * centred_ranks(other)).sum())
        overlaps.append((in_tail(one, ties, tail) & in_tail(other, ties, tail)).sum())
    return SharedChance(np.array(correlations), np.array(overlaps))


def beside_shared_chance(found: Agreement, shared: SharedChance) -> Agreement:
    """`found` with the chance of `shared_chance`: means over flips, and (1 + #{overlap ≥ found})/(flips + 1); NaN
    without flips."""
    overlaps = shared.tail_overlap
    if not overlaps.size:
        return replace(found, rank_correlation_expected=np.nan, tail_expected=np.nan, tail_p=np.nan)
    return replace(
        found,
        rank_correlation_expected=float(shared.rank_correlation.mean()),
        tail_expected=float(overlaps.mean()),
        tail_p=float((1 + np.count_nonzero(overlaps >= found.tail_overlap)) / (1 + overlaps.size)),
    )


def difference(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> str:
    """What two recipes (stamps of a training, None: of elsewhere) differ in: seed, model, recipe, several, nothing or
    unknown."""
    if a is None or b is None:
        return "unknown"
    named = {key: kind for kind, keys in SETTINGS.items() for key in keys}
    kinds = {named.get(key, "recipe") for key in {*a, *b} if a.get(key) != b.get(key)}
    return "several" if len(kinds) > 1 else kinds.pop() if kinds else "nothing"


def stability_table(
    audits: Sequence[Mapping[str, Any]],
    tail: float,
    seed: int,
    shared: Mapping[tuple[str, str], SharedChance],
) -> pd.DataFrame:
    """One row per pair of experiments on the same patients and AUC threshold, with the columns COLUMNS.

    audits: mappings with `experiment`, `recipe` (stamp or None), `summary` and `patients` (table); tail: share of
    patients; shared: for the pairs (in the order of `audits`) that were trained
    on the same halves, their `shared_chance`, or NO_FLIPS.

    `differs` is that of `difference`. `rank_correlation`, `tail_overlap` (of `tail_n` patients each) and their chance
    are those of `agreement`, or for experiments on the same halves (`same_halves`) those of `beside_shared_chance`: the
    null is in the one case that the two have no relation, in the other that no patient leaves a trace in either.
    `vulnerable_a`, `vulnerable_b`, `vulnerable_both` count patients with q ≤ FDR and AUC ≥ threshold;
    `vulnerable_expected` would be in both if they had nothing but the number of records in common. UserError where the
    audits are of different patients.
    """
    rows: list[dict[str, Any]] = []
    for a, b in itertools.combinations(audits, 2):
        names = (a["experiment"], b["experiment"])
        one, other = _aligned(a, b)
        ties = tie_breakers(one["patient"].to_numpy(dtype=str), seed)
        n_records = one["n_records"].to_numpy()
        found = agreement(one["auc"].to_numpy(), other["auc"].to_numpy(), n_records, ties, tail)
        if names in shared:
            found = beside_shared_chance(found, shared[names])
        common = {
            "experiment_a": names[0],
            "experiment_b": names[1],
            "differs": difference(a["recipe"], b["recipe"]),
            "same_halves": names in shared,
            **asdict(found),
        }
        levels = [{t["auc"] for t in audit["summary"]["thresholds"]} for audit in (a, b)]
        for threshold in sorted(levels[0] & levels[1]):
            first = _vulnerable(one, a["summary"]["fdr"], threshold)
            second = _vulnerable(other, b["summary"]["fdr"], threshold)
            held, held_other = (np.bincount(n_records, chosen) for chosen in (first, second))
            rows.append(
                common
                | {
                    "threshold": threshold,
                    "vulnerable_a": first.sum(),
                    "vulnerable_b": second.sum(),
                    "vulnerable_both": (first & second).sum(),
                    "vulnerable_expected": (held * held_other / np.maximum(np.bincount(n_records), 1)).sum(),
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _aligned(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The patients of two audits in one order."""
    one, other = a["patients"], b["patients"].set_index("patient", drop=False)
    others = other.index.symmetric_difference(one["patient"])
    if len(others):
        raise UserError(
            f"the audits of '{a['experiment']}' and '{b['experiment']}' are not of the same patients ({len(others):,} "
            "are in one of them alone): compare experiments on one prepared dataset"
        )
    return one, other.loc[one["patient"]]


def _vulnerable(patients: pd.DataFrame, fdr: float, threshold: float) -> NDArray[np.bool_]:
    return ((patients["q_value"] <= fdr) & (patients["auc"] >= threshold)).to_numpy()


def write_stability(
    audits: Mapping[str, Path], confidences: Mapping[str, Path], records: Path, tail: float, seed: int, table: Path
) -> None:
    """Read the finished audits of experiments on one dataset and write their stability table.

    audits: experiment → folder of its audit (results/audit/E/Q); confidences: experiment → the table it was made from;
    records: results/datasets/D/records.parquet. Two confidence tables are held in memory at a time.
    """
    everyone = read_table(records, "records", ["patient"])["patient"].to_numpy(dtype=str)
    shared: dict[tuple[str, str], SharedChance] = {}
    names = list(audits)
    for i, name in enumerate(names):
        scores = read_confidences(confidences[name])
        ids, patient = np.unique(everyone[scores.rows], return_inverse=True)
        ties = tie_breakers(ids, seed)
        paired = _paired(scores.member)
        for other_name in names[i + 1 :]:
            other = read_confidences(confidences[other_name])
            a, b = _common(scores, other)
            if a.size and np.array_equal(scores.member[a], other.member[b]):
                chance = NO_FLIPS
                if paired and a.size >= 4:
                    values = (scores.confidence[a], other.confidence[b], scores.member[a])
                    chance = shared_chance(*values, patient, ties, tail, seed)
                shared[name, other_name] = chance
    rows = stability_table(
        [
            {
                "experiment": name,
                "recipe": metadata(folder / "patients.parquet", "audit_patients").get("recipe"),
                "summary": read_json(folder / "summary.json"),
                "patients": read_table(folder / "patients.parquet", "audit_patients", PATIENT_COLUMNS),
            }
            for name, folder in audits.items()
        ],
        tail,
        seed,
        shared,
    )
    write_table(table, "stability", rows)


def _paired(member: NDArray[np.bool_]) -> bool:
    return len(member) % 2 == 0 and bool((member[0::2] != member[1::2]).all())


def _common(a: Confidences, b: Confidences) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Positions in either table of the target models that both have; none where they are of other records."""
    if not np.array_equal(a.rows, b.rows):
        return np.empty(0, dtype=np.intp), np.empty(0, dtype=np.intp)
    _, first, second = np.intersect1d(a.models, b.models, return_indices=True)
    return first, second
