"""Other tools beside this package on the common matrix: python validation/agreement.py FOLDER_OF_CHECKOUTS.

For every attack: AUC over a few targets of the tool and of this package; the largest difference of the tool's scores
from the definition with the tool's own choices (`definitions`), relative to 1 + |score|, which shows that these choices
are all that differs; and the rank correlation of both scores. Then the tools' numbers that the tests keep: AUC of every
target, and the scores of a few records under the first.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from definitions import Centre, Spread, attack_r, lira, rmia
from matrix import Matrix, common_matrix
from numpy.typing import NDArray
from ours import all_scores
from peers import OFFLINE_A, POPULATION, available, leakoscope_records
from scipy.stats import norm, rankdata, spearmanr

TARGETS = (0, 101, 199)
PINNED_RECORDS = (0, 1234, 9999)

# Centre, ddof, and the spread of the fixed variance, online and offline.
CHOICES: dict[str, tuple[Centre, int, Spread, Spread]] = {
    "this package": ("mean", 1, "pooled", "pooled"),
    "LiRA reference": ("median", 0, "total of IN", "total"),
    "lira_analysis": ("median", 0, "total of IN", "total"),
    "TensorFlow Privacy": ("mean", 0, "pooled", "pooled"),
    "leakoscope": ("median", 0, "total", "total"),
    "SACRO-ML": ("mean", 0, "total", "total"),
    "LeakPro": ("mean", 0, "total", "total"),
}


def defined(matrix: Matrix, tool: str, attack: str, target: int) -> NDArray[np.float64] | None:
    """The attack by its definition with the choices of one tool, on the tool's own scale; None where it draws."""
    kind = attack.split("_", maxsplit=1)[0]
    if kind == "lira":
        return None if attack.endswith("shrunk") else _defined_lira(matrix, tool, attack, target)
    if kind == "rmia" and tool in ("this package", "Privacy Meter") and attack in ("rmia_online", "rmia_offline"):
        return rmia(matrix, target, POPULATION, OFFLINE_A if attack == "rmia_offline" else None)
    if kind == "attack":
        return attack_r(matrix, target)
    if kind == "loss":  # the same order on either scale
        table = matrix.log_likelihood if tool == "this package" else matrix.confidences
        return table[target].astype(np.float64)
    return None


def _defined_lira(matrix: Matrix, tool: str, attack: str, target: int) -> NDArray[np.float64]:
    centre, ddof, online, offline = CHOICES[tool]
    form = "online" if "online" in attack else "two_sided" if "two_sided" in attack else "offline"
    fixed = online if form == "online" else offline
    scores = lira(matrix, target, form, centre, ddof, fixed if attack.endswith("fixed") else "record")
    if form == "two_sided":
        if tool == "this package":
            return scores - 0.5 * np.log(2 * np.pi)  # without the constant
        return -scores if tool == "leakoscope" else scores  # higher means non-member there
    if form == "offline" and tool != "this package":
        return norm.cdf(scores) if tool == "SACRO-ML" else norm.logcdf(scores)
    return scores


def auc(scores: NDArray[np.float64], member: NDArray[np.bool_]) -> float:
    """Rank AUC in float64, ties half."""
    members = int(member.sum())
    wins = rankdata(scores)[member].sum() - members * (members + 1) / 2
    return float(wins / (members * (member.size - members)))


def main() -> None:
    """Print agreement and pins."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkouts", type=Path)
    options = parser.parse_args()
    matrix = common_matrix()
    ours = all_scores(matrix, TARGETS, POPULATION, OFFLINE_A)
    found, missing = available(options.checkouts)
    for tool, reason in missing.items():
        print(f"{tool}: not there ({reason})")
    print("| tool | attack | its AUC | our AUC | largest difference from its definition | rank correlation |")
    print("|---|---|--:|--:|--:|--:|")
    pins = []
    own = {attack: partial(_of_ours, ours, attack) for attack, target in ours if target == TARGETS[0]}
    for tool, attacks in {"this package": own, **found}.items():
        for attack, score in attacks.items():
            theirs = [np.asarray(score(matrix, target)) for target in TARGETS]
            beside = [ours[attack.split(",", maxsplit=1)[0], target] for target in TARGETS]
            aucs = [auc(scores, matrix.member[target]) for scores, target in zip(theirs, TARGETS, strict=True)]
            rates = ", ".join(f"{value:.6f}" for value in aucs)
            values = ", ".join(f"{theirs[0][record]:.9g}" for record in PINNED_RECORDS)
            pins.append(f'("{tool}", "{attack}"): (({rates}), ({values})),')
            apart = []
            for scores, target in zip(theirs, TARGETS, strict=True):
                expected = defined(matrix, tool, attack, target)
                if expected is not None:
                    apart.append(np.max(np.abs(scores - expected) / (1 + np.abs(expected))))
            difference = f"{np.max(apart):.1e}" if apart else "not comparable"
            rank = np.mean([spearmanr(a, b).statistic for a, b in zip(theirs, beside, strict=True)])
            mean = np.mean([auc(one, matrix.member[t]) for one, t in zip(beside, TARGETS, strict=True)])
            print(f"| {tool} | {attack} | {np.mean(aucs):.4f} | {mean:.4f} | {difference} | {rank:.4f} |", flush=True)
    print("", *pins, sep="\n")
    if "leakoscope" in found:
        their_auc, their_se = leakoscope_records(options.checkouts)(matrix)
        values = ", ".join(f"({their_auc[r]:.9g}, {their_se[r]:.9g})" for r in PINNED_RECORDS)
        print(f"leakoscope, record AUC and standard error of records {PINNED_RECORDS}: {values}")


def _of_ours(
    ours: dict[tuple[str, int], NDArray[np.float64]], attack: str, _: Matrix, target: int
) -> NDArray[np.float64]:
    return ours[attack, target]


if __name__ == "__main__":
    main()
