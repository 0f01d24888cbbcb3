"""A small finished study for the tests of compare, figures and report: simulated confidences, everything else real.

The audits come from `run_audit` on confidences in which a few patients leak; results lie on disk as the workflow
leaves them.
"""

import atexit
import dataclasses
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from tailrisk.audit.audit import AuditOptions, run_audit
from tailrisk.compare.access import write_access
from tailrisk.compare.capacity import write_capacity
from tailrisk.compare.groups import write_groups
from tailrisk.compare.stability import write_stability
from tailrisk.config.study import Study
from tailrisk.figures.write import (
    write_access_figures,
    write_audit_figures,
    write_comparison_figures,
    write_group_figures,
)
from tailrisk.report.access import AccessFiles
from tailrisk.report.audited import Audited, Files
from tailrisk.report.context import Context, build_context
from tailrisk.stages.audit import TABLES
from tailrisk.tables import ConfidenceWriter, write_json, write_table

CAPACITIES = {"logistic": 31, "narrow": 2_100, "wide": 70_000}
PATIENTS = 300
LEAKS = ((0, 0.0), (6, 2.5), (12, 3.0))  # patients who leak under each capacity, and how much
SOURCE = {"source": "table", "path": "t.csv", "patient": "p", "label": "y", "numeric": ["age", "pulse", "lactate"]}
QUERIES = {"clean": {"kind": "clean"}, "arrival": {"kind": "redacted", "known": ["age", "pulse"], "fill": "donor"}}
THRESHOLDS = [0.8, 0.9, 0.95, 0.99]


@dataclass(frozen=True)
class Finished:
    """A finished study on disk."""

    study: Study
    results: Path
    files: dict[str, Files]
    datasets: dict[str, Path]
    comparison: Path
    capacity: Path
    access: dict[str, AccessFiles]
    stability: dict[str, Path]
    groups: tuple[Path, Path]

    def context(self, **provenance: object) -> Context:
        comparisons = {"main.hospital": self.comparison}
        return build_context(
            self.study, self.files, self.datasets, {}, comparisons, self.access, self.stability, self.groups, provenance
        )

    def audit(self, experiment: str, query: str) -> Path:
        """Folder of an audit."""
        return self.files[experiment].audit.with_name(query)

    @property
    def patients(self) -> list[str]:
        return patient_ids(PATIENTS)


def patient_ids(n: int) -> list[str]:
    return [f"secret-patient-{number:06d}" for number in range(n)]


def confidences(
    n_leaking: int, shift: float, query: str = "clean", n_pairs: int = 60, seed: int = 0
) -> tuple[np.ndarray, ...]:
    """(confidences, member, records' patients): one to three records a patient; the first n_leaking patients leak.

    Under `arrival` the same models show more noise and less of what they remember, and the last patient leaks as well.
    """
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(PATIENTS), 1 + np.arange(PATIENTS) % 3)
    coins = rng.random((n_pairs, PATIENTS)) < 0.5
    member = np.empty((2 * n_pairs, PATIENTS), dtype=bool)
    member[0::2], member[1::2] = coins, ~coins
    member = member[:, owner]
    effect = np.where(np.arange(PATIENTS) < n_leaking, shift, 0.0)[owner]
    values = rng.normal(2.0, 1.0, member.shape) + member * effect
    if query == "arrival":
        values = 0.7 * values + rng.normal(0.0, 0.7, member.shape) + member * (owner == PATIENTS - 1) * shift
    return values.astype(np.float32), member, owner


def record_table(owner: np.ndarray) -> pd.DataFrame:
    ids = np.array(patient_ids(PATIENTS), dtype=object)
    return pd.DataFrame({"record": [f"secret-record-{row}" for row in range(len(owner))], "patient": ids[owner]})


def groups(owner: np.ndarray) -> pd.DataFrame:
    """Group variables: a rare diagnosis that holds most leaking patients, and a sex unrelated to leaking."""
    rare = np.where(owner < 14, "sarcoma & <other>", np.where(owner % 4 == 0, "carcinoma", "benign"))
    return pd.DataFrame({"diagnosis": rare, "sex": np.where(owner % 2 == 0, "female", "male")})


def audit_tables(n_leaking: int = 12, shift: float = 3.0, query: str = "clean", with_groups: bool = True):
    """The audit of one experiment, with 12 of 300 patients leaking unless told otherwise."""
    values, member, owner = confidences(n_leaking, shift, query)
    records = record_table(owner)
    options = AuditOptions(flips=199, thresholds=tuple(THRESHOLDS), permutations=199)
    return run_audit(values, member, records, groups(owner) if with_groups else None, options, seed=1)


@cache
def finished() -> Finished:
    """The finished study, made once in a test process; its folder goes when the process ends."""
    folder = TemporaryDirectory(prefix="tailrisk-study-")
    atexit.register(folder.cleanup)
    return finish(Path(folder.name))


def finish(results: Path) -> Finished:
    """Write a study of three capacities and two queries on one dataset, with every figure, under `results`."""
    study = Study.model_validate(
        {
            "n_models": 120,
            "datasets": {"hospital": SOURCE},
            "models": {
                "logistic": {"architecture": "logistic"},
                "narrow": {"architecture": "tabular_resnet", "width": 16, "depth": 1},
                "wide": {"architecture": "tabular_resnet", "width": 128, "depth": 2},
            },
            "queries": QUERIES,
            "experiments": {
                "main": {
                    "datasets": "hospital",
                    "models": list(CAPACITIES),
                    "recipe": {"epochs": 1, "batch_size": 8, "learning_rate": 0.1},
                }
            },
            "report": {"title": "Audit of the <test> hospital"},
        }
    )  # fmt: skip
    dataset = results / "datasets" / "hospital"
    write_json(
        dataset / "baseline.json", {"model": "logistic regression", "metric": "auroc", "value": 0.81, "n_train": 300}
    )
    write_json(dataset / "card.json", _card())
    write_json(
        dataset / "duplicates.json", {"threshold": 0.01, "of_one_patient": 0, "identical": COPIES, "near": COPIES}
    )
    files, access = {}, {}
    for (model, capacity), (n_leaking, shift) in zip(CAPACITIES.items(), LEAKS, strict=True):
        name = f"main.hospital.{model}"
        paths = Files(
            results / "audit" / name / "clean",
            results / "performance" / f"{name}.parquet",
            results / "figures" / name / "clean",
        )
        folders = {query: paths.audit.with_name(query) for query in QUERIES}
        for query, folder in folders.items():
            audit = audit_tables(n_leaking, shift, query)
            for table in TABLES:
                write_table(folder / f"{table}.parquet", f"audit_{table}", getattr(audit, table))
            write_json(folder / "summary.json", audit.summary)
        write_table(paths.performance, "performance", _performance(capacity), {"capacity": capacity})
        write_audit_figures(paths.audit, paths.figures)
        files[name] = paths
        compared = AccessFiles(
            results / "compare" / "access" / f"{name}.parquet", results / "figures" / "compare" / "access" / name
        )
        write_access(name, {query: spec["kind"] for query, spec in QUERIES.items()}, folders, compared.table)
        write_access_figures(study.queries, dataset / "card.json", folders, compared.figures)
        access[name] = compared
    capacity_table = results / "compare" / "capacity" / "main.hospital.clean.parquet"
    comparison = results / "figures" / "compare" / "main.hospital.clean"
    audits = {name: paths.audit for name, paths in files.items()}
    write_capacity(audits, {name: paths.performance for name, paths in files.items()}, capacity_table)
    write_comparison_figures(capacity_table, audits, comparison)
    stability, groups = _compared(results, dataset, audits)
    return Finished(study, results, files, {"hospital": dataset}, comparison, capacity_table, access, stability, groups)


def _compared(results: Path, dataset: Path, audits: dict[str, Path]) -> tuple[dict[str, Path], tuple[Path, Path]]:
    """Stability of the experiments, and groups against their shares, with all that these are made from."""
    tables = {}
    for name, (n_leaking, shift) in zip(audits, LEAKS, strict=True):
        values, member, owner = confidences(n_leaking, shift)
        tables[name] = results / "confidences" / name / "clean.parquet"
        with ConfidenceWriter(tables[name], "confidences", {}) as writer:
            for model, (inside, scores) in enumerate(zip(member, values, strict=True)):
                writer.add(model, np.arange(len(owner), dtype=np.int32), inside, scores)
    records = record_table(owner)
    write_table(dataset / "records.parquet", "records", records.assign(split="audit"))
    described = pd.concat([records[["record"]], groups(owner).astype("category")], axis=1)
    write_table(dataset / "groups.parquet", "groups", described)
    stability = results / "compare" / "stability" / "hospital.parquet"
    write_stability(audits, tables, dataset / "records.parquet", 0.01, 1, stability)
    first = next(iter(audits))
    compared, meta = (results / "compare" / "groups" / f"{name}.parquet" for name in ("groups", "meta"))
    write_groups({first: audits[first]}, {first: dataset / "groups.parquet"}, [], 0.01, 1, compared, meta)
    figures = results / "figures" / "compare" / "groups"
    write_group_figures(compared, meta, figures)
    return {"hospital": stability}, (meta, figures)


def _performance(capacity: int) -> pd.DataFrame:
    rng = np.random.default_rng(capacity)
    level = 0.78 + 0.01 * np.log10(capacity)
    return pd.DataFrame(
        [
            (model, split, "auroc", level + rng.normal(0, 0.01))
            for model in range(120)
            for split in ("test", "validation")
        ],
        columns=["model", "split", "metric", "value"],
    )


COPIES = {"records": 0, "patients": 0, "pairs": 0, "across_splits": 0, "both_audited": 0, "different_labels": 0}


def _card() -> dict[str, object]:
    return {
        "name": "hospital", "title": "Hospital & clinic", "task": "binary", "n_outputs": 1,
        "rows": 812, "excluded": {"age below 18": 9}, "quarantined": {"unreadable": 3},
        "expected": [{"what": "rows", "expected": 812, "found": 812}],
        "n_records": 800, "n_patients": 400, "patients_with_several_records": 260, "most_records_of_a_patient": 4,
        "records_per_patient": {"1": 140, "2": 150, "3": 80, "4": 30},
        "splits": {split: {"records": n, "patients": n // 2, "classes": {"ill": ill, "well": n - ill}}
                   for split, n, ill in (("audit", 600, 225), ("validation", 80, 30), ("test", 120, 45))},
        "controls": 0, "classes": {"ill": 300, "well": 500}, "features": 3, "input_shape": [3],
        "preprocessing": "Standardised.", "licence": "CC0", "source": "t.csv",
        "checksums": {"t.csv": "0" * 64}, "data_hash": "1" * 64,
    }  # fmt: skip


def changed(audit: Audited, *, rows: dict | None = None, summary: dict | None = None, **fields: object) -> Audited:
    """A copy of an audit with values of every threshold, of the summary or of the audit itself replaced."""
    thresholds = [row | (rows or {}) for row in audit.summary["thresholds"]]
    return dataclasses.replace(audit, summary=audit.summary | {"thresholds": thresholds} | (summary or {}), **fields)
