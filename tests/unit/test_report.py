"""The report: right numbers, no patient, nothing loaded from elsewhere."""

import dataclasses
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from audited_study import CAPACITIES, changed, finished, patient_ids
from click.testing import CliRunner

from tailrisk.cli import main
from tailrisk.errors import UserError
from tailrisk.report.context import inline_svg
from tailrisk.report.page import render, write_report
from tailrisk.report.text import count, expected, number, plural, share, signed_percent
from tailrisk.tables import read_json, read_table

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Checks nesting and collects ids, references and table cells."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.stack: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.open_details = 0
        self.tables: dict[str | None, list[list[str]]] = {}
        self._table: str | None = None
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in VOID:
            self.stack.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.references += [v for name, v in attrs if name in ("href", "xlink:href", "src", "srcset", "action") and v]
        self.open_details += tag == "details" and "open" in given
        if tag == "table":
            self._table = given.get("id")
            self.tables.setdefault(self._table, [])
        elif tag == "tr":
            self.tables[self._table].append([])
        elif tag in ("td", "th") and self._table is not None:
            self.tables[self._table][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.stack, f"</{tag}> closes nothing"
        assert self.stack.pop() == tag
        if tag == "table":
            self._table = None

    def handle_data(self, data: str) -> None:
        if self._table is not None and ("td" in self.stack[-3:] or "th" in self.stack[-3:]):
            self.tables[self._table][-1][-1] += data


@pytest.fixture(scope="module")
def context():
    return finished().context(Configuration="seed: 1\ntitle: <b>", Versions={"numpy": "2", "hardware": ["a & b"]})


@pytest.fixture(scope="module")
def page(context) -> str:
    return render(context)


def test_page_is_well_formed_with_unique_ids_and_living_links(page: str) -> None:
    parsed = Page(page)
    assert [name for name, times in Counter(parsed.ids).items() if times > 1] == []
    inner = [reference[1:] for reference in parsed.references if reference.startswith("#")]
    assert inner
    assert set(inner) <= set(parsed.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(parsed.ids)


def test_page_loads_nothing_from_elsewhere(page: str) -> None:
    assert all(reference.startswith("#") for reference in Page(page).references)
    assert not re.search(r"url\((?!#)|@import|<script|<link|<iframe", page)
    namespaces = ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink")
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) <= set(namespaces)


def test_no_patient_is_named(context, tmp_path: Path) -> None:
    write_report(context, tmp_path / "report.html", tmp_path / "headlines.json")
    known = read_table(finished().files["main.hospital.wide"].audit / "patients.parquet", "audit_patients")["patient"]
    assert set(known) == set(patient_ids(300))
    for file in ("report.html", "headlines.json"):
        assert "secret-" not in (tmp_path / file).read_text(encoding="utf-8")
    assert json.loads((tmp_path / "headlines.json").read_text(encoding="utf-8")) == context.headlines


def test_summary_table_equals_the_summaries(page: str) -> None:
    rows = Page(page).tables["summary-table"][2:]
    assert len(rows) == len(CAPACITIES)
    for cells, (name, files) in zip(rows, finished().files.items(), strict=True):
        summary = read_json(files.audit / "summary.json")
        values = read_table(files.performance, "performance").query("split == 'test'")["value"]
        attack = summary["aggregate"]["lira_online"]
        assert cells[0].startswith(name.rsplit(".", 1)[1])
        assert cells[1:5] == [f"{values.mean():.3f}", str(summary["patients"]), f"{attack['auc']:.3f}",
                              share(attack["tpr"]["0.001"]["mean"])]  # fmt: skip
        counted = [row for row in summary["thresholds"] if row["auc"] in (0.8, 0.9, 0.95)]
        assert cells[5:] == [
            text
            for row in counted
            for text in (str(row["patients"]), expected(row["expected_by_chance"]), str(row["vulnerable"]),
                         str(row["certain"]))
        ]  # fmt: skip


def test_every_group_and_its_numbers_are_on_the_page(page: str) -> None:
    text = page.replace("−", "-")
    for row in finished().context().views[2].audit.subgroups.to_dict("records"):
        if (row["unit"], row["within"]) != ("record", ""):
            continue
        name = row["group"].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        pattern = rf"{name}</td><td>{row['n']:,}</td><td>{share(row['share'])}</td><td>{row['tail_n']:,}</td>"
        for column in ("tail_expected", "tail_expected_clustered"):
            star = r" \*" if row[column] < 5 else ""
            pattern += rf"<td>{expected(row[column])}{star}</td>"
        assert re.search(pattern, text), row["group"]


def rendered(context, **summary: object) -> str:
    """The page with values of the first experiment's summary replaced."""
    view = context.views[0]
    views = [dataclasses.replace(view, audit=changed(view.audit, summary=summary)), *context.views[1:]]
    return render(dataclasses.replace(context, views=views))


def test_only_small_cells_are_marked_as_such(context) -> None:
    view = context.views[2]
    counts = view.audit.tests("record", "").assign(tail_expected=5.0, tail_expected_clustered=[4.9, *[5.0] * 4])
    audit = dataclasses.replace(view.audit, subgroups=counts)
    page = render(dataclasses.replace(context, views=[dataclasses.replace(view, audit=audit)]))
    assert page.count("<td>5.0</td>") == 9
    assert page.count("<td>4.9 *</td>") == 1
    assert "* Fewer than 5 expected" in page


def test_patients_who_cannot_move_are_counted(context, page: str) -> None:
    assert "that nobody else has" not in page
    assert "(diagnosis: 3)" in rendered(context, subgroups_alone={"diagnosis": 3, "sex": 0})


def test_rates_that_cannot_be_resolved_are_a_dash(context, page: str) -> None:
    assert [row[4] for row in Page(page).tables["summary-table"][2:]] == ["–"] * 3  # about 300 non-members
    assert "fewer than 1,000 non-members" in page
    attack = context.views[0].audit.summary["aggregate"]["lira_online"]
    enough = attack | {"tpr": attack["tpr"] | {"0.001": {"mean": 0.25, "sd": 0.1}}}
    assert Page(rendered(context, aggregate={"lira_online": enough})).tables["summary-table"][2][4] == "25 %"
    none = Page(rendered(context, aggregate={"lira_online": {"available": False, "reason": "too few models"}}))
    assert none.tables["summary-table"][2][3:5] == ["–", "–"]


def test_the_largest_auc_under_no_leakage_is_named_only_where_it_can_be(context, page: str) -> None:
    assert page.count("under no leakage") == 3
    assert rendered(context, familywise_auc=None).count("under no leakage") == 2


def test_negative_controls_are_said_to_be_counted_only_where_there_are_any(context, page: str) -> None:
    assert "include the negative controls" not in page
    cards = {"hospital": context.datasets["hospital"] | {"controls": 40}}
    controlled = render(dataclasses.replace(context, datasets=cards))
    assert "Counts and shares on this page include the negative controls (40 in Hospital &amp; clinic)." in controlled


def test_counts_by_rank_auc_stand_in_the_details(context, page: str) -> None:
    assert page.count('<th scope="col">By rank AUC</th>') == 3
    for view in context.views:
        for row in view.audit.summary["thresholds"]:
            counts = [f"{row[name]:,}" for name in ("vulnerable", "certain", "debiased")]
            counts += [expected(row["debiased_curve"]).replace("<", "&lt;")]
            counts += [f"{row[name]:,}" for name in ("by_rank", "joint", "joint_vulnerable")]
            assert f"<td>{'</td><td>'.join(counts)}</td></tr>" in page
    assert "<td>777</td>" in rendered(context, thresholds=[
        row | {"by_rank": 777} for row in context.views[0].audit.summary["thresholds"]
    ])  # fmt: skip


def test_access_tables_equal_those_on_disk(context, page: str) -> None:
    tables = Page(page).tables
    for comparison, (name, files) in zip(context.access, finished().access.items(), strict=True):
        table = read_table(files.table, "access")
        full, part = tables[f"access-{name}"][2:]
        for cells, query in ((full, "clean"), (part, "arrival")):
            rows = table[(table["query"] == query) & table["threshold"].isin([0.8, 0.9, 0.95])]
            first = query == "clean"
            assert cells[0].endswith(f"query {query}")
            assert cells[1:4] == ["300", number(rows["aggregate_auc"].iloc[0]),
                                  "–" if first else number(rows["rank_correlation"].iloc[0], 2)]  # fmt: skip
            assert cells[4:] == [
                text
                for row in rows.to_dict("records")
                for text in (str(row["vulnerable"]), "–" if first else str(row["still_vulnerable"]),
                             "–" if first else str(row["newly_vulnerable"]))
            ]  # fmt: skip
        assert full[0].startswith("the whole record")
        assert part[0].startswith("only age and pulse, the rest filled with another patient's values")
        assert f"<li>{comparison.sentences[0].replace(chr(39), '&#39;')}</li>" in page
    assert [comparison.open for comparison in context.access] == [False, False, True]  # that of the headline


def test_no_word_of_access_where_nothing_is_compared(context, page: str) -> None:
    assert "What the attacker knows" in page
    assert "What the attacker knows" not in render(dataclasses.replace(context, access=[]))


def test_details_name_the_query_of_each_experiment(page: str) -> None:
    assert page.count("Asked with the whole record (query clean).") == 3


def test_the_stage_finds_everything_and_keeps_the_order_of_the_configuration(tmp_path: Path) -> None:
    study = finished()
    assert sorted(study.study.queries) != list(study.study.queries)
    arguments = ["--page", str(tmp_path / "report.html"), "--headlines", str(tmp_path / "headlines.json")]
    done = CliRunner().invoke(
        main, ["report", "--results", str(study.results), "--study", study.study.model_dump_json(), *arguments]
    )
    assert done.exit_code == 0, done.output
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("Asked with the whole record (query clean).") == 3
    tables = Page(page).tables
    assert [list(tables)[i] for i in (0, 1)] == ["summary-table", None]
    compared = [name for name in tables if name and name.startswith("access-")]
    assert compared == [f"access-{name}" for name in study.files]


def test_texts_are_escaped(page: str) -> None:
    assert "<h1>Audit of the &lt;test&gt; hospital</h1>" in page
    assert "title: &lt;b&gt;" in page
    assert "<test>" not in page


def test_rendering_twice_gives_the_same_page(context, page: str) -> None:
    assert render(context) == page


def test_only_the_most_exposed_experiment_is_unfolded_among_many(context) -> None:
    wide = context.views[2]
    run = wide.audit.experiment
    others = [
        dataclasses.replace(
            wide,
            open=False,
            audit=changed(wide.audit, experiment=dataclasses.replace(run, name=f"e{i}.hospital.wide")),
            figures={name: svg.replace("main-hospital-wide", f"e{i}") for name, svg in wide.figures.items()},
        )
        for i in range(59)
    ]  # fmt: skip
    many = render(dataclasses.replace(context, views=[wide, *others], access=[]))
    parsed = Page(many)
    assert parsed.open_details == 1
    assert len(parsed.tables["summary-table"]) == 62
    assert len(set(parsed.ids)) == len(parsed.ids)
    assert many.index('id="summary-table"') < many.index('class="experiment"')
    assert len(many) < 20_000_000


def test_a_missing_figure_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"figure .*gone\.svg is missing"):
        inline_svg(tmp_path / "gone.svg", "x")


def test_numbers_for_people() -> None:
    assert [expected(v) for v in (0.0, 0.04, 0.2, 1234.56, None)] == ["< 0.1", "< 0.1", "0.2", "1,234.6", "–"]
    assert [count(v) for v in (0, 71518, None)] == ["0", "71,518", "–"]
    assert [number(v) for v in (0.12345, -2.0, float("nan"), None)] == ["0.123", "−2.000", "–", "–"]
    assert [signed_percent(v) for v in (1.12, -0.08, None)] == ["+112 %", "−8 %", "–"]
    assert [plural(n, "patient") for n in (0, 1, 1200)] == ["no patient", "1 patient", "1,200 patients"]
