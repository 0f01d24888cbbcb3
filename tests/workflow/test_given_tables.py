"""A confidence table from elsewhere runs everything after the gather stage, to the same numbers."""

from pathlib import Path

import pandas as pd
import pytest
from small_study import Workflow

from tailrisk.tables import read_confidences

EXPERIMENT = "mine.own.lr"


def export(finished: Workflow, folder: Path, kind: str) -> None:
    """What the small study gathered, as somebody else would bring it: rows numbered anew, lines in any order."""
    results = finished.folder / "results"
    scores = read_confidences(results / f"confidences/{EXPERIMENT}/clean.parquet")
    long = pd.DataFrame(
        {
            "model": scores.models.repeat(len(scores.rows)),
            "row": list(range(7, 7 + len(scores.rows))) * len(scores.models),
            "member": scores.member.ravel(),
            "confidence": scores.confidence.ravel(),
        }
    ).sample(frac=1, random_state=0)
    records = pd.read_parquet(results / "datasets/own/records.parquet").iloc[scores.rows]
    records = records.assign(row=range(7, 7 + len(records)))[["row", "record", "patient"]]
    groups = pd.read_parquet(results / "datasets/own/groups.parquet")
    for name, frame in {"confidences": long, "records": records, "groups": groups}.items():
        if kind == "csv":
            frame.to_csv(folder / f"{name}.csv", index=False)
        else:
            frame.to_parquet(folder / f"{name}.parquet", index=False)


def entry(kind: str, **changes: str) -> dict[str, str]:
    paths = {name: f"{name}.{kind}" for name in ("confidences", "records", "groups")}
    return {**paths, "pairing": "complementary", "title": "From <elsewhere>", **changes}


@pytest.fixture
def elsewhere(finished: Workflow, repository: Path, tmp_path: Path) -> Workflow:
    study = {key: finished.study[key] for key in ("seed", "audit", "subgroups")}
    return Workflow(tmp_path, repository, study | {"experiments": {"brought": entry("csv")}})


def test_a_given_table_is_audited_to_the_same_numbers(elsewhere: Workflow, finished: Workflow) -> None:
    export(finished, elsewhere.folder, "csv")
    assert set(elsewhere.planned()) == {"given", "audit", "audit_figures", "report"}
    elsewhere.run()
    for kind in ("records", "patients", "survival", "subgroups", "models"):
        own = pd.read_parquet(elsewhere.folder / f"results/audit/brought/given/{kind}.parquet")
        trained = pd.read_parquet(finished.folder / f"results/audit/{EXPERIMENT}/clean/{kind}.parquet")
        pd.testing.assert_frame_equal(own, trained, rtol=1e-5, atol=1e-6)  # CSV rounds the last digits of float32
    page = (elsewhere.folder / "results/report.html").read_text()
    assert "From &lt;elsewhere&gt;" in page
    assert "whose confidences were given as a table" in page
    assert "RMIA (online)</th><td" not in page or "not available" in page
    assert elsewhere.planned() == {}
    elsewhere.study["experiments"]["brought"]["title"] = "Another title"
    assert elsewhere.planned() == {"report": [""]}
    elsewhere.study["audit"] = elsewhere.study["audit"] | {"thresholds": [0.7, 0.95]}
    assert set(elsewhere.planned()) == {"audit", "audit_figures", "report"}


def test_what_is_not_known_gives_no_p_values_and_what_is_wrong_is_refused(
    elsewhere: Workflow, finished: Workflow
) -> None:
    export(finished, elsewhere.folder, "parquet")
    elsewhere.study["experiments"] = {
        "silent": entry("parquet", pairing="unknown"),
        "wrong": entry("parquet", pairing="balanced"),
    }
    done = elsewhere.run("--keep-going", check=False)
    assert done.returncode == 1
    assert "state `complementary`, not `balanced`" in done.stdout
    assert "Traceback" not in done.stdout
    patients = pd.read_parquet(elsewhere.folder / "results/audit/silent/given/patients.parquet")
    assert patients[["p_value", "q_value", "joint_p", "joint_q"]].isna().all().all()
    assert patients["auc"].notna().all()
    del elsewhere.study["experiments"]["wrong"]
    elsewhere.run()
    page = (elsewhere.folder / "results/report.html").read_text()
    assert "there are no p-values, and nobody is called vulnerable" in page
