"""The three most important sentences of a study."""

from __future__ import annotations

from collections.abc import Sequence

from tailrisk.figures.subgroups import LEVEL
from tailrisk.report.audited import Audited
from tailrisk.report.text import expected, metric, number, plural, share

FEW = 20
"""Records in the tail below which hardly any group could be found over-represented."""


def most_exposed(audits: Sequence[Audited], threshold: float) -> Audited:
    """The experiment with the largest share of vulnerable patients at `threshold`, then by counts and by AUC.

    Simulated cohorts, whose exposed patients were put there, count only when nothing else was audited.
    """
    real = [audit for audit in audits if not audit.simulated] or list(audits)

    def key(audit: Audited) -> tuple[float, ...]:
        rows = [audit.at(threshold), *audit.summary["thresholds"]]
        counts = ((row[k] or 0) / audit.summary["patients"] for row in rows for k in ("vulnerable", "patients"))
        return (*counts, audit.summary["max_auc"])

    return max(real, key=key)


def headlines(audits: Sequence[Audited], threshold: float, tail: float) -> list[str]:
    """Three sentences: exposed patients, what the aggregate attack says, and what to look at next.

    audits: all experiments, at least one; threshold: AUC of the headline; tail: share of records in the tail.
    """
    top = most_exposed(audits, threshold)
    return [_exposed(top, audits, threshold), _aggregate(top, threshold), _next(top, audits, threshold, tail)]


def _exposed(top: Audited, audits: Sequence[Audited], threshold: float) -> str:
    reached = [row for row in top.summary["thresholds"] if row["auc"] <= threshold and row["patients"]]
    of = " on real patients" if any(a.simulated for a in audits) and not top.simulated else ""
    where = f"the model at highest risk{of} ({top.label})" if len(audits) > 1 else f"the model ({top.label})"
    if not reached:
        lowest = top.summary["thresholds"][0]["auc"]
        return (
            f"No patient of {where} has an attack AUC of {min(lowest, threshold):g} or more: "
            f"the largest of {top.summary['patients']:,} is {number(top.summary['max_auc'])} (0.5 is guessing)."
        )
    row = reached[-1]
    n = top.summary["patients"]
    who = (
        f"all {plural(n, 'patient')}"
        if row["patients"] == n
        else f"{row['patients']:,} of {plural(n, 'patient')} "
        f"({share(row['share'])}, 95 % interval {share(row['low'])} to {share(row['high'])})"
    )
    have = "has" if row["patients"] == 1 else "have"
    above = "" if row["auc"] == threshold else f"None reaches {threshold:g}. "
    rate = f"a false discovery rate of {share(top.summary['fdr'])}"
    if not top.has_p_values:
        return (
            f"{above}In {where}, {who} {have} an attack AUC of {row['auc']:g} or more; what chance alone would give is "
            "not known, because it is not known how the members of its target models were drawn."
        )
    if row["vulnerable"]:
        are = "is" if row["vulnerable"] == 1 else "are"
        some = "all" if row["vulnerable"] == row["patients"] > 1 else f"{row['vulnerable']:,}"
        verdict = f"{some} of these {are} vulnerable, which means confirmed at {rate}"
    else:
        verdict = f"none of these is vulnerable, which means confirmed at {rate}"
    return (
        f"{above}In {where}, {who} {have} an attack AUC of {row['auc']:g} or more, where chance alone would give "
        f"{expected(row['expected_by_chance'])}; {verdict}."
    )


def _aggregate(top: Audited, threshold: float) -> str:
    attack = top.summary["aggregate"]["lira_online"]
    if not attack["available"]:
        return "The usual average over all records could not be computed for this model."
    auc = number(attack["auc"], 2)
    if not top.at(threshold)["patients"] or top.at(threshold)["vulnerable"] == 0:
        return f"The usual average over all records is an attack AUC of {auc}, where 0.5 is guessing."
    hides = "hides this: it is" if attack["auc"] < 0.6 else "does not say who they are: it is"
    return f"The usual average over all records {hides} an attack AUC of {auc}, where 0.5 is guessing."


def _next(top: Audited, audits: Sequence[Audited], threshold: float, tail: float) -> str:
    """A broken model, an over-represented group, the effect of capacity, or that there is none of these."""
    broken = [audit for audit in audits if audit.much_worse]
    if broken:
        worst = max(broken, key=lambda audit: audit.shortfall)
        baseline = worst.baseline or {}
        return (
            f"Mind before reading on: {plural(len(broken), 'experiment')} had models much worse than a plain baseline, "
            f"so their figures say little about a usable model ({worst.label}: {metric(baseline['metric'])} "
            f"{number(worst.performance, 2)} against {number(baseline['value'], 2)})."
        )
    every = top.tests("record", "")
    # Negative controls are a group, too, but only as a check. A group whose patients just have many records exceeds
    # the expectation by share, but not the one among patients with equally many.
    more = (every["residual"] > 0) & (every["tail_n"] > every["tail_expected_clustered"])
    groups = every[(every["p_adjusted"] <= LEVEL) & more & (every["variable"] != "control")]
    if not groups.empty:
        row = groups.loc[groups["residual"].idxmax()]
        group = f"{row['variable']}: {row['group']}"
        size = round(row["tail_n"] / row["tail_share"])
        return (
            f"The risk is not spread evenly: '{group}' makes up {row['tail_n']:,} of the {size:,} most exposed records "
            f"({share(tail)}) of that model, against {share(row['share'])} of all records."
        )
    family = [
        audit
        for audit in audits
        if (audit.experiment.entry, audit.experiment.dataset) == (top.experiment.entry, top.experiment.dataset)
    ]
    sized = sorted((audit.capacity or 0, audit.at(threshold)["patients"]) for audit in family)
    (small, few), (large, many) = sized[0], sized[-1]
    if small < large:
        return (
            f"On the same data, {plural(few, 'patient')} at AUC {threshold:g} or more with {small:,} trainable "
            f"parameters, {plural(many, 'patient')} with {large:,}."
        )
    if every.empty:
        return "No group of patients was compared, because the dataset names none."
    row = every.loc[every["tail_share"].idxmax()]
    size = round(row["tail_n"] / row["tail_share"])
    if size < FEW:
        are = "is" if size == 1 else "are"
        return (
            f"The {plural(size, 'most exposed record')} of that model ({share(tail)}) {are} too few to say whether a "
            "group is at higher risk: a larger tail (subgroups.tail in the configuration) would show more."
        )
    return "No group of patients was found over-represented among the most exposed records of that model."
