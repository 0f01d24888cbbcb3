"""The cards of the datasets in the report: numbers that add up, small groups hidden, pictures only where allowed."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from audited_study import COPIES, finished, patient_ids
from click.testing import CliRunner
from real_sources import source
from test_report import Page

from tailrisk.cli import main
from tailrisk.config.plan import Plan
from tailrisk.datasets.contract import Prepared, open_prepared
from tailrisk.errors import UserError
from tailrisk.figures import dataset as figure
from tailrisk.report import cards
from tailrisk.report.cards import Expected, GroupRow, completeness, composition, duplicates_in_words, per_patient
from tailrisk.report.context import inline_svg
from tailrisk.report.page import render
from tailrisk.stages.report import report
from tailrisk.tables import read_json, read_table, write_json


@pytest.fixture(scope="module")
def context():
    return finished().context()


def with_card(context, **changes):
    """The page with fields of its only card replaced; those of card.json under `card`."""
    one = context.cards[0]
    card = {**one.card, **changes.pop("card", {})}
    return render(dataclasses.replace(context, cards=[dataclasses.replace(one, card=card, **changes)]))


def test_rows_add_up_to_records(context) -> None:
    rows = Page(render(context)).tables["rows-hospital"]
    assert rows == [
        ["rows of the source", "812"],
        ["left out: age below 18", "− 9"],
        ["file cannot be used: unreadable", "− 3"],
        ["records", "800"],
    ]
    taken = [int(cells[1].removeprefix("− ")) for cells in rows[1:-1]]
    assert 812 - sum(taken) == 800


def test_labels_and_patients_by_split(context) -> None:
    tables = Page(render(context)).tables
    assert tables["labels-hospital"] == [
        ["", "All", "audit", "validation", "test"],
        ["patients", "400", "300", "40", "60"],
        ["records", "800", "600", "80", "120"],
        ["ill", "300", "225", "30", "45"],
        ["well", "500", "375", "50", "75"],
    ]
    assert [row[:2] for row in tables["patients-hospital"][1:]] == [["1", "140"], ["2", "150"], ["3 to 5", "110"]]


def test_groups_equal_the_table_on_disk(context) -> None:
    """Of the 300 patients, who have one, two and three records in turn, the first 14 have the rare diagnosis."""
    rows = Page(render(context)).tables["groups-hospital"][1:]
    folder = finished().datasets["hospital"]
    groups = read_table(folder / "groups.parquet", "groups")
    patient = read_table(folder / "records.parquet", "records")["patient"]
    variable, seen = "", 0
    for cells in rows:
        variable = cells[0] or variable
        chosen = groups[variable].astype(str) == cells[1]
        assert cells[2:] == [str(chosen.sum()), cards.share(chosen.mean()), str(patient[chosen].nunique())]
        seen += chosen.sum()
    assert seen == 2 * len(groups)
    assert ["", "sarcoma & <other>", "27", "4.5 %", "14"] in rows


def test_no_patient_is_named_on_a_card(context) -> None:
    page = render(context)
    section = page[page.index('<section id="datasets">') :]
    assert "secret-" not in section
    assert patient_ids(1)[0].startswith("secret-")


def test_a_missing_value_is_counted() -> None:
    """Twelve patients with two records each: seven female, four male, one not known."""
    patient = pd.Series([f"p{row // 2}" for row in range(24)])
    values = pd.Series(["female"] * 14 + ["male"] * 8 + [None] * 2)
    assert composition("sex", values, patient) == [
        GroupRow("sex", "female", True, 14, 7, 14 / 24),
        GroupRow("sex", "male", False, 8, 4, 8 / 24),
        GroupRow("sex", "not known", False, 2, 1, 2 / 24),
    ]


def test_overlapping_labels_are_counted_each() -> None:
    patient = pd.Series([f"p{row}" for row in range(17)])
    values = pd.Series([["a", "b"]] * 6 + [["b"]] * 5 + [[]] * 5 + [None], dtype=object)
    rows = composition("finding", values, patient)
    assert [(row.group, row.records, row.patients) for row in rows] == [
        ("b", 11, 11),
        ("a", 6, 6),
        ("none", 5, 5),
        ("not known", 1, 1),
    ]


def test_ranges_of_numbers_keep_their_order() -> None:
    patient = pd.Series([f"p{row}" for row in range(21)])
    values = pd.Series(["80 and over"] * 8 + ["9 to under 20"] * 5 + ["20 to under 40"] * 7 + [None], dtype=object)
    rows = composition("age", values.astype("category"), patient)
    assert [row.group for row in rows] == ["9 to under 20", "20 to under 40", "80 and over", "not known"]


def test_a_small_group_is_shown_as_it_is_and_the_page_says_so(context) -> None:
    row = GroupRow("sex", "unusual", True, 3, 2, 0.01)
    page = with_card(context, groups=[row])
    assert Page(page).tables["groups-hospital"][1] == ["sex", "unusual", "3", "1 %", "2"]
    assert "Counts on this page are exact, those of small groups, too" in page


def test_patients_by_number_of_records() -> None:
    counts = {"1": 30, "2": 9, "3": 4, "5": 2, "120": 1}
    assert per_patient(counts) == [
        ("1", 30, 1.0),
        ("2", 9, 0.3),
        ("3 to 5", 6, 0.2),
        ("101 or more", 1, 1 / 30),
    ]


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ([], ""),
        ([("rows", 10, 10), ("class a", 4, 4)], "The source is complete: every count is as published."),
        ([("rows", 10, 4), ("records", 8, 4), ("class a", 4, 1)], "This is a part of the source"),
        ([("rows", 10, 10), ("class a", 4, 5)], "This differs from the published source"),
        ([("rows", 10, 12), ("patients", 5, 4)], "This differs from the published source"),
    ],
)
def test_a_source_is_complete_a_part_or_another(counts, sentence: str) -> None:
    found = completeness([Expected(*row) for row in counts])
    assert found.startswith(sentence)
    assert bool(found) == bool(sentence)


def test_expected_counts_stand_beside_those_found(context) -> None:
    rows = [Expected("rows", 1000, 812), Expected("patients", 400, 400), Expected("class ill", 200, 300)]
    assert Page(with_card(context, expected=rows)).tables["expected-hospital"][1:] == [
        ["rows", "1,000", "812", "81.2 % of it"],
        ["patients", "400", "400", "as published"],
        ["class ill", "200", "300", "more than published"],
    ]
    assert "expected-hospital" not in Page(with_card(context, expected=[])).tables


def test_copies_are_counted_and_explained(context) -> None:
    page = render(context)
    assert "copies-hospital" not in Page(page).tables
    assert "No two patients share an identical record" in page
    near = COPIES | {"records": 7, "patients": 6, "pairs": 4, "across_splits": 2, "both_audited": 1}
    found = {"threshold": 0.1, "of_one_patient": 3, "identical": COPIES, "near": near}
    page = with_card(context, duplicates=found, sentences=duplicates_in_words(found, is_table=False))
    assert Page(page).tables["copies-hospital"][1:] == [
        ["identical", "0", "0", "0", "0", "0", "0"],
        ["nearly identical", "7", "6", "4", "2", "1", "0"],
    ]
    assert "the risk of both is understated" in page
    assert "3 records equal another one of the same patient" in page


def test_near_copies_that_could_not_be_told(context) -> None:
    found = {"threshold": 0.01, "of_one_patient": 0, "identical": COPIES, "near": {"too_many": True, "listed": 0}}
    told = (
        "Whether any are nearly identical (no feature differs by more than 0.01 standard deviations) could not be told"
    )
    page = with_card(context, duplicates=found, sentences=duplicates_in_words(found, is_table=True))
    assert "copies-hospital" not in Page(page).tables
    assert f"No two patients share an identical record. {told}" in page
    assert "extreme values, such as 99999 for missing, dominate the features." in page
    found["identical"] = COPIES | {"records": 2, "patients": 2, "pairs": 1}
    page = with_card(context, duplicates=found, sentences=duplicates_in_words(found, is_table=True))
    assert Page(page).tables["copies-hospital"][1:] == [["identical", "2", "2", "1", "0", "0", "0"]]
    assert told in page and "Records are nearly identical where" not in page
    assert not any("99999" in sentence for sentence in duplicates_in_words(found, is_table=False))


def test_the_label_has_its_own_table_and_no_group(context) -> None:
    labels = pd.Series([["ill"], ["well", "ill"], None], dtype=object)
    assert cards._says_label("label", labels, ["ill", "well"])
    assert not cards._says_label("label", labels, ["ill"])
    assert not cards._says_label("diagnosis", labels, ["ill", "well"])


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ([3], "3 features"),
        ([12, 1000], "12 leads of 1,000 samples"),
        ([1, 64, 48], "64 × 48 pixels, gray"),
        ([3, 32, 32], "32 × 32 pixels, colour"),
    ],
)
def test_a_record_in_words(shape: list[int], words: str) -> None:
    assert cards.input_in_words(shape) == words


def test_access_and_terms_are_those_of_the_source(context, tmp_path) -> None:
    spec = source(source="diabetes130", path="x.csv")
    folder = finished().datasets["hospital"]
    one = cards.load_card("hospital", read_json(folder / "card.json"), spec, folder, None)
    page = render(dataclasses.replace(context, cards=[one]))
    assert re.search(r"how to get access</th><td>Open: https://archive\.ics\.uci\.edu/dataset/296", page)
    assert "how to get access" not in with_card(context, access="")


def test_a_missing_table_is_one_sentence(tmp_path) -> None:
    folder = finished().datasets["hospital"]
    for name in ("records.parquet", "groups.parquet", "card.json"):
        (tmp_path / name).symlink_to(folder / name)
    with pytest.raises(UserError, match=r"duplicates\.json is missing"):
        cards.load_card(
            "hospital", read_json(folder / "card.json"), finished().study.datasets["hospital"], tmp_path, None
        )


def inputs(kind: str, n: int = 30) -> Prepared:
    """A prepared dataset of the kind; every second record is audited, and only these have an input above zero."""
    rng = np.random.default_rng(0)
    shape = {"gray": (1, 16, 12), "colour": (3, 16, 16), "ecg": (4, 50), "other": (5, 50)}[kind]
    values = rng.uniform(1, 255, (n, *shape)).astype(np.float32 if kind in {"ecg", "other"} else np.uint8)
    audited = np.arange(n) % 2 == 0
    values[~audited] = 0
    names = {"ecg": ["I", "III", "V2", "II"], "other": ["x1", "x2", "x3", "x4", "x5"]}.get(kind, [])
    ids = np.array([f"secret-{row}" for row in range(n)], dtype=object)
    return Prepared(
        inputs=values, labels=np.zeros(n), record=ids, patient=ids, control=np.zeros(n, dtype=bool), task="binary",
        split=np.where(audited, "audit", "test").astype(object), classes=["a", "b"], n_outputs=1, data_hash="",
        features=names,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["gray", "colour"])
def test_eight_audited_images_are_drawn_as_they_are(kind: str) -> None:
    prepared = inputs(kind)
    drawn = [np.asarray(ax.images[0].get_array()) for ax in figure.inputs(prepared).axes]
    assert len(drawn) == 8
    known = [
        image[0] if kind == "gray" else image.transpose(1, 2, 0) for image in prepared.inputs[prepared.rows("audit")]
    ]
    places = [next(i for i, image in enumerate(known) if np.array_equal(image, one)) for one in drawn]
    assert len(set(places)) == 8
    assert {ax.images[0].get_clim() for ax in figure.inputs(prepared).axes} == {(0.0, 255.0)}


@pytest.mark.parametrize(("kind", "leads"), [("ecg", ["I", "II", "V2"]), ("other", ["x1", "x2", "x3"])])
def test_three_leads_of_signals_are_drawn(kind: str, leads: list[str]) -> None:
    drawn = figure.inputs(inputs(kind))
    assert [[label.get_text() for label in ax.get_yticklabels()] for ax in drawn.axes] == [leads] * 8
    assert {len(ax.lines) for ax in drawn.axes} == {3}


def test_a_dataset_of_few_records_is_drawn() -> None:
    assert len(figure.inputs(inputs("gray", 6)).axes) == 3
    assert len(figure.inputs(inputs("ecg", 2)).axes) == 1


def test_the_figure_is_the_same_each_time_and_names_nobody(ptbxl_prepared, nih_prepared, tmp_path) -> None:
    for folder in (ptbxl_prepared, nih_prepared):
        for name in ("a", "b"):
            arguments = ["--dataset", str(folder), "--output", str(tmp_path / name)]
            done = CliRunner().invoke(main, ["dataset-figures", *arguments])
            assert done.exit_code == 0, done.output
        one, again = ((tmp_path / name / "inputs.svg").read_bytes() for name in ("a", "b"))
        assert one == again
        assert (tmp_path / "a" / "inputs.png").read_bytes() == (tmp_path / "b" / "inputs.png").read_bytes()
        words = set(re.findall(r">([^<>]+)</text>", one.decode()))
        assert words <= {"I", "II", "V2"}
        prepared = open_prepared(folder)
        assert not words & {*prepared.record, *prepared.patient}


def test_pictures_are_on_the_card_and_load_nothing(context, nih_prepared, tmp_path) -> None:
    figure.write_dataset_figures(nih_prepared, tmp_path)
    page = with_card(context, figure=inline_svg(tmp_path / "inputs.svg", "dataset-hospital-inputs"))
    outside = [reference for reference in Page(page).references if not reference.startswith("#")]
    assert len(outside) == 8
    assert all(reference.startswith("data:image/png;base64,") for reference in outside)
    assert "Random audited records" in page
    assert "Random audited records" not in render(context)


def test_only_sources_that_say_so_are_shown(repository) -> None:
    study = yaml.safe_load((repository / "config/imaging.yaml").read_text())
    assert Plan.of(study).shown == ["xray-finding", "xray-view", "ecg"]
    study["datasets"]["ecg"]["show_inputs"] = False
    before, after = Plan.of(study), Plan.of(yaml.safe_load((repository / "config/imaging.yaml").read_text()))
    assert before.shown == ["xray-finding", "xray-view"]
    assert before.source("ecg") == after.source("ecg")  # prepares nothing again
    assert Plan.of(yaml.safe_load((repository / "config/open.yaml").read_text())).shown == []


def test_the_stage_puts_the_figure_on_the_card(tmp_path, monkeypatch, nih_prepared) -> None:
    done = finished()
    results = tmp_path / "results"
    (results / "figures").mkdir(parents=True)
    for folder in done.results.iterdir():
        if folder.name not in {"figures", "provenance"}:
            (results / folder.name).symlink_to(folder)
    for folder in (done.results / "figures").iterdir():
        (results / "figures" / folder.name).symlink_to(folder)
    monkeypatch.setattr("tailrisk.stages.report.shown_datasets", lambda study: ["hospital"])
    arguments = results, done.study.model_dump_json(), tmp_path / "report.html", tmp_path / "headlines.json"
    with pytest.raises(UserError, match=r"figures/datasets/hospital/inputs\.svg is missing"):
        report(*arguments)
    figure.write_dataset_figures(nih_prepared, results / "figures/datasets/hospital")
    report(*arguments)
    assert "Random audited records" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_card_of_a_real_source(nih_prepared, context, tmp_path) -> None:
    for name in ("records.parquet", "groups.parquet", "card.json"):
        (tmp_path / name).symlink_to(nih_prepared / name)
    write_json(
        tmp_path / "duplicates.json", {"threshold": 0.1, "of_one_patient": 0, "identical": COPIES, "near": COPIES}
    )
    spec = source(source="nih_chestxray14", path="data")
    one = cards.load_card("nih", read_json(tmp_path / "card.json"), spec, tmp_path, None)
    page = Page(render(dataclasses.replace(context, cards=[one])))
    assert page.tables["rows-nih"] == [["rows of the source", "1,000"], ["records", "1,000"]]
    assert one.complete.startswith("This is a part of the source")
    assert [row[1:] for row in page.tables["groups-nih"] if row[0] == "view"] == [["PA", "637", "63.7 %", "248"]]
    assert ["2", "49", ""] in page.tables["patients-nih"]  # 49 patients have two images
