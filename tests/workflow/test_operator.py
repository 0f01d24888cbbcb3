"""What an operator is told: while the workflow runs, when it fails, and afterwards."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from shlex import split

from small_study import STUDY, Workflow

from tailrisk.config.plan import Plan
from tailrisk.stages.jobs import planned

MODEL = """
import time
from torch import nn
class Network(nn.Module):
    def __init__(self, n, seconds):
        super().__init__()
        self.layer, self.seconds = nn.Linear(n, 1), seconds
    def forward(self, x):
        if self.training:
            if not self.seconds:
                raise ValueError("no room")
            time.sleep(self.seconds)
        return self.layer(x)
def make(shape, n_outputs, seconds): return Network(shape[0], seconds)
"""


def custom(seconds: float) -> dict[str, object]:
    return {"architecture": "custom", "function": "own:make", "arguments": {"seconds": seconds}}


def tell(workflow: Workflow) -> str:
    """What `tailrisk status` says of a study."""
    command = [sys.executable, "-m", "tailrisk.cli", "status", "study.yaml"]
    return subprocess.run(command, cwd=workflow.folder, text=True, capture_output=True, check=True).stdout


def test_the_jobs_are_those_of_the_workflow(repository: Path, tmp_path: Path) -> None:
    """Rules, outputs, logs: the status looks where the workflow writes."""
    workflow = Workflow(tmp_path, repository, STUDY)
    study = workflow.study
    study["datasets"]["own"] = {
        "source": "images",
        "path": "own.csv",
        "patient": "pid",
        "label": "outcome",
        "file": "file",
        "folder": "images",
        "size": 16,
        "show_inputs": True,
    }
    study["queries"] = {"clean": {"kind": "clean"}, "part": {"kind": "redacted", "hidden": ["mean area"]}}
    study["experiments"]["mine"]["queries"] = "clean"
    study["experiments"]["published"] = {"confidences": "c.csv", "records": "r.csv", "pairing": "unknown"}
    found = {}
    for block in workflow.run("--dry-run").stdout.replace("\nlocalrule ", "\nrule ").split("\nrule ")[1:]:
        lines = dict(re.findall(r"^    (output|log): (.*)$", block, re.MULTILINE))
        if "log" in lines:
            found[lines["log"]] = (block.partition(":")[0], lines["output"].split(", "))
    jobs = planned(Plan.of(study), Path("results"))
    assert {str(job.log): job.rule for job in jobs} == {log: rule for log, (rule, _) in found.items()}
    assert all(str(job.output) in found[str(job.log)][1] for job in jobs)


def test_a_run_that_fails_ends_with_what_failed_and_how_to_go_on(repository: Path, tmp_path: Path) -> None:
    """One experiment's model raises; the other's job is killed in mid-training by SIGKILL."""
    workflow = Workflow(tmp_path, repository, STUDY)
    (tmp_path / "own.py").write_text(MODEL)
    workflow.study["datasets"].pop("own")
    workflow.study["models"] = {"raises": custom(0), "slow": custom(0.05)}
    recipe = {"epochs": 1000, "batch_size": 32, "learning_rate": 0.01}
    workflow.study["experiments"] = {"e": {"datasets": "bc", "models": ["raises", "slow"], "recipe": recipe}}
    workflow.study["n_models"] = 4
    targets = [f"results/performance/e.bc.{model}.parquet" for model in ("raises", "slow")]
    command = workflow.command("--keep-going", "--", *targets)
    assert "0 of 4 target models; its dataset is not prepared yet" in tell(workflow)
    head = tmp_path / "head.txt"
    with head.open("w") as stream:
        run = subprocess.Popen(command, env=workflow.environment, stdout=stream, stderr=stream, start_new_session=True)
    try:
        training = awaited(lambda: processes(tmp_path) if "epoch" in log(tmp_path) else [])
        told = tell(workflow)
        assert "1 job under way:\n  train e.bc.slow 0-3: last heard of " in told
        assert "0 of 4 models · next " in told
        assert "a run holds this folder" in told
        os.kill(training[0], signal.SIGKILL)
        assert run.wait(60) == 1
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    told = head.read_text()
    end = told[told.index("2 jobs failed:") :]
    assert end.count("target models 0 to 3 not finished\n") == 2
    raised = "the model of own:make raises ValueError: no room (line 11 of own.py)"
    assert f"  train e.bc.raises 0-3: {raised}\n" in end
    assert "  train e.bc.slow 0-3: killed without a word\n" in end
    assert "memory was too small" in end
    again = end[end.index("Nothing that was finished is lost") :].splitlines()[1]
    assert Path(split(again)[0]).name == "snakemake"
    assert split(again)[1:] == command[3:]
    assert "Traceback" not in told

    told = tell(workflow)
    assert told.count("0 of 4 target models\n") == 2
    assert "2 jobs failed:" in told
    assert f"train e.bc.raises 0-3: {raised}" in told
    assert "Killed" in told  # the last words of the log
    assert "a run holds this folder" not in told
    assert f"snakemake --profile local --directory {tmp_path} --configfile {tmp_path / 'study.yaml'}" in told


def test_a_retry_is_under_way_and_a_refused_start_is_no_run(repository: Path, tmp_path: Path) -> None:
    """A job is killed in mid-training and tried again; then a second Snakemake is refused."""
    workflow = Workflow(tmp_path, repository, STUDY)
    (tmp_path / "own.py").write_text(MODEL)
    workflow.study["datasets"].pop("own")
    workflow.study["models"] = {"slow": custom(0.05)}
    recipe = {"epochs": 1000, "batch_size": 32, "learning_rate": 0.01}
    workflow.study |= {"n_models": 4, "experiments": {"e": {"datasets": "bc", "models": "slow", "recipe": recipe}}}
    command = workflow.command("--retries", "1", "--", "results/performance/e.bc.slow.parquet")
    with (tmp_path / "head.txt").open("w") as stream:
        run = subprocess.Popen(command, env=workflow.environment, stdout=stream, stderr=stream, start_new_session=True)
    try:
        first = awaited(lambda: processes(tmp_path) if "epoch" in log(tmp_path) else [])
        os.kill(first[0], signal.SIGKILL)
        second = awaited(lambda: [one for one in processes(tmp_path) if one not in first])
        refused = subprocess.run(command, env=workflow.environment, text=True, capture_output=True, check=False)
        assert "cannot be locked" in refused.stderr
        told = tell(workflow)
        assert "1 job under way:\n  train e.bc.slow 0-3: last heard of " in told
        assert "failed" not in told
        os.kill(second[0], signal.SIGKILL)
        assert run.wait(60) == 1
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
    assert "1 job failed:\n  train e.bc.slow 0-3: killed without a word\n" in (tmp_path / "head.txt").read_text()
    assert "1 job failed:\n  train e.bc.slow 0-3: killed without a word\n" in tell(workflow)


def log(folder: Path) -> str:
    path = folder / "results/logs/train/e.bc.slow/0-3.log"
    return path.read_text() if path.exists() else ""


def processes(folder: Path) -> list[int]:
    """Training processes of the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"train" in words and (process / "cwd").resolve() == folder.resolve():
                found.append(int(process.name))
        except OSError:  # it has ended
            continue
    return found


def awaited(ready, seconds: float = 120) -> list[int]:
    end = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found
