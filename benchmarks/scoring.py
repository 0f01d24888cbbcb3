"""Time and memory of the statistics, on simulated confidence tables of 200 target models.

python benchmarks/scoring.py [--threads N] [--peers FOLDER]: prints each measure beside its yardstick or bound. The
yardsticks at 10,000 records are plain vectorised numpy on 2 cores; the bounds at 377,110 records (the size of
MIMIC-CXR) are the project's own. With a folder of other tools' checkouts (see validation/peers.py) it prints how much
longer each of them takes on one common table.
"""

import argparse
import platform
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy
from machine import cores_and_load
from numpy.typing import NDArray

from tailrisk import __version__
from tailrisk.attacks.aggregate import attack_all
from tailrisk.attacks.lira import LIRA, lira_online, lira_scores, moments
from tailrisk.attacks.references import counts, folds
from tailrisk.attacks.rmia import offline, online, probability_sums
from tailrisk.attacks.roc import roc
from tailrisk.attacks.scorer import Population
from tailrisk.audit.audit import AuditOptions, run_audit
from tailrisk.audit.pairs import blocks
from tailrisk.audit.records import record_statistics
from tailrisk.audit.score import score

PAIRS = 100
YARDSTICKS = {"record AUC": 0.035, "LiRA, all targets": 0.37}
BOUND_SECONDS, BOUND_GIB = 30, 4


def confidence_table(
    records: int, patients: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.intp]]:
    """Confidences and membership [200, records] and the patient of each record; one patient in ten leaks."""
    rng = np.random.default_rng(seed)
    patient = np.sort(np.append(np.arange(patients), rng.integers(0, patients, records - patients)))
    coins = rng.random((PAIRS, patients)) < 0.5
    member = np.empty((2 * PAIRS, records), dtype=bool)
    member[0::2], member[1::2] = coins[:, patient], ~coins[:, patient]
    leak = np.where(rng.random(patients) < 0.1, 1.0, 0.0)[patient].astype(np.float32)
    confidences = rng.standard_normal((2 * PAIRS, records), dtype=np.float32)
    for model, inside in enumerate(member):
        confidences[model] += rng.standard_normal(patients, dtype=np.float32)[patient] + leak * inside
    return confidences, member, patient


def measured(label: str, action: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Wall and CPU time in seconds of the run, among `repeats`, with the best wall time; printed."""
    best, cpu = np.inf, np.inf
    for _ in range(repeats):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        action()
        wall = time.perf_counter() - wall_start
        if wall < best:
            best, cpu = wall, time.process_time() - cpu_start
    print(f"{label}: {best:.3f} s wall, {cpu:.3f} s CPU", end="")
    return best, cpu


def ten_thousand() -> None:
    """Record statistics and leave-pair-out LiRA of 200 models × 10,000 records."""
    confidences, member, patient = confidence_table(10_000, 10_000, seed=1)
    actions = {
        "record AUC": lambda: [record_statistics(b.x, b.y) for b in blocks(confidences, member, patient)],
        "LiRA, all targets": lambda: [roc(scores, member[m]) for m, scores in lira_online(confidences, member)],
    }
    print("200 × 10,000")
    for name, action in actions.items():
        seconds, _ = measured(f"  {name}", action, repeats=5)
        yardstick = YARDSTICKS[name]
        print(f"; yardstick {yardstick} s, ratio {seconds / yardstick:.1f}")


def lira_of_all(confidences: NDArray[np.float32], member: NDArray[np.bool_], threads: int, curves: bool) -> None:
    """LiRA in all its forms on every target, each without its pair; with the ROC of the online form if asked."""
    with ThreadPoolExecutor(threads) as pool:
        of_all = moments(confidences, member, pool)

        def one(fold: Any) -> None:
            scores = lira_scores(fold, fold.values(confidences), of_all)
            for target, row in zip(fold.targets, scores["lira_online"], strict=True):
                if curves:
                    roc(row, member[target])

        list(pool.map(one, folds(member, paired=True, seed=0)))


def rmia_of_all(
    log_likelihood: NDArray[np.float32], member: NDArray[np.bool_], records: int, threads: int, curves: bool
) -> None:
    """RMIA online and offline on every target, each without its pair, against so many population records."""
    with ThreadPoolExecutor(threads) as pool:
        total = probability_sums(log_likelihood.__getitem__, member, pool)
        population = Population(total, counts(member), np.arange(records), gamma=1.0)

        def one(fold: Any) -> None:
            for of_blend in population.scores(fold, fold.values(log_likelihood), [online, offline(0.5)]):
                for target, scores in zip(fold.targets, of_blend, strict=True):
                    if curves:
                        roc(scores, member[target])
                    else:
                        assert scores.levels is not None
                        np.searchsorted(scores.levels, scores.values, side="right")

        list(pool.map(one, folds(member, paired=True, seed=0)))


def large(threads: int) -> None:
    """The parts of an audit, and all of it, on 200 models × 377,110 records of 65,379 patients."""
    confidences, member, patient = confidence_table(377_110, 65_379, seed=2)
    log_likelihood = -np.logaddexp(np.float32(0), -confidences)
    likelihood = log_likelihood.__getitem__
    parts: dict[str, tuple[float, Callable[[], Any]]] = {
        "records and patients (999 flips)": (
            12,
            lambda: score(confidences, member, patient, "complementary", threads=threads),
        ),
        "LiRA in all forms, all targets, ROC": (3, lambda: lira_of_all(confidences, member, threads, True)),
        "RMIA online and offline, all targets, ROC": (
            5,
            lambda: rmia_of_all(log_likelihood, member, 10_000, threads, True),
        ),
        "all attacks, ROC, calibrated thresholds": (
            12,
            lambda: attack_all(confidences, member, True, likelihood, seed=1, threads=threads),
        ),
    }
    print(f"200 × 377,110, {threads} threads")
    for name, (bound, action) in parts.items():
        seconds, _ = measured(f"  {name}", action, repeats=1)
        print(f"; bound {bound} s: {'met' if seconds < bound else 'MISSED'}")
    rng = np.random.default_rng(3)
    records = pd.DataFrame(
        {"record": [f"r{i}" for i in range(patient.size)], "patient": [f"p{p:06d}" for p in patient]}
    )
    groups = pd.DataFrame(
        {
            "sex": rng.choice(["female", "male"], patient.max() + 1)[patient],
            "view": rng.choice(["AP", "PA", "lateral"], patient.size),
        }
    ).astype("category")
    seconds, _ = measured(
        "  whole audit (the above, survival, subgroups with 1,999 permutations, convergence)",
        lambda: run_audit(
            confidences,
            member,
            records,
            groups,
            AuditOptions(),
            4,
            "complementary",
            log_likelihood.__getitem__,
            threads,
        ),
        repeats=1,
    )
    # Linux counts the peak in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
    print(f"; bound {BOUND_SECONDS} s: {'met' if seconds < BOUND_SECONDS else 'MISSED'}")
    print(f"  peak memory {peak:.2f} GiB, inputs included; bound {BOUND_GIB} GiB: ", end="")
    print("met" if peak < BOUND_GIB else "MISSED")


def beside_peers(checkouts: Path) -> None:
    """CPU time for the scores of all 200 targets on the common matrix, one thread, and the ratio to this package.

    A peer's time is that of one target (the better of two), the data handed over in its own form, times 200. This
    package's is that of all targets, LiRA with all of its forms and RMIA with both: more than the equal work.
    """
    sys.path.insert(0, str(Path(__file__).parents[1] / "validation"))
    from matrix import common_matrix
    from peers import PEERS, POPULATION, available, leakoscope_records

    matrix = common_matrix()
    patient, probability = matrix.patient, matrix.probability  # made here, not within a peer's time
    ours = {
        f"LiRA, {len(LIRA)} forms": lambda: lira_of_all(matrix.confidences, matrix.member, 1, False),
        "RMIA, 2 forms": lambda: rmia_of_all(matrix.log_likelihood, matrix.member, POPULATION, 1, False),
        "record AUC": lambda: [record_statistics(b.x, b.y) for b in blocks(matrix.confidences, matrix.member, patient)],
    }
    print(f"200 × {probability.shape[1]:,}, one thread, beside other tools")
    seconds = {}
    for name, action in ours.items():
        seconds[name.split(",")[0]] = measured(f"  this package, {name}", action, repeats=3)[1]
        print()
    found, missing = available(checkouts)
    for tool in PEERS:
        if tool in missing:
            print(f"  {tool}: not there ({missing[tool]})")
            continue
        for attack, one_target in found[tool].items():
            if attack == "loss":
                continue
            label = f"  {tool}, {attack}, one target"
            taken = measured(label, lambda run=one_target: run(matrix, 101), repeats=2)[1] * len(matrix.member)
            own = seconds["RMIA" if attack.startswith("rmia") else "LiRA"]
            print(f"; all targets {taken:.0f} s, ratio {taken / own:.0f}")
    if "leakoscope" in found:
        records = leakoscope_records(checkouts)
        taken = measured("  leakoscope, record AUC", lambda: records(matrix), repeats=3)[1]
        print(f"; ratio {taken / seconds['record AUC']:.1f}")


def main() -> None:
    """Print versions, hardware and every measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", type=Path, help="folder of other tools' checkouts; measures these alone")
    options = parser.parse_args()
    versions = f"tailrisk {__version__}, Python {platform.python_version()}"
    print(f"{versions}, numpy {np.__version__}, scipy {scipy.__version__}, pandas {pd.__version__}")
    print(cores_and_load())
    if options.peers:
        beside_peers(options.peers)
    else:
        ten_thousand()
        large(options.threads)


if __name__ == "__main__":
    main()
