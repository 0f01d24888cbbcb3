"""Other tools' numbers on the common matrix, kept so that this package stays beside them without their code.

`python validation/agreement.py FOLDER_OF_CHECKOUTS` printed them, with the versions that docs/validation.md names. Each
tool's number must follow from the definition of the attack with the tool's choices (centre, ddof, spread), and this
package's from the definition with its own.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr

from tailrisk.attacks.confidence import confidence
from tailrisk.audit.pairs import blocks
from tailrisk.audit.records import hanley_mcneil_se, record_statistics

sys.path.insert(0, str(Path(__file__).parents[2] / "validation"))
from agreement import PINNED_RECORDS, TARGETS, auc, defined
from matrix import common_matrix
from ours import all_scores
from peers import OFFLINE_A, POPULATION

# AUC of each target, and the scores of three records under the first target.
PINS = {
    ("LiRA reference", "lira_online"): ((0.630926, 0.630332, 0.625400), (-0.44715396, -0.8151227, -0.164806008)),
    ("LiRA reference", "lira_online_fixed"): (
        (0.615989, 0.622909, 0.607836),
        (-0.12038575, -0.174163501, -0.0234607998),
    ),
    ("LiRA reference", "lira_offline_two_sided"): (
        (0.497949, 0.498102, 0.493211),
        (0.864616466, 1.13196628, 0.775400305),
    ),
    ("LiRA reference", "lira_offline_two_sided_fixed"): (
        (0.494007, 0.496597, 0.492181),
        (1.51778399, 1.59940169, 1.55315324),
    ),
    ("LiRA reference", "loss"): ((0.557496, 0.555876, 0.563075), (0.000765811827, -2.04098439, -2.14150143)),
    ("lira_analysis", "lira_online"): ((0.630926, 0.630332, 0.625400), (-0.44715396, -0.8151227, -0.164806008)),
    ("lira_analysis", "lira_online_fixed"): (
        (0.615989, 0.622909, 0.607836),
        (-0.12038575, -0.174163501, -0.0234607998),
    ),
    ("lira_analysis", "lira_offline_two_sided"): (
        (0.497949, 0.498102, 0.493211),
        (0.864616466, 1.13196628, 0.775400305),
    ),
    ("lira_analysis", "lira_offline_two_sided_fixed"): (
        (0.494007, 0.496597, 0.492181),
        (1.51778399, 1.59940169, 1.55315324),
    ),
    ("lira_analysis", "loss"): ((0.557496, 0.555876, 0.563075), (0.000765811827, -2.04098439, -2.14150143)),
    ("TensorFlow Privacy", "lira_online"): ((0.634934, 0.629569, 0.629372), (-0.296553302, -0.738345836, -0.19574444)),
    ("TensorFlow Privacy", "lira_online_fixed"): (
        (0.630517, 0.631776, 0.626613),
        (-0.235060506, -0.629076559, -0.00255026463),
    ),
    ("TensorFlow Privacy", "lira_offline_two_sided"): (
        (0.498729, 0.498356, 0.494363),
        (0.864564182, 1.20407245, 0.889040228),
    ),
    ("TensorFlow Privacy", "lira_offline_two_sided_fixed"): (
        (0.495251, 0.496372, 0.493141),
        (0.936250966, 1.24828145, 1.09788287),
    ),
    ("leakoscope", "lira_online"): ((0.630926, 0.630332, 0.625400), (-0.447153977, -0.815122645, -0.16480601)),
    ("leakoscope", "lira_online_fixed"): ((0.617811, 0.625065, 0.610964), (-0.10008984, -0.157248862, -0.00463019253)),
    ("leakoscope", "lira_offline_two_sided"): (
        (0.502051, 0.501898, 0.506789),
        (-0.864616449, -1.1319663, -0.775400299),
    ),
    ("leakoscope", "rmia_online"): ((0.604372, 0.598879, 0.594592), (0.298, 0.07, 0.114)),
    ("leakoscope", "rmia_offline"): ((0.583696, 0.580002, 0.582408), (0.252, 0.038, 0.034)),
    ("SACRO-ML", "lira_online"): ((0.634934, 0.629569, 0.629372), (-0.296553302, -0.738345836, -0.19574444)),
    ("SACRO-ML", "lira_online_fixed"): ((0.621346, 0.624931, 0.615573), (-0.073416579, -0.140375247, -0.00639023333)),
    ("SACRO-ML", "lira_offline"): ((0.616356, 0.611820, 0.604363), (0.502118421, 0.173384183, 0.191850617)),
    ("SACRO-ML", "lira_offline_fixed"): ((0.611835, 0.609083, 0.599258), (0.501102366, 0.329375045, 0.375294183)),
    ("SACRO-ML", "lira_offline_two_sided"): ((0.498729, 0.498356, 0.494363), (0.864564182, 1.20407245, 0.889040228)),
    ("Privacy Meter", "rmia_offline"): ((0.584357, 0.580567, 0.582870), (0.442, 0.119, 0.1215)),
    ("Privacy Meter", "rmia_offline, its own choice for z"): ((0.584389, 0.580538, 0.582842), (0.5845, 0.1515, 0.1525)),
    ("LeakPro", "lira_online"): ((0.634934, 0.629569, 0.629372), (-0.296553302, -0.738345836, -0.19574444)),
    ("LeakPro", "lira_offline"): ((0.616356, 0.611820, 0.604363), (-0.688919289, -1.75224543, -1.65103825)),
    ("LeakPro", "rmia_online"): ((0.605125, 0.599257, 0.595133), (0.323, 0.0815, 0.1355)),
    ("LeakPro", "rmia_offline"): ((0.584359, 0.580571, 0.582869), (0.4685, 0.123, 0.1265)),
}
# Record AUC and its standard error of the same records by leakoscope.
LEAKOSCOPE_RECORDS = ((0.739914019, 0.0349666595), (0.652651691, 0.0385688638), (0.548712557, 0.0406896867))


@pytest.fixture(scope="module")
def matrix():
    return common_matrix()


@pytest.fixture(scope="module")
def ours(matrix):
    return all_scores(matrix, TARGETS, POPULATION, OFFLINE_A)


# RMIA against a population of its own, or one drawn at random, is compared by its AUC further down.
DEFINED = [pin for pin in PINS if "rmia" not in pin[1] or pin == ("Privacy Meter", "rmia_offline")]


@pytest.mark.parametrize(("tool", "attack"), DEFINED)
def test_a_tool_gives_what_its_choices_say(matrix, tool, attack):
    expected = defined(matrix, tool, attack, TARGETS[0])
    assert expected is not None
    aucs, scores = PINS[tool, attack]
    # The LiRA reference computes in float32, and a share of the population moves by one record where float32 ties.
    steps = 1.001 / POPULATION if attack.startswith("rmia") else 5e-6
    np.testing.assert_allclose(expected[list(PINNED_RECORDS)], scores, rtol=5e-6, atol=steps)
    assert auc(expected, matrix.member[TARGETS[0]]) == pytest.approx(aucs[0], abs=2e-6 if steps == 5e-6 else 1e-5)


LIRA_AND_RANKS = (
    "lira_online", "lira_online_fixed", "lira_offline", "lira_offline_fixed", "lira_offline_two_sided",
    "lira_offline_two_sided_fixed", "attack_r", "loss",
)  # fmt: skip


@pytest.mark.parametrize("attack", LIRA_AND_RANKS)
@pytest.mark.parametrize("target", TARGETS)
def test_this_package_gives_the_definition(matrix, ours, attack, target):
    # Float32 after centring: relative to the larger squared distance in units of σ².
    np.testing.assert_allclose(
        ours[attack, target], defined(matrix, "this package", attack, target), rtol=3e-6, atol=3e-6
    )


@pytest.mark.parametrize("attack", ["rmia_online", "rmia_offline"])
@pytest.mark.parametrize("target", TARGETS)
def test_rmia_gives_the_definition_but_for_equal_ratios(matrix, ours, attack, target):
    # At least γ against more than γ: a record of the population reaches itself, and float32 may tie one other.
    difference = ours[attack, target] - defined(matrix, "this package", attack, target)
    assert np.abs(difference).max() <= 2.001 / POPULATION
    assert (difference[:POPULATION] > 0).mean() > 0.99
    assert (difference[POPULATION:] != 0).mean() < 0.01


# Tools with the same centre and spread: only ddof differs, which moves a score's parts by 1 %.
SAME_BUT_DDOF = [
    ("TensorFlow Privacy", "lira_online"),
    ("TensorFlow Privacy", "lira_online_fixed"),
    ("TensorFlow Privacy", "lira_offline_two_sided"),
    ("TensorFlow Privacy", "lira_offline_two_sided_fixed"),
    ("SACRO-ML", "lira_online"),
    ("SACRO-ML", "lira_offline"),
    ("SACRO-ML", "lira_offline_two_sided"),
    ("LeakPro", "lira_online"),
    ("LeakPro", "lira_offline"),
    ("LiRA reference", "loss"),
    ("Privacy Meter", "rmia_offline"),
]


@pytest.mark.parametrize(("tool", "attack"), SAME_BUT_DDOF)
def test_aucs_of_tools_with_the_same_choices_agree(matrix, ours, tool, attack):
    own = [auc(ours[attack, target], matrix.member[target]) for target in TARGETS]
    np.testing.assert_allclose(own, PINS[tool, attack][0], atol=2e-4)


@pytest.mark.parametrize(("tool", "attack"), [pin for pin in PINS if "rmia" in pin[1]])
def test_rmia_of_every_tool_agrees_whatever_its_population(matrix, ours, tool, attack):
    own = [auc(ours[attack.split(",", maxsplit=1)[0], target], matrix.member[target]) for target in TARGETS]
    np.testing.assert_allclose(own, PINS[tool, attack][0], atol=3e-3)


def test_record_auc_and_standard_error_of_leakoscope(matrix):
    records = list(PINNED_RECORDS)
    d = np.empty(matrix.patient.size)
    for block in blocks(matrix.confidences, matrix.member, matrix.patient):
        d[block.columns] = record_statistics(block.x, block.y).d
    # Its variances divide by n, and its AUC is cut off at one half.
    auc_there = np.maximum(ndtr(d[records] * np.sqrt(100 / 99)), 0.5)
    se_there = hanley_mcneil_se(auc_there, 100, 100)
    np.testing.assert_allclose(np.column_stack([auc_there, se_there]), LEAKOSCOPE_RECORDS, atol=2e-6)


def test_scores_of_the_matrix_are_those_of_softmax_probabilities(matrix):
    p = np.exp(matrix.logits[:2].astype(np.float64))
    p /= p.sum(axis=-1, keepdims=True)
    true = np.take_along_axis(p, matrix.labels[None, :, None], axis=-1)[..., 0]
    score = confidence(matrix.logits[:2], matrix.labels, "multiclass")
    np.testing.assert_allclose(score, np.log(true) - np.log(1 - true), atol=1e-9)
    np.testing.assert_allclose(matrix.probability[:2], true, rtol=1e-6)
    np.testing.assert_allclose(matrix.log_likelihood[:2], np.log(true), rtol=1e-5, atol=1e-6)
