"""Are the same patients at risk in other models: of another seed, recipe or architecture?

Experiments of one seed train on the same halves, and then chance itself is shared: what a model says of a patient
depends on who else was in the half, in much the same way in every architecture. Measured with patients who were
assigned but never trained on (100 models of ridge, kernel and random-feature classifiers): their AUCs, pure chance,
had rank correlations of 0.47 to 0.93 between kinds of model on the same halves and overlaps of the top 1 % of up to
7 of 15, and −0.03 to 0.01 between different halves. So chance comes from relabelling, of the same pairs in both
experiments where they have the same halves (`beside_chance`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tailrisk.audit import flips
from tailrisk.audit.agreement import FLIPS, Agreement, agreement, risks
from tailrisk.audit.subgroups import tie_breakers
from tailrisk.errors import UserError
from tailrisk.tables import SCHEMAS, Confidences, metadata, read_confidences, read_json, read_table, write_table

COLUMNS = tuple(SCHEMAS["stability"].names)
PATIENT_COLUMNS = ["patient", "n_records", "auc", "q_value"]
_OTHER_PATIENTS = (
    "the audits of '{}' and '{}' are not of the same patients: compare experiments on one prepared dataset"
)
Relabelled = dict[tuple[str, bytes, int], tuple[NDArray[np.float32], NDArray[np.float32]]]
SETTINGS = {"seed": ("seed",), "model": ("model", "code")}  # keys of a recipe's stamp; all others are of the recipe


def difference(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> str:
    """What two recipes (stamps of a training, None: of elsewhere) differ in: seed, model, recipe, several, nothing or
    unknown."""
    if a is None or b is None:
        return "unknown"
    named = {key: kind for kind, keys in SETTINGS.items() for key in keys}
    kinds = {named.get(key, "recipe") for key in {*a, *b} if a.get(key) != b.get(key)}
    return "several" if len(kinds) > 1 else kinds.pop() if kinds else "nothing"


def stability_table(
    audits: Sequence[Mapping[str, Any]], agreements: Mapping[tuple[str, str], tuple[Agreement, bool]]
) -> pd.DataFrame:
    """One row per pair of experiments on the same patients and AUC threshold, with the columns COLUMNS.

    audits: mappings with `experiment`, `recipe` (stamp or None), `summary` and `patients` (table); agreements: of each
    pair (in the order of `audits`) the agreement of their patients' risks, and whether they trained on the same halves.

    `differs` is that of `difference`. `vulnerable_a`, `vulnerable_b`, `vulnerable_both` count patients with q ≤ FDR and
    AUC ≥ threshold; `vulnerable_expected` would be in both if they had nothing but the number of records in common.
    UserError where the audits are of different patients.
    """
    rows: list[dict[str, Any]] = []
    for a, b in itertools.combinations(audits, 2):
        names = (a["experiment"], b["experiment"])
        one, other = _aligned(a, b)
        n_records = one["n_records"].to_numpy()
        found, same_halves = agreements[names]
        common = {
            "experiment_a": names[0],
            "experiment_b": names[1],
            "differs": difference(a["recipe"], b["recipe"]),
            "same_halves": same_halves,
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
        raise UserError(_OTHER_PATIENTS.format(a["experiment"], b["experiment"]))
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
    agreements: dict[tuple[str, str], tuple[Agreement, bool]] = {}
    known: Relabelled = {}
    names = list(audits)
    for i, name in enumerate(names):
        scores = read_confidences(confidences[name])
        ids, patient = np.unique(everyone[scores.rows], return_inverse=True)
        ties = tie_breakers(ids, seed)
        for other_name in names[i + 1 :]:
            other = read_confidences(confidences[other_name])
            if not np.array_equal(other.rows, scores.rows):
                raise UserError(_OTHER_PATIENTS.format(name, other_name))
            agreements[name, other_name] = beside_chance(
                scores, other, patient, ties, tail, seed, (name, other_name), known
            )
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
        agreements,
    )
    write_table(table, "stability", rows)


def beside_chance(
    a: Confidences,
    b: Confidences,
    patient: NDArray[np.intp],
    ties: NDArray[np.uint64],
    tail: float,
    seed: int,
    names: tuple[str, str] = ("a", "b"),
    known: Relabelled | None = None,
) -> tuple[Agreement, bool]:
    """Agreement of two experiments on the same records, in complementary pairs, and whether on the same halves.

    On the same halves only the target models that both have are compared, and IN and OUT change places in the same
    pairs of both; on other halves each experiment is relabelled by itself. known: risks by experiment, models and key
    of the relabelling, which serve all pairs that an experiment is in.
    """
    _, in_a, in_b = np.intersect1d(a.models, b.models, return_indices=True)
    same = bool(in_a.size >= 2 and np.array_equal(a.member[in_a], b.member[in_b]))
    chosen = (in_a, in_b) if same else (np.arange(len(a.models)), np.arange(len(b.models)))
    known = {} if known is None else known
    found = []
    for name, one, models, key in zip(names, (a, b), chosen, (seed, seed if same else seed + 1), strict=True):
        made = (name, models.tobytes(), key)
        if made not in known:
            signs = flips.sign_flips(len(models) // 2, FLIPS, key)
            known[made] = risks(one.confidence[models], one.member[models], patient, signs)
        found.append(known[made])
    (risk_a, null_a), (risk_b, null_b) = found
    flipped = min(len(null_a), len(null_b))  # fewer where there are not so many relabellings
    return agreement(risk_a, risk_b, null_a[:flipped], null_b[:flipped], ties, tail), same
