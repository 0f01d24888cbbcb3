"""Time and memory of the statistics, on simulated confidence tables of 200 target models.

python benchmarks/scoring.py: prints each measure beside its yardstick or bound. The yardsticks at 10,000 records are
plain vectorised numpy on 2 cores; the bounds at 377,110 records (the size of MIMIC-CXR) are the project's own.
"""

import platform
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import scipy
from machine import cores_and_load
from numpy.typing import NDArray

from tailrisk import __version__
from tailrisk.attacks.lira import lira_online
from tailrisk.attacks.roc import roc
from tailrisk.audit.audit import AuditOptions, run_audit
from tailrisk.audit.pairs import blocks
from tailrisk.audit.records import record_statistics

PAIRS = 100
YARDSTICKS = {"record AUC": 0.035, "LiRA, all targets": 0.37}
BOUND_SECONDS, BOUND_GIB = 60, 6


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


def measured(label: str, action: Callable[[], Any], repeats: int) -> float:
    """Best wall time of `repeats` runs in seconds, printed with its CPU time."""
    best, cpu = np.inf, np.inf
    for _ in range(repeats):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        action()
        wall = time.perf_counter() - wall_start
        if wall < best:
            best, cpu = wall, time.process_time() - cpu_start
    print(f"{label}: {best:.3f} s wall, {cpu:.3f} s CPU", end="")
    return best


def ten_thousand() -> None:
    """Record statistics and leave-pair-out LiRA of 200 models × 10,000 records."""
    confidences, member, patient = confidence_table(10_000, 10_000, seed=1)
    actions = {
        "record AUC": lambda: [record_statistics(b.x, b.y) for b in blocks(confidences, member, patient)],
        "LiRA, all targets": lambda: [roc(scores, member[m]) for m, scores in lira_online(confidences, member)],
    }
    print("200 × 10,000")
    for name, action in actions.items():
        seconds = measured(f"  {name}", action, repeats=5)
        yardstick = YARDSTICKS[name]
        print(f"; yardstick {yardstick} s, ratio {seconds / yardstick:.1f} (accepted up to 3)")


def whole_audit() -> None:
    """run_audit of 200 models × 377,110 records of 65,379 patients, with two group variables."""
    confidences, member, patient = confidence_table(377_110, 65_379, seed=2)
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
    print("200 × 377,110")
    seconds = measured(
        "  whole audit (999 flips, LiRA of all targets, survival, 2 × 1,999 permutations)",
        lambda: run_audit(confidences, member, records, groups, AuditOptions(), seed=4),
        repeats=1,
    )
    # Linux counts the peak in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
    print(f"; bound {BOUND_SECONDS} s: {'met' if seconds < BOUND_SECONDS else 'MISSED'}")
    print(f"  peak memory {peak:.2f} GiB, inputs included; bound {BOUND_GIB} GiB: ", end="")
    print("met" if peak < BOUND_GIB else "MISSED")


def main() -> None:
    """Print versions, hardware and every measure."""
    versions = f"tailrisk {__version__}, Python {platform.python_version()}"
    print(f"{versions}, numpy {np.__version__}, scipy {scipy.__version__}, pandas {pd.__version__}")
    print(cores_and_load())
    ten_thousand()
    whole_audit()


if __name__ == "__main__":
    main()
