"""The statistics against simulations whose truth is known: python validation/simulate.py [--full] [--threads N].

Prints a Markdown table, one row a check, and ends with status 1 if a row is not as it should be. Without --full it is
the small version that the tests run, of a few seconds; --full takes some minutes. Seeds are fixed. Limits are binomial
(or those of a mean by Student's t), at 99.9 % for the number of repetitions, around the stated value; rows of
methods known to be wrong show that the limits are narrow enough to see them.
"""

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from checks import Check, mean, share, table
from numpy.typing import NDArray
from scipy import stats
from scipy.integrate import quad
from scipy.special import ndtr, ndtri
from scipy.stats import false_discovery_control

from tailrisk.attacks.aggregate import ATTACKS, attack_all
from tailrisk.attacks.roc import roc
from tailrisk.audit.design import Design
from tailrisk.audit.planning import flip_power
from tailrisk.audit.records import Z95, record_statistics
from tailrisk.audit.score import score
from tailrisk.audit.subgroups import SubgroupOptions, subgroup_tests

Noise = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Standard normal noise."""
    return rng.standard_normal(shape)


def student(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Student's t with 5 degrees of freedom: heavy tails, as confidences may have."""
    return rng.standard_t(5, shape)


_NAMES: dict[Noise, str] = {normal: "normal", student: "t (5)"}


def membership(design: Design, models: int, patients: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Membership [M, P] of patients as the design draws it."""
    if design == "complementary":
        coins = rng.random((models // 2, patients)) < 0.5
        return np.stack([coins, ~coins], axis=1).reshape(models, patients)
    if design == "balanced":
        return rng.permuted(np.repeat(np.arange(models)[:, None] < models // 2, patients, axis=1), axis=0)
    return rng.random((models, patients)) < 0.5


def confidence_table(
    design: Design,
    models: int,
    sizes: NDArray[np.integer],
    rng: np.random.Generator,
    effect: NDArray[np.float64] | float = 0.0,
    noise: Noise = normal,
    within_patient: float = 0.5,
    within_pair: float = -0.5,
    across_patients: float = 0.0,
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.intp]]:
    """Confidences [M, N], membership [M, N], patient [N] of patients with so many records each.

    effect: added to the scores of members, per record, in units of the noise; the correlations are those of a record's
    two scores in a pair, of a patient's records and of different patients under one model.
    """
    patient = np.repeat(np.arange(sizes.size), sizes)
    member = membership(design, models, sizes.size, rng)[:, patient]
    pair = within_pair if design == "complementary" else 0.0
    scores = np.sqrt(1 - within_patient) * _paired(noise(rng, (models, patient.size)), pair)
    scores += np.sqrt(within_patient) * _paired(noise(rng, (models, sizes.size)), pair)[:, patient]
    scores = np.sqrt(1 - across_patients) * scores + np.sqrt(across_patients) * noise(rng, (models, 1))
    return (scores + effect * member).astype(np.float32), member, patient


def _paired(values: NDArray[np.float64], correlation: float) -> NDArray[np.float64]:
    values[1::2] = correlation * values[0::2] + np.sqrt(1 - correlation**2) * values[1::2]
    return values


def effect_of(auc: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Shift of unit noise that gives an AUC."""
    return np.sqrt(2) * ndtri(auc)


def false_alarms(patients: int, threads: int) -> list[Check]:
    """p-values of patients without any leak, whose number of records varies from 1 to 20."""
    settings: list[tuple[Design, int, Noise]] = [
        ("complementary", 100, normal),
        ("complementary", 100, student),
        ("complementary", 20, normal),
        ("balanced", 100, normal),
        ("independent", 100, normal),
    ]
    checks, sizes = [], np.resize([1, 2, 5, 20], patients)
    for number, (design, models, noise) in enumerate(settings):
        rng = np.random.Generator(np.random.Philox(key=[1, number]))
        data = confidence_table(design, models, sizes, rng, noise=noise, within_patient=0.7, within_pair=-0.8)
        scored = score(*data, design, seed=number, threads=threads)
        setting = f"{design}, {models} models, {_NAMES[noise]} scores, 1 to 20 records"
        for level in (0.05, 0.01, 0.001):
            hits = int((scored.patients["p_value"] <= level).sum())
            checks.append(share(f"patients with p ≤ {level}", setting, hits, patients, (level, level)))
        hits = int((scored.patients["joint_p"] <= 0.05).sum())
        checks.append(share("patients with p ≤ 0.05, joint attack", setting, hits, patients, (0.05, 0.05)))
        if number == 0:
            z = scored.patients["d"] / scored.patients["d_se"]
            what = "the same from the best record's standard error alone"
            checks.append(share(what, setting, int((z >= ndtri(0.95)).sum()), patients, (0.05, 0.05), contrast=True))
    return checks


def false_discoveries(tables: int, patients: int, threads: int) -> list[Check]:
    """Benjamini–Hochberg at q ≤ 0.1 where one patient in ten leaks (AUC 0.75)."""
    checks = []
    leaks = np.arange(patients) % 10 == 0
    for across in (0.0, 0.9):
        rng = np.random.Generator(np.random.Philox(key=[2, int(10 * across)]))
        wrong = np.empty((2, tables))
        for i in range(tables):
            effect, ones = np.where(leaks, effect_of(0.75), 0.0), np.ones(patients, dtype=int)
            data = confidence_table("complementary", 100, ones, rng, effect=effect, across_patients=across)
            p = score(*data, "complementary", seed=i, threads=threads).patients["p_value"]
            for row, found in enumerate((false_discovery_control(p) <= 0.1, p <= 0.05)):
                wrong[row, i] = (found & ~leaks).sum() / max(1, found.sum())
        setting = f"{patients} patients, scores correlated {across} across patients"
        value, error = wrong.mean(axis=1), wrong.std(axis=1, ddof=1) / np.sqrt(tables)
        checks.append(mean("false among those with q ≤ 0.1", setting, value[0], error[0], tables, (0.0, 0.09)))
        if across == 0:
            what = "false among those with p ≤ 0.05, uncorrected"
            checks.append(mean(what, setting, value[1], error[1], tables, (0.0, 0.09), contrast=True))
    return checks


def record_coverage(records: int) -> list[Check]:
    """95 % intervals of a record's AUC from 100 pairs: bi-normal, and DeLong's of the rank AUC."""
    settings: list[tuple[str, Noise, float, float, tuple[float, float]]] = [
        ("normal scores", normal, 1.0, 0.0, (0.94, 0.96)),
        ("normal, IN spread 3 times OUT, pair correlation −0.8", normal, 3.0, -0.8, (0.94, 0.96)),
        ("t with 5 degrees of freedom", student, 1.0, 0.0, (0.90, 0.96)),
    ]
    checks = []
    for number, (setting, noise, ratio, pair, expected) in enumerate(settings):
        for auc in (0.5, 0.9, 0.99):
            rng = np.random.Generator(np.random.Philox(key=[3, 1000 * number + int(100 * auc)]))
            first, second = noise(rng, (2, 100, records))
            variance = 1.0 if noise is normal else 5 / 3
            shift = ndtri(auc) * np.sqrt((1 + ratio**2) * variance)
            got = record_statistics(shift + ratio * first, pair * first + np.sqrt(1 - pair**2) * second)
            what, where = "95 % intervals that hold the AUC", f"{setting}, AUC {auc}"
            hits = int(((got.auc_low <= auc) & (auc <= got.auc_high)).sum())
            checks.append(share(what, where, hits, records, expected))
            truth = auc if noise is normal else _wins_of_student(shift)
            hits = int(((got.auc_empirical_low <= truth) & (truth <= got.auc_empirical_high)).sum())
            # DeLong's interval errs on the safe side where nearly every IN value is above every OUT value.
            safe = (expected[0], 0.98) if auc == 0.99 else expected
            checks.append(share(f"{what}, rank AUC", where, hits, records, safe))
            if number == 1 and auc == 0.5:
                blind = Z95 * np.sqrt(1 / 100 + got.d**2 / 4 * 1 / 99)
                hits = int((np.abs(got.d - ndtri(auc)) <= blind).sum())
                checks.append(
                    share("the same without the pair's covariance", where, hits, records, expected, contrast=True)
                )
    return checks


def _wins_of_student(shift: float) -> float:
    t = stats.t(5)
    return float(quad(lambda y: t.sf(y - shift) * t.pdf(y), -np.inf, np.inf)[0])


def patient_coverage(patients: int, threads: int) -> list[Check]:
    """95 % intervals of a patient's largest AUC, selected among several."""
    settings = {
        "2 records of AUC 0.8": [0.8] * 2,
        "20 records of AUC 0.7": [0.7] * 20,
        "1 record of AUC 0.9 among 20 of 0.5": [0.9] + [0.5] * 19,
    }
    checks = []
    for number, (setting, aucs) in enumerate(settings.items()):
        rng = np.random.Generator(np.random.Philox(key=[4, number]))
        effect = np.tile(effect_of(np.array(aucs)), patients)
        data = confidence_table("complementary", 200, np.full(patients, len(aucs)), rng, effect=effect)
        got, truth = score(*data, "complementary", seed=number, threads=threads).patients, max(aucs)
        hits = int(((got["auc_low"] <= truth) & (truth <= got["auc_high"])).sum())
        # Conservative by design: between the nominal level and certainty.
        checks.append(share("95 % intervals that hold the largest AUC", setting, hits, patients, (0.945, 1.0)))
        if number == 1:
            low, high = (ndtr(got["d"] + sign * Z95 * got["d_se"]) for sign in (-1, 1))
            hits = int(((low <= truth) & (truth <= high)).sum())
            what = "the same with the best record's own interval"
            checks.append(share(what, setting, hits, patients, (0.945, 1.0), contrast=True))
    return checks


def power(patients: int, threads: int) -> list[Check]:
    """Share of leaking patients found at p ≤ 0.001, beside the planned power."""
    checks = []
    for models in (20, 50, 100, 200):
        aucs = np.array([0.6, 0.7, 0.8, 0.9])
        rng = np.random.Generator(np.random.Philox(key=[5, models]))
        effect = np.repeat(effect_of(aucs), patients)
        ones = np.ones(effect.size, dtype=int)
        data = confidence_table("complementary", models, ones, rng, effect=effect, within_pair=-0.3)
        p = score(*data, "complementary", seed=models, threads=threads).patients["p_value"].reshape(aucs.size, -1)
        for auc, found in zip(aucs, (p <= 0.001).sum(axis=1), strict=True):
            planned = float(flip_power(auc, models // 2, 0.001, correlation=-0.3))
            slack = 0.03 if models >= 32 else 0.1  # what the plan's paired t-test is good for
            expected = max(0.0, planned - slack), min(1.0, planned + slack)
            what = f"leaking patients with p ≤ 0.001 (planned {planned:.2f})"
            checks.append(share(what, f"{models} models, AUC {auc}", int(found), patients, expected))
    return checks


def subgroups(repeats: int) -> list[Check]:
    """Tests of a group that has nothing to do with the risk, at 5 %."""
    checks = []
    patients, options = 300, SubgroupOptions(tail=0.05, permutations=99)
    for number, setting in enumerate(("20 similar records a patient", "records and risk grow together, and by group")):
        rng = np.random.Generator(np.random.Philox(key=[6, number]))
        rejected = np.zeros(2, dtype=int)
        for i in range(repeats):
            group = rng.integers(0, 2, patients)
            sizes = np.full(patients, 20) if number == 0 else rng.integers(1 + 2 * group, 5 + 2 * group)
            patient = np.repeat(np.arange(patients), sizes)
            d = (rng.standard_normal(patients) + 0.2 * sizes)[patient] + 0.3 * rng.standard_normal(patient.size)
            groups = pd.DataFrame({"group": np.array(["a", "b"])[group][patient]})
            ties = rng.integers(0, 2**63, patient.size, dtype=np.uint64)
            result = subgroup_tests(d, ties, patient, groups, options, seed=i)
            row = result.table.query("unit == 'record'").iloc[0]
            rejected += np.array([row["p_clustered"], row["p_value"]]) <= 0.05
        what = "tests with p ≤ 0.05, permutation of patients"
        checks.append(share(what, setting, int(rejected[0]), repeats, (0.02, 0.05)))
        checks.append(share("the same, plain χ²", setting, int(rejected[1]), repeats, (0.02, 0.05), contrast=True))
    return checks


def attacks(tables: int, threads: int) -> list[Check]:
    """Mean AUC of every aggregate attack on models that have learnt nothing from anybody."""
    designs: list[Design] = ["complementary", "balanced", "independent"]
    checks, sizes = [], np.full(200, 2)
    for number, design in enumerate(designs):
        rng = np.random.Generator(np.random.Philox(key=[7, number]))
        aucs: dict[str, list[float]] = {attack: [] for attack in (*ATTACKS, _IN_ITS_REFERENCES)}
        models = 80 if design == "independent" else 30  # LiRA online needs more where counts vary
        for i in range(tables):
            confidences, member, _ = confidence_table(design, models, sizes, rng)
            log_likelihood = -np.logaddexp(0, -confidences)
            found = attack_all(confidences, member, design == "complementary", log_likelihood.__getitem__, i, threads)
            for attack in ATTACKS:
                aucs[attack].append(found.summary[attack]["auc"])
            aucs[_IN_ITS_REFERENCES].append(_auc_in_its_references(confidences, member))
        for attack, values in aucs.items():
            value, error = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(tables))
            what = f"mean AUC without a leak, {attack}"
            wrong = attack == _IN_ITS_REFERENCES
            checks.append(mean(what, f"{design}, {models} models", value, error, tables, (0.5, 0.5), contrast=wrong))
    return checks


_IN_ITS_REFERENCES = "LiRA with the target among its references"


def _auc_in_its_references(confidences: NDArray[np.float32], member: NDArray[np.bool_]) -> float:
    inside, outside = (np.where(side, confidences, np.nan) for side in (member, ~member))
    ratio = [stats.norm.logpdf(confidences, np.nanmean(x, axis=0), np.nanstd(x, axis=0)) for x in (inside, outside)]
    scores = (ratio[0] - ratio[1]).astype(np.float32)
    return float(np.mean([roc(row, mask).auc for row, mask in zip(scores, member, strict=True)]))


def simulations(full: bool, threads: int = 1) -> list[Check]:
    """All checks, in the small or in the full size."""
    return [
        *false_alarms(20_000 if full else 400, threads),
        *false_discoveries(300 if full else 15, 1000 if full else 200, threads),
        *record_coverage(20_000 if full else 1000),
        *patient_coverage(5000 if full else 150, threads),
        *power(5000 if full else 300, threads),
        *subgroups(2000 if full else 20),
        *attacks(400 if full else 6, threads),
    ]


def main() -> int:
    """Print the table; 1 if a row is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="many repetitions, some minutes")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    start = time.perf_counter()
    checks = simulations(options.full, options.threads)
    print(table(checks))
    failed = sum(not one.passed for one in checks)
    print(f"\n{len(checks)} checks, {failed} not as they should be; {time.perf_counter() - start:.0f} s", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
