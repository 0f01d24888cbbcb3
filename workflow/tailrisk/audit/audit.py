"""One audit: from a confidence table to records, patients, survival, attacks, subgroups, models and a summary."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from tailrisk.attacks.aggregate import attack_all
from tailrisk.audit import flips
from tailrisk.audit.agreement import half_agreement
from tailrisk.audit.balanced import smallest_p as smallest_p_of_halves
from tailrisk.audit.convergence import convergence_table
from tailrisk.audit.design import Design
from tailrisk.audit.planning import discovery_level, flip_power
from tailrisk.audit.records import NORMALITY_LEVEL
from tailrisk.audit.score import Scored, score
from tailrisk.audit.subgroups import SubgroupOptions, subgroup_tests, tie_breakers
from tailrisk.audit.survival import counts_at_or_above, share_interval, survival_table
from tailrisk.audit.tails import smallest_p
from tailrisk.errors import UserError

RECORD_COLUMNS = [
    *("n_in", "n_out", "mean_in", "std_in", "mean_out", "std_out", "auc", "auc_se", "auc_low", "auc_high"),
    *("auc_empirical", "p_value", "auc_empirical_low", "auc_empirical_high", "auc_se_hanley_mcneil"),
    *("auc_likelihood_ratio", "tpr_at_fpr_1e2", "tpr_at_fpr_1e3", "normality_p"),
]
PATIENT_COLUMNS = ["n_records", "auc", "auc_mean", "auc_low", "auc_high", "p_value"]
FURTHER_PATIENT_COLUMNS = ["auc_median_unbiased", "auc_empirical", "auc_joint", "joint_low", "joint_high", "joint_p"]


@dataclass(frozen=True)
class AuditOptions:
    """flips: common random relabellings; thresholds: AUCs to count patients at; fdr: level of q for "vulnerable";
    joint: how the joint attack weighs a patient's records; rmia_gamma: γ of RMIA; tail: share of records called the
    tail; permutations: of the subgroup tests; within, unknown_as_group, variables: see `SubgroupOptions`."""

    flips: int = 999
    thresholds: Sequence[float] = (0.8, 0.9, 0.95, 0.99)
    fdr: float = 0.05
    joint: str = "equal"
    rmia_gamma: float = 1.0
    tail: float = 0.01
    permutations: int = 1999
    within: Sequence[str] = ()
    unknown_as_group: Sequence[str] = ()
    variables: Sequence[str] | None = None


@dataclass(frozen=True)
class Audit:
    """The tables of DESIGN's contracts and a JSON-serialisable summary of one experiment under one query."""

    records: pd.DataFrame
    patients: pd.DataFrame
    survival: pd.DataFrame
    aggregate: pd.DataFrame
    subgroups: pd.DataFrame
    models: pd.DataFrame
    summary: dict[str, Any]


def run_audit(
    confidences: NDArray[np.float32],
    member: NDArray[np.bool_],
    records: pd.DataFrame,
    groups: pd.DataFrame | None,
    options: AuditOptions,
    seed: int,
    design: Design = "complementary",
    log_likelihood: Callable[[int], NDArray[np.float32]] | None = None,
    threads: int = 1,
) -> Audit:
    """Audit of confidences [M, N] (array or memory map) with membership [M, N], drawn as `design` says.

    records: N rows with the string columns record and patient, in the order of the columns of `confidences`;
    groups: None, or one column per group variable, either with a column `record` to match or row by row;
    log_likelihood: target model → log p of every record's true label [N], where it is known; threads: work done at
    once, without influence on any result. Memory grows by a few hundred bytes a record beside the inputs. Raises
    UserError for tables that cannot be audited: masks that contradict the design, non-finite confidences, unknown
    records.
    """
    names, patient = np.unique(records["patient"].to_numpy(dtype=str), return_inverse=True)
    scored = score(
        confidences, member, patient, design, options.flips, options.joint == "linear", seed=seed, threads=threads
    )
    aligned = _aligned_groups(groups, records)
    record_table = pd.DataFrame(
        {"record": records["record"].to_numpy(), "patient": records["patient"].to_numpy()}
        | {name: scored.records[name] for name in RECORD_COLUMNS}
    )
    patients = _joint(scored.patients, options.joint)
    patient_table = _patients(patients, names, aligned, patient)
    paired = design == "complementary"
    # What does not depend on each other fills the processor's cores where one step alone would not.
    with ThreadPoolExecutor(threads) as steps:
        attacks = steps.submit(
            attack_all, confidences, member, paired, log_likelihood, seed, threads, options.rmia_gamma
        )
        tests = steps.submit(
            subgroup_tests,
            scored.records["d"],
            tie_breakers(records["record"].to_numpy(dtype=str), seed),
            patient,
            aligned,
            SubgroupOptions(
                options.tail, options.permutations, options.within, options.unknown_as_group, options.variables
            ),
            seed,
        )
        halved = steps.submit(_halves, confidences, member, patient, names, design, options.tail, seed)
        resampled = steps.submit(convergence_table, confidences, member, patient, paired, seed, threads)
        survival = survival_table(scored.records, patients, patient, scored.null)
        if options.joint == "linear":  # whose null the relabellings of the equal weights are not
            survival.loc[survival["level"] == "patient_joint", "null"] = np.nan
    attacked, subgroups, models = attacks.result(), tests.result(), resampled.result()
    summary = {
        **_drawn(design, len(confidences), member, patient),
        "records": len(records),
        "patients": len(names),
        "patients_with_several_records": int((scored.patients["n_records"] > 1).sum()),
        "median_auc": float(np.median(scored.patients["auc"])),
        "max_auc": float(scored.patients["auc"].max()),
        "familywise_auc": None if scored.largest is None else flips.familywise_auc(scored.largest, scored.pairs),
        "significant": None if design == "unknown" else int((patient_table["q_value"] <= options.fdr).sum()),
        "fdr": options.fdr,
        "joint": options.joint,
        "thresholds": _thresholds(patient_table, scored, survival, design, options),
        "aggregate": attacked.summary,
        "normality": _normality(scored),
        "enough": _enough(models, design, len(confidences) // 2, options, len(names)),
        "halves": halved.result(),
        "degenerate_records": int(scored.records["degenerate"].sum()),
        "subgroups_skipped": subgroups.skipped,
        "subgroups_alone": subgroups.alone,
        "subgroups_movable": subgroups.movable,
    }
    return Audit(record_table, patient_table, survival, attacked.table, subgroups.table, models, summary)


def _joint(patients: dict[str, NDArray], joint: str) -> dict[str, NDArray]:
    """The columns of patients with those of the joint attack as it is asked for."""
    if joint == "equal":
        return patients
    # The linear attack's interval holds too rarely to be shown, see `joint.linear`.
    none = {name: np.full_like(patients["auc_joint"], np.nan) for name in ("joint_low", "joint_high", "joint_p")}
    return patients | none | {"auc_joint": patients["auc_joint_linear"]}


def _patients(
    columns: dict[str, NDArray], names: NDArray, groups: pd.DataFrame, patient: NDArray[np.intp]
) -> pd.DataFrame:
    return pd.DataFrame(
        {"patient": names.astype(object)}
        | {name: columns[name] for name in PATIENT_COLUMNS}
        | {"q_value": _q_values(columns["p_value"])}
        | {name: columns[name] for name in FURTHER_PATIENT_COLUMNS}
        | {"joint_q": _q_values(columns["joint_p"])}
        | _constant_groups(groups, patient)
    )


def _q_values(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Benjamini–Hochberg; NaN where there are no p-values."""
    return p.copy() if np.isnan(p).any() else np.asarray(false_discovery_control(p))


def _drawn(design: Design, models: int, member: NDArray[np.bool_], patient: NDArray[np.intp]) -> dict[str, Any]:
    """How members were drawn, and the smallest p-value that this allows; None without p-values."""
    pairs = models // 2
    least = {
        "complementary": smallest_p(pairs),
        "balanced": smallest_p_of_halves(models),
        "independent": smallest_p(models),
        "unknown": None,
    }[design]
    return {"design": design, "models": models, "pairs": pairs, "smallest_p": least}


def _enough(models: pd.DataFrame, design: Design, pairs: int, options: AuditOptions, patients: int) -> dict[str, Any]:
    """Whether there were models enough: standard errors, and (with pairs) the chance of finding a patient with one
    record who is alone at risk, by true AUC."""
    last = (
        models[models["quantity"].isin(["se_all", "se_tail"])]
        .sort_values("n_models")
        .groupby("quantity", observed=True)
        .last()
    )
    found: dict[str, Any] = {name: float(last.loc[name, "value"]) for name in ("se_all", "se_tail")}
    level = discovery_level(options.fdr, patients)
    found["power"] = (
        {f"{t:g}": float(flip_power(t, pairs, level)) for t in options.thresholds} if design == "complementary" else {}
    )
    return found


def _halves(
    confidences: NDArray[np.float32],
    member: NDArray[np.bool_],
    patient: NDArray[np.intp],
    names: NDArray,
    design: Design,
    tail: float,
    seed: int,
) -> dict[str, float | int | None] | None:
    """Agreement of the patients' risks by the even and by the odd pairs; None without 4 pairs."""
    if design != "complementary" or len(confidences) < 8:
        return None
    found = asdict(half_agreement(confidences, member, patient, tie_breakers(names, seed), tail, seed))
    return {key: value if np.isfinite(value) else None for key, value in found.items()}


def _normality(scored: Scored) -> dict[str, Any]:
    """Share of records that fail the normality test, and those of them whose AUC is furthest from the rank AUC."""
    p, records = scored.records["normality_p"], scored.records
    tested = int(np.isfinite(p).sum())
    apart = np.where(records["not_normal"], np.abs(records["auc"] - records["auc_empirical"]), 0.0)
    worst = np.argsort(-apart, kind="stable")[:3]
    return {
        "level": NORMALITY_LEVEL,
        "tested": tested,
        "failed_share": float(records["not_normal"].sum() / tested) if tested else None,
        "worst": [{name: float(records[name][i]) for name in ("auc", "auc_empirical")} for i in worst],
    }


def _thresholds(
    patients: pd.DataFrame, scored: Scored, survival: pd.DataFrame, design: Design, options: AuditOptions
) -> list[dict[str, float | int | None]]:
    thresholds = np.array(options.thresholds)
    auc, size = patients["auc"].to_numpy(), len(patients)
    counts = counts_at_or_above(auc, thresholds)
    low, high = share_interval(counts / size, size)
    expected = size * scored.null.share_at("patient_max", thresholds)
    curve = survival[survival["level"] == "patient_max"]
    debiased = size * np.interp(thresholds, curve["auc"], curve["debiased"])
    significant = (patients["q_value"] <= options.fdr).to_numpy()
    together = (patients["joint_q"] <= options.fdr).to_numpy()
    known = design != "unknown"
    return [
        {
            "auc": float(t),
            "patients": int(counts[i]),
            "share": float(counts[i] / size),
            "low": float(low[i]),
            "high": float(high[i]),
            "expected_by_chance": float(expected[i]) if known else None,
            "vulnerable": int((significant & (auc >= t)).sum()) if known else None,
            "certain": int((significant & (patients["auc_low"] >= t)).sum()) if known else None,
            "debiased": int((patients["auc_median_unbiased"] >= t).sum()),
            "debiased_curve": float(debiased[i]) if np.isfinite(debiased[i]) else None,
            "by_rank": int((patients["auc_empirical"] >= t).sum()),
            "joint": int((patients["auc_joint"] >= t).sum()),
            "joint_vulnerable": int((together & (patients["auc_joint"] >= t)).sum())
            if patients["joint_q"].notna().all()
            else None,
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
    """Per patient, each variable that has one known value within every patient; unknown stays missing. Variables of
    several labels stay with the records."""
    constant = {}
    for variable in groups.columns:
        if groups[variable].astype(object).map(lambda value: isinstance(value, list)).any():
            continue
        values = groups[variable].astype("category")
        known = np.flatnonzero(values.notna().to_numpy())
        codes = np.full(int(patient.max()) + 1, -1, dtype=np.intp)
        codes[patient[known]] = values.cat.codes.to_numpy()[known]
        if (codes[patient[known]] == values.cat.codes.to_numpy()[known]).all():
            constant[str(variable)] = pd.Series(pd.Categorical.from_codes(codes, dtype=values.dtype))
    return constant
