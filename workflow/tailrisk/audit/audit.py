"""One audit: from a confidence table to records, patients, survival, aggregate attack, subgroups and a summary."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from tailrisk.attacks.lira import LIRA_MIN_PAIRS, lira_online
from tailrisk.attacks.roc import Roc, roc, roc_summary, roc_table
from tailrisk.audit import flips
from tailrisk.audit.normality import NORMALITY_MIN_PAIRS
from tailrisk.audit.pairs import blocks, check_pairs
from tailrisk.audit.patients import INTERVAL_FLIPS, patient_interval, patient_p
from tailrisk.audit.records import NORMALITY_LEVEL, record_statistics
from tailrisk.audit.subgroups import subgroup_tests, tie_breakers
from tailrisk.audit.survival import NullCurves, counts_at_or_above, share_interval, survival_table
from tailrisk.audit.tails import TAIL_P, record_tail_p, sampling_uniforms
from tailrisk.errors import UserError

TABLE_COLUMNS = [
    "mean_in",
    "std_in",
    "mean_out",
    "std_out",
    "auc",
    "auc_se",
    "auc_low",
    "auc_high",
    "auc_empirical",
    "p_value",
]
RECORD_COLUMNS = [*TABLE_COLUMNS, "d", "not_normal", "degenerate"]
PATIENT_COLUMNS = ["auc", "auc_mean", "auc_low", "auc_high", "auc_empirical", "median_unbiased", "p_value"]


@dataclass(frozen=True)
class AuditOptions:
    """flips: common random flips; thresholds: AUCs to count patients at; fdr: level of q for "vulnerable";
    tail: share of records called the tail; permutations: of the subgroup tests."""

    flips: int = 999
    thresholds: tuple[float, ...] = (0.8, 0.9, 0.95, 0.99)
    fdr: float = 0.05
    tail: float = 0.01
    permutations: int = 1999


@dataclass(frozen=True)
class Audit:
    """The tables of DESIGN's contracts and a JSON-serialisable summary of one experiment under one query."""

    records: pd.DataFrame
    patients: pd.DataFrame
    survival: pd.DataFrame
    aggregate: pd.DataFrame
    subgroups: pd.DataFrame
    summary: dict[str, Any]


def run_audit(
    confidences: NDArray[np.float32],
    member: NDArray[np.bool_],
    records: pd.DataFrame,
    groups: pd.DataFrame | None,
    options: AuditOptions,
    seed: int,
) -> Audit:
    """Audit of confidences [2n, N] (array or memory map) with membership [2n, N], models 2k and 2k+1 a pair.

    records: N rows with the string columns record and patient, in the order of the columns of `confidences`;
    groups: None, or one column per group variable, either with a column `record` to match or row by row.
    Memory grows by a few hundred bytes a record beside the inputs. Raises UserError for tables that cannot be
    audited: fewer than 2 pairs, pairs that are not complementary, non-finite confidences, unknown records.
    """
    names, patient = np.unique(records["patient"].to_numpy(dtype=str), return_inverse=True)
    n = check_pairs(confidences, member, patient)
    by_record, by_patient, null, largest = _score(confidences, member, patient, options, seed)

    record_table = pd.DataFrame(
        {
            "record": records["record"].to_numpy(),
            "patient": records["patient"].to_numpy(),
            "n_in": np.int32(n),
            "n_out": np.int32(n),
        }
        | {name: by_record[name] for name in TABLE_COLUMNS}
    )
    aligned = _aligned_groups(groups, records)
    patient_table = pd.DataFrame(
        {
            "patient": names.astype(object),
            "n_records": np.bincount(patient).astype(np.int32),
            **{name: by_patient[name] for name in ("auc", "auc_mean", "auc_low", "auc_high", "p_value")},
            "q_value": false_discovery_control(by_patient["p_value"]),
        }
        | _constant_groups(aligned, patient)
    )
    rocs = _attack(confidences, member)
    ties = tie_breakers(records["record"].to_numpy(dtype=str), seed)
    subgroups, skipped, alone = subgroup_tests(
        by_record["d"], ties, patient, aligned, options.tail, options.permutations, seed
    )
    tested = n >= NORMALITY_MIN_PAIRS
    summary = {
        "models": 2 * n,
        "pairs": n,
        "records": len(records),
        "patients": len(names),
        "median_auc": float(np.median(by_patient["auc"])),
        "max_auc": float(by_patient["auc"].max()),
        "familywise_auc": flips.familywise_auc(largest, n),
        "significant": int((patient_table["q_value"] <= options.fdr).sum()),
        "fdr": options.fdr,
        "thresholds": _thresholds(patient_table, by_patient, null, options),
        "aggregate": {"lira_online": roc_summary([one for _, one in rocs])},
        "normality": {
            "level": NORMALITY_LEVEL,
            "tested": len(records) if tested else 0,
            "failed_share": float(by_record["not_normal"].mean()) if tested else None,
        },
        "degenerate_records": int(by_record["degenerate"].sum()),
        "subgroups_skipped": skipped,
        "subgroups_alone": alone,
    }
    return Audit(
        records=record_table,
        patients=patient_table,
        survival=survival_table(by_record["auc"], patient, by_patient["auc"], by_patient["auc_mean"], null),
        aggregate=roc_table("lira_online", rocs),
        subgroups=subgroups,
        summary=summary,
    )


def _score(
    confidences: NDArray[np.float32],
    member: NDArray[np.bool_],
    patient: NDArray[np.intp],
    options: AuditOptions,
    seed: int,
) -> tuple[dict[str, NDArray], dict[str, NDArray], NullCurves, NDArray[np.float32]]:
    """Record and patient columns, null curves, and the largest null statistic of every common flip."""
    n = confidences.shape[0] // 2
    signs = flips.sign_flips(n, options.flips, seed)
    uniforms = None if flips.is_exhaustive(signs) else sampling_uniforms(n, seed + 1, int(np.bincount(patient).max()))
    by_record = {name: np.empty(patient.size) for name in RECORD_COLUMNS}
    by_patient = {name: np.empty(int(patient.max()) + 1) for name in PATIENT_COLUMNS}
    null_curves = NullCurves(n)
    largest = np.full(signs.shape[1], -np.inf, dtype=np.float32)
    for block in blocks(confidences, member, patient):
        statistics = record_statistics(block.x, block.y)
        v = flips.scaled_differences(block.x, block.y)
        observed = flips.observed_statistics(v)
        null = flips.null_statistics(v, signs)
        p = flips.flip_p(observed, null, n)
        if uniforms is not None:
            small = np.flatnonzero(p < TAIL_P)
            p[small] = record_tail_p(v[:, small], uniforms)
        for name in RECORD_COLUMNS:
            by_record[name][block.columns] = p if name == "p_value" else getattr(statistics, name)

        maxima = flips.patient_maximum(null, block.starts, block.sizes)
        largest = np.maximum(largest, maxima.max(axis=0))
        null_curves.add(null, maxima, block.starts)
        interval = patient_interval(statistics, block.starts, block.sizes, signs[:, :INTERVAL_FLIPS])
        columns = {
            "auc": flips.patient_maximum(statistics.auc, block.starts, block.sizes),
            "auc_mean": np.add.reduceat(statistics.auc, block.starts) / block.sizes,
            "auc_low": interval.low,
            "auc_high": interval.high,
            "auc_empirical": flips.patient_maximum(statistics.auc_empirical, block.starts, block.sizes),
            "median_unbiased": interval.median_unbiased,
            "p_value": patient_p(v, observed, maxima, p, block.starts, block.sizes, uniforms),
        }
        for name, values in columns.items():
            by_patient[name][block.patient] = values
    return by_record, by_patient, null_curves, largest


def _attack(confidences: NDArray[np.float32], member: NDArray[np.bool_]) -> list[tuple[int, Roc]]:
    """ROC of every target model that has members and non-members; none where there are too few pairs."""
    if confidences.shape[0] // 2 < LIRA_MIN_PAIRS:
        return []
    return [
        (model, roc(scores, member[model]))
        for model, scores in lira_online(confidences, member)
        if 0 < np.count_nonzero(member[model]) < scores.size
    ]


def _thresholds(
    patients: pd.DataFrame, by_patient: dict[str, NDArray], null: NullCurves, options: AuditOptions
) -> list[dict[str, float | int]]:
    thresholds = np.array(options.thresholds)
    auc, size = patients["auc"].to_numpy(), len(patients)
    counts = counts_at_or_above(auc, thresholds)
    low, high = share_interval(counts / size, size)
    expected = size * null.share_at("patient_max", thresholds)
    significant = (patients["q_value"] <= options.fdr).to_numpy()
    return [
        {
            "auc": float(t),
            "patients": int(counts[i]),
            "share": float(counts[i] / size),
            "low": float(low[i]),
            "high": float(high[i]),
            "expected_by_chance": float(expected[i]),
            "vulnerable": int((significant & (auc >= t)).sum()),
            "certain": int((significant & (patients["auc_low"] >= t)).sum()),
            "debiased": int((by_patient["median_unbiased"] >= t).sum()),
            "by_rank": int((by_patient["auc_empirical"] >= t).sum()),
        }
        for i, t in enumerate(thresholds)
    ]


def _aligned_groups(groups: pd.DataFrame | None, records: pd.DataFrame) -> pd.DataFrame:
    """Group variables in the order of `records`; no columns when there are none."""
    if groups is None:
        return pd.DataFrame(index=pd.RangeIndex(len(records)))
    if "record" in groups.columns:
        table = groups.set_index("record")
        if not table.index.is_unique:
            raise UserError("the table of groups names a record twice: keep one row per record")
        missing = int((~records["record"].isin(table.index)).sum())
        if missing:
            raise UserError(
                f"{missing} of {len(records)} audited records have no row in the table of groups: add them, with "
                "empty values where a group is unknown"
            )
        return table.loc[records["record"]].reset_index(drop=True)
    if len(groups) != len(records):
        raise UserError(
            f"the table of groups has {len(groups)} rows for {len(records)} records: give one row per record"
        )
    return groups.reset_index(drop=True)


def _constant_groups(groups: pd.DataFrame, patient: NDArray[np.intp]) -> dict[str, pd.Series]:
    """Per patient, each variable that has one known value within every patient; unknown stays missing."""
    constant = {}
    for variable in groups.columns:
        values = groups[variable].astype("category")
        known = np.flatnonzero(values.notna().to_numpy())
        codes = np.full(int(patient.max()) + 1, -1, dtype=np.intp)
        codes[patient[known]] = values.cat.codes.to_numpy()[known]
        if (codes[patient[known]] == values.cat.codes.to_numpy()[known]).all():
            constant[str(variable)] = pd.Series(pd.Categorical.from_codes(codes, dtype=values.dtype))
    return constant
