"""What is kept of a job's making, and that keeping it never costs the job."""

import hashlib
import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from small_jobs import QUERIES, chunk, recipe

from tailrisk import provenance
from tailrisk.provenance import described, parsed, provenance_path, record

START = datetime(2024, 2, 29, 12, tzinfo=UTC)
LOG = Path("results/logs/audit/size.bc.lr/clean.log")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with a dataset, a confidence table and a result."""
    monkeypatch.chdir(tmp_path)
    for name in ("datasets/bc/records.parquet", "datasets/bc/inputs.npy", "datasets/bc/groups.parquet", "a/b.parquet"):
        path = tmp_path / "results" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / "results/datasets/bc/card.json").write_text('{"data_hash": "abc"}')
    return tmp_path


def words(*options: str) -> list[str]:
    return ["tailrisk", "--log", str(LOG), "--writes", "results/a/b.parquet", "audit", *options]


def test_options_are_values_and_json_is_parsed() -> None:
    found = parsed(["--recipe", '{"seed": 3}', "--audit", "a=x", "--audit", "b=y", "chunk one", "--text", "{no json"])
    assert found == {"recipe": {"seed": 3}, "audit": ["a=x", "b=y"], "arguments": ["chunk one"], "text": "{no json"}


def test_inputs_and_outputs_come_with_checksums(folder) -> None:
    written = [Path("results/a/b.parquet")]
    options = ["--confidences", "lr=results/a/b.parquet", "--dataset", "results/datasets/bc", "--seed", "7"]
    found = described(LOG, written, {"n": 1}, START, "audit", words(*options, "--output", "results/datasets"))
    content = b"datasets/bc/inputs.npy"
    assert found["stage"] == "audit"
    assert found["parameters"]["seed"] == "7"
    # What the job writes is no input, nor what stands in a dataset's folder beside what stages read there.
    assert set(found["inputs"]) == {f"results/datasets/bc/{n}" for n in ("records.parquet", "inputs.npy", "card.json")}
    expected = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert found["inputs"]["results/datasets/bc/inputs.npy"] == expected
    assert found["outputs"]["results/a/b.parquet"]["sha256"] == hashlib.sha256(b"a/b.parquet").hexdigest()
    assert found["outcome"] == {"n": 1}
    assert found["start"] == "2024-02-29T12:00:00+00:00"
    assert found["seconds"] > 1e6
    assert found["versions"]["numpy"] == np.__version__
    assert platform.node() not in json.dumps(found["machine"])
    json.dumps(found, allow_nan=False)


def test_the_folder_of_all_results_is_no_input(folder) -> None:
    (folder / "results/report.html").write_text("page")
    found = described(LOG, [], None, START, "audit", words("--results", "results"))
    assert found["inputs"] == {}


def test_large_inputs_are_known_by_their_datas_hash(folder, monkeypatch) -> None:
    monkeypatch.setattr(provenance, "LARGE", 21)
    read: list[str] = []
    monkeypatch.setattr(provenance, "checksum", lambda path: read.append(path.name) or "")
    found = described(LOG, [], None, START, "audit", words("--dataset", "results/datasets/bc"))
    assert found["inputs"]["results/datasets/bc/inputs.npy"] == {"bytes": 22, "data_hash": "abc"}
    assert "card.json" in read
    assert "inputs.npy" not in read


def test_a_fault_is_one_line_and_leaves_nothing_behind(folder, capsys) -> None:
    record(LOG, [Path("results/a/b.parquet")], None, START, "audit", words())
    path = folder / provenance_path(LOG)
    assert list(json.loads(path.read_text())["outputs"]) == ["results/a/b.parquet"]
    record(LOG, [Path("results/vanished.parquet")], None, START, "audit", words())
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.startswith("warning: the provenance results/provenance/audit/size.bc.lr/clean.json could not be kept: ")
    assert not path.exists()


def test_a_place_that_cannot_be_written_fails_no_job(folder) -> None:
    """The folder of provenance is a file: nothing can be written there."""
    (folder / "results/provenance").write_text("")
    sources = json.dumps({"bc": {"url": "x", "sha256": "y", "path": "results/a/b.parquet"}})
    command = [sys.executable, "-m", "tailrisk.cli", "--log", "results/logs/download.log", "download", sources]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "could not be kept" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_chunk_that_was_served_names_the_machine_that_trained_it(dataset, tmp_path) -> None:
    output, outcome = chunk(dataset, tmp_path, range(2))
    assert outcome.trained == 2
    for note in (tmp_path / "store").glob("*/1/performance.json"):
        content = json.loads(note.read_text())
        note.write_text(json.dumps(content | {"machine": {"device": "another"}, "seconds": 2.5}))
    options = ["--dataset", str(dataset), "--recipe", recipe(), "--queries", QUERIES, "--models", "0-1"]
    options += ["--store", str(tmp_path / "store"), "--output", str(output)]
    log = tmp_path / "results/logs/train/one/0-1.log"
    found = described(log, [output], {}, START, "train", ["tailrisk", "train", *options])
    assert [part["models"] for part in found["target_models"]] == [[0], [1]]
    here, elsewhere = found["target_models"]
    assert here["machine"]["python"] == platform.python_version()
    assert elsewhere == {"machine": {"device": "another"}, "models": [1], "seconds": 2.5}
