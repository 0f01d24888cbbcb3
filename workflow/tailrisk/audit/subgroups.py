"""Who is in the tail: representation of groups among the records with the highest AUC."""

import hashlib
import zlib
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2

COLUMNS = [
    "variable",
    "group",
    "n",
    "share",
    "tail_n",
    "tail_expected",
    "tail_share",
    "relative_change",
    "residual",
    "statistic",
    "dof",
    "p_value",
    "p_clustered",
    "p_adjusted",
    "tail_expected_clustered",
]


def tie_breakers(record: NDArray[np.str_], seed: int) -> NDArray[np.uint64]:
    """A random number per record [N] that depends on its id and the seed alone, not on its place in the table."""
    digests = (hashlib.blake2b(f"tailrisk tail\0{seed}\0{one}".encode(), digest_size=8).digest() for one in record)
    return np.frombuffer(b"".join(digests), dtype="<u8")


def tail_records(d: NDArray[np.float64], ties: NDArray[np.uint64], tail: float) -> NDArray[np.intp]:
    """Positions of the ⌊tail·N⌋ records (at least one) with the highest d, which orders where Φ(d) has reached 1;
    equal ones by `ties`."""
    size = max(1, int(tail * d.size * (1 + 1e-12)))
    return np.lexsort((ties, -d))[:size]


def subgroup_tests(
    d: NDArray[np.float64],
    ties: NDArray[np.uint64],
    patient: NDArray[np.integer],
    groups: pd.DataFrame,
    tail: float,
    permutations: int,
    seed: int,
) -> tuple[pd.DataFrame, list[dict[str, str]], dict[str, int]]:
    """Table of groups (the `subgroups` contract), the variables that were skipped, with reasons, and for each other
    variable the number of patients who are alone in their stratum (`Clustered`).

    d, ties, patient [N]; groups: N rows, one column a variable, missing = unknown (dropped for that variable, also
    before the tail is taken). As published: expected = share × tail size, residual = (O − E)/√E, χ² of the tail
    against all known records. Valid when patients have several records: p_clustered and tail_expected_clustered
    (`clustered_test`), the p Holm-adjusted over the variables as p_adjusted.
    """
    parts: list[pd.DataFrame] = []
    skipped: list[dict[str, str]] = []
    alone: dict[str, int] = {}
    # Random permutations must not meet the records in the order of the file.
    order = np.lexsort((ties, patient))
    d, ties, patient, groups = d[order], ties[order], patient[order], groups.iloc[order]
    for variable in groups.columns:
        values = groups[variable]
        known = np.flatnonzero(values.notna().to_numpy())
        labels, names = pd.factorize(values.iloc[known].astype(str), sort=True)
        if len(names) < 2:
            reason = "only one known group" if len(names) else "no known values"
            skipped.append({"variable": str(variable), "reason": reason})
            continue
        labels = labels.astype(np.intp)
        chosen = tail_records(d[known], ties[known], tail)
        part = _published(labels, np.asarray(names), chosen)
        part.insert(0, "variable", str(variable))
        rng = np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(str(variable).encode())]))
        clustered = clustered_test(labels, patient[known], chosen, permutations, rng)
        part["p_clustered"] = clustered.p_value
        part["tail_expected_clustered"] = clustered.expected
        alone[str(variable)] = clustered.alone
        parts.append(part)
    if not parts:
        return pd.DataFrame(columns=COLUMNS), skipped, alone
    adjusted = holm(np.array([part["p_clustered"].iloc[0] for part in parts]))
    for part, p in zip(parts, adjusted, strict=True):
        part["p_adjusted"] = p
    return pd.concat(parts, ignore_index=True)[COLUMNS], skipped, alone


def _published(labels: NDArray[np.intp], names: NDArray, chosen: NDArray[np.intp]) -> pd.DataFrame:
    n = np.bincount(labels, minlength=names.size)
    share = n / labels.size
    tail_n = np.bincount(labels[chosen], minlength=names.size)
    expected = share * chosen.size
    statistic = float(((tail_n - expected) ** 2 / expected).sum())
    return pd.DataFrame(
        {
            "group": names,
            "n": n,
            "share": share,
            "tail_n": tail_n,
            "tail_expected": expected,
            "tail_share": tail_n / chosen.size,
            "relative_change": (tail_n - expected) / expected,
            "residual": (tail_n - expected) / np.sqrt(expected),
            "statistic": statistic,
            "dof": names.size - 1,
            "p_value": float(chi2.sf(statistic, names.size - 1)),
        }
    )


class Clustered(NamedTuple):
    """p-value of the tail's composition, expected records of each group in the tail, and the number of patients with
    a number of records that no other has: their labels cannot move to anybody else."""

    p_value: float
    expected: NDArray[np.float64]
    alone: int


def clustered_test(
    labels: NDArray[np.intp],
    patient: NDArray[np.integer],
    chosen: NDArray[np.intp],
    permutations: int,
    rng: np.random.Generator,
) -> Clustered:
    """Permutation test of the tail's composition that moves the labels of whole patients.

    labels, patient [N]: group number and patient of each record; chosen: positions of the tail. Label vectors move
    between patients with equal numbers of records, so that neither repeated records nor a number of records that
    differs by group can pass for an effect of the group; and labels change places within each vector, so that a
    variable that differs between a patient's records in a fixed order (frontal, lateral) is seen, too. With
    E_g = Σ_strata tail_s · share_{g|s} the statistic is X² = Σ (O − E)²/E, and
    p = (1 + #{X² permuted ≥ observed})/(permutations + 1).
    """
    groups = int(labels.max()) + 1
    order = np.argsort(patient, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(patient[order]) != 0])
    sizes = np.diff(np.append(starts, labels.size))
    in_tail = np.zeros(labels.size, dtype=bool)
    in_tail[chosen] = True
    in_tail, labels = in_tail[order], labels[order]

    observed = np.bincount(labels[in_tail], minlength=groups)
    expected = np.zeros(groups)
    permuted = np.zeros((permutations, groups))
    for size in np.unique(sizes):
        rows = starts[sizes == size][:, None] + np.arange(size)  # [patients of this stratum, records]
        tail = in_tail[rows]
        if not tail.any():
            continue
        vectors = labels[rows]
        counts = np.bincount(vectors.ravel(), minlength=groups)
        expected += tail.sum() * counts / counts.sum()
        if size == 1:
            permuted += rng.multivariate_hypergeometric(counts, int(tail.sum()), permutations, method="marginals")
        else:
            permuted += _permuted_counts(vectors, tail, groups, permutations, rng)
    used = expected > 0
    statistic = ((permuted[:, used] - expected[used]) ** 2 / expected[used]).sum(axis=1)
    limit = ((observed[used] - expected[used]) ** 2 / expected[used]).sum() * (1 - 1e-9)
    p = float((1 + np.count_nonzero(statistic >= limit)) / (permutations + 1))
    return Clustered(p, expected, int(np.count_nonzero(np.bincount(sizes) == 1)))


def _permuted_counts(
    vectors: NDArray[np.intp],
    tail: NDArray[np.bool_],
    groups: int,
    permutations: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Tail records per group [permutations, groups] of one stratum; vectors, tail [patients, records each].

    Only the patients with tail records need a label vector, so each permutation draws that many, in order and
    without replacement.
    """
    holders, position = np.nonzero(tail)
    holder_number = np.unique(holders, return_inverse=True)[1]
    needed = int(holder_number.max()) + 1
    varies = bool((vectors != vectors[:, :1]).any())
    result = np.empty((permutations, groups), dtype=np.int64)
    for i in range(permutations):
        moved = vectors[rng.choice(len(vectors), needed, replace=False)]
        if varies:
            moved = rng.permuted(moved, axis=1)
        result[i] = np.bincount(moved[holder_number, position], minlength=groups)
    return result


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm's step-down adjustment of p-values [m]."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)), 1.0)
    return adjusted
