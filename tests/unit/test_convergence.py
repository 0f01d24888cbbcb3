"""The audit on subsamples of models, against one record and one subsample at a time."""

import numpy as np
import pytest
from paired_scores import in_and_out, table
from scipy.special import ndtr
from scipy.stats import norm, spearmanr

from tailrisk.audit.convergence import convergence_table, subsamples, subset_moments
from tailrisk.audit.records import record_statistics
from tailrisk.audit.shrinkage import shrunk_auc

SIZES = [1, 3, 2, 1] * 60


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    effect = np.repeat(rng.exponential(0.7, len(SIZES)), SIZES)
    return table(12, SIZES, rng, effect, within_pair=-0.4)


def lookup(frame, quantity, models, auc=None):
    rows = frame[(frame["quantity"] == quantity) & (frame["n_models"] == models)]
    rows = rows if auc is None else rows[np.isclose(rows["auc"], auc)]
    assert len(rows) == 1
    return rows.iloc[0]


def by_hand(confidences, member, paired, chosen):
    """d, SE and shrunk AUC of every record from the chosen pairs, or models, one record at a time."""
    if paired:
        x, y = (values[chosen] for values in in_and_out(confidences, member))
        columns = [(x[:, r], y[:, r]) for r in range(x.shape[1])]
    else:
        z = confidences.astype(float)
        columns = [(z[chosen & member[:, r], r], z[chosen & ~member[:, r], r]) for r in range(z.shape[1])]
    result = []
    for x, y in columns:
        c = np.cov(x, y)[0, 1] if paired else 0.0
        v1, v0 = x.var(ddof=1), y.var(ddof=1)
        s2, difference = v1 + v0, x.mean() - y.mean()
        d = difference / np.sqrt(s2)
        variance = (v1 / len(x) + v0 / len(y) - 2 * c / len(x)) / s2
        variance += d**2 / (2 * s2**2) * (v1**2 / (len(x) - 1) + v0**2 / (len(y) - 1) + 2 * c**2 / (len(x) - 1))
        result.append((d, norm.pdf(d) * np.sqrt(variance), difference, v1, v0, len(x) - 1, len(y) - 1))
    d, se, difference, v1, v0, dof1, dof0 = np.array(result).T
    return d, se, shrunk_auc(difference, v1, v0, dof1, dof0)


def patient_maximum(d, patient):
    return np.array([d[patient == p].max() for p in range(patient.max() + 1)])


@pytest.mark.parametrize("paired", [True, False])
def test_every_number_is_that_of_the_subsampled_audit(data, paired):
    confidences, member, patient = data
    if not paired:  # fair coins for every model
        member = (np.random.default_rng(1).random((24, len(SIZES))) < 0.5)[:, patient]
    units = 12 if paired else 24
    got = convergence_table(confidences, member, patient, paired, seed=5)
    everything = by_hand(confidences, member, paired, np.ones(units, dtype=bool))
    tail = everything[0] >= np.sort(everything[0])[-4]  # 1 % of 420 records
    full = patient_maximum(everything[0], patient)
    found = [by_hand(confidences, member, paired, one) for one in subsamples(units, 10 if paired else 20, 5)]
    want = {name: [] for name in ("se_all", "se_tail", "error", "error_tail", "error_shrunk", "error_shrunk_tail",
                                  "rank_correlation", "tail_overlap")}  # fmt: skip
    for d, se, shrunk in found:
        best = patient_maximum(d, patient)
        want["se_all"].append(se.mean())
        want["se_tail"].append(se[tail].mean())
        for name, auc in (("error", ndtr(d)), ("error_shrunk", shrunk)):
            off = (auc - ndtr(everything[0])) ** 2
            want[name].append(np.sqrt(off.mean()))
            want[f"{name}_tail"].append(np.sqrt(off[tail].mean()))
        want["rank_correlation"].append(spearmanr(best, full).statistic)
        want["tail_overlap"].append(np.isin(np.argsort(-full)[:2], np.argsort(-best)[:2]).mean())
    for name, values in want.items():
        row = lookup(got, name, 20)
        # Moments are kept in float32, which moves an AUC by up to 1e-7.
        np.testing.assert_allclose([row["value"], row["low"], row["high"]],
                                   [np.mean(values), min(values), max(values)], atol=3e-7, err_msg=name)  # fmt: skip
    assert lookup(got, "se_all", 24)["value"] == pytest.approx(everything[1].mean(), abs=1e-7)
    for t in (0.6, 0.8, 0.99):
        assert lookup(got, "survival", 24, t)["value"] == pytest.approx((ndtr(full) >= t).mean(), abs=1e-12)
        shares = [(ndtr(patient_maximum(one[0], patient)) >= t).mean() for one in found]
        assert lookup(got, "survival", 20, t)["high"] == pytest.approx(max(shares), abs=1e-12)


def test_standard_error_by_all_models_is_that_of_the_audit(data):
    confidences, member, _ = data
    moments = subset_moments(confidences, member, np.ones((1, 12), dtype=bool), True, threads=1)
    x, y = in_and_out(confidences, member)
    statistics = record_statistics(x, y)  # 12 pairs: no record is tested for normality
    np.testing.assert_allclose(moments.difference[0], statistics.mean_in - statistics.mean_out, atol=1e-6)
    got = convergence_table(confidences, member, np.arange(x.shape[1]), True, seed=0)
    assert lookup(got, "se_all", 24)["value"] == pytest.approx(statistics.auc_se.mean(), abs=1e-7)


@pytest.mark.parametrize(("units", "size", "number"), [(100, 10, 8), (100, 25, 4), (100, 50, 2), (60, 50, 2)])
def test_subsamples_are_as_many_and_as_disjoint_as_they_can(units, size, number):
    chosen = subsamples(units, size, seed=3)
    assert chosen.shape == (number, units)
    assert (chosen.sum(axis=1) == size).all()
    overlap = chosen.astype(int) @ chosen.T
    assert (overlap - np.diag(np.diag(overlap))).max() == max(0, 2 * size - units)
    assert (subsamples(units, size, seed=4) != chosen).any()


def test_neither_threads_nor_the_order_of_records_matter(data):
    confidences, member, patient = (np.tile(one, 8) for one in data)
    patient = patient + np.repeat(np.arange(8) * len(SIZES), patient.size // 8)
    once = convergence_table(confidences, member, patient, True, seed=2)
    twice = convergence_table(confidences, member, patient, True, seed=2, threads=3)
    assert once.equals(twice)
    shuffled = np.random.default_rng(0).permutation(patient.size)
    other = convergence_table(confidences[:, shuffled], member[:, shuffled], patient[shuffled], True, seed=2)
    np.testing.assert_allclose(other["value"], once["value"], rtol=1e-10)


def test_constant_records_and_few_models_are_harmless(data):
    confidences, member, patient = data
    confidences = confidences.copy()
    confidences[:, :5] = 0.1
    got = convergence_table(confidences, member, patient, True, seed=0)
    assert np.isfinite(got[["value", "low", "high"]].to_numpy()).all()
    for models in (4, 6):
        few = convergence_table(confidences[:models], member[:models], patient, True, seed=0)
        assert set(few["quantity"]) == {"se_all", "se_tail", "survival"}
    with pytest.raises(ValueError, match="only 2"):
        convergence_table(confidences[:2], member[:2], patient, True, seed=0)
