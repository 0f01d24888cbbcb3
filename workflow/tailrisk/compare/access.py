"""The queries of an experiment beside each other: who stays at risk where the attacker has less, or asks otherwise.

The same target models answer every query, so that a difference between queries is one of access alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tailrisk.errors import UserError
from tailrisk.tables import SCHEMAS, read_json, read_table, write_table

COLUMNS = tuple(SCHEMAS["access"].names)


def access_table(experiment: str, audits: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per query and AUC threshold, in the order of `audits` and thresholds, with the columns COLUMNS.

    audits: mappings with `query` (name), `kind`, `summary` and `patients` (table); the first one is full access.
    `patients`, `expected_by_chance`, `vulnerable`, `certain` and `debiased` count patients out of `n`; `share`, `low`,
    `high` are the share with AUC ≥ threshold and its 95 % interval. `still_vulnerable` of the patients vulnerable under
    full access are so under this query, too; `newly_vulnerable` are so under this query alone. Per query
    `aggregate_auc` is that of LiRA online over all records, and `rank_correlation` Spearman's, of the patients' AUCs
    with those under full access; either is NaN where it is undefined. UserError where the audits are of different
    patients.
    """
    full = audits[0]["patients"].set_index("patient")
    rows = []
    for audit in audits:
        summary, patients = audit["summary"], audit["patients"].set_index("patient")
        others = full.index.symmetric_difference(patients.index)
        if len(others):
            raise UserError(
                f"{experiment}: the audits of the queries '{audits[0]['query']}' and '{audit['query']}' are not of the "
                f"same patients ({len(others):,} are in one of them alone): delete both and run again"
            )
        patients = patients.loc[full.index]
        attack = summary["aggregate"].get("lira_online") or {}
        for threshold in summary["thresholds"]:
            before = _vulnerable(full, audits[0]["summary"]["fdr"], threshold["auc"])
            now = _vulnerable(patients, summary["fdr"], threshold["auc"])
            rows.append(
                {
                    "experiment": experiment,
                    "query": audit["query"],
                    "kind": audit["kind"],
                    "n": summary["patients"],
                    "threshold": threshold["auc"],
                    **{key: value for key, value in threshold.items() if key in COLUMNS},
                    "still_vulnerable": int((before & now).sum()),
                    "newly_vulnerable": int((now & ~before).sum()),
                    "aggregate_auc": attack.get("auc"),
                    "rank_correlation": full["auc"].rank().corr(patients["auc"].rank()),
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"aggregate_auc": float})


def _vulnerable(patients: pd.DataFrame, fdr: float, threshold: float) -> pd.Series:
    return (patients["q_value"] <= fdr) & (patients["auc"] >= threshold)


def write_access(experiment: str, kinds: Mapping[str, str], audits: Mapping[str, Path], table: Path) -> None:
    """Read the finished audits of an experiment and write their access table.

    kinds: query → its kind; audits: query → folder of its audit (results/audit/E/Q), full access first.
    """
    rows = access_table(
        experiment,
        [
            {
                "query": query,
                "kind": kinds[query],
                "summary": read_json(folder / "summary.json"),
                "patients": read_table(folder / "patients.parquet", "audit_patients", ["patient", "auc", "q_value"]),
            }
            for query, folder in audits.items()
        ],
    )
    write_table(table, "access", rows)
