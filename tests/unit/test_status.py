"""How far a study is and why jobs failed, from the store, logs and Snakemake's own log."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from small_jobs import chunk
from small_networks import custom

from tailrisk.config.machine import program
from tailrisk.config.plan import Plan
from tailrisk.errors import UserError
from tailrisk.stages.drift import installed
from tailrisk.stages.failed import failed, failures, reason, told_by_snakemake
from tailrisk.stages.jobs import planned
from tailrisk.stages.status import status
from tailrisk.tables import write_json
from tailrisk.training.failure import numbers, reasons

RECIPE = {"epochs": 2, "batch_size": 32, "learning_rate": 0.01}
STUDY = {
    "n_models": 8,
    "chunk_size": 4,
    "datasets": {"bc": {"source": "breast_cancer"}},
    "models": {"lr": {"architecture": "logistic"}},
    "experiments": {"mine": {"datasets": "bc", "models": "lr", "recipe": RECIPE}},
}
BREAST = "mine.bc.lr"

MESSAGES = """\
[Mon Nov 23 16:14:00 2026]
Error in rule train:
    message: SLURM-job '2' failed, SLURM status is: 'CANCELLED'. Detailed failure reason unavailable (status command \
is not 'sacct').For further error details see the cluster/cloud log and the log files of the involved rule(s).
    jobid: 3
    output: results/targets/mine.bc.lr/4-7.parquet
    log: results/logs/train/mine.bc.lr/4-7.log, /x/.snakemake/slurm_logs/2.log (check log file(s) for error details)
    external_jobid: 2
[Mon Nov 23 16:14:39 2026]
Error in rule train:
    message: SLURM sbatch failed. The error message was 'sbatch: error: invalid partition specified: absent
sbatch: error: Batch job submission failed: Invalid partition name specified'.
    sbatch call:
        sbatch --parsable
    jobid: 1
    log: results/logs/train/mine.bc.lr/0-3.log (check log file(s) for error details)
Error in rule gather:
    message: None
    jobid: 5
    log: results/logs/gather/mine.bc.lr/clean.log (check log file(s) for error details)
"""
"""Of the own log of a Snakemake whose jobs ran on a real SLURM."""


class Folder:
    """A study in a folder of its own, whose dataset is prepared."""

    def __init__(self, folder: Path, dataset: Path) -> None:
        self.folder, self.results, self.config = folder, folder / "results", folder / "study.yaml"
        (self.results / "datasets").mkdir(parents=True)
        (self.results / "datasets/bc").symlink_to(dataset)
        self.study = json.loads(json.dumps(STUDY))

    @property
    def plan(self) -> Plan:
        return Plan.of(self.study)

    def train(self, models: range, experiment: str = BREAST) -> None:
        """What the job of a chunk does."""
        one = self.plan.experiment(experiment)
        dataset, output = self.results / "datasets/bc", self.results / "targets" / experiment
        chunk(dataset, output, models, recipe=one.recipe, queries=one.asked, store=self.results / "store")

    def notes(self) -> list[Path]:
        return sorted(self.results.glob("store/*/*/performance.json"))

    def log(self, place: str, text: str, age: float = 0) -> Path:
        path = self.results / "logs" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (time.time() - age, time.time() - age))
        return path

    def log_of_snakemake(self, age: float, text: str) -> Path:
        """The log of a Snakemake that was started so many seconds ago."""
        begun = time.strftime("%Y-%m-%dT%H%M%S.123456", time.localtime(time.time() - age))
        path = self.folder / f".snakemake/log/{begun}.snakemake.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"Building DAG of jobs...\n{text}")
        return path

    def run_of_snakemake(self, age: float, locked: bool, text: str = "") -> Path:
        """The traces of a run of Snakemake that began so many seconds ago."""
        path = self.log_of_snakemake(age, f"Provided remote nodes: 100\n{text}")
        if locked:
            (self.folder / ".snakemake/locks").mkdir()
            (self.folder / ".snakemake/locks/0.input.lock").touch()
        return path

    def status(self) -> str:
        self.config.write_text(yaml.safe_dump(self.study))
        return "\n".join(status(self.config, self.results))


@pytest.fixture
def study(tmp_path: Path, dataset: Path) -> Folder:
    return Folder(tmp_path, dataset)


def test_before_anything_ran(study: Folder) -> None:
    (study.results / "datasets/bc").unlink()
    told = study.status()
    assert told.startswith(f"{BREAST}  0 of 8 target models; its dataset is not prepared yet\n0 of 13 tables")
    assert "failed" not in told
    assert f"to start:\n  {program('snakemake')} --profile local --directory {study.folder} --configfile" in told


def test_models_are_counted_from_the_store(study: Folder) -> None:
    study.train(range(4))
    study.train(range(4, 6))
    assert f"{BREAST}  6 of 8 target models\n" in study.status()
    study.notes()[0].write_text('{"status": "do')
    assert f"{BREAST}  5 of 8 target models\n" in study.status()
    study.study["n_models"] = 4
    assert f"{BREAST}  3 of 4 target models\n" in study.status()
    study.study["queries"] = {"clean": {"kind": "clean"}, "part": {"kind": "redacted", "hidden": ["mean area"]}}
    assert f"{BREAST}  0 of 4 target models\n" in study.status()  # none has answered the new query
    study.train(range(4))
    assert f"{BREAST}  4 of 4 target models\n" in study.status()
    study.study["experiments"]["mine"]["recipe"]["epochs"] = 3
    assert f"{BREAST}  0 of 4 target models\n" in study.status()


def test_failed_models_are_named_with_their_reason(study: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    study.study["experiments"]["mine"]["recipe"] |= {"optimizer": "sgd", "learning_rate": 1e38}
    study.train(range(4))
    said = "target models 0 to 3: loss not finite in step 2"
    assert capsys.readouterr().out.splitlines()[-1] == f"{BREAST} 0-3: {said}"
    assert f"  4 failed: {said}\n  so 2 of 4 pairs are lost; max_failed_pairs allows 2\n" in study.status()


def test_jobs_under_way_and_the_time_left(study: Folder) -> None:
    study.train(range(4))
    for note in study.notes():  # four models of 300 s each in the last 600 s: two at once
        note.write_text(json.dumps(json.loads(note.read_text()) | {"seconds": 300.0}))
    study.run_of_snakemake(age=600, locked=True)
    study.log("train/mine.bc.lr/4-7.log", "mine.bc.lr 4-7: 0 of 4 models · epoch 1/2\n")
    study.log("baseline/bc.log", "of an earlier run", age=900)
    told = study.status()
    assert "1 job under way:\n  train mine.bc.lr 4-7: last heard of 0 s ago: mine.bc.lr 4-7: 0 of 4 models" in told
    assert "about 10 min of training left for 4 target models, if it goes on as in the last 10 min (4 finished)" in told
    assert "a run holds this folder" in told
    assert "snakemake --profile slurm" in told
    assert told.count("--unlock") == 1


def test_failed_jobs_of_a_run_that_ended(study: Folder) -> None:
    study.train(range(2))
    study.run_of_snakemake(age=600, locked=False, text=MESSAGES)
    study.log("train/mine.bc.lr/4-7.log", "told to end: saved after step 9, to be resumed from there\n", age=300)
    study.log("train/mine.bc.lr/0-3.log", "of an attempt long ago\n", age=9000)
    study.log("audit/mine.bc.lr/clean.log", "a line\nError: clean.parquet is not a readable Parquet file\n", age=9000)
    told = study.status()
    assert "4 jobs failed:" in told
    assert "train mine.bc.lr 0-3: SLURM did not take it: invalid partition specified: absent\n" in told
    assert "target models 2, 3 not finished; the other 2 are kept\n    it wrote no log" in told
    cancelled = "it was cancelled (SLURM: CANCELLED); what it had trained so far is saved"
    assert f"train mine.bc.lr 4-7: {cancelled}\n    target models 4 to 7 not finished" in told
    assert "      | told to end: saved after step 9" in told
    assert "audit mine.bc.lr clean: clean.parquet is not a readable Parquet file\n" in told
    assert "snakemake --profile slurm" in told


def test_the_end_of_a_failed_run_tells_of_this_run_alone(study: Folder) -> None:
    study.log("train/mine.bc.lr/0-3.log", "Error: mine.bc.lr 0-3: target models 0 to 3 not finished: no such layer\n")
    study.log("train/mine.bc.lr/4-7.log", "Error: mine.bc.lr 4-7: target models 4 to 7 not finished: no such layer\n")
    study.log("audit/mine.bc.lr/clean.log", "Error: of an earlier run", age=900)
    lines = list(failures(study.plan, study.results, None, time.time() - 600, "snakemake --profile slurm"))
    assert lines[0] == "\n2 jobs failed:"
    assert lines[1:3] == ["  train mine.bc.lr 0-3: no such layer", "    target models 0 to 3 not finished"]
    assert lines[4:6] == ["  train mine.bc.lr 4-7: the same", "    target models 4 to 7 not finished"]
    assert lines[-1] == "  snakemake --profile slurm"
    assert not any("Killed without a word" in line for line in lines)


def test_a_job_that_was_tried_again_with_success_did_not_fail(study: Folder) -> None:
    study.train(range(4, 8))
    log = study.run_of_snakemake(age=600, locked=False, text=MESSAGES)
    output = study.results / "targets/mine.bc.lr/4-7.parquet"
    study.log("train/mine.bc.lr/4-7.log", "4 trained\n")
    (job,) = [job for job in planned(study.plan, study.results) if job.about == "mine.bc.lr 4-7"]
    assert job.output == output
    assert failed([job], told_by_snakemake(log), 0.0, study.results) == []
    output.unlink()
    assert len(failed([job], told_by_snakemake(log), 0.0, study.results)) == 1


def error_block(attempt: int, last: bool = False) -> str:
    """What Snakemake's own log says of an attempt of job 3 that took too long."""
    again = "" if last else "Trying to restart job 3.\nSelect jobs to execute...\n"
    return f"""\
[Mon Nov 23 16:1{attempt}:00 2026]
Error in rule train:
    message: SLURM-job '{attempt}' failed, SLURM status is: 'TIMEOUT'.
    jobid: 3
    input: results/datasets/bc/card.json
    output: results/targets/mine.bc.lr/4-7.parquet
    log: results/logs/train/mine.bc.lr/4-7.log, /x/.snakemake/slurm_logs/{attempt}.log (check log file(s) for details)
    external_jobid: {attempt}
{again}"""


def test_a_job_that_is_tried_again_is_under_way(study: Folder) -> None:
    log = study.run_of_snakemake(age=600, locked=True, text=error_block(1) + error_block(2))
    study.log("train/mine.bc.lr/4-7.log", "mine.bc.lr 4-7: 0 of 4 models\n", age=5)
    told = study.status()
    assert "1 job under way:\n  train mine.bc.lr 4-7: last heard of 5 s ago: mine.bc.lr 4-7: 0 of 4 models" in told
    assert "failed" not in told
    with log.open("a") as text:
        text.write(error_block(3, last=True))
    told = study.status()
    assert "1 job failed:\n  train mine.bc.lr 4-7: its time was up (SLURM: TIMEOUT)\n" in told
    assert "under way" not in told
    lines = list(failures(study.plan, study.results, log, time.time() - 600, "snakemake"))
    assert lines[:2] == ["\n1 job failed:", "  train mine.bc.lr 4-7: its time was up (SLURM: TIMEOUT)"]


@pytest.mark.parametrize(
    "said", ["LockException:\nError: Directory cannot be locked.\n", "Unlocking working directory.\n"]
)
@pytest.mark.parametrize("locked", [True, False])
def test_a_snakemake_that_ran_nothing_is_not_the_last_run(study: Folder, said: str, locked: bool) -> None:
    log = study.run_of_snakemake(age=600, locked=locked)
    study.log("train/mine.bc.lr/4-7.log", "mine.bc.lr 4-7: 0 of 4 models\n", age=120)
    study.log_of_snakemake(10, said)
    told = study.status()
    assert "snakemake --profile slurm" in told
    assert "--profile local" not in told
    assert ("1 job under way:\n  train mine.bc.lr 4-7: " in told) == locked
    assert (f"tail -f {log}" in told) == locked


KILLED = "environment: line 1:   524 Killed                  python -m tailrisk.cli"
PROGRESS = "mine.bc.lr 0-3: 0 of 4 models · next 4: epoch 21/4000, loss 0.0304 · about 15:57 left"


@pytest.mark.parametrize(
    ("words", "message", "why"),
    [
        ([PROGRESS, KILLED], "", "killed without a word"),
        ([PROGRESS], "", "killed without a word"),
        ([], "", "killed without a word"),
        ([PROGRESS], "SLURM-job '3' failed, SLURM status is: 'FAILED'.", "killed without a word"),
        ([PROGRESS], "SLURM-job '3' failed, SLURM status is: 'TIMEOUT'.", "its time was up (SLURM: TIMEOUT)"),
        ([], "status is: SLURM status is: 'NODE_FAIL'", "its node was lost (SLURM: NODE_FAIL)"),
        ([PROGRESS, "Error: no such layer"], "SLURM status is: 'FAILED'", "no such layer"),
        ([PROGRESS, "Aborted!"], "", "interrupted by hand"),
        (
            ["Traceback (most recent call last):", '  File "x.py", line 3', "KeyError: 3", f"{PROGRESS} not finished"],
            "",
            "KeyError: 3 (a fault of the program: please report it, with the log)",
        ),
        ([], "the executor says\nno", "the executor says no"),
    ],
)
def test_reasons_are_honest(words: list[str], message: str, why: str) -> None:
    assert reason(words, message) == why


def test_drift_of_libraries_is_told(study: Folder) -> None:
    study.train(range(4))
    assert "note:" not in study.status()
    here = {name: installed(name) for name in ("python", "torch", "numpy", "scipy")}
    for note in study.notes()[:3]:
        found = json.loads(note.read_text())
        note.write_text(json.dumps(found | {"machine": found["machine"] | {"torch": "2.1.0"}}))
    provenance = {"versions": here | {"scipy": "1.0.0"}}
    write_json(study.results / "provenance/audit/mine.bc.lr/clean.json", provenance)
    told = study.status()
    assert f"note: 3 target models trained with torch 2.1.0; {here['torch']} is installed\n" in told
    assert "scipy" not in told  # the audit's table is not there
    summary = study.results / "audit/mine.bc.lr/clean/summary.json"
    write_json(summary, {})
    told = study.status()
    assert f"note: 1 job run with scipy 1.0.0; {here['scipy']} is installed\n" in told
    assert told.count("note: nothing is run again for that") == 1
    assert "audited, of an earlier state: the store lacks models of this one" in told


def test_a_source_written_after_it_was_prepared_is_told(study: Folder, tmp_path: Path) -> None:
    table = tmp_path / "own.csv"
    table.write_text("pid\n")
    columns = {"patient": "pid", "label": "sick", "numeric": ["age"]}
    study.study["datasets"]["bc"] = {"source": "table", "path": str(table), **columns}
    assert f"note: {table} was written after bc was prepared from it" in study.status()
    os.utime(table, (0, 0))
    assert "note:" not in study.status()


COUNTED = """
import sys
from pathlib import Path
seen = []
sys.addaudithook(lambda event, given: seen.append(str(given[0])) if event in {"open", "os.listdir"} else None)
from tailrisk.stages.status import status
list(status(Path(sys.argv[1]), Path(sys.argv[2])))
print(len([path for path in seen if "/store/" in path]))
print([name for name in ("torch", "pandas", "pyarrow") if name in sys.modules])
"""


def test_it_is_quick_on_a_slow_file_system(study: Folder) -> None:
    """Two openings a model and one an experiment; nothing heavy is loaded."""
    study.train(range(8))
    study.status()
    command = [sys.executable, "-c", COUNTED, str(study.config), str(study.results)]
    done = subprocess.run(command, text=True, capture_output=True, check=True)
    assert done.stdout.splitlines() == [str(2 * 8 + 1), "[]"]


def test_model_numbers_in_words() -> None:
    assert numbers([7, 0, 1, 2, 9, 10]) == "0 to 2, 7, 9, 10"
    assert reasons({0: "a", 1: "b", 2: "b", 5: "c", 6: "d", 8: "e"}) == (
        "target models 1, 2: b; target model 0: a; target model 5: c; and 2 more for other reasons"
    )


FORWARD = """
from torch import nn
class Network(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.layer = nn.Linear(n, 1)
    def forward(self, x):
        if self.training and len(x) > 2:
            raise ValueError("no room")
        return self.layer(x)
def make(shape, n_outputs): return Network(shape[0])
"""


def test_a_training_job_that_fails_says_which_models_and_why(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing.py").write_text(FORWARD)
    from small_jobs import recipe

    spec = custom(tmp_path, function="failing:make")
    with pytest.raises(UserError) as raised:
        chunk(dataset, tmp_path / "e", range(4), recipe=recipe(spec))
    assert str(raised.value) == (
        "e 0-3: target models 0 to 3 not finished: the model of failing:make raises ValueError: no room (line 9 of "
        "failing.py)"
    )
    from tailrisk.training.trainer import Trainer

    def fault(*given: object) -> None:
        raise KeyError("of this program")

    chunk(dataset, tmp_path / "e", range(2))
    monkeypatch.setattr(Trainer, "train", fault)
    with pytest.raises(KeyError) as told:
        chunk(dataset, tmp_path / "e", range(4))
    assert told.value.__notes__ == ["e 0-3: target models 2, 3 not finished"]
