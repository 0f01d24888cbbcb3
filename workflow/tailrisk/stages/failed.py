"""Jobs that did not come to their end: which, why, what they left unfinished, and how to go on."""

import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tailrisk.config.plan import Plan
from tailrisk.config.study import chunk_models
from tailrisk.stages.jobs import Job, planned
from tailrisk.stages.stored import READERS, stored
from tailrisk.training.failure import NOT_FINISHED, target_models

MOST_JOBS = 8
TAIL = 16384
"""Bytes of a log's end that are looked at."""
SKEW = 60
"""Seconds by which the clocks of machines may differ."""
SAVED = "what it had trained so far is saved"
WITHOUT_A_WORD = "killed without a word"
LIKELY = (
    "Killed without a word: the run was interrupted, or the job's memory was too small, its time was up, or it was "
    "preempted or cancelled."
)
MORE = "On a cluster, account, partition, `mem_mb` and `runtime` stand in workflow/profiles/slurm/profile.yaml."

ERROR_BLOCK = re.compile(
    r"^Error in rule \w+:\n(?:    message: (?P<message>.*?)\n)?    jobid: (?P<number>\d+)\n"
    r".*?^    log: (?P<log>.*?)[, ]",
    re.M | re.S,
)
"""Of Snakemake's own log: what was said of a job that failed, which may be several lines, its number and its log."""
TRIED_AGAIN = re.compile(r"^Trying to restart job (?P<number>\d+)\.", re.M)
REFUSED = re.compile(r"sbatch failed.*?error message was '(?:sbatch: error: )?(.*?)['\n]")
SLURM_STATUS = re.compile(r"SLURM status is: '(\w+)")
IN_WORDS = {
    "TIMEOUT": "its time was up",
    "DEADLINE": "its time was up",
    "OUT_OF_MEMORY": "it took more memory than it had asked for",
    "CANCELLED": "it was cancelled",
    "PREEMPTED": "a more urgent job took its place",
    "NODE_FAIL": "its node was lost",
    "BOOT_FAIL": "its node did not start",
}


@dataclass(frozen=True)
class Failure:
    """A job that failed: why, in one sentence, and the last lines of its log."""

    job: Job
    why: str
    words: list[str]


def last_words(log: Path) -> list[str]:
    """The last lines of a log that say something; none where there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def reason(words: list[str], message: str = "") -> str:
    """Why a job failed, from the last lines of its log and what Snakemake was told of it."""
    refused, status = REFUSED.search(message), SLURM_STATUS.search(message)
    told = _as_told(words)
    if refused:
        return f"SLURM did not take it: {refused[1]}"
    if status and status[1] in IN_WORDS:
        saved = f"; {SAVED}" if told and SAVED in told else ""
        return f"{IN_WORDS[status[1]]} (SLURM: {status[1]}){saved}"
    if told:
        return told
    if not words and message and not status:
        return " ".join(message.split())[:400]
    return WITHOUT_A_WORD


def _as_told(words: list[str]) -> str | None:
    """What the job itself said of its end; None where it was killed."""
    for line in reversed(words):
        if line.startswith("Error: "):
            return line.removeprefix("Error: ")
        if line == "Aborted!":
            return "interrupted by hand"
        if "told to end: saved" in line:
            return f"told to end (preempted, cancelled, or its time was up); {SAVED}"
    if "Traceback (most recent call last):" in words:
        start = len(words) - words[::-1].index("Traceback (most recent call last):")
        said = [line for line in words[start:] if not line.startswith(" ")]
        return f"{said[0]} (a fault of the program: please report it, with the log)" if said else None
    return None


def told_by_snakemake(log: Path) -> dict[str, str]:
    """From Snakemake's own log: log of a job whose last attempt failed → the message with it, empty for none.

    A job that is being tried again has not failed.
    """
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    again = {line["number"]: line.start() for line in TRIED_AGAIN.finditer(text)}
    last = {block["log"]: block for block in ERROR_BLOCK.finditer(text)}
    return {
        log: block["message"] if block["message"] not in {None, "None"} else ""
        for log, block in last.items()
        if again.get(block["number"], -1) < block.start()
    }


def failed(
    jobs: Iterable[Job], messages: Mapping[str, str], begun: float, results: Path, earlier: bool = False
) -> list[Failure]:
    """Those of `jobs` without result that the run from `begun` on (seconds of the epoch) or its Snakemake tells of.

    `earlier`: those that an earlier run left, too. To be asked of jobs that are not under way any more.
    """
    found, asked = [], list(jobs)
    with ThreadPoolExecutor(READERS) as readers:
        last_written = list(readers.map(_written, asked))
    for job, written in zip(asked, last_written, strict=True):
        message = messages.get(str(Path("results") / job.log.relative_to(results)))
        of_this_run = written is not None and written > begun - SKEW
        if not (message is not None or of_this_run or (earlier and written)) or job.output.exists():
            continue
        ran = message is None or (of_this_run and not REFUSED.search(message))
        words = last_words(job.log) if ran else []  # others are of an earlier attempt
        why = reason(words, message or "")
        found.append(Failure(job, why.rpartition(f"{NOT_FINISHED}: ")[2], words))
    whys = [failure.why for failure in found]
    return sorted(found, key=lambda failure: whys.index(failure.why))  # those that share a reason together


def failures(plan: Plan, results: Path, snakemake_log: Path | None, since: float, again: str) -> Iterator[str]:
    """Lines to print at the end of a run that failed: the jobs, why, and the command `again` that goes on."""
    messages = told_by_snakemake(snakemake_log) if snakemake_log else {}
    found = failed(planned(plan, results), messages, since, results)
    yield from described(found, plan, results, most_words=0)
    yield "\nNothing that was finished is lost. To go on, once this is mended:"
    yield f"  {again}"


def described(found: list[Failure], plan: Plan, results: Path, most_words: int) -> Iterator[str]:
    """Lines on failed jobs, with the last lines of their logs where the reason does not stand in them."""
    if not found:
        return
    yield f"\n{len(found)} job{'s' if len(found) > 1 else ''} failed:"
    said = ""
    for failure in found[:MOST_JOBS]:
        yield f"  {failure.job}: {'the same' if failure.why == said else failure.why}"
        said = failure.why
        unfinished = left_by(failure, plan, results)
        if unfinished:
            yield f"    {unfinished}"
        yield f"    log: {failure.job.log}" if failure.words else "    it wrote no log"
        if most_words and failure.words and failure.why not in failure.words[-1]:
            yield from (f"      | {line[:200]}" for line in failure.words[-most_words:])
    if len(found) > MOST_JOBS:
        yield f"  and {len(found) - MOST_JOBS} more: " + ", ".join(str(failure.job) for failure in found[MOST_JOBS:])
    whys = {failure.why for failure in found}
    if any(why.startswith(WITHOUT_A_WORD) for why in whys):
        yield LIKELY
    if any(why.startswith(WITHOUT_A_WORD) or "SLURM" in why for why in whys):
        yield MORE


def left_by(failure: Failure, plan: Plan, results: Path) -> str | None:
    """The target models that a training job left unfinished, in words; None for other jobs."""
    if failure.job.rule != "train":
        return None
    name, chunk = failure.job.about.split()
    experiment, models = plan.experiment(name), chunk_models(chunk)
    finished = stored(plan, [experiment], results)[name]
    left = [number for number in models if number not in finished]
    if not left:
        return f"{target_models(models)} are all finished; only their table was not written"
    kept = f"; the other {len(models) - len(left)} are kept" if len(left) < len(models) else ""
    return f"{target_models(left)} {NOT_FINISHED}{kept}"


def _written(job: Job) -> float | None:
    """When the log of a job was last written; None where there is none."""
    try:
        return job.log.stat().st_mtime
    except OSError:
        return None
