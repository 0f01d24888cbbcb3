"""`tailrisk check`: all that a study lacks is said at once, in sentences, before anything is prepared or trained."""

import gzip
import hashlib
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image
from real_sources import source

from tailrisk.cli import main
from tailrisk.config.sources import AnySource, Source
from tailrisk.datasets import nih_chestxray14
from tailrisk.datasets import own_images as own_images_module
from tailrisk.datasets.contract import Files
from tailrisk.datasets.needs import Need, either, missing_files, unmet
from tailrisk.datasets.own_images import read as own_images_read
from tailrisk.datasets.prepare import prepare
from tailrisk.stages import check
from tailrisk.stages.check import _beyond, _needs

RECIPE = {"epochs": 1, "batch_size": 32, "learning_rate": 0.1}
SOURCES = [model.model_fields["source"].annotation for model in get_args(get_args(AnySource)[0])]
NAMES = [get_args(annotation)[0] for annotation in SOURCES]
NEEDED_OPTIONS: dict[str, dict[str, Any]] = {
    "mimic_iv_ed": {"mimic_iv": "mimic"},
    "fitzpatrick17k": {"images": "pictures"},
    "table": {"path": "data/own.csv", "patient": "p", "label": "y", "numeric": ["x"]},
    "images": {"path": "data/own.csv", "patient": "p", "label": "y", "file": "f"},
    "signals": {"path": "data/own.csv", "patient": "p", "label": "y", "file": "f", "leads": ["I"], "samples": 10},
}
"""Options of the sources beside `path`, which is `data` where nothing else is said."""


def spec_of(name: str) -> Source:
    """A source with its required options only."""
    options = {} if name in {"breast_cancer", "simulated"} else {"path": "data"}
    return source(source=name, **{**options, **NEEDED_OPTIONS.get(name, {})})


def run(datasets: dict[str, dict[str, Any]], **more: Any) -> Result:
    """`tailrisk check` of a study of these datasets, in the current folder."""
    study = {
        "n_models": 4,
        "chunk_size": 2,
        "datasets": datasets,
        "models": {"lr": {"architecture": "logistic"}},
        "experiments": {"e": {"datasets": list(datasets), "models": "lr", "recipe": RECIPE}},
    }
    Path("study.yaml").write_text(yaml.safe_dump({**study, **more}, sort_keys=False))
    return CliRunner().invoke(main, ["check", "study.yaml"])


def faults(result: Result) -> list[str]:
    """The lines about faults, of a command that ends with one sentence and status 1."""
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    *lines, last = result.stderr.splitlines()
    n = sum(": to get the data: " not in line for line in lines)
    counted = "the fault above" if n == 1 else f"the {n} faults above"
    assert last == f"Error: study.yaml cannot run as it is: mend {counted}"
    return lines


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def own_table(path: Path, patients: int = 80) -> dict[str, Any]:
    """A table of one's own, and the options of its source."""
    numbers = np.arange(patients)
    frame = pd.DataFrame({"pid": [f"p{n}" for n in numbers], "age": numbers % 37, "sick": numbers % 2, "unit": "a"})
    frame["lactate"] = numbers % 7
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False)
    return {"source": "table", "path": str(path), "patient": "pid", "label": "sick", "numeric": ["age", "lactate"]}


def own_images(folder: Path, patients: int = 100) -> dict[str, Any]:
    """A manifest and its images, and the options of its source."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(patients):
        Image.fromarray(random.integers(0, 256, (12, 12), dtype=np.uint8)).save(folder / f"{number}.png")
    frame = pd.DataFrame({"pid": range(patients), "file": [f"{n}.png" for n in range(patients)]})
    frame.assign(sick=frame["pid"] % 2).to_csv(folder / "list.csv", index=False)
    options = {"source": "images", "path": str(folder / "list.csv"), "patient": "pid", "file": "file", "label": "sick"}
    return options | {"size": 8}


def test_a_study_that_lacks_nothing_is_described(folder):
    done = run({"own": own_table(folder / "own.csv"), "bc": {"source": "breast_cancer"}})
    assert done.exit_code == 0
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "e.own.lr: 4 target models in 2 training jobs",
        "e.bc.lr: 4 target models in 2 training jobs",
        "own: 80 records of 80 patients",
        "bc: 569 records of 569 patients",
    ]
    assert sorted(path.name for path in folder.iterdir()) == ["own.csv", "study.yaml"]  # nothing is written


def test_everything_that_is_missing_is_said_at_once_by_dataset(folder):
    own = own_table(Path("own.csv"))
    pd.read_csv("own.csv").rename(columns={"age": "Age", "sick": "outcome"}).to_csv("own.csv", index=False)
    done = run(
        {
            "cxr": {"source": "mimic_cxr", "path": "data/cxr", "mimic_iv": "data/mimiciv"},
            "own": own,
            "bc": {"source": "breast_cancer"},
            "ecg": {"source": "ptbxl", "path": "data/ecg"},
        }
    )
    lines = faults(done)
    assert [line.partition(": to get the data: ")[0] for line in lines] == [
        "cxr: data/cxr does not exist",
        "cxr: data/mimiciv does not exist",
        "cxr",
        "own: own.csv has no column 'sick'; it has pid, Age, outcome, unit, lactate ...",
        "own: own.csv has no column 'age'; did you mean 'Age'?",
        "ecg: data/ecg does not exist",
        "ecg",
    ]
    assert "https://physionet.org/content/mimic-cxr-jpg" in lines[2]
    assert "https://physionet.org/content/ptb-xl" in lines[6]
    assert "bc: 569 records of 569 patients" in done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_every_source_says_what_it_needs(folder, name):
    spec = spec_of(name)
    options = spec.model_dump(mode="json", exclude_unset=True)
    if name in {"breast_cancer", "simulated"}:
        assert run({"d": options}).exit_code == 0
        return
    lines = faults(run({"d": options}))
    roots = {options["path"], *(options[key] for key in ("mimic_iv", "images") if key in options)}
    if name in {"images", "signals"}:
        roots = {"data"}  # of the table and, where nothing else is said, of the files
    told = [f"d: {root} does not exist" for root in roots]
    told += [f"d: to get the data: {spec.access}"] if name not in {"table", "images", "signals"} else []
    assert sorted(lines) == sorted(told)


def test_every_source_is_documented(repository):
    table = (repository / "docs/datasets.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"`{name}`" not in table] == []


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"breast_cancer", "simulated", "diabetes130"}))
def test_columns_that_are_missing_and_empty_tables_are_said_of_every_source(folder, name):
    spec = spec_of(name)
    options = spec.model_dump(mode="json", exclude_unset=True)
    for root in (options["path"], options.get("mimic_iv"), options.get("images")):
        if root and not Path(root).suffix:
            Path(root).mkdir(parents=True, exist_ok=True)
    # What a source needs may depend on what is there: folders first, then tables.
    for need in _needs(spec):
        if not need.columns:
            need.path.mkdir(parents=True, exist_ok=True)
    tables: dict[Path, list[str]] = {}
    for need in _needs(spec):
        if need.columns:
            tables.setdefault(need.path, []).extend(need.columns)
    for path, columns in tables.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_header(path, [f"{column}s" if column == columns[1] else column for column in columns])
    lines = faults(run({"d": options}))
    assert lines == [
        f"d: {path} has no column '{columns[1]}'; did you mean '{columns[1]}s'?" for path, columns in tables.items()
    ]
    for path, columns in tables.items():
        write_header(path, list(dict.fromkeys(columns)))
    (line,) = faults(run({"d": options}))
    assert "a fault of this program" not in line
    assert any(path.name in line for path in tables)


def write_header(path: Path, columns: list[str]) -> None:
    """A table without rows."""
    text = ",".join(columns) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


def test_the_first_fault_of_what_a_table_holds_is_said(folder):
    own = own_table(folder / "own.csv")
    frame = pd.read_csv("own.csv").astype(object)
    frame.loc[4, "age"] = "old"
    frame.to_csv("own.csv", index=False)
    (line,) = faults(run({"own": own}))
    assert "column 'age'" in line
    assert "old" not in line.replace("old:", "")


def test_a_class_without_test_patients_is_said(folder):
    own = own_table(folder / "own.csv")
    frame = pd.read_csv("own.csv")
    frame.assign(sick=(frame.index == 0).astype(int)).to_csv("own.csv", index=False)
    (line,) = faults(run({"own": own}))
    assert "class '" in line
    assert "are needed" in line


def test_missing_files_are_faults_beyond_the_share_that_may_be(folder):
    images = own_images(Path("pictures"))
    for number in range(2):
        (folder / "pictures" / f"{10 * number}.png").unlink()
    (line,) = faults(run({"x": images}))
    sentence = "x: 2 of the 100 images that were looked for (of 100) are missing, such as pictures/0.png; "
    assert line == f"{sentence}`max_quarantined` allows the share 0.01"
    done = run({"x": images | {"max_quarantined": 0.02}})
    assert done.exit_code == 0
    assert sentence in done.stdout
    assert "x: 100 records of 100 patients" in done.stdout


def test_a_sample_is_a_fault_where_chance_hardly_explains_it():
    # Of 200 files, 2 are wrong on average where 1 % of all are; the chance of 6 or more is 1.6 %, of 7 or more 0.4 %.
    assert not _beyond(6, 200, 100_000, 0.01)
    assert _beyond(7, 200, 100_000, 0.01)
    assert _beyond(1, 200, 100_000, 0.0)
    assert not _beyond(2, 200, 200, 0.01)
    assert _beyond(3, 200, 200, 0.01)


def test_files_that_cannot_be_decoded_are_faults(folder):
    images = own_images(folder / "pictures")
    for path in (folder / "pictures").glob("*.png"):
        path.write_text("version https://git-lfs.github.com/spec/v1")
    (line,) = faults(run({"x": images}))
    assert "x: 8 of the 8 images that were decoded cannot be used, such as " in line
    assert "0.png: " in line


def test_names_in_redacted_queries_are_looked_up(folder):
    queries = {
        "clean": {"kind": "clean"},
        "part": {"kind": "redacted", "known": ["aeg", "lactate", "pulse"]},
        "none": {"kind": "redacted", "hidden": ["lactate", "age"]},
        "good": {"kind": "redacted", "known": ["age"]},
        "unasked": {"kind": "redacted", "known": ["nothing"]},
    }
    asked = {"datasets": "own", "models": "lr", "recipe": RECIPE, "queries": ["clean", "part", "none", "good"]}
    done = run({"own": own_table(folder / "own.csv")}, queries=queries, experiments={"e": asked})
    assert faults(done) == [
        "own: queries.part.known: the records have no feature 'aeg'; did you mean 'age'?",
        "own: queries.part.known: the records have no feature 'pulse'; known: age, lactate",
        "own: queries.none.hidden: the attacker would have nothing of a record: hide less of it",
    ]


def test_datasets_that_differ_in_size_are_read_once_and_told_together(folder, monkeypatch):
    images, read = own_images(Path("pictures")), []
    monkeypatch.setattr(own_images_module, "read", lambda spec: read.append(spec.size) or own_images_read(spec))
    queries = {"clean": {"kind": "clean"}, "edge": {"kind": "redacted", "known_region": [0, 0, 0.04, 1]}}
    done = run({"small": images, "large": images | {"size": 16}, "other": images | {"colour": True}}, queries=queries)
    assert read == [8, 8]
    # Of 8 lines of pixels 4 % are none; of 16 they are one.
    assert faults(done) == [
        "small: queries.edge.known_region: the attacker would have nothing of a record: hide less of it",
        "other: queries.edge.known_region: the attacker would have nothing of a record: hide less of it",
    ]
    (folder / "pictures/list.csv").unlink()
    assert faults(run({"small": images, "large": images | {"size": 16}})) == [
        "small, large: pictures/list.csv does not exist"
    ]


def test_many_sources_are_read_side_by_side_to_the_same_lines(folder, monkeypatch):
    datasets = {"own": own_table(Path("own.csv")), "x": own_images(Path("pictures")), "gone": {"source": "ptbxl"}}
    datasets["gone"]["path"] = "gone"
    alone = run(datasets)
    monkeypatch.setattr(check, "LARGE", 1)
    monkeypatch.setattr(check.os, "cpu_count", lambda: 2)
    together = run(datasets)
    assert (together.stdout, together.stderr) == (alone.stdout, alone.stderr)
    assert "x: 100 records of 100 patients" in together.stdout
    assert faults(together)[0] == "gone: gone does not exist"


def test_weights_of_transformers_are_looked_for(folder):
    wrong = hashlib.sha256(b"other").hexdigest()
    Path("there.safetensors").write_bytes(b"weights")
    vit = {"architecture": "vit", "sha256": wrong}
    models = {
        "gone": vit | {"weights": "gone.safetensors"},
        "other": vit | {"weights": "there.safetensors"},
        "right": vit | {"weights": "there.safetensors", "sha256": hashlib.sha256(b"weights").hexdigest()},
    }
    entry = {"datasets": "x", "models": list(models), "recipe": RECIPE}
    done = run({"x": own_images(folder / "pictures")}, models=models, experiments={"e": entry})
    assert faults(done) == [
        "models.gone: the file of pretrained weights gone.safetensors does not exist: put it there",
        "models.other: the file of pretrained weights there.safetensors does not have the SHA-256 that `sha256` "
        "states: it is damaged or not the one meant",
    ]


def test_given_tables_are_looked_for(folder):
    Path("c.csv").write_text("")
    entry = {"confidences": "c.csv", "records": "r.csv", "groups": "g.csv", "pairing": "unknown"}
    lines = faults(run({}, experiments={"mine": entry}))
    assert lines == [
        f"experiments.mine: {name} does not exist (paths start from {folder})" for name in ("r.csv", "g.csv")
    ]


def test_sources_that_changed_since_they_were_prepared_are_said(folder):
    own = own_table(folder / "own.csv")
    prepare("own", source(**own), folder / "results/datasets/own")
    assert run({"own": own}).exit_code == 0
    own_table(folder / "own.csv", patients=90)
    (line,) = faults(run({"own": own}))
    assert line == (
        "own: the source of 'own' has changed since results/datasets/own was prepared: remove "
        "results/datasets/own/card.json, and the next run prepares it again"
    )
    assert run({"own": own | {"test": 0.2}}).exit_code == 0  # which the workflow prepares again by itself


def test_a_fault_of_a_reader_is_told_by_place_and_hides_no_other(folder, monkeypatch):
    def read(spec):
        raise KeyError("a patient's row")

    monkeypatch.setattr(nih_chestxray14, "read", read)
    monkeypatch.setattr(nih_chestxray14, "needs", lambda spec: [])
    done = run({"nih": {"source": "nih_chestxray14", "path": "data"}, "ecg": {"source": "ptbxl", "path": "ecg"}})
    lines = faults(done)
    assert lines[0].startswith("nih: a fault of this program, KeyError in line ")
    assert lines[0].endswith(" of test_check.py: please report it")
    assert lines[1] == "ecg: ecg does not exist"


def test_an_invalid_configuration_is_one_sentence(folder):
    done = run({"own": {"source": "tabel"}})
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        "Error: study.yaml: datasets.own: unknown source 'tabel'; did you mean 'table'?"
    ]


def test_tables_that_cannot_be_read_are_told_apart_from_missing_ones(folder):
    Path("cut.csv.gz").write_bytes(gzip.compress(b"a,b\n" * 1000)[:40])
    Path("not.xlsx").write_bytes(b"no workbook")
    Path("empty.csv").write_text("")
    Path("good.csv").write_text("\ufeffa,,b\n1,2,3\n")
    pd.DataFrame({"a": [1], "b": [2]}).to_excel("good.xlsx", index=False)
    pd.DataFrame({"a": [1]}).to_parquet("good.parquet")
    every = [Need(Path(name), ("a",)) for name in ("cut.csv.gz", "not.xlsx", "empty.csv", "gone/a.csv", "gone")]
    told = list(unmet(every))
    assert [line.partition(" (")[0] for line in told] == [
        "cut.csv.gz is not a readable table",
        "not.xlsx is not a readable table",
        "empty.csv is not a readable table",
        "gone does not exist",
    ]
    assert all("\n" not in line for line in told)
    columns = ("a", "", "b")
    assert list(unmet([Need(Path("good.csv"), columns), Need(Path("good.xlsx"), ("b",))])) == []
    assert list(unmet([Need(Path("good.parquet"), ("a", "c"))])) == ["good.parquet has no column 'c'; it has a ..."]


def test_the_compressed_form_of_a_table_is_found(folder):
    assert either(folder, "t.csv", "t.csv.gz") == folder / "t.csv"
    (folder / "t.csv.gz").write_bytes(b"")
    assert either(folder, "t.csv", "t.csv.gz") == folder / "t.csv.gz"


def test_files_are_sampled_over_all_records(folder):
    paths = [folder / str(number) for number in range(1990)]
    for path in paths[:1000]:
        path.touch()
    files = Files(paths, lambda path: np.zeros(1), (1,), np.uint8, "images")
    # 200 of 1,990, from the first to the last: of every ten about one.
    assert missing_files(files) == (200, 99, folder / "1009")


def test_tables_as_hospitals_export_them_get_the_right_advice(folder):
    Path("semicolons.csv").write_text("pid;sick\na;1\n")
    Path("latin.csv").write_bytes("pid,gef\xfchl\na,1\n".encode("latin-1"))
    pd.DataFrame({"pid": ["a"], "sick": [1]}).to_excel("workbook.xlsx", index=False)
    Path("workbook.xlsx").rename("workbook.csv")
    Path("tables").mkdir()
    told = {
        "semicolons.csv": "semicolons.csv is separated by semicolons: save it with commas",
        "latin.csv": "it is not text in UTF-8: save it as CSV in UTF-8, or as Parquet)",
        "workbook.csv": "it is an Excel workbook: save it as CSV or Parquet)",
        "tables": "it is a folder: name the file)",
    }
    for name, sentence in told.items():
        (line,) = faults(run({"own": own_table(folder / "own.csv") | {"path": name}}))
        assert line.endswith(sentence), line
