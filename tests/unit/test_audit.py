"""The whole audit: contracts, invariances, truth recovered, and what a broken table says."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from paired_scores import in_and_out, table
from scipy.stats import binom

from tailrisk.audit.audit import AuditOptions, run_audit
from tailrisk.errors import UserError
from tailrisk.tables import SCHEMAS

QUICK = AuditOptions(flips=499, permutations=199)
SIZES = [1, 2, 3, 1, 6, 2, 1, 1, 4, 9] * 12


def study(pairs=30, seed=0, **kwargs):
    rng = np.random.default_rng(seed)
    sizes = np.array(SIZES)
    leaking = np.arange(sizes.size) < 6
    effect = np.repeat(np.where(leaking, 2.5, 0.0), sizes)
    confidences, member, patient = table(pairs, sizes, rng, effect=effect, **kwargs)
    shuffle = rng.permutation(patient.size)
    confidences, member, patient = confidences[:, shuffle], member[:, shuffle], patient[shuffle]
    records = pd.DataFrame(
        {"record": [f"r{i:04d}" for i in range(patient.size)], "patient": [f"p{p:03d}" for p in patient]}
    )
    groups = pd.DataFrame({"record": records["record"]})
    groups["sex"] = pd.Categorical(np.where(rng.random(sizes.size) < 0.5, "f", "m")[patient])
    groups.loc[patient == 7, "sex"] = None
    groups["view"] = rng.choice(["front", "side"], patient.size)
    groups["site"] = "one"
    return confidences, member, records, groups


@pytest.fixture(scope="module")
def data():
    return study()


@pytest.fixture(scope="module")
def audit(data):
    return run_audit(*data, QUICK, seed=3)


def test_tables_have_the_columns_of_the_contract(audit):
    for name in ("records", "survival", "aggregate", "subgroups"):
        assert list(getattr(audit, name).columns) == SCHEMAS[f"audit_{name}"].names
    assert list(audit.patients.columns) == [*SCHEMAS["audit_patients"].names, "sex", "site"]
    assert not audit.records.isna().any(axis=None)
    assert not audit.patients.drop(columns="sex").isna().any(axis=None)


def test_records_keep_the_order_of_the_input_and_patients_are_sorted(audit, data):
    records = data[2]
    pd.testing.assert_frame_equal(audit.records[["record", "patient"]], records, check_dtype=False)
    assert audit.patients["patient"].is_monotonic_increasing
    sizes = records.groupby("patient").size()
    np.testing.assert_array_equal(audit.patients["n_records"], sizes)
    np.testing.assert_allclose(audit.patients["auc"], audit.records.groupby("patient")["auc"].max())
    np.testing.assert_allclose(audit.patients["auc_mean"], audit.records.groupby("patient")["auc"].mean())
    assert (audit.records["n_in"] == 30).all()


def test_leaking_patients_are_found_and_the_others_are_not(audit):
    leaking = audit.patients["patient"] < "p006"
    assert (audit.patients.loc[leaking, "q_value"] <= 0.05).all()
    assert (audit.patients.loc[~leaking, "q_value"] <= 0.05).sum() <= 1
    threshold = audit.summary["thresholds"][0]
    assert threshold["auc"] == 0.8
    assert threshold["vulnerable"] == 6
    assert threshold["patients"] >= threshold["vulnerable"] >= threshold["certain"] > 0
    assert 0 < threshold["debiased"] <= threshold["patients"]
    assert threshold["low"] < threshold["share"] < threshold["high"]
    assert 0 <= threshold["expected_by_chance"] < 1
    assert 0.6 < audit.summary["familywise_auc"] < 0.9


def test_summary_is_plain_json_and_agrees_with_the_tables(audit):
    summary = json.loads(json.dumps(audit.summary, allow_nan=False))
    assert summary["patients"] == len(audit.patients) == len(SIZES)
    assert summary["records"] == len(audit.records) == sum(SIZES)
    assert (summary["models"], summary["pairs"]) == (60, 30)
    assert summary["significant"] == (audit.patients["q_value"] <= 0.05).sum()
    assert summary["max_auc"] == audit.patients["auc"].max()
    lira = summary["aggregate"]["lira_online"]
    assert set(lira["tpr"]) == {"0.1", "0.01", "0.001", "0.0001"}
    of_lira = audit.aggregate[audit.aggregate["attack"] == "lira_online"]
    at = of_lira[np.isclose(of_lira["fpr"], 0.1)]
    assert lira["tpr"]["0.1"]["mean"] == pytest.approx(at["tpr"].mean())
    assert set(lira["precision"]) == {"0.01", "0.1", "0.5"}
    assert 0 <= summary["normality"]["failed_share"] < 0.2
    view, site = summary["subgroups_skipped"]
    assert (view["variable"], view["unit"]) == ("view", "patient")
    assert view["reason"].startswith("differs between records of one patient, for ")
    assert site == {"variable": "site", "unit": "", "within": "", "reason": "only one known group"}
    assert summary["subgroups_alone"] == {"sex": 0, "view": 0}


def test_certain_patients_are_significant_with_a_lower_limit_at_the_threshold(data):
    audit = run_audit(*data, dataclasses.replace(QUICK, thresholds=(0.4, 0.55, 0.8, 0.95)), seed=3)
    significant, low = audit.patients["q_value"] <= 0.05, audit.patients["auc_low"]
    for row in audit.summary["thresholds"]:
        assert row["certain"] == (significant & (low >= row["auc"])).sum()
    first, *_, last = audit.summary["thresholds"]
    assert first["certain"] < (low >= 0.4).sum()  # by chance alone most lower limits lie above 0.4
    assert last["certain"] < last["vulnerable"]


def test_the_correction_for_selection_leaves_single_records_alone():
    rng = np.random.default_rng(1)
    confidences, member, patient = table(30, [1] * 200, rng, effect=rng.uniform(0, 2, 200))
    records = pd.DataFrame({"record": patient.astype(str), "patient": patient.astype(str)})
    audit = run_audit(confidences, member, records, None, QUICK, seed=0)
    for row in audit.summary["thresholds"][:2]:
        assert row["debiased"] == row["patients"]
        assert (audit.patients["auc_low"] >= row["auc"]).sum() < row["patients"]


def test_counts_by_rank_are_those_of_the_largest_rank_auc(audit):
    largest = audit.records.groupby("patient")["auc_empirical"].max()
    for row in audit.summary["thresholds"]:
        assert row["by_rank"] == (largest >= row["auc"]).sum()
    assert any(row["by_rank"] != row["patients"] for row in audit.summary["thresholds"])


def test_p_values_of_single_records_reach_below_what_flips_can_show(audit):
    single = audit.patients[(audit.patients["n_records"] == 1) & (audit.patients["patient"] < "p006")]
    assert len(single) == 2
    assert (single["p_value"] < 1e-6).all()
    records = audit.records.set_index("patient").loc[single["patient"], "p_value"]
    np.testing.assert_array_equal(records, single["p_value"])


def test_rounded_confidences_give_p_values_that_are_not_too_small():
    # Labels that only say yes or no: a difference is −1, 0 or 1, and p is a binomial probability.
    rng = np.random.default_rng(2)
    _, member, patient = table(100, [1] * 300, rng)
    confidences = (rng.random(member.shape) < np.where(member, 0.65, 0.4)).astype(np.float32)
    records = pd.DataFrame({"record": patient.astype(str), "patient": patient.astype(str)})
    got = run_audit(confidences, member, records, None, QUICK, seed=0).records["p_value"].to_numpy()
    x, y = in_and_out(confidences, member)
    ups, downs = ((x - y) == 1).sum(axis=0), ((x - y) == -1).sum(axis=0)
    want = binom.sf(ups - 1, ups + downs, 0.5)
    small = want < 1e-3  # above, the common flips answer
    assert small.sum() > 100
    ratio = np.log(got[small] / want[small])
    assert abs(ratio.mean()) < 0.04
    assert np.abs(ratio).max() < 0.35


def test_group_variables_that_are_constant_within_patients_stand_in_the_patient_table(audit, data):
    groups, records = data[3], data[2]
    want = groups.set_index(records["patient"])["sex"].groupby(level=0).first()
    got = audit.patients.set_index("patient")["sex"]
    assert got.isna()["p007"]
    assert got.drop("p007").astype(str).to_dict() == want.drop("p007").astype(str).to_dict()


def test_the_order_of_records_changes_nothing(audit, data):
    confidences, member, records, groups = data
    order = np.argsort(records["patient"].to_numpy(), kind="stable")
    other = run_audit(
        confidences[:, order], member[:, order], records.iloc[order].reset_index(drop=True), groups, QUICK, seed=3
    )
    for name in ("patients", "survival", "aggregate", "subgroups"):
        pd.testing.assert_frame_equal(getattr(audit, name), getattr(other, name), rtol=1e-12)
    pd.testing.assert_frame_equal(
        audit.records.sort_values("record", ignore_index=True),
        other.records.sort_values("record", ignore_index=True),
        rtol=1e-12,
    )


def test_neither_the_size_of_blocks_nor_the_number_of_threads_changes_anything(audit, data, monkeypatch):
    monkeypatch.setattr("tailrisk.audit.pairs.spans.__defaults__", (16, None))
    monkeypatch.setattr("tailrisk.audit.pairs.blocks.__defaults__", (16, True))
    other = run_audit(*data, QUICK, seed=3, threads=3)
    for name in ("records", "patients", "survival", "aggregate", "subgroups", "models"):
        pd.testing.assert_frame_equal(getattr(audit, name), getattr(other, name), rtol=1e-12)


def test_an_added_patient_leaves_the_scores_of_the_others_alone(audit, data):
    confidences, member, records, _ = data
    keep = (records["patient"] != "p119").to_numpy()
    fewer = run_audit(confidences[:, keep], member[:, keep], records[keep].reset_index(drop=True), None, QUICK, seed=3)
    columns = ["patient", "auc", "auc_low", "auc_high", "p_value"]
    pd.testing.assert_frame_equal(fewer.patients[columns], audit.patients[columns].iloc[:-1])
    assert fewer.subgroups.empty
    assert list(fewer.patients.columns) == SCHEMAS["audit_patients"].names


def test_the_tail_of_perfectly_recognised_records_does_not_depend_on_the_order_of_the_table(data):
    confidences, member, records, groups = data
    confidences = confidences.copy()
    confidences[:, 100:160] = member[:, 100:160] * 5  # d is infinite
    everything = dataclasses.replace(QUICK, tail=0.05)
    one = run_audit(confidences, member, records, groups, everything, seed=3)
    order = np.random.default_rng(4).permutation(len(records))
    shuffled = records.iloc[order].reset_index(drop=True)
    other = run_audit(confidences[:, order], member[:, order], shuffled, groups, everything, seed=3)
    pd.testing.assert_frame_equal(one.subgroups, other.subgroups)


def test_the_tail_goes_by_distance_where_the_auc_is_rounded_to_one(data):
    confidences, member, records, _ = data
    confidences = confidences.copy()
    confidences[:, :40] += member[:, :40] * (20.0 + np.arange(40)).astype(np.float32)
    groups = pd.DataFrame({"far": np.where(np.arange(len(records)) // 20 == 1, "very", "less")})
    audit = run_audit(confidences, member, records, groups, dataclasses.replace(QUICK, tail=0.04), seed=3)
    assert (audit.records["auc"][:40] == 1).all()
    very = audit.subgroups.set_index("group").loc["very"]
    assert very["tail_n"] > 10  # of 14, drawn from 20 and 20 at equal AUC


@pytest.mark.parametrize("pairs", [2, 3, 4, 5, 9, 10, 21])
def test_few_pairs_do_what_they_can(pairs):
    audit = run_audit(*study(pairs), QUICK, seed=0)
    json.dumps(audit.summary, allow_nan=False)
    assert audit.patients["p_value"].between(2.0**-pairs, 1).all()
    assert (audit.summary["aggregate"]["lira_online"]["auc"] is None) == (pairs < 3)
    assert (audit.summary["normality"]["failed_share"] is None) == (pairs < 20)
    assert (audit.summary["familywise_auc"] is None) == (pairs < 5)  # 2⁻⁴ is more than 5 %
    assert np.isfinite(audit.patients.drop(columns=["patient", "sex", "site"]).astype(float)).all(axis=None)


def test_constant_confidences_are_counted_and_harmless():
    confidences, member, records, groups = study(10)
    confidences[:, :3] = 0.25
    audit = run_audit(confidences, member, records, groups, QUICK, seed=0)
    assert audit.summary["degenerate_records"] == 3
    np.testing.assert_array_equal(audit.records["auc"][:3], 0.5)
    np.testing.assert_array_equal(audit.records["p_value"][:3], 1.0)
    assert not audit.patients[["auc", "p_value", "q_value"]].isna().any(axis=None)


def test_one_pair_says_how_many_are_needed():
    confidences, member, records, groups = study(1)
    with pytest.raises(UserError, match="2 target models are too few: an audit needs at least 4"):
        run_audit(confidences, member, records, groups, QUICK, seed=0)


def test_groups_that_do_not_match_the_records_are_refused(data):
    confidences, member, records, groups = data
    with pytest.raises(UserError, match=r"2 of 360 audited records have no row"):
        run_audit(confidences, member, records, groups.iloc[2:], QUICK, seed=0)
    with pytest.raises(UserError, match="names a record twice"):
        run_audit(confidences, member, records, pd.concat([groups, groups.iloc[:1]]), QUICK, seed=0)
    with pytest.raises(UserError, match="5 rows for 360 records"):
        run_audit(confidences, member, records, groups[["sex"]].iloc[:5], QUICK, seed=0)
