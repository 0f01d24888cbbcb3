"""All aggregate attacks together: against loops, without a leak, with one, and where they cannot run."""

import numpy as np
import pytest
from attacked_tables import DESIGNS, designed, folds_by_target
from test_attack_r import scores_of
from test_lira import brute_force as lira_by_loop
from test_rmia import brute_force as rmia_by_loop
from test_roc import pairwise_auc, rounded

from tailrisk.attacks.aggregate import ATTACKS, attack_all
from tailrisk.attacks.roc import FPR_GRID, PRIORS, REPORTED_FPR


def attacked(design, confidences, losses, member, threads=1, seed=3):
    rows = None if losses is None else losses.__getitem__
    return attack_all(confidences, member, design == "complementary", rows, seed, threads)


@pytest.mark.parametrize("design", DESIGNS)
def test_every_auc_is_that_of_the_scores_by_definition(design):
    confidences, losses, member = designed(design, 24, 30, np.random.default_rng(3), effect=1.0)
    found = attacked(design, confidences, losses, member).summary
    by_rank, aucs = scores_of(confidences, member, design, seed=3), {attack: [] for attack in ATTACKS}
    of = folds_by_target(member, design, seed=3)
    everyone, chosen = range(30), dict.fromkeys(range(24), found["rmia_offline"]["a"])
    # What the first two models take is chosen on the next two.
    chosen |= dict.fromkeys((0, 1), best_a(losses, member, of, (2, 3)))
    assert chosen[23] == best_a(losses, member, of, (0, 1))
    for target, (fold, _) in of.items():
        scores = lira_by_loop(confidences, member, target, fold)
        scores |= {"loss": losses[target], "attack_r": by_rank[target]}
        scores["rmia_online"] = rmia_by_loop(losses, member, target, fold, None, everyone, 1.0)
        scores["rmia_offline"] = rmia_by_loop(losses, member, target, fold, chosen[target], everyone, 1.0)
        for attack in ATTACKS:
            values = rounded(scores[attack])
            aucs[attack].append(pairwise_auc(values[member[target]], values[~member[target]]))
    for attack in ATTACKS:
        if design == "independent" and attack.startswith("lira_online"):
            assert not found[attack]["available"]  # unequal numbers of references would name the target's membership
            assert "fewer than 20 target models" in found[attack]["reason"]
            continue
        assert found[attack]["auc"] == pytest.approx(np.mean(aucs[attack]), abs=1e-10), attack
        assert found[attack]["auc_sd"] == pytest.approx(np.std(aucs[attack], ddof=1), abs=1e-10)


def best_a(losses, member, of, targets):
    def auc(a):
        total = 0.0
        for target in targets:
            scores = rmia_by_loop(losses, member, target, of[target][0], a, range(losses.shape[1]), 1.0)
            total += pairwise_auc(scores[member[target]], scores[~member[target]])
        return total

    return max((step / 10 for step in range(11)), key=auc)


@pytest.mark.parametrize(
    ("design", "within_pair"), [("complementary", 0.8), ("complementary", -0.8), ("balanced", 0.0)]
)
def test_without_a_leak_no_attack_tells_members_even_from_few_models(design, within_pair):
    rng = np.random.default_rng(4)
    aucs = {attack: [] for attack in ATTACKS}
    for _ in range(50):
        confidences, losses, member = designed(design, 8, 200, rng, spread=0.5, within_pair=within_pair)
        found = attacked(design, confidences, losses, member, seed=int(rng.integers(1000))).summary
        for attack in ATTACKS:
            aucs[attack].append(found[attack]["auc"])
    for attack, values in aucs.items():
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        assert error < 0.005  # with the target alone left out, LiRA online is at 0.444
        assert abs(np.mean(values) - 0.5) < 4 * error, attack


def test_without_a_leak_fair_coins_tell_nothing_either():
    rng = np.random.default_rng(5)
    aucs = {attack: [] for attack in ATTACKS}
    for _ in range(12):
        confidences, losses, member = designed("independent", 80, 100, rng, spread=0.5)
        found = attacked("independent", confidences, losses, member).summary
        for attack in ATTACKS:
            aucs[attack].append(found[attack]["auc"])
    for attack, values in aucs.items():
        assert abs(np.mean(values) - 0.5) < 4 * np.std(values, ddof=1) / np.sqrt(len(values)), attack


@pytest.fixture(scope="module")
def leaky():
    confidences, losses, member = designed("complementary", 20, 4000, np.random.default_rng(6), effect=0.6, between=3)
    return confidences, losses, member, attacked("complementary", confidences, losses, member)


def test_a_leak_orders_the_attacks_by_what_they_know(leaky):
    auc = {attack: one["auc"] for attack, one in leaky[3].summary.items()}
    assert min(auc.values()) > 0.52
    assert auc["lira_online_shrunk"] > auc["lira_online"]  # ten values a side are few for a variance
    for attack in ("lira_online", "rmia_online", "rmia_offline", "attack_r", "lira_offline"):
        assert auc[attack] > auc["loss"] + 0.02  # records differ more than members from non-members
    assert auc["lira_offline"] > auc["lira_offline_two_sided"] + 0.05  # members shift upwards
    assert auc["lira_offline_fixed"] > auc["lira_offline_two_sided_fixed"] + 0.05


def test_calibrated_thresholds_reach_about_their_nominal_rates(leaky):
    _, _, _, found = leaky
    for attack, one in found.summary.items():
        for nominal in (0.1, 0.01):
            reached = one["calibrated"][str(nominal)]
            if attack == "attack_r":  # nine references
                assert reached["fpr"] is None
                continue
            # 20 targets of 2,000 non-members, each against the median of 18 thresholds.
            assert reached["fpr"] == pytest.approx(nominal, rel=0.05 if nominal == 0.1 else 0.15)
            assert reached["tpr"] == pytest.approx(one["tpr"][str(nominal)]["mean"], rel=0.15)
            for prior in PRIORS:
                want = prior * reached["tpr"] / (prior * reached["tpr"] + (1 - prior) * reached["fpr"])
                assert reached["precision"][str(prior)] == pytest.approx(want)
        assert one["calibrated"]["0.0001"]["fpr"] is None


def test_thresholds_come_from_the_other_pairs_alone():
    rng = np.random.default_rng(7)
    losses = -rng.exponential(size=(8, 600)).astype(np.float32)
    confidences, _, member = designed("complementary", 8, 600, rng)
    losses[4] *= 100  # a model whose losses have another scale
    found = attacked("complementary", confidences, losses, member).summary["loss"]["calibrated"]["0.1"]
    fpr, tpr = [], []
    for target in range(8):
        others = [m for m in range(8) if m // 2 != target // 2]
        own = [np.sort(rounded(losses[m][~member[m]]))[::-1] for m in others]
        threshold = np.median([values[int(0.1 * values.size + 1e-9)] for values in own])
        named = rounded(losses[target]) > threshold
        fpr.append(named[~member[target]].mean())
        tpr.append(named[member[target]].mean())
    assert found["fpr"] == pytest.approx(np.mean(fpr), abs=1e-12)
    assert found["fpr_sd"] == pytest.approx(np.std(fpr, ddof=1), abs=1e-12)
    assert found["tpr"] == pytest.approx(np.mean(tpr), abs=1e-12)
    assert fpr[4] < 0.03


@pytest.mark.parametrize("design", DESIGNS)
def test_threads_change_nothing(design):
    confidences, losses, member = designed(design, 30, 500, np.random.default_rng(8), effect=0.5)
    one, two = (attacked(design, confidences, losses, member, threads) for threads in (1, 2))
    assert one.summary == two.summary
    assert one.table.equals(two.table)


def test_the_order_of_records_and_of_models_in_a_pair_does_not_matter():
    rng = np.random.default_rng(9)
    confidences, losses, member = designed("complementary", 10, 300, rng, effect=0.5)
    columns, models = rng.permutation(300), np.arange(10) ^ 1
    found = attacked("complementary", confidences, losses, member).summary
    for moved in ((slice(None), columns), (models, slice(None))):
        again = attacked("complementary", confidences[moved], losses[moved], member[moved]).summary
        for attack in ATTACKS:  # RMIA: the population is everybody here
            assert again[attack]["auc"] == pytest.approx(found[attack]["auc"], abs=1e-5)


def test_the_table_holds_every_attack_and_target(leaky):
    table = leaky[3].table
    assert list(table.columns) == ["attack", "target_model", "fpr", "tpr"]
    assert len(table) == len(ATTACKS) * 20 * FPR_GRID.size
    assert (table.groupby("attack")["target_model"].nunique() == 20).all()
    assert (table.groupby(["attack", "target_model"])["tpr"].apply(lambda tpr: (tpr.diff().dropna() >= 0).all())).all()
    one = leaky[3].summary["lira_online"]["tpr"]["0.1"]["mean"]
    at = (table["attack"] == "lira_online") & np.isclose(table["fpr"], 0.1)
    assert table.loc[at, "tpr"].mean() == pytest.approx(one)


def nothing_of(one):
    reached = [one["calibrated"][str(fpr)][rate] for fpr in REPORTED_FPR for rate in ("fpr", "tpr")]
    return one["auc"] is None and set(reached) == {None} and one["tpr"]["0.1"]["mean"] is None


def test_without_losses_the_attacks_that_need_them_say_so():
    confidences, _, member = designed("complementary", 10, 200, np.random.default_rng(10))
    found = attacked("complementary", confidences, None, member)
    for attack, one in found.summary.items():
        needs = attack in ("loss", "rmia_online", "rmia_offline")
        assert one["available"] != needs
        assert one.get("reason") == ("the table has no losses" if needs else None)
        assert nothing_of(one) == needs
    assert set(found.table["attack"]) == {attack for attack, one in found.summary.items() if one["available"]}


def test_too_few_models_and_lone_groups_say_so():
    confidences, losses, member = designed("complementary", 4, 200, np.random.default_rng(11))
    found = attacked("complementary", confidences, losses, member).summary
    assert found["loss"]["available"]
    assert found["loss"]["auc"] is not None
    for attack in set(ATTACKS) - {"loss"}:
        assert found[attack]["reason"] == "fewer than 3 pairs of target models"
        assert nothing_of(found[attack])
    few = attacked("unknown", confidences, losses, designed("independent", 4, 200, np.random.default_rng(1))[2]).summary
    assert few["attack_r"]["reason"] == "some record is IN or OUT in fewer than 3 target models"
    confidences, losses, member = designed("complementary", 10, 1, np.random.default_rng(12))
    alone = attacked("complementary", confidences, losses, member)
    assert alone.table.empty
    assert {one["reason"] for one in alone.summary.values()} == {
        "no target model has both members and non-members among the records"
    }


def test_losses_are_asked_for_from_the_pairs_one_model_at_a_time():
    confidences, losses, member = designed("complementary", 8, 100, np.random.default_rng(13))
    asked = []

    def row(model):
        asked.append(model)
        return losses[model]

    attack_all(confidences, member, True, row, 0, 1)
    # Once for the sums, twice for the scores; the first two pairs once more for the correction of offline RMIA.
    assert sorted(asked) == sorted([*range(8)] * 3 + [0, 1, 2, 3])


def test_constant_tables_are_guessing():
    _, _, member = designed("complementary", 10, 100, np.random.default_rng(14))
    found = attacked("complementary", np.zeros((10, 100), np.float32), np.full((10, 100), -1, np.float32), member)
    assert {attack: one["auc"] for attack, one in found.summary.items()} == dict.fromkeys(ATTACKS, 0.5)
