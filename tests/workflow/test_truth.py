"""The audit against a cohort whose truth is known: whom it must find, and whom it must not."""

import numpy as np
import pandas as pd
import pytest

from tailrisk.audit.audit import Audit, AuditOptions, run_audit
from tailrisk.config.architectures import TabularResNet
from tailrisk.config.base import canonical
from tailrisk.config.load import parse
from tailrisk.config.recipe import Recipe, Training
from tailrisk.config.sources import AnySource
from tailrisk.datasets.groups import groups
from tailrisk.datasets.prepare import prepare
from tailrisk.stages.gather import gather
from tailrisk.tables import read_confidences, read_table
from tailrisk.training.job import run_chunk

N_MODELS = 200


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> tuple[Audit, pd.DataFrame]:
    """The audit of a simulated cohort of 700 patients, half of the audited ones negative controls; and the truth."""
    folder = tmp_path_factory.mktemp("truth")
    spec = parse(AnySource, {"source": "simulated", "patients": 700, "controls": 0.5, "max_records": 10}, "cohort")
    prepare("cohort", spec, folder / "cohort")
    groups(spec, folder / "cohort")
    training = Training(
        seed=5,
        model=TabularResNet(architecture="tabular_resnet", width=16, depth=1),
        recipe=Recipe(epochs=20, batch_size=64, learning_rate=0.005),
    )
    queries = canonical({"clean": {"kind": "clean"}})
    run_chunk(
        folder / "cohort", canonical(training), queries, range(N_MODELS), folder / "store", folder / "chunk.parquet"
    )
    gather([folder / "chunk.parquet"], N_MODELS, "clean", folder / "clean.parquet", max_failed_pairs=0)
    scores = read_confidences(folder / "clean.parquet")
    records = read_table(folder / "cohort/records.parquet", "records").iloc[scores.rows].reset_index(drop=True)
    kinds = read_table(folder / "cohort/groups.parquet", "groups").iloc[scores.rows].reset_index(drop=True)
    audit = run_audit(
        scores.confidence,
        scores.member,
        records[["record", "patient"]],
        kinds.drop(columns="record"),
        AuditOptions(permutations=499),
        seed=1,
    )
    truth = records.assign(kind=kinds["kind"].astype(str)).groupby("patient")[["kind", "control"]].first()
    return audit, audit.patients.set_index("patient").join(truth[["control"]].rename(columns={"control": "ghost"}))


def test_planted_atypical_patients_rank_at_the_top(cohort) -> None:
    _, patients = cohort
    trained = patients[~patients["ghost"]]
    atypical = trained["kind"] == "atypical"
    assert atypical.sum() >= 5
    top = trained["auc"].nlargest(atypical.sum()).index
    assert trained.loc[top, "kind"].isin(["atypical", "rare"]).mean() >= 0.85
    known = trained[trained["kind"] != "rare"]
    # One patient in twenty is atypical: of as many at the top, well over half must be.
    assert known.loc[known["auc"].nlargest(atypical.sum()).index, "kind"].eq("atypical").mean() >= 0.6
    # Rank AUC of "atypical" against "typical" by risk.
    ranks = trained.loc[trained["kind"] != "rare", "auc"].rank()
    n = atypical.sum()
    others = len(ranks) - n
    assert (ranks[atypical[ranks.index]].sum() - n * (n + 1) / 2) / (n * others) > 0.9
    assert trained.loc[atypical, "q_value"].le(0.05).mean() >= 0.8


def test_noise_patients_are_called_no_more_often_than_nominal(cohort) -> None:
    _, patients = cohort
    ghosts = patients[patients["ghost"]]
    assert len(ghosts) > 200
    # 5 % of valid p-values fall to 0.05. Patients share the coins of every pair, which widens the spread: the bound is
    # 5 % plus four binomial standard errors.
    for level in (0.05, 0.2):
        share = ghosts["p_value"].le(level).mean()
        assert share <= level + 4 * np.sqrt(level * (1 - level) / len(ghosts)), level
    vulnerable = patients["q_value"].le(0.05) & patients["auc"].ge(0.8)
    assert vulnerable[patients["ghost"]].sum() == 0
    called = patients["q_value"].le(0.05)
    assert called[patients["ghost"]].sum() <= 0.05 * called.sum() + 3
    assert ghosts["auc_mean"].mean() == pytest.approx(0.5, abs=0.01)


def test_the_interval_of_noise_patients_covers_one_half(cohort) -> None:
    _, patients = cohort
    ghosts = patients[patients["ghost"]]
    # True maximum 0.5; the interval is conservative for maxima (95 to 99.5 % in simulation).
    assert ghosts["auc_low"].le(0.5).mean() > 0.93


def test_the_paper_s_point(cohort) -> None:
    audit, _ = cohort
    assert audit.summary["aggregate"]["lira_online"]["auc"] < 0.75
    assert audit.summary["max_auc"] > 0.95
    assert audit.summary["thresholds"][2]["vulnerable"] >= 5


def test_who_is_in_the_tail(cohort) -> None:
    audit, _ = cohort
    tests = audit.subgroups.drop_duplicates("variable").set_index("variable")
    assert tests.loc["kind", "p_adjusted"] < 0.05
    atypical = audit.subgroups[audit.subgroups["group"] == "atypical"].iloc[0]
    assert atypical["tail_n"] > 3 * atypical["tail_expected"]
