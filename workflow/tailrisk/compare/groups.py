"""Are small groups more at risk? The residuals of all groups of all datasets against the groups' shares.

Paper: Extended Data Fig. 5. The correlation never stands alone: `compare.baselines` says what it would be if nothing
were behind it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from tailrisk.audit.subgroups import tie_breakers
from tailrisk.compare.baselines import KEY, permuted_patients, shuffled_changes
from tailrisk.errors import UserError
from tailrisk.tables import SCHEMAS, read_table, write_table

COLUMNS = tuple(SCHEMAS["compared_groups"].names)
META_COLUMNS = tuple(SCHEMAS["meta"].names)
EVERYWHERE = "all datasets"  # no name of a dataset has a space
DRAWS = 1999


def groups_table(audits: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per dataset, variable and group, in the order of `audits`, with the columns COLUMNS.

    audits: mappings with `dataset`, `experiment` (names) and `subgroups` (table), one per dataset: of its rows, those
    of records and of no strata. UserError where two are of one dataset.
    """
    names = [audit["dataset"] for audit in audits]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"two experiments of the dataset '{twice}' are compared by groups: choose one of them")
    parts = []
    for audit in audits:
        table = audit["subgroups"]
        chosen = table[(table["unit"] == "record") & (table["within"] == "")]
        parts.append(chosen.assign(dataset=audit["dataset"], experiment=audit["experiment"]))
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))
    return table[list(COLUMNS)].astype({"variable": str, "group": str})


def meta_table(groups: pd.DataFrame, permuted: Mapping[str, NDArray[np.float64]], seed: int) -> pd.DataFrame:
    """Correlation of residual and share, per dataset and over all, beside chance, with the columns META_COLUMNS.

    groups: as from `groups_table`; permuted: dataset → residuals [B, G] of its rows under `permuted_patients`, with one
    B for all. Four rows per dataset: `correlation` spearman or pearson, `value` over the `groups`, and `null_mean`,
    `null_low`, `null_high` (2.5 and 97.5 %) and the two-sided `p_value` under `baseline` patients or changes (residuals
    of `shuffled_changes`). NaN where a correlation is undefined.
    """
    datasets = list(dict.fromkeys(groups["dataset"]))
    rows: list[dict[str, Any]] = []
    nulls = []
    for dataset in datasets:
        one = groups[groups["dataset"] == dataset]
        key = seed ^ zlib.crc32(dataset.encode())  # datasets must not share their draws
        nulls.append({"patients": permuted[dataset], "changes": shuffled_changes(one, DRAWS, key)})
        rows += _beside_chance(dataset, one, nulls[-1])
    if len(datasets) > 1:
        pooled = {name: np.concatenate([null[name] for null in nulls], axis=1) for name in ("patients", "changes")}
        rows += _beside_chance(EVERYWHERE, groups, pooled)
    return pd.DataFrame(rows, columns=list(META_COLUMNS))


def _beside_chance(dataset: str, groups: pd.DataFrame, nulls: Mapping[str, NDArray[np.float64]]) -> list[dict]:
    share, residual = groups["share"].to_numpy(), groups["residual"].to_numpy()
    rows = []
    for correlation in ("spearman", "pearson"):
        value = float(correlations(share, residual[None, :], correlation)[0])
        for baseline, drawn in nulls.items():
            null = correlations(share, drawn, correlation)
            null = null[np.isfinite(null)]
            defined = np.isfinite(value) and null.size > 0
            low, high = np.quantile(null, [0.025, 0.975]) if defined else (np.nan, np.nan)
            rows.append(
                {
                    "dataset": dataset,
                    "groups": len(groups),
                    "correlation": correlation,
                    "value": value,
                    "baseline": baseline,
                    "null_mean": null.mean() if defined else np.nan,
                    "null_low": low,
                    "null_high": high,
                    "p_value": _two_sided_p(value, null) if defined else np.nan,
                }
            )
    return rows


def correlations(share: NDArray[np.float64], residual: NDArray[np.float64], kind: str) -> NDArray[np.float64]:
    """Correlation [B] (kind spearman or pearson) of share [G] with each row of residual [B, G]; NaN where one is
    constant."""
    if kind == "spearman":
        # Rounding must not tell apart what is equal, like the two residuals of a variable with equal halves.
        share, residual = rankdata(share.round(12)), rankdata(residual.round(9), axis=1)
    x, y = share - share.mean(), residual - residual.mean(axis=1, keepdims=True)
    scale = np.sqrt((x * x).sum() * (y * y).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 1e-12, (y * x).sum(axis=1) / scale, np.nan)


def _two_sided_p(value: float, null: NDArray[np.float64]) -> float:
    below, above = (np.count_nonzero(sign * null <= sign * value + 1e-12) for sign in (1, -1))
    return float(min(1.0, 2 * (1 + min(below, above)) / (1 + null.size)))


def write_groups(
    audits: Mapping[str, Path],
    groups: Mapping[str, Path],
    unknown_as_group: Iterable[str],
    tail: float,
    seed: int,
    table: Path,
    meta: Path,
) -> None:
    """Read one finished audit per dataset and write the table of their groups and the meta-analysis.

    audits: experiment `<entry>.<dataset>.<model>` → folder of its audit (results/audit/E/Q); groups: experiment →
    results/datasets/D/groups.parquet; unknown_as_group, tail and seed as in the audits.
    """
    compared = groups_table(
        [
            {
                "dataset": experiment.split(".")[1],
                "experiment": experiment,
                "subgroups": read_table(folder / "subgroups.parquet", "audit_subgroups"),
            }
            for experiment, folder in audits.items()
        ]
    )
    permuted = {}
    for experiment, rows in compared.groupby("experiment", sort=False):
        permuted[rows["dataset"].iloc[0]] = _permuted(
            audits[str(experiment)], groups[str(experiment)], rows, list(unknown_as_group), tail, seed
        )
    write_table(table, "compared_groups", compared)
    write_table(meta, "meta", meta_table(compared, permuted, seed))


def _permuted(
    audit: Path, groups: Path, rows: pd.DataFrame, unknown_as_group: list[str], tail: float, seed: int
) -> NDArray[np.float64]:
    records = read_table(audit / "records.parquet", "audit_records", ["record", "patient", "auc"])
    described = read_table(groups, "groups").set_index("record")
    variables = list(dict.fromkeys(rows["variable"]))
    if not set(variables) <= set(described) or not records["record"].isin(described.index).all():
        raise UserError(f"{groups} lacks variables or records of the audit in {audit}: run the audit again")
    drawn = permuted_patients(
        records["auc"].to_numpy(),
        tie_breakers(records["record"].to_numpy(dtype=str), seed),
        np.unique(records["patient"].to_numpy(dtype=str), return_inverse=True)[1],
        described.loc[records["record"], variables].reset_index(drop=True),
        unknown_as_group,
        tail,
        DRAWS,
        seed ^ zlib.crc32(str(rows["dataset"].iloc[0]).encode()),
    )
    wanted = pd.MultiIndex.from_frame(rows[KEY])
    if not wanted.isin(drawn.columns).all():
        raise UserError(f"{groups} lacks groups of the audit in {audit}: run the audit again")
    return drawn[wanted].to_numpy()
