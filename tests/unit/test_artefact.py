"""Pseudonyms under which every result stays the same, files compared, and what cannot be packed or built again."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from tailrisk.audit.audit import AuditOptions, run_audit
from tailrisk.cli import main
from tailrisk.config.load import parse
from tailrisk.config.machine import program
from tailrisk.config.plan import Plan
from tailrisk.config.study import Study
from tailrisk.errors import UserError
from tailrisk.provenance import checksum
from tailrisk.stages.artefact import STUDY as STUDY_FILE
from tailrisk.stages.artefact import SUMS, artefact, checked
from tailrisk.stages.checkout import Link, code, digest, untracked
from tailrisk.stages.differences import difference
from tailrisk.stages.packed import is_made, packed, with_ids
from tailrisk.stages.pseudonyms import Pseudonyms
from tailrisk.stages.rebuild import rebuild
from tailrisk.stages.verify import Damage, commands, damaged_results, damaged_store, forgotten, remove
from tailrisk.tables import read_table, write_json, write_table

RECIPE = {"epochs": 1, "batch_size": 8, "learning_rate": 0.1}
RNG = np.random.default_rng(5)
STUDY = {
    "n_models": 8,
    "datasets": {"bc": {"source": "breast_cancer"}, "sim": {"source": "simulated"}},
    "models": {"lr": {"architecture": "logistic"}, "net": {"architecture": "tabular_resnet", "width": 4, "depth": 1}},
    "queries": {"clean": {"kind": "clean"}, "part": {"kind": "redacted", "hidden": ["mean radius"]}},
    "experiments": {
        "size": {"datasets": ["bc", "sim"], "models": ["lr", "net"], "recipe": RECIPE, "queries": "clean"},
        "part": {"datasets": "bc", "models": "lr", "recipe": RECIPE},
        "given": {"confidences": "c.csv", "records": "r.csv", "pairing": "unknown"},
    },
}


def study(**changes) -> Study:
    return parse(Study, STUDY | changes, "study")


@pytest.fixture
def table(tmp_path) -> Path:
    """records.parquet of 40 patients with two records each, whose ids are not in the order of the rows."""
    numbers = RNG.permutation(80)
    records = pd.DataFrame({"record": [f"rec-{n * 37 % 997}" for n in numbers], "split": "audit"})
    records["patient"] = [f"pat{(n // 2) * 61 % 101}" for n in range(80)]
    write_table(tmp_path / "records.parquet", "records", records)
    groups = records[["record"]].assign(unit=RNG.choice(["a", "b", "c"], 80))
    write_table(tmp_path / "groups.parquet", "groups", groups, {"made": "here"})
    return tmp_path


def test_pseudonyms_keep_the_order_and_everything_else(table) -> None:
    names = Pseudonyms(table / "records.parquet")
    for kind in ("records", "groups"):
        (table / "new.parquet").write_bytes(names.replaced(table / f"{kind}.parquet"))
        old, new = (pq.ParquetFile(table / f"{name}.parquet").read() for name in (kind, "new"))
        assert new.schema.equals(old.schema, check_metadata=True)
        for column in old.column_names:
            before, after = (pd.Series(each.column(column).to_pylist()) for each in (old, new))
            if column in {"record", "patient"}:
                assert after.str.fullmatch(r"[rp]\d{2}").all()
                np.testing.assert_array_equal(*(np.unique(each, return_inverse=True)[1] for each in (before, after)))
            else:
                assert before.equals(after)


def test_the_audit_of_pseudonyms_is_the_audit_of_ids_bit_for_bit(table) -> None:
    """Many records are equally at risk, so that the order of ties decides who is in the tail."""
    member = RNG.random((6, 40)) < 0.5
    member = np.stack([side for half in member for side in (half, ~half)]).repeat(2, axis=1)
    confidence = np.round(member + RNG.normal(size=12)[:, None], 1).astype(np.float32)
    (table / "new.parquet").write_bytes(Pseudonyms(table / "records.parquet").replaced(table / "records.parquet"))
    (table / "new_groups.parquet").write_bytes(Pseudonyms(table / "records.parquet").replaced(table / "groups.parquet"))
    options = AuditOptions(flips=99, tail=0.1, permutations=99)
    one, other = (
        run_audit(confidence, member, read_table(table / r, "records"), read_table(table / g, "groups"), options, 1)
        for r, g in (("records.parquet", "groups.parquet"), ("new.parquet", "new_groups.parquet"))
    )
    assert one.summary == other.summary
    assert one.records["auc"].nunique() < 60
    for kind in ("records", "patients", "survival", "aggregate", "subgroups", "models"):
        frames = [getattr(each, kind).drop(columns=["record", "patient"], errors="ignore") for each in (one, other)]
        pd.testing.assert_frame_equal(*frames, check_exact=True)


def test_an_id_that_the_dataset_has_not_is_not_packed_and_not_told(table) -> None:
    records = read_table(table / "records.parquet", "records")
    write_table(table / "groups.parquet", "groups", records[["record"]].replace("rec-0", "secret"))
    with pytest.raises(UserError, match=r"has a record that its dataset has not") as told:
        Pseudonyms(table / "records.parquet").replaced(table / "groups.parquet")
    assert "secret" not in str(told.value)
    (table / "patients.parquet").write_bytes((table / "groups.parquet").read_bytes()[:500])
    with pytest.raises(UserError, match=r"patients\.parquet"):
        Pseudonyms(table / "records.parquet").replaced(table / "patients.parquet")


def test_what_is_packed_of_a_study() -> None:
    plan = Plan(study())
    names = packed(plan)
    assert len(names) == len(set(names))
    made = [name for name in names if is_made(name)]
    given = sorted(set(names) - set(made))
    assert "results/confidences/given/given.parquet" in given
    assert "results/datasets/bc/card.json" in given
    assert "results/compare/access/part.bc.lr.parquet" in made
    assert "results/figures/compare/size.bc.clean/capacity.svg" in made
    assert not [name for name in names if name.endswith(".npy") or "excluded" in name or "duplicates.parquet" in name]
    secret = with_ids(plan)
    assert set(secret) <= set(names)
    assert secret["results/audit/part.bc.lr/part/patients.parquet"] == "results/datasets/bc"
    assert secret["results/audit/given/given/records.parquet"] == "results/given/given"


def test_pictures_of_inputs_are_packed_only_where_the_study_shows_them() -> None:
    for shown in (False, True):
        one = study(
            datasets={"x": {"source": "nih_chestxray14", "path": "nih", "show_inputs": shown}},
            models={"wrn": {"architecture": "wide_resnet", "depth": 10, "width": 1}},
            experiments={"size": {"datasets": "x", "models": "wrn", "recipe": RECIPE}},
            queries={"clean": {"kind": "clean"}},
        )
        assert ("results/figures/datasets/x/inputs.svg" in packed(Plan(one))) == shown
        assert not is_made("results/figures/datasets/x/inputs.svg")


def test_a_study_without_results_is_not_packed(tmp_path, repository) -> None:
    with pytest.raises(UserError, match=r"aggregate\.parquet is missing \(and \d+ more such files\): run the workflow"):
        artefact(study(), tmp_path / "results", repository, tmp_path / "a.tar.gz")
    assert not (tmp_path / "a.tar.gz").exists()


def test_files_that_differ(tmp_path) -> None:
    def frames(**columns) -> float | None:
        frame = pd.DataFrame({"model": 0, "split": "test", "metric": "auroc", "value": [0.5, 0.25, np.nan]})
        write_table(tmp_path / "a.parquet", "performance", frame)
        write_table(tmp_path / "b.parquet", "performance", frame.assign(**columns))
        return difference(tmp_path / "a.parquet", tmp_path / "b.parquet")

    assert frames() is None
    assert frames(value=[0.5, 0.2, np.nan]) == pytest.approx(0.2)
    assert frames(value=[0.5, np.nextafter(0.25, 1), np.nan]) == pytest.approx(2.2e-16, rel=0.01)
    assert frames(value=[0.5, 0.25, 0.1]) == np.inf
    assert frames(metric="auc") == np.inf
    assert frames(split=["test", "test", "audit"]) == np.inf
    assert frames(model=[0, 0, 4]) == 1

    def values(one: object, other: object) -> float | None:
        write_json(tmp_path / "a.json", one)
        write_json(tmp_path / "b.json", other)
        return difference(tmp_path / "a.json", tmp_path / "b.json")

    assert values({"a": [1, "x"]}, {"a": [1, "x"]}) is None
    assert values({"a": [1, 2.0, "x"]}, {"a": [1, 2.5, "x"]}) == pytest.approx(0.2)
    assert values({"a": [1, "x"]}, {"a": [1, "y"]}) == np.inf
    assert values({"a": [1]}, {"a": [1, 2]}) == np.inf
    assert values({"a": 1}, {"b": 1}) == np.inf
    assert values([1], [None]) == np.inf

    page = '<p>{}</p><section id="provenance"><h2>{}</h2></section><footer>'
    for name, text in (("a", page.format("x", 1)), ("b", page.format("x", 2)), ("c", page.format("y", 1))):
        (tmp_path / f"{name}.html").write_text(text)
    assert difference(tmp_path / "a.html", tmp_path / "b.html") is None
    assert difference(tmp_path / "a.html", tmp_path / "c.html") == np.inf
    assert difference(tmp_path / "a.html", tmp_path / "d.html") == np.inf


def test_an_artefact_that_is_not_whole(tmp_path) -> None:
    with pytest.raises(UserError, match="has no SHA256SUMS: name the folder of an unpacked artefact"):
        list(checked(tmp_path))
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    (tmp_path / SUMS).write_text(f"{empty}  x/y\n")
    with pytest.raises(UserError, match="x/y is missing: unpack"):
        list(checked(tmp_path))
    (tmp_path / "x").mkdir()
    (tmp_path / "x/y").write_bytes(b"")
    assert list(checked(tmp_path)) == ["x/y"]
    (tmp_path / "x/y").write_bytes(b"1")
    with pytest.raises(UserError, match="x/y is not what was packed"):
        list(checked(tmp_path))


def test_tables_differ_bit_for_bit(tmp_path) -> None:
    def columns(one: pa.Array, other: pa.Array) -> float | None:
        for name, column in (("a", one), ("b", other)):
            pq.write_table(pa.table({"x": column}), tmp_path / f"{name}.parquet")
        return difference(tmp_path / "a.parquet", tmp_path / "b.parquet")

    null, nan = pa.array([0.5, None]), pa.array([0.5, np.nan])
    assert columns(null, nan) == np.inf
    assert columns(null, null) is None
    assert columns(nan, nan) is None
    large = 2**53
    assert columns(pa.array([large, None]), pa.array([large + 1, None])) == 1 / (large + 1)
    lists = [pa.array(values) for values in ([[0.5, np.nan], []], [[0.5], [np.nan]], [[0.5, np.nan], None])]
    assert columns(lists[0], pa.array([[0.5, np.nan], []])) is None
    assert columns(lists[0], lists[1]) == np.inf
    assert columns(lists[0], lists[2]) == np.inf
    assert columns(lists[0], pa.array([[0.25, np.nan], []])) == 0.5


def test_an_artefact_that_lists_no_results_is_not_rebuilt(tmp_path) -> None:
    (tmp_path / STUDY_FILE).write_text(yaml.safe_dump(STUDY))
    (tmp_path / SUMS).write_text(f"{checksum(tmp_path / STUDY_FILE)}  {STUDY_FILE}\n")
    with pytest.raises(UserError, match=r"SHA256SUMS does not list results/\S+ and \d+ more: this is not the whole"):
        list(rebuild(tmp_path, tmp_path / "rebuilt", 1))


@pytest.fixture
def results(tmp_path) -> Path:
    """A folder with two results that provenance lists, and the provenance of their report."""
    folder = tmp_path / "results"
    kept(folder, "audit/given/given", "audit/given/given/summary.json")
    kept(folder, "report", "report.html", "headlines.json", study=json.loads(study().model_dump_json()))
    return folder


def kept(results: Path, record: str, *names: str, **parameters: object) -> Path:
    """Write results and the provenance that lists them; return the latter."""
    outputs = {}
    for name in names:
        path = results / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        outputs[f"results/{name}"] = {"bytes": len(name), "sha256": checksum(path)}
    path = results / "provenance" / f"{record}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"parameters": parameters, "outputs": outputs})
    return path


def test_results_without_provenance_are_named_and_stay(results) -> None:
    assert damaged_results(results) == ([], 3)
    (results / "provenance/audit/given/given.json").unlink()
    found, compared = damaged_results(results)
    assert compared == 2
    (damage,) = found
    assert damage.path == results / "audit/given/given/summary.json"
    assert "no provenance lists it" in damage.reason
    remove(found)
    assert damage.path.exists()
    told = CliRunner().invoke(main, ["verify", "--results", str(results), "--remove"])
    assert told.exit_code == 1
    assert "every result is as it was written" not in told.output
    assert "2 results were compared" in told.output
    assert "1 unchecked file" in told.output


def test_a_finished_model_without_answers_is_named(tmp_path) -> None:
    for model, status in enumerate(["done", "failed", "done", "done"]):
        (tmp_path / f"store/x/{model}").mkdir(parents=True)
        (tmp_path / f"store/x/{model}/performance.json").write_text(json.dumps({"status": status}))
    pq.write_table(pa.table({"row": [1]}), tmp_path / "store/x/2/y.parquet", write_page_checksum=True)
    torch_like(tmp_path / "store/x/3/weights.pt")
    (damage,), read = damaged_store(tmp_path / "store")
    assert damage.path == tmp_path / "store/x/0/performance.json"
    assert "no answers are left" in damage.reason
    assert read == 6


def torch_like(path: Path) -> None:
    """A sound archive, as torch writes weights."""
    shutil.make_archive(str(path), "zip", root_dir=path.parent, base_dir="performance.json")
    path.with_name(f"{path.name}.zip").rename(path)


def test_nothing_is_removed_during_a_run(results) -> None:
    locks = results.parent / ".snakemake/locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").write_text("")
    path = results / "report.html"
    path.write_text("half")
    told = CliRunner().invoke(main, ["verify", "--results", str(results), "--remove"])
    assert told.exit_code == 1
    assert "a run of Snakemake is writing these results" in told.output
    assert path.exists()
    told = CliRunner().invoke(main, ["verify", "--results", str(results)])
    assert told.output.startswith("warning: a run of Snakemake")
    assert "report.html is truncated" in told.output


def test_damaged_provenance_is_told(results) -> None:
    path = results / "provenance/a.json"
    path.write_text('{"outputs": {"results/x": ')
    ((damage,), _) = damaged_results(results)
    assert damage.path == path
    assert damage.target is None
    gone = Damage(results / "audit/x y", "is missing", "results/audit/x y")
    (results / "provenance/report.json").unlink()
    assert commands([damage, gone], results) == [
        f"rm {path}",
        f"{program('snakemake')} --directory {results.parent} 'results/audit/x y'",
    ]
    remove([damage, gone])
    assert not path.exists()


def test_provenance_of_earlier_versions_is_named_and_not_packed(results) -> None:
    from tailrisk.stages.artefact import _provenance

    old = [results / f"provenance/train/size.bc.lr/{chunk}.json" for chunk in ("0-3", "4-7")]
    for path in old:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"target_models": []})
    kept(results, "train/size.sim.lr/0-7", "targets/size.sim.lr/0-7.parquet")
    kept(results, "audit/past/clean", "audit/past/clean/summary.json")
    found, _ = damaged_results(results)
    assert {damage.path: damage.reason for damage in found if damage.target is None} == dict.fromkeys(
        old, "is of an earlier version, which listed no files"
    )
    assert commands(found, results) == [f"rm {old[0]} {old[1]}"]
    assert set(_provenance(Plan(study(chunk_size=8)), results)) == {
        "results/provenance/train/size.sim.lr/0-7.json",
        "results/provenance/audit/given/given.json",
        "results/provenance/report.json",
    }


def test_what_the_study_no_longer_has_is_not_asked_of_snakemake(results) -> None:
    past = kept(results, "audit/old.bc.lr/clean", "audit/old.bc.lr/clean/summary.json")
    (results / "audit/old.bc.lr/clean/summary.json").unlink()
    (results / "report.html").unlink()
    found, _ = damaged_results(results)
    assert len(found) == 2
    assert commands(found, results) == [f"{program('snakemake')} --directory {results.parent} results/report.html"]
    assert forgotten(found, results) == f"rm {past}"


def test_damaged_results_and_those_of_another_study_are_not_packed(results, repository, tmp_path) -> None:
    names = [name.removeprefix("results/") for name in packed(Plan(study()))]
    kept(results, "all", *names)
    kept(results, "report", "report.html", "headlines.json", study=json.loads(study().model_dump_json()))
    with pytest.raises(UserError, match=r"report\.html is of another configuration: run the workflow"):
        artefact(study(seed=9), results, repository, tmp_path / "a.tar.gz")
    table = results / "audit/given/given/patients.parquet"
    table.write_text(table.name)
    with pytest.raises(UserError, match=r"patients\.parquet is truncated: \d+ of \d+ bytes are left: run the workflow"):
        artefact(study(), results, repository, tmp_path / "a.tar.gz")
    assert not (tmp_path / "a.tar.gz").exists()


def test_only_tracked_code_is_packed_wherever_it_lies(tmp_path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    (one / "docs").mkdir(parents=True)
    for name in ("Snakefile", "docs/a.md", "docs/patients_to_exclude.csv"):
        (one / name).write_text(name)
    (one / "local").symlink_to("docs")
    (one / "docs/far").symlink_to(tmp_path)
    (one / "docs/out").symlink_to("../../secret")
    for words in (["init", "-q"], ["add", "Snakefile", "local", "docs/a.md", "docs/far", "docs/out"]):
        subprocess.run(["git", "-C", str(one), *words], check=True)
    expected = {"Snakefile": one / "Snakefile", "docs/a.md": one / "docs/a.md", "local": Link("docs")}
    assert code(one) == expected
    assert untracked(one) == 1
    shutil.copytree(one, other, symlinks=True)
    assert digest(one) == digest(other)
    (other / "docs/a.md").write_text("docs/b.md")
    assert digest(one) != digest(other)


def test_the_code_of_ones_own_model_is_packed_where_the_study_names_it(tmp_path) -> None:
    from tailrisk.stages.artefact import _study

    (tmp_path / "nets/deep").mkdir(parents=True)
    for name in ("nets/small.py", "nets/deep/__init__.py", "beside.py", "other/unused.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("def network(): ...\n")
    models = {"own": {"architecture": "custom", "function": "nets.small:network", "path": str(tmp_path)}}
    entry = {"mine": {"datasets": "bc", "models": "own", "recipe": RECIPE, "queries": "clean"}}
    contents = _study(study(models=models, experiments=entry))
    assert set(contents) == {
        "models/own/nets/small.py",
        "models/own/nets/deep/__init__.py",
        "models/own/beside.py",
        "study.yaml",
    }
    text = contents["study.yaml"]
    assert isinstance(text, bytes)
    assert str(tmp_path) not in text.decode()
