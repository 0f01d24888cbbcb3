"""Reads the tables of finished audits and writes their figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tailrisk.config.queries import AnyQuery
from tailrisk.figures import style
from tailrisk.figures.capacity import capacity, changes
from tailrisk.figures.meta import meta
from tailrisk.figures.models import models
from tailrisk.figures.queries import in_words
from tailrisk.figures.roc import aggregate_versus_patients
from tailrisk.figures.subgroups import composition, subgroups
from tailrisk.figures.survival import access, survival_overlay
from tailrisk.tables import read_json, read_table

AUDIT_FIGURES = ("aggregate_versus_patients", "models", "subgroups", "composition")
COMPARISON_FIGURES = ("capacity", "changes", "survival_overlay")
GROUP_FIGURES = ("meta",)
ACCESS_FIGURES = ("access",)


def write_audit_figures(audit: Path, folder: Path) -> None:
    """Write AUDIT_FIGURES of one audit (results/audit/E/Q) into `folder`, each as NAME.svg and NAME.png."""
    summary = read_json(audit / "summary.json")
    curve = read_table(audit / "survival.parquet", "audit_survival")
    aggregate = read_table(audit / "aggregate.parquet", "audit_aggregate")
    groups = read_table(audit / "subgroups.parquet", "audit_subgroups")
    figures = {
        "aggregate_versus_patients": aggregate_versus_patients(aggregate, curve, summary),
        "models": models(read_table(audit / "models.parquet", "audit_models"), int(summary["patients"])),
        "subgroups": subgroups(groups),
        "composition": composition(groups),
    }
    for name, figure in figures.items():
        style.save(figure, folder / f"{name}.svg", folder / f"{name}.png")


def write_comparison_figures(table: Path, audits: Mapping[str, Path], folder: Path) -> None:
    """Write COMPARISON_FIGURES of one capacity table into `folder`; audits: experiment → its folder of audit tables."""
    compared = read_table(table, "capacity")
    rows: Sequence[tuple[str, str, int]] = list(
        compared.drop_duplicates("experiment")[["experiment", "model", "capacity"]].itertuples(index=False, name=None)
    )
    curves = [
        (
            f"{model} ({capacity:,} parameters)",
            read_table(audits[experiment] / "survival.parquet", "audit_survival"),
            read_json(audits[experiment] / "summary.json"),
        )
        for experiment, model, capacity in rows
    ]
    figures = {
        "capacity": capacity(compared),
        "changes": changes(compared),
        "survival_overlay": survival_overlay(curves),
    }
    for name, figure in figures.items():
        style.save(figure, folder / f"{name}.svg", folder / f"{name}.png")


def write_access_figures(queries: Mapping[str, AnyQuery], card: Path, audits: Mapping[str, Path], folder: Path) -> None:
    """Write ACCESS_FIGURES of one experiment into `folder`.

    queries: the experiment's by name; card: that of its dataset; audits: query → folder of its audit, full access
    first.
    """
    shape = read_json(card)["input_shape"]
    curves = [
        (
            f"{query}: {in_words(queries[query], shape)}",
            read_table(audit / "survival.parquet", "audit_survival"),
            read_json(audit / "summary.json"),
        )
        for query, audit in audits.items()
    ]
    style.save(access(curves), folder / "access.svg", folder / "access.png")


def write_group_figures(groups: Path, correlations: Path, folder: Path) -> None:
    """Write GROUP_FIGURES into `folder`, from the two tables of `compare.groups`."""
    figure = meta(read_table(groups, "compared_groups"), read_table(correlations, "meta"))
    style.save(figure, folder / "meta.svg", folder / "meta.png")
