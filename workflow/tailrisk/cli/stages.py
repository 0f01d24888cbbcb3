"""The sub-commands that the rules of the workflow call, one a stage. Stages are imported when they run."""

import json
from pathlib import Path
from typing import Any, get_args

import click

from tailrisk.cli.group import PATH, main
from tailrisk.config.base import canonical
from tailrisk.config.load import parse
from tailrisk.config.queries import AnyQuery
from tailrisk.config.sources import AnySource
from tailrisk.config.study import Pairing, Running, Tables
from tailrisk.errors import UserError


def _paths(pairs: tuple[str, ...]) -> dict[str, Path]:
    return {name: Path(path) for name, path in (pair.split("=", 1) for pair in pairs)}


named_paths: dict[str, Any] = {"multiple": True, "callback": lambda ctx, param, value: _paths(value)}


@main.command()
@click.option("--name", required=True)
@click.option("--source", required=True, help="Options of the source, as JSON.")
@click.option("--threads", type=int, default=1, show_default=True, help="Files decoded at once.")
@click.option("--output", type=PATH, required=True)
def prepare(name: str, source: str, threads: int, output: Path) -> None:
    """Read a source, split it by patient, validate it, and write the prepared dataset."""
    from tailrisk.datasets.prepare import prepare as run

    run(name, parse(AnySource, json.loads(source), f"datasets.{name}"), output, threads)


@main.command()
@click.option("--name", required=True)
@click.option("--source", required=True, help="Options of the source, as JSON.")
@click.option("--dataset", type=PATH, required=True)
def groups(name: str, source: str, dataset: Path) -> None:
    """Write the group variables of a prepared dataset."""
    from tailrisk.datasets.groups import groups as run

    run(parse(AnySource, json.loads(source), f"datasets.{name}"), dataset)


@main.command()
@click.option("--dataset", type=PATH, required=True)
@click.option("--threads", type=int, default=1, show_default=True, help="Threads; never changes results.")
def duplicates(dataset: Path, threads: int) -> None:
    """List records of different patients in a prepared dataset that are the same, or nearly so."""
    from tailrisk.datasets.duplicates import duplicates as run

    run(dataset, threads)


@main.command()
@click.argument("sources")
def download(sources: str) -> None:
    """Fetch what SOURCES lists (JSON: name → url, sha256, path) and is not there yet, checked against checksums."""
    from tailrisk.datasets.download import download as run

    listed = json.loads(sources)
    if not listed:
        raise UserError("no dataset of the configuration states a url: there is nothing to download")
    for name, source in listed.items():
        path = Path(source["path"])
        if path.exists():
            click.echo(f"{name}: {path} is there already")
        else:
            run(source["url"], source["sha256"], path)
            click.echo(f"{name}: fetched {path}")


@main.command()
@click.option("--dataset", type=PATH, required=True)
@click.option("--seed", type=int, required=True)
@click.option("--output", type=PATH, required=True)
def baseline(dataset: Path, seed: int, output: Path) -> None:
    """Train a plain scikit-learn model on the same half as target model 0."""
    from tailrisk.stages.baseline import baseline as run

    run(dataset, seed, output)


@main.command()
@click.option("--dataset", type=PATH, required=True)
@click.option("--recipe", required=True, help="Canonical JSON of what decides a trained model.")
@click.option("--queries", required=True, help="Canonical JSON of the queries by name.")
@click.option("--models", required=True, help="Target models, first-last.")
@click.option("--store", type=PATH, required=True)
@click.option(
    "--running", default=canonical(Running()), envvar="TAILRISK_RUNNING", help="Canonical JSON of how models are run."
)
@click.option("--output", type=PATH, required=True)
@click.option("--device", help="Torch device; the GPU by default where there is one.")
def train(
    dataset: Path,
    recipe: str,
    queries: str,
    models: str,
    store: Path,
    running: str,
    output: Path,
    device: str | None,
) -> dict[str, Any]:
    """Train the target models of a chunk that the store lacks, and write their answers."""
    from tailrisk.stages.train import train as run

    return run(dataset, recipe, queries, models, store, running, output, device)


@main.command()
@click.option("--n-models", type=int, required=True)
@click.option("--max-failed-pairs", type=int, required=True)
@click.option("--query", required=True)
@click.option("--output", type=PATH, required=True)
@click.argument("chunks", nargs=-1, type=PATH, required=True)
def gather(n_models: int, max_failed_pairs: int, query: str, output: Path, chunks: tuple[Path, ...]) -> None:
    """Join the confidences that the chunks of an experiment hold of one query."""
    from tailrisk.stages.gather import gather as run

    run(list(chunks), n_models, query, output, max_failed_pairs)


@main.command()
@click.option("--n-models", type=int, required=True)
@click.option("--max-failed-pairs", type=int, required=True)
@click.option("--output", type=PATH, required=True)
@click.argument("chunks", nargs=-1, type=PATH, required=True)
def performance(n_models: int, max_failed_pairs: int, output: Path, chunks: tuple[Path, ...]) -> None:
    """Join the performance of the target models of an experiment, and tell which of them failed."""
    from tailrisk.stages.gather import performance as run

    for line in run(list(chunks), n_models, output, max_failed_pairs):
        click.echo(line)


@main.command()
@click.option("--experiment", required=True)
@click.option("--query", required=True)
@click.option("--confidences", type=PATH, required=True)
@click.option("--records", type=PATH, required=True)
@click.option("--groups", type=PATH, required=True)
@click.option("--pairing", type=click.Choice(get_args(Pairing)), required=True, help="How members were drawn.")
@click.option("--options", required=True, help="Options of the audit, as JSON.")
@click.option("--threads", type=int, default=1, show_default=True, help="Threads; never changes results.")
@click.option("--output", type=PATH, required=True)
def audit(
    experiment: str,
    query: str,
    confidences: Path,
    records: Path,
    groups: Path,
    pairing: Pairing,
    options: str,
    threads: int,
    output: Path,
) -> None:
    """Compute the risk of every record and patient, the aggregate attacks, and who is in the tail."""
    from tailrisk.stages.audit import audit as run

    run(confidences, records, groups, output, (experiment, query), pairing, json.loads(options), threads)


@main.command()
@click.option("--name", required=True)
@click.option("--tables", required=True, help="What the configuration says of the given tables, as JSON.")
@click.option("--confidences", type=PATH, required=True)
@click.option("--output", type=PATH, required=True)
def given(name: str, tables: str, confidences: Path, output: Path) -> None:
    """Read a confidence table from elsewhere, check it, and write it as the gather stage would have written it."""
    from tailrisk.stages.given import given as run

    for line in run(parse(Tables, json.loads(tables), f"experiments.{name}"), confidences, output):
        click.echo(line)


@main.command()
@click.option("--audit", required=True, help="EXPERIMENT=FOLDER, once an experiment.", **named_paths)
@click.option("--performance", required=True, help="EXPERIMENT=PATH, once an experiment.", **named_paths)
@click.option("--output", type=PATH, required=True)
def capacity(audit: dict[str, Path], performance: dict[str, Path], output: Path) -> None:
    """Compare the capacities of models trained on the same dataset."""
    from tailrisk.compare.capacity import write_capacity

    write_capacity(audit, performance, output)


@main.command()
@click.option("--experiment", required=True)
@click.option("--queries", required=True, help="Canonical JSON of the queries by name.")
@click.option("--audit", required=True, help="QUERY=FOLDER, once a query, full access first.", **named_paths)
@click.option("--output", type=PATH, required=True)
def access(experiment: str, queries: str, audit: dict[str, Path], output: Path) -> None:
    """Compare the queries of an experiment on the same patients."""
    from tailrisk.compare.access import write_access

    kinds = {name: query["kind"] for name, query in json.loads(queries).items()}
    write_access(experiment, kinds, audit, output)


@main.command()
@click.option("--audit", required=True, help="EXPERIMENT=FOLDER, once an experiment.", **named_paths)
@click.option("--confidences", required=True, help="EXPERIMENT=PATH, once an experiment.", **named_paths)
@click.option("--records", type=PATH, required=True)
@click.option("--tail", type=float, required=True, help="Share of patients called the tail.")
@click.option("--seed", type=int, required=True)
@click.option("--output", type=PATH, required=True)
def stability(
    audit: dict[str, Path], confidences: dict[str, Path], records: Path, tail: float, seed: int, output: Path
) -> None:
    """Compare which patients the experiments on one dataset find."""
    from tailrisk.compare.stability import write_stability

    write_stability(audit, confidences, records, tail, seed, output)


@main.command("groups-across-datasets")
@click.option("--audit", required=True, help="EXPERIMENT=FOLDER, one experiment a dataset.", **named_paths)
@click.option("--groups", required=True, help="EXPERIMENT=PATH, once an experiment.", **named_paths)
@click.option("--options", required=True, help="Options of the audit, as JSON.")
@click.option("--output", type=PATH, required=True)
@click.option("--meta", type=PATH, required=True)
def groups_across_datasets(
    audit: dict[str, Path], groups: dict[str, Path], options: str, output: Path, meta: Path
) -> None:
    """Compare the residuals of all groups with their shares."""
    from tailrisk.compare.groups import write_groups

    audited = json.loads(options)
    write_groups(audit, groups, audited["unknown_as_group"], audited["tail"], audited["seed"], output, meta)


@main.command("group-figures")
@click.option("--groups", type=PATH, required=True)
@click.option("--meta", type=PATH, required=True)
@click.option("--output", type=PATH, required=True)
def group_figures(groups: Path, meta: Path, output: Path) -> None:
    """Draw the figure of groups across datasets."""
    from tailrisk.figures.write import write_group_figures

    write_group_figures(groups, meta, output)


@main.command("dataset-figures")
@click.option("--dataset", type=PATH, required=True)
@click.option("--output", type=PATH, required=True)
def dataset_figures(dataset: Path, output: Path) -> None:
    """Draw a few random records of a prepared dataset."""
    from tailrisk.figures.dataset import write_dataset_figures

    write_dataset_figures(dataset, output)


@main.command()
@click.option("--audit", type=PATH, required=True)
@click.option("--output", type=PATH, required=True)
def figures(audit: Path, output: Path) -> None:
    """Draw the figures of one audit."""
    from tailrisk.figures.write import write_audit_figures

    write_audit_figures(audit, output)


@main.command("comparison-figures")
@click.option("--table", type=PATH, required=True)
@click.option("--audit", required=True, help="EXPERIMENT=FOLDER, once an experiment.", **named_paths)
@click.option("--output", type=PATH, required=True)
def comparison_figures(table: Path, audit: dict[str, Path], output: Path) -> None:
    """Draw the figures of one capacity comparison."""
    from tailrisk.figures.write import write_comparison_figures

    write_comparison_figures(table, audit, output)


@main.command("access-figures")
@click.option("--queries", required=True, help="Canonical JSON of the queries by name.")
@click.option("--card", type=PATH, required=True, help="Card of the dataset.")
@click.option("--audit", required=True, help="QUERY=FOLDER, once a query, full access first.", **named_paths)
@click.option("--output", type=PATH, required=True)
def access_figures(queries: str, card: Path, audit: dict[str, Path], output: Path) -> None:
    """Draw the figures of one comparison of queries."""
    from tailrisk.figures.write import write_access_figures

    write_access_figures(parse(dict[str, AnyQuery], json.loads(queries), "queries"), card, audit, output)


@main.command()
@click.option("--results", type=PATH, required=True)
@click.option("--study", required=True, help="The validated configuration, as JSON.")
@click.option("--page", type=PATH, required=True)
@click.option("--headlines", type=PATH, required=True)
def report(results: Path, study: str, page: Path, headlines: Path) -> dict[str, Any]:
    """Write the page for the data-protection officer."""
    from tailrisk.stages.report import report as run

    return run(results, study, page, headlines)
