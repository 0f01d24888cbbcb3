"""What the workflow derives from the configuration: paths, and the parameters whose change reruns a job."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tailrisk.config.base import canonical
from tailrisk.config.fingerprint import files_hash, fingerprint
from tailrisk.config.load import parse
from tailrisk.config.sources import GROUPING, UNREAD, AnySource
from tailrisk.config.study import (
    Experiment,
    Study,
    access_comparisons,
    chunks,
    comparisons,
    experiments,
    group_comparison,
    shown_datasets,
    stability_comparisons,
)
from tailrisk.errors import UserError

AUDIT_TABLES = ("records", "patients", "survival", "aggregate", "subgroups", "models")
GIVEN_QUERY = "given"
"""Name of the query of a confidence table from elsewhere: how its models were asked is not known here."""


@dataclass(frozen=True)
class Plan:
    """A validated study with everything that rules look up by name."""

    study: Study

    @classmethod
    def of(cls, config: dict[str, Any], where: str = "configuration") -> "Plan":
        """Validate the mapping that Snakemake read from `where`. UserError names file and key at fault."""
        return cls(parse(Study, config, where))

    @cached_property
    def experiments(self) -> dict[str, Experiment]:
        """Experiments by name."""
        return experiments(self.study)

    @cached_property
    def comparisons(self) -> dict[str, list[str]]:
        """Capacity comparisons by name, with their experiments."""
        return comparisons(self.study)

    @cached_property
    def access(self) -> list[str]:
        """Experiments whose queries are compared."""
        return access_comparisons(self.study)

    @cached_property
    def stability(self) -> dict[str, list[str]]:
        """Datasets that several experiments are about, with these experiments."""
        return stability_comparisons(self.study)

    @cached_property
    def grouped(self) -> list[str]:
        """The experiments, one of each dataset, whose groups are compared."""
        return group_comparison(self.study)

    def first_audits(self, names: list[str], *files: str) -> list[str]:
        """Paths of files of the audits of experiments under their first query."""
        return [f"results/audit/{name}/{self.experiments[name].queries[0]}/{file}" for name in names for file in files]

    def named(self, option: str, names: list[str], pattern: str) -> list[str]:
        """Command-line options `--option NAME=PATH`, the pattern filled in with an experiment, its first query and its
        dataset."""
        return [
            f"--{option} {name}=" + pattern.format(experiment=name, query=one.queries[0], dataset=one.dataset)
            for name, one in ((name, self.experiments[name]) for name in names)
        ]

    def for_each_query(self, pattern: str) -> list[str]:
        """`pattern` filled in for every experiment, given tables included, and query."""
        asked = {experiment.name: experiment.queries for experiment in self.experiments.values()}
        asked |= {name: [GIVEN_QUERY] for name in self.study.given}
        return [pattern.format(experiment=name, query=query) for name, queries in asked.items() for query in queries]

    def described(self, experiment: str) -> str:
        """Folder with records.parquet and groups.parquet of an experiment."""
        if experiment in self.study.given:
            return f"results/given/{experiment}"
        return f"results/datasets/{self.experiment(experiment).dataset}"

    def pairing(self, experiment: str) -> str:
        """How the members of an experiment were drawn."""
        given = self.study.given.get(experiment)
        return given.pairing if given else "complementary"

    def given(self, name: str) -> str:
        """What decides an experiment that was given as a table, as canonical JSON; UserError where there is none."""
        if name not in self.study.given:
            raise UserError(f"the configuration has no experiment '{name}'")
        return canonical(self.study.given[name].model_dump(mode="json", exclude={"title", "pairing"}))

    def comparison_queries(self, comparison: str) -> list[str]:
        """Queries of a capacity comparison: those of its entry."""
        return self.experiments[self.comparisons[comparison][0]].queries

    @cached_property
    def datasets(self) -> list[str]:
        """Names of the datasets that an experiment uses."""
        return list(dict.fromkeys(experiment.dataset for experiment in self.experiments.values()))

    @cached_property
    def shown(self) -> list[str]:
        """Datasets of which a few records are drawn."""
        return shown_datasets(self.study)

    def experiment(self, name: str) -> Experiment:
        """The experiment `name`; UserError where the configuration has none (an old result asked for by its path)."""
        try:
            return self.experiments[name]
        except KeyError:
            raise UserError(f"the configuration has no experiment '{name}'") from None

    def dataset(self, name: str) -> AnySource:
        """The source of the dataset `name`; UserError where the configuration has none."""
        try:
            return self.study.datasets[name]
        except KeyError:
            raise UserError(f"the configuration has no dataset '{name}'") from None

    def chunks(self, experiment: str) -> list[str]:
        """Names of the training jobs of an experiment."""
        return chunks(self.experiment(experiment).n_models, self.study.chunk_size)

    def chunk_tables(self, experiment: str) -> list[str]:
        """Paths of the tables that the training jobs of an experiment write."""
        return [f"results/targets/{experiment}/{chunk}.parquet" for chunk in self.chunks(experiment)]

    def source(self, dataset: str) -> str:
        """What decides a prepared dataset, as canonical JSON: all options of its source that it depends on."""
        return canonical(self.dataset(dataset).model_dump(mode="json", exclude=UNREAD))

    def grouping(self, dataset: str) -> str:
        """What decides the group variables of a dataset, as canonical JSON."""
        return canonical(self.dataset(dataset).model_dump(mode="json", exclude=UNREAD - GROUPING))

    @property
    def downloads(self) -> str:
        """The sources that state where they can be fetched, as canonical JSON."""
        stated = {name: s for name, s in self.study.datasets.items() if getattr(s, "url", None)}
        return canonical({name: s.model_dump(include={"url", "sha256", "path"}) for name, s in stated.items()})

    def source_code(self, dataset: str, stage: str) -> str:
        """Fingerprint of the code that reads a dataset, for the stage "prepare" or "groups"."""
        module = self.dataset(dataset).module
        return fingerprint(f"tailrisk.datasets.{stage}", f"tailrisk.datasets.{module}", within="tailrisk.datasets")

    @cached_property
    def audit_options(self) -> str:
        """Options of the audit stage, as canonical JSON."""
        options = self.study.audit.model_dump(mode="json") | self.study.subgroups.model_dump(mode="json")
        return canonical(options | {"seed": self.study.seed})

    @cached_property
    def running(self) -> str:
        """How models are run, as canonical JSON; no parameter of a job, as it changes no result."""
        return canonical(self.study.running)

    @property
    def page(self) -> str:
        """The study as the page needs it, as JSON in the order of the configuration, which the page follows."""
        return self.study.model_dump_json(exclude={"running"})

    @property
    def templates(self) -> str:
        """Hash of the report's templates, which no fingerprint of code covers."""
        return files_hash("report/templates")

    def code(self, module: str) -> str:
        """Fingerprint of the analysis code behind `module` ("stages.audit")."""
        return fingerprint(f"tailrisk.{module}")
