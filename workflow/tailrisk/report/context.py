"""Gathers from the finished tables all that the report says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailrisk.config.study import Study, comparisons, experiments
from tailrisk.errors import UserError
from tailrisk.figures.dataset import DATASET_FIGURES
from tailrisk.figures.queries import in_words
from tailrisk.figures.write import ACCESS_FIGURES, AUDIT_FIGURES, COMPARISON_FIGURES, GROUP_FIGURES
from tailrisk.report import audited
from tailrisk.report.access import Access, AccessFiles, load_access
from tailrisk.report.audited import Audited, Files
from tailrisk.report.cards import Card, load_card
from tailrisk.report.compared import Groups, Stability, load_groups, load_stability
from tailrisk.report.headlines import headlines, most_exposed
from tailrisk.report.text import metric, number, plural, share
from tailrisk.tables import read_json

SHOWN = (0.8, 0.9, 0.95)
"""Thresholds of the summary table; the details of an experiment show all of the study's."""

FEW_PAIRS = 50
"""Below this number the normal intervals and the bias of d, 3/(8n − 9) of its size, are no longer negligible."""


@dataclass(frozen=True)
class View:
    """One experiment with its figures as SVG text, by name; query: the one that was audited here, in words, or None
    where a table does not say how it was asked."""

    audit: Audited
    query: str | None
    figures: dict[str, str]
    open: bool


@dataclass(frozen=True)
class Comparison:
    """One capacity comparison with its figures as SVG text, by name."""

    name: str
    title: str
    figures: dict[str, str]


@dataclass(frozen=True)
class Context:
    """All that the page says."""

    title: str
    headlines: list[str]
    warnings: list[str]
    datasets: dict[str, dict[str, Any]]
    cards: list[Card]
    baselines: dict[str, dict[str, Any] | None]
    given: list[Audited]
    views: list[View]
    comparisons: list[Comparison]
    access: list[Access]
    stability: list[Stability]
    groups: Groups | None
    threshold: float
    shown: list[float]
    fdr: float
    tail: float
    provenance: Mapping[str, Any]


def build_context(
    study: Study,
    files: Mapping[str, Files],
    datasets: Mapping[str, Path],
    shown: Mapping[str, Path],
    comparison_figures: Mapping[str, Path],
    access: Mapping[str, AccessFiles],
    stability: Mapping[str, Path],
    groups: tuple[Path, Path] | None,
    provenance: Mapping[str, Any],
) -> Context:
    """Read what the page needs.

    files: experiment → its tables and figures under its first query; datasets: dataset → folder of the prepared
    dataset (card.json, baseline.json, duplicates.json, records.parquet, groups.parquet); shown: dataset → folder of the
    figure of its records, where they may be shown; comparison_figures: comparison `<entry>.<dataset>` → folder
    of its figures; access: experiment → the comparison of its queries, where it has several; stability: dataset → its
    stability table, where it has several experiments; groups: table of the meta-analysis of groups and folder of its
    figure; provenance: heading → text, list or mapping, printed as it is (configuration, versions, checksums, time).
    """
    every = experiments(study)
    cards = {name: read_json(folder / "card.json") for name, folder in datasets.items()}
    for name, card in cards.items():  # captions are read from the study, so that a new one prepares nothing again
        captions = study.datasets[name].model_dump(include={"title", "licence"}, exclude_none=True)
        card.update(captions)
    tell_apart(cards)
    twins = Counter((every[name].dataset, every[name].model) for name in files if name in every)
    audits = []
    for name, paths in files.items():
        if name in study.given:
            audits.append(audited.load_given(name, paths, study.given[name].title or f"confidence table {name}"))
            continue
        run = every[name]
        label = f"{run.model} on {cards[run.dataset]['title']}"
        if twins[run.dataset, run.model] > 1:
            label += f", {run.entry}"
        simulated = study.datasets[run.dataset].source == "simulated"
        audits.append(audited.load(run, paths, datasets[run.dataset], cards[run.dataset], simulated, label))
    threshold, tail = study.report.threshold, study.subgroups.tail
    top = most_exposed(audits, threshold)
    shapes = {name: card["input_shape"] for name, card in cards.items()}
    views = [
        View(
            audit,
            in_words(study.queries[audit.experiment.queries[0]], shapes[audit.experiment.dataset])
            if name in every
            else None,
            _figures(paths.figures, AUDIT_FIGURES, name),
            audit is top,
        )
        for audit, (name, paths) in zip(audits, files.items(), strict=True)
    ]
    labels = {audit.experiment.name: audit.label for audit in audits}
    counted = study.audit.thresholds
    return Context(
        title=study.report.title,
        headlines=headlines(audits, threshold, tail),
        warnings=warnings(audits),
        datasets=cards,
        cards=[
            load_card(
                name,
                card,
                study.datasets[name],
                datasets[name],
                _figures(shown[name], DATASET_FIGURES, f"dataset-{name}")["inputs"] if name in shown else None,
            )
            for name, card in cards.items()
        ],
        baselines={a.experiment.dataset: a.baseline for a in audits},
        given=[audit for audit in audits if audit.experiment.name in study.given],
        views=views,
        comparisons=[
            Comparison(
                name,
                f"{cards[comparisons(study)[name][0].split('.')[1]]['title']} ({name})",
                _figures(folder, COMPARISON_FIGURES, f"compare-{name}"),
            )
            for name, folder in comparison_figures.items()
        ],
        access=[
            load_access(
                study,
                every[name],
                paths.table,
                shapes[every[name].dataset],
                labels[name],
                name == top.experiment.name,
                _figures(paths.figures, ACCESS_FIGURES, f"access-{name}"),
            )
            for name, paths in access.items()
        ],
        stability=[load_stability(path, cards[name]["title"], labels, threshold) for name, path in stability.items()],
        groups=load_groups(groups[0], _figures(groups[1], GROUP_FIGURES, "groups")["meta"]) if groups else None,
        threshold=threshold,
        shown=[t for t in counted if t in SHOWN] or list(counted[:3]),
        fdr=study.audit.fdr,
        tail=tail,
        provenance=provenance,
    )


def tell_apart(cards: dict[str, dict[str, Any]]) -> None:
    """Add the dataset's name to titles that several cards bear, such as one source with two targets."""
    borne = Counter(card["title"] for card in cards.values())
    for name, card in cards.items():
        if borne[card["title"]] > 1:
            card["title"] += f" ({name})"


def warnings(audits: list[Audited]) -> list[str]:
    """What a reader must know before believing a figure: broken models, lost models, too few models, bad controls."""
    found = []
    for audit in audits:
        baseline = audit.baseline
        if audit.much_worse and baseline is not None:
            found.append(
                f"{audit.label}: the target models are much worse than a plain baseline ({baseline['model']}): "
                f"test {metric(baseline['metric'])} {number(audit.performance)} against {number(baseline['value'])}. "
                "An audit of a model that nobody would use says little; train it better first: more epochs, or another "
                "learning rate."
            )
        if audit.left_out:
            reasons = "; ".join(f"model {model}: {reason}" for model, reason in audit.failed.items())
            found.append(
                f"{audit.label}: {audit.left_out} of {audit.experiment.n_models} target models are left out, because "
                f"they or their partner failed{f' ({reasons})' if reasons else ''}."
            )
        if audit.retried:
            found.append(
                f"{audit.label}: {plural(len(audit.retried), 'target model')} did not converge and took a second try "
                "at a lower learning rate than the others, so that a pair may differ in more than its halves. Where "
                "there are many, lower the rate for all."
            )
        if audit.too_few_models:
            found.append(
                f"{audit.label}: with {audit.trained} no single patient can be confirmed as vulnerable among "
                f"{audit.summary['patients']:,}; read the counts as unconfirmed."
            )
        pairs = int(audit.summary["pairs"])
        if pairs < FEW_PAIRS:
            found.append(
                f"{audit.label}: with {audit.trained} the intervals are too narrow and the "
                f"AUCs too far from 0.5 (on the scale of d = Φ⁻¹(AUC) by about {share(3 / (8 * pairs - 9))})."
            )
        controls = audit.controls
        if controls is not None and controls.too_many:
            found.append(
                f"{audit.label}: {controls.small_p} of {controls.patients} negative controls, on whom no model was "
                f"trained, have p ≤ 0.05, where about {0.05 * controls.patients:.1f} are expected. The calibration "
                "does not hold here; do not rely on its figures."
            )
    return found


def _figures(folder: Path, names: tuple[str, ...], prefix: str) -> dict[str, str]:
    return {name: inline_svg(folder / f"{name}.svg", f"{prefix}-{name}") for name in names}


def inline_svg(path: Path, prefix: str) -> str:
    """The <svg> element of a figure with every id prefixed, so that many figures can stand in one page."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        raise UserError(f"the figure {path} is missing: run the workflow again to make it") from None
    prefix = re.sub(r"\W+", "-", prefix)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-")
    return re.sub(r'(xlink:href|href)="#', rf'\1="#{prefix}-', text)
