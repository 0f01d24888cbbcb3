"""A finished study is checked, packed without identifiers, and built again by a reviewer from the archive alone."""

import hashlib
import json
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_study import RECIPE, Workflow

from tailrisk.stages.differences import difference
from tailrisk.stages.rebuild import make

LR, NET = "size.own.lr", "size.own.net"
STUDY = {
    "seed": 3,
    "n_models": 8,
    "chunk_size": 8,
    "datasets": {
        "own": {
            "source": "table",
            "path": "own.csv",
            "patient": "pid",
            "record": "visit",
            "label": "outcome",
            "numeric": ["age", "lactate"],
            "groups": ["unit"],
        }
    },
    "models": {"lr": {"architecture": "logistic"}, "net": {"architecture": "tabular_resnet", "width": 4, "depth": 1}},
    "experiments": {
        "size": {"datasets": "own", "models": ["lr", "net"], "recipe": RECIPE},
        "brought": {"confidences": "given.parquet", "records": "known.csv", "pairing": "complementary"},
    },
    "audit": {"flips": 99},
    "subgroups": {"permutations": 99},
}


def write_sources(folder: Path) -> None:
    """Patients with two visits each, whose ids are not in the order of their numbers, and a confidence table."""
    rng = np.random.default_rng(0)
    patients = [f"MRN-{number * 7919 % 1000:03d}-{'xyz'[number % 3]}" for number in range(120)]
    visits = pd.DataFrame({"pid": np.repeat(patients, 2)})
    visits["visit"] = [f"VISIT{number * 104729 % 10007:05d}" for number in range(240)]
    visits["outcome"] = (np.arange(240) // 2 % 3 == 0).astype(int)
    # Few different values, so that many records are equal and their order in the tail hangs on what breaks ties.
    visits["age"] = 40 + np.arange(240) % 5 + 9 * visits["outcome"]
    visits["lactate"] = np.arange(240) % 2
    visits["unit"] = np.where(np.arange(240) % 4 < 2, "a", "b")
    visits.to_csv(folder / "own.csv", index=False)
    rows = np.arange(60)
    first = rng.random((4, 30)) < 0.5
    member = np.stack([side for half in first for side in (half, ~half)])[:, rows // 2]
    confidence = np.round(rng.normal(size=member.shape), 1) + member
    pq.write_table(
        pa.table(
            {
                "model": np.repeat(np.arange(8), 60),
                "row": np.tile(rows, 8),
                "member": member.ravel(),
                "confidence": confidence.ravel(),
            }
        ),
        folder / "given.parquet",
    )
    known = pd.DataFrame({"row": rows, "record": [f"SCAN{97 * row % 61:04d}" for row in rows]})
    known.assign(patient=[f"CASE{31 * (row // 2) % 37:04d}" for row in rows]).to_csv(folder / "known.csv", index=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, repository) -> Workflow:
    """The study, run to its archive once."""
    folder = tmp_path_factory.mktemp("packed")
    write_sources(folder)
    workflow = Workflow(folder, repository, STUDY)
    workflow.run("artefact")
    return workflow


@pytest.fixture
def study(finished, tmp_path) -> Workflow:
    """A copy that a test may change."""
    subprocess.run(["cp", "-a", f"{finished.folder}/.", str(tmp_path)], check=True)
    return Workflow(tmp_path, finished.repository, STUDY)


def tailrisk(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a sub-command in `folder`; output (both streams) in stdout."""
    command = [sys.executable, "-m", "tailrisk.cli", *words]
    return subprocess.run(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)


def unpacked(workflow: Workflow, folder: Path) -> Path:
    """The archive of a study, unpacked into `folder`."""
    with tarfile.open(workflow.folder / "results/artefact.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "artefact"


def digests(folder: Path) -> dict[str, str]:
    """Checksums of everything that jobs declare in a folder of results."""
    inside = [path for path in folder.rglob("*") if path.is_file() and path.suffix in {".parquet", ".svg", ".png"}]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in inside
        if path.relative_to(folder).parts[0] != "store"
    }


def test_damaged_results_are_named_and_made_again_without_training(study) -> None:
    results = study.folder / "results"
    fine = tailrisk(study.folder, "verify")
    assert fine.returncode == 0, fine.stdout
    assert "every result is as it was written" in fine.stdout
    before = digests(results)
    chunk, table = results / f"targets/{LR}/0-7.parquet", results / f"confidences/{LR}/clean.parquet"
    for path in (chunk, table):
        path.write_bytes(path.read_bytes()[:1000])
    figure = results / f"figures/{NET}/clean/models.png"
    flipped = bytearray(figure.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    figure.write_bytes(flipped)
    (results / f"performance/{NET}.parquet").unlink()
    kept = study.served()
    told = tailrisk(study.folder, "verify")
    assert told.returncode == 1
    assert "Traceback" not in told.stdout
    sentences = [
        f"{chunk.relative_to(study.folder)} is truncated: 1000 of ",
        f"{table.relative_to(study.folder)} is truncated: 1000 of ",
        f"{figure.relative_to(study.folder)} has changed",
        f"results/performance/{NET}.parquet is missing",
        "4 damaged files",
    ]
    for sentence in sentences:
        assert sentence in told.stdout
    (rm,) = [line for line in told.stdout.splitlines() if line.startswith("  rm ")]
    assert set(shlex.split(rm)[1:]) == {str(path.relative_to(study.folder)) for path in (chunk, table, figure)}
    removed = tailrisk(study.folder, "verify", "--remove")
    assert removed.returncode == 0, removed.stdout
    assert not chunk.exists()
    assert not figure.exists()
    (command,) = [line for line in removed.stdout.splitlines() if line.partition(" results/")[0].endswith("snakemake")]
    targets = shlex.split(command)[1:]
    assert len(targets) == 4
    planned = study.planned(*targets)
    assert set(planned) == {"train", "gather", "performance", "audit_figures"}
    study.run(*targets)
    assert kept[f"{LR}/0-7"] == (0, 8)
    assert study.served()[f"{LR}/0-7"] == (8, 0)
    assert digests(results) == before
    assert tailrisk(study.folder, "verify").returncode == 0


def test_a_damaged_store_is_named(study) -> None:
    store = study.folder / "results/store"
    answers = sorted(store.glob("*/3/*.parquet"))[0]
    content = bytearray(answers.read_bytes())
    content[200] ^= 255
    answers.write_bytes(content)
    note = sorted(store.glob("*/5/performance.json"))[0]
    note.write_text(note.read_text()[:40])
    told = tailrisk(study.folder, "verify")
    assert told.returncode == 1
    for path in (answers, note):
        assert f"{path.relative_to(study.folder)} is not readable" in told.stdout
    # The one query's answers were all that was left of this model.
    assert f"{answers.with_name('performance.json').relative_to(study.folder)} is of a finished model" in told.stdout
    assert "3 damaged files" in told.stdout
    assert tailrisk(study.folder, "verify", "--remove").returncode == 0
    assert not answers.exists()
    assert not note.exists()
    assert tailrisk(study.folder, "verify").returncode == 0


def test_the_archive_holds_no_identifier(finished, tmp_path) -> None:
    folder = unpacked(finished, tmp_path)
    own, known = (pd.read_csv(finished.folder / name) for name in ("own.csv", "known.csv"))
    ids = {*own["pid"], *own["visit"], *known["record"], *known["patient"]}
    assert len(ids) == 120 + 240 + 60 + 30
    seen = 0
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path.suffix == ".parquet":
            table = pq.ParquetFile(path).read()
            text = json.dumps(table.to_pydict(), default=str) + str(table.schema.metadata)
            seen += 1
        else:
            text = path.read_bytes().decode("utf-8", errors="replace")
        assert not [one for one in ids if one in text], path
    assert seen > 20
    # The same code in another place makes the same archive.
    assert Workflow(finished.folder, folder, STUDY).planned("artefact") == {}
    names = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    assert not [name for name in names if name.endswith((".npy", ".csv", ".pt", ".log")) or "targets" in name]
    assert "results/provenance/train/size.own.lr/0-7.json" in names
    kept = tailrisk(finished.folder, "artefact", "study.yaml", "--code", ".", "--output", "with.tar.gz")
    assert "is no checkout of the workflow" in kept.stdout
    words = ["artefact", "study.yaml", "--code", str(finished.repository), "--output"]
    assert tailrisk(finished.folder, *words, "with.tar.gz", "--identifiers").returncode == 0
    with tarfile.open(finished.folder / "with.tar.gz") as archive:
        content = archive.extractfile("artefact/results/datasets/own/records.parquet")
        assert content is not None
        assert set(pq.read_table(pa.BufferReader(content.read()))["patient"].to_pylist()) == set(own["pid"])
    for name in ("once.tar.gz", "twice.tar.gz"):
        assert tailrisk(finished.folder, *words, name).returncode == 0
    assert (finished.folder / "once.tar.gz").read_bytes() == (finished.folder / "twice.tar.gz").read_bytes()


def test_a_reviewer_builds_everything_again_and_a_changed_confidence_is_found(finished, tmp_path) -> None:
    folder = unpacked(finished, tmp_path)
    done = tailrisk(folder, "rebuild", "--cores", "2")
    assert done.returncode == 0, done.stdout[-6000:]
    assert "every number, figure and sentence is the packed one" in done.stdout
    assert not (folder / "rebuilt/results/targets").exists()
    for path in (folder / "rebuilt/results").rglob("*.parquet"):
        packed = folder / "results" / path.relative_to(folder / "rebuilt/results")
        assert path.read_bytes() == packed.read_bytes(), path
    assert "exists: remove it" in tailrisk(folder, "rebuild").stdout
    shutil.rmtree(folder / "rebuilt")
    changed = folder / f"results/confidences/{LR}/clean.parquet"
    change_one_confidence(changed)
    refused = tailrisk(folder, "rebuild")
    assert refused.returncode == 1
    assert f"results/confidences/{LR}/clean.parquet is not what was packed" in refused.stdout
    assert not (folder / "rebuilt").exists()
    # As one who hides the change: what is made of it is another audit.
    audit = f"results/audit/{LR}/clean/records.parquet"
    output = folder / "changed"
    shutil.copytree(folder / "results", output / "results", ignore=shutil.ignore_patterns("audit"))
    make(folder, output, [audit], 2)
    assert difference(folder / audit, output / audit) is not None


def change_one_confidence(path: Path) -> None:
    """Add 1 to the first confidence of the first model, and leave all else as it is."""
    file = pq.ParquetFile(path)
    groups = [file.read_row_group(number) for number in range(file.num_row_groups)]
    with pq.ParquetWriter(path, file.schema_arrow) as writer:
        for number, table in enumerate(groups):
            values = table.column("confidence").to_numpy().copy()
            values[0] += number == 0
            place = table.column_names.index("confidence")
            writer.write_table(table.set_column(place, table.schema.field("confidence"), pa.array(values)))
