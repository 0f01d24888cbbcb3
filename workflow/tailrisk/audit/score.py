"""Record and patient statistics of a whole confidence table, block by block of whole patients on several threads."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tailrisk.audit import flips, joint
from tailrisk.audit.balanced import BALANCED
from tailrisk.audit.design import Design, check
from tailrisk.audit.pairs import Span, read_block, spans
from tailrisk.audit.patients import INTERVAL_FLIPS, patient_interval, patient_p
from tailrisk.audit.records import record_statistics
from tailrisk.audit.survival import NullCurves
from tailrisk.audit.tails import COINS, TAIL_P, Law, record_tail_p, sampling_uniforms

RECORD_COLUMNS = (
    "mean_in",
    "std_in",
    "mean_out",
    "std_out",
    "auc",
    "auc_se",
    "auc_low",
    "auc_high",
    "auc_se_hanley_mcneil",
    "auc_empirical",
    "auc_empirical_low",
    "auc_empirical_high",
    "auc_likelihood_ratio",
    "tpr_at_fpr_1e2",
    "tpr_at_fpr_1e3",
    "normality_p",
    "d",
    "d_se",
    "not_normal",
    "degenerate",
)
LINEAR_COLUMNS = ("auc_joint_linear", "joint_linear_low", "joint_linear_high")


@dataclass(frozen=True)
class Scored:
    """Statistics of N records and P patients, and their null.

    records: n_in, n_out (int32), RECORD_COLUMNS (float64; not_normal and degenerate bool) and p_value, arrays [N].
    patients: n_records (int32), auc (largest of the records), auc_mean, auc_low, auc_high, auc_empirical,
    auc_median_unbiased, d and d_se (of the record with the largest d), p_value, auc_joint, joint_low, joint_high,
    joint_p, and where asked for auc_joint_linear, joint_linear_low, joint_linear_high, arrays [P] by patient code. The
    linear attack has no p-value, and its interval is too narrow, see `joint.linear`.
    null: expected survival curves; largest [F]: the largest statistic of all patients under every relabelling, for
    `flips.familywise_auc` with n = `pairs`. Under the design `unknown` p-values are NaN, largest is None and the
    curves are NaN. pairs: half the number of models.
    """

    records: dict[str, NDArray]
    patients: dict[str, NDArray]
    null: NullCurves
    largest: NDArray[np.float32] | None
    pairs: float


@dataclass(frozen=True)
class _Null:
    """Relabellings of a design: signs [rows of v, F]; coins_of_models: whether the number of IN models varies; uniforms
    for small p-values under their law, None where the signs are all labellings and p-values exact as they are."""

    signs: NDArray[np.float32]
    coins_of_models: bool
    law: Law
    uniforms: NDArray[np.float32] | None


@dataclass(frozen=True)
class _Plan:
    """What every block needs."""

    paired: bool
    pairs: float
    null: _Null | None
    interval_signs: NDArray[np.float32]
    linear: bool


@dataclass(frozen=True)
class _Part:
    """The results of one block."""

    span: Span
    records: dict[str, NDArray]
    patients: dict[str, NDArray]
    null: NullCurves
    largest: NDArray[np.float32] | None


def score(
    confidences: NDArray[np.float32],
    member: NDArray[np.bool_],
    patient: NDArray[np.integer],
    design: Design,
    n_flips: int = 999,
    linear: bool = False,
    seed: int = 0,
    threads: int = 1,
) -> Scored:
    """Statistics of confidences [M, N] (array or memory map) with membership [M, N]; patient [N]: codes 0 … P − 1.

    n_flips: common random relabellings; linear: also the fitted joint attack; threads: blocks handled at once, without
    influence on any result. Memory grows by a few hundred bytes a record beside the inputs, and by some 50 MB a thread.
    Raises UserError for a table that cannot be audited or contradicts the stated design.
    """
    check(design, confidences, member, patient)
    models, n_records = confidences.shape
    sizes = np.bincount(patient)
    paired = design == "complementary"
    plan = _Plan(
        paired=paired,
        pairs=models / 2,
        null=_null(design, models, n_flips, seed, int(sizes.max())),
        interval_signs=flips.sign_flips(models // 2 if paired else models, INTERVAL_FLIPS, seed + 2),
        linear=linear,
    )
    n_in = np.full(n_records, models // 2) if paired else np.count_nonzero(member, axis=0)
    records: dict[str, NDArray] = {"n_in": n_in.astype(np.int32), "n_out": (models - n_in).astype(np.int32)}
    patients: dict[str, NDArray] = {"n_records": sizes.astype(np.int32)}
    curves, largest = NullCurves(plan.pairs), None
    work = partial(_score_span, confidences, member, plan)
    # Many small matrix products: threads of the linear algebra library's own would wait for each other.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        for part in pool.map(work, spans(patient, strata=None if paired else n_in)):
            _place(records, part.records, part.span.columns, n_records)
            _place(patients, part.patients, part.span.patient, sizes.size)
            curves.merge(part.null)
            if part.largest is not None:
                largest = part.largest if largest is None else np.maximum(largest, part.largest)
    return Scored(records, patients, curves, largest, plan.pairs)


def _null(design: Design, models: int, n_flips: int, seed: int, largest_patient: int) -> _Null | None:
    if design == "unknown":
        return None
    balanced = design == "balanced"
    rows = models // 2 if design == "complementary" else models
    signs = (flips.balanced_flips if balanced else flips.sign_flips)(rows, n_flips, seed)
    exact = flips.is_exhaustive(signs, balanced)
    uniforms = None if exact else sampling_uniforms(rows, seed + 1, largest_patient)
    return _Null(signs, design == "independent", BALANCED if balanced else COINS, uniforms)


def _place(table: dict[str, NDArray], part: dict[str, NDArray], where: NDArray[np.intp], size: int) -> None:
    for name, values in part.items():
        if name not in table:
            table[name] = np.empty(size, dtype=values.dtype)
        table[name][where] = values


def _score_span(confidences: NDArray[np.float32], member: NDArray[np.bool_], plan: _Plan, span: Span) -> _Part:
    block = read_block(confidences, member, span, plan.paired)
    statistics = record_statistics(block.x, block.y, plan.paired)
    interval = patient_interval(statistics, span.starts, span.sizes, plan.interval_signs)
    best = _best_record(statistics.d, span)
    records: dict[str, NDArray] = {name: getattr(statistics, name) for name in RECORD_COLUMNS}
    patients: dict[str, NDArray] = {
        "auc": statistics.auc[best],
        "auc_mean": np.add.reduceat(statistics.auc, span.starts) / span.sizes,
        "auc_low": interval.low,
        "auc_high": interval.high,
        "auc_empirical": flips.patient_maximum(statistics.auc_empirical, span.starts, span.sizes),
        "auc_median_unbiased": interval.median_unbiased,
        "d": statistics.d[best],
        "d_se": statistics.d_se[best],
    }
    several = np.repeat(span.sizes > 1, span.sizes)
    sizes = span.sizes[span.sizes > 1]
    x, y = block.x[:, several], block.y[:, several]
    joint_x, joint_y = joint.equal_weight(x, y, np.cumsum(sizes) - sizes)
    pooled = record_statistics(joint_x, joint_y, plan.paired)
    for name, column in (("auc_joint", "auc"), ("joint_low", "auc_low"), ("joint_high", "auc_high")):
        patients[name] = _joined(getattr(statistics, column), getattr(pooled, column), span)
    if plan.linear:
        fitted = record_statistics(*joint.linear(x, y, sizes, plan.paired), plan.paired)
        for name, column in zip(LINEAR_COLUMNS, ("auc", "auc_low", "auc_high"), strict=True):
            patients[name] = _joined(getattr(statistics, column), getattr(fitted, column), span)

    curves = NullCurves(plan.pairs)
    if plan.null is None:
        records["p_value"] = np.full(span.columns.size, np.nan)
        patients["p_value"], patients["joint_p"] = np.full((2, span.patient.size), np.nan)
        return _Part(span, records, patients, curves, None)
    v, observed, null, p = _tested(block.x, block.y, plan.paired, plan.null)
    maxima = flips.patient_maximum(null, span.starts, span.sizes)
    records["p_value"] = p
    patients["p_value"] = patient_p(v, observed, maxima, p, span.starts, span.sizes, plan.null.uniforms, plan.null.law)
    _, _, joint_null, joint_p = _tested(joint_x, joint_y, plan.paired, plan.null)
    patients["joint_p"] = _joined(p, joint_p, span)
    if plan.null.coins_of_models:
        # Patients with fewer than two models on a side are not audited: the others' p is that given that they are.
        audited = 1 - 2 * (len(block.x) + len(block.y) + 1) / 2.0 ** min(len(block.x) + len(block.y), 1000)
        for table, name in ((records, "p_value"), (patients, "p_value"), (patients, "joint_p")):
            table[name] = np.minimum(table[name] / audited, 1.0)
        # From here on it is about AUCs, which not all labellings read alike from u.
        scale = flips.auc_scale(plan.null.signs, len(block.x))
        null, maxima, joint_null = null * scale, maxima * scale, joint_null * scale
    curves.add(null, maxima, span.starts, _joined(null, joint_null, span))
    return _Part(span, records, patients, curves, maxima.max(axis=0))


def _tested(
    x: NDArray[np.float64], y: NDArray[np.float64], paired: bool, null: _Null
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """v, observed statistics [B], null statistics [B, F] and p-values [B] of records."""
    v = flips.scaled_differences(x, y) if paired else flips.scaled_contributions(x, y)
    observed, sums = flips.observed_statistics(v), flips.null_statistics(v, null.signs)
    p = flips.flip_p(observed, sums, len(v))
    if null.uniforms is not None:
        small = np.flatnonzero(p < TAIL_P)
        p[small] = record_tail_p(v[:, small], null.uniforms, null.law)
    return v, observed, sums, p


def _joined(of_records: NDArray, of_several: NDArray, span: Span) -> NDArray:
    """One row per patient: `of_several` for those with several records; the pseudo-record of one record is itself."""
    result = of_records[span.starts]
    result[span.sizes > 1] = of_several
    return result


def _best_record(d: NDArray[np.float64], span: Span) -> NDArray[np.intp]:
    """Row of each patient's record with the largest d, the first of equals."""
    largest = np.repeat(flips.patient_maximum(d, span.starts, span.sizes), span.sizes)
    return np.minimum.reduceat(np.where(d == largest, np.arange(d.size), d.size), span.starts)
