"""What the page says first: its headlines and its warnings."""

import dataclasses
from pathlib import Path

import pytest
from audited_study import changed, finished, patient_ids

from tailrisk.report.audited import Audited, Controls, load
from tailrisk.report.context import tell_apart, warnings
from tailrisk.report.headlines import headlines, most_exposed
from tailrisk.report.text import plural, share
from tailrisk.tables import read_table, write_json, write_table


@pytest.fixture(scope="module")
def audits() -> list[Audited]:
    return [view.audit for view in finished().context().views]


def test_headlines_name_the_most_exposed_model_its_counts_and_its_groups(audits: list[Audited]) -> None:
    assert most_exposed(audits, 0.95) is audits[2]
    row = audits[2].at(0.95)
    first, second, third = headlines(audits, 0.95, 0.01)
    assert f"{row['patients']} of 300 patients ({share(row['share'])}" in first
    assert "wide on Hospital & clinic" in first
    assert "AUC of 0.95 or more" in first
    assert f"AUC of {audits[2].summary['aggregate']['lira_online']['auc']:.2f}" in second
    assert "hides" in second
    assert "diagnosis: sarcoma & <other>" in third
    assert "makes up 6 of the 6 most exposed records (1 %)" in third
    assert "sex" not in third


def test_headline_when_nobody_reaches_any_threshold(audits: list[Audited]) -> None:
    nobody = changed(audits[0], rows={"patients": 0, "vulnerable": 0}, summary={"max_auc": 0.7114})
    first, second, _ = headlines([nobody], 0.95, 0.01)
    assert first == (
        "No patient of the model (logistic on Hospital & clinic) has an attack AUC of 0.8 or more: "
        "the largest of 300 is 0.711 (0.5 is guessing)."
    )
    assert "hides" not in second


def test_headline_when_only_a_lower_threshold_is_reached(audits: list[Audited]) -> None:
    rows = [
        row | {"patients": 5 if row["auc"] < 0.9 else 0, "vulnerable": 0} for row in audits[0].summary["thresholds"]
    ]
    lower = dataclasses.replace(audits[0], summary=audits[0].summary | {"thresholds": rows})
    first, *_ = headlines([lower], 0.95, 0.01)
    assert first.startswith("None reaches 0.95. In the model (logistic on Hospital & clinic), 5 of 300 patients")
    assert "AUC of 0.8 or more" in first
    assert "none of these is vulnerable" in first


def test_headline_when_everyone_is_exposed(audits: list[Audited]) -> None:
    row = {"patients": 300, "share": 1.0, "low": 0.988, "high": 1.0, "expected_by_chance": 0.0, "vulnerable": 300}
    aggregate = {"lira_online": audits[2].summary["aggregate"]["lira_online"] | {"auc": 0.97}}
    first, second, _ = headlines([changed(audits[2], rows=row, summary={"aggregate": aggregate})], 0.95, 0.01)
    assert "all 300 patients have an attack AUC of 0.95 or more" in first
    assert "all of these are vulnerable" in first
    assert "hides" not in second
    assert "0.97" in second


def test_headline_of_a_single_patient_is_singular(audits: list[Audited]) -> None:
    first, *_ = headlines([changed(audits[2], rows={"patients": 1, "vulnerable": 1})], 0.95, 0.01)
    assert "1 of 300 patients" in first
    assert "has an attack AUC" in first
    assert "1 of these is vulnerable" in first


def test_a_simulated_cohort_is_no_headline_beside_real_data(audits: list[Audited]) -> None:
    planted = dataclasses.replace(audits[2], simulated=True)
    assert most_exposed([audits[1], planted], 0.95) is audits[1]
    assert most_exposed([planted], 0.95) is planted


def test_third_sentence_falls_back_from_groups_to_capacity_to_none(audits: list[Audited]) -> None:
    plain = [dataclasses.replace(a, subgroups=a.subgroups.assign(p_adjusted=0.5)) for a in audits]
    at = [a.at(0.95)["patients"] for a in audits]
    third = headlines(plain, 0.95, 0.01)[2]
    assert f"{plural(at[0], 'patient')} at AUC 0.95 or more with 31 trainable parameters" in third
    assert f"{at[2]} patients with 70,000" in third
    assert "6 most exposed records of that model (1 %) are too few" in headlines(plain[2:], 0.95, 0.01)[2]
    table = plain[2].subgroups
    many = dataclasses.replace(plain[2], subgroups=table.assign(tail_n=table["tail_n"] * 10))
    assert headlines([many], 0.95, 0.01)[2].startswith("No group of patients was found over-represented")
    empty = dataclasses.replace(plain[2], subgroups=plain[2].subgroups.iloc[:0])
    assert headlines([empty], 0.95, 0.01)[2].startswith("No group of patients was compared")


def test_negative_controls_are_never_named_as_the_group_at_risk(audits: list[Audited]) -> None:
    relabelled = audits[2].subgroups.assign(variable="control")
    assert "control" not in headlines([dataclasses.replace(audits[2], subgroups=relabelled)], 0.95, 0.01)[2]


def test_a_group_that_only_has_many_records_is_not_named(audits: list[Audited]) -> None:
    groups = audits[2].subgroups
    assert groups["residual"].max() > 0
    explained = groups.assign(tail_expected_clustered=groups["tail_n"])
    third = headlines([dataclasses.replace(audits[2], subgroups=explained)], 0.95, 0.01)[2]
    assert "over-represented" not in third
    assert "diagnosis" not in third


def test_one_source_twice_is_told_apart() -> None:
    cards = {"finding": {"title": "Chest"}, "view": {"title": "Chest"}, "ecg": {"title": "Heart"}}
    tell_apart(cards)
    assert [card["title"] for card in cards.values()] == ["Chest (finding)", "Chest (view)", "Heart"]


def test_a_broken_model_comes_first_and_warns(audits: list[Audited]) -> None:
    baseline = {"model": "gradient boosting", "metric": "auroc", "value": 0.95, "n_train": 300}
    broken = dataclasses.replace(audits[0], baseline=baseline)
    assert "much worse than a plain baseline" in headlines([broken, *audits[1:]], 0.95, 0.01)[2]
    assert ["gradient boosting" in w for w in warnings([broken])] == [True]
    near = dataclasses.replace(audits[0], baseline=baseline | {"value": audits[0].performance + 0.04})
    other = dataclasses.replace(audits[0], baseline=baseline | {"metric": "accuracy"})
    assert warnings([near, other, dataclasses.replace(audits[0], baseline=None)]) == []


def test_warnings_of_lost_models_too_few_models_and_bad_controls(audits: list[Audited]) -> None:
    assert warnings(audits) == []
    lost = changed(audits[0], summary={"models": 118}, failed={"7": "the loss is not finite"})
    assert "2 of 120 target models are left out" in warnings([lost])[0]
    assert "model 7: the loss is not finite" in warnings([lost])[0]
    (again,) = warnings([changed(audits[0], retried=[3, 8])])
    assert "2 target models did not converge and took a second try" in again
    few = changed(audits[0], summary={"pairs": 12, "smallest_p": 2.0**-12})  # > 0.05 / 300
    assert "with 12 pairs of target models no single patient can be confirmed" in warnings([few])[0]
    assert "confirmed" not in " ".join(warnings([changed(audits[0], summary={"pairs": 13, "smallest_p": 2.0**-13})]))
    (narrow,) = warnings([changed(audits[0], summary={"pairs": 49})])
    assert "with 49 pairs of target models the intervals are too narrow" in narrow
    assert "by about 0.78 %" in narrow  # 3/383
    assert warnings([changed(audits[0], summary={"pairs": 50})]) == []
    bad, good = (dataclasses.replace(audits[0], controls=Controls(40, n, 2)) for n in (8, 7))  # sf 0.0007, 0.003
    assert "8 of 40 negative controls" in warnings([bad])[0]
    assert warnings([good]) == []


def test_negative_controls_are_counted_from_the_tables(audits: list[Audited], tmp_path: Path) -> None:
    study = finished()
    files = study.files["main.hospital.wide"]
    patients = read_table(files.audit / "patients.parquet", "audit_patients").set_index("patient")
    chosen = patient_ids(300)[5:45]  # seven of the leaking ones among them
    records = read_table(files.audit / "records.parquet", "audit_records")[["record", "patient"]]
    records = records.assign(split="audit", control=records["patient"].isin(chosen))
    write_table(tmp_path / "records.parquet", "records", records)
    write_json(tmp_path / "baseline.json", {"model": "m", "metric": "auroc", "value": 0.8, "n_train": 1})
    audit = load(audits[2].experiment, files, tmp_path, {"controls": 40}, False, "label")
    assert audit.controls == Controls(
        40,
        int((patients.loc[chosen, "p_value"] <= 0.05).sum()),
        int((patients.loc[chosen, "q_value"] <= 0.05).sum()),
    )
    assert audit.controls.significant >= 7
    assert load(audits[2].experiment, files, tmp_path, {"controls": 0}, False, "label").controls is None
