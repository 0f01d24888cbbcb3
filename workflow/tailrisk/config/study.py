"""The whole configuration, and the experiments, chunks and job parameters that follow from it."""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Discriminator, Field, Tag, model_validator

from tailrisk.config.architectures import AnyModel, Custom
from tailrisk.config.base import Name, Strict, canonical, suggestion
from tailrisk.config.fingerprint import folder_hash
from tailrisk.config.fit import misfit
from tailrisk.config.queries import AnyQuery, Augmented, Clean, Redacted
from tailrisk.config.recipe import Recipe, Training
from tailrisk.config.sections import Audit, Comparisons, Report, Running, Subgroups
from tailrisk.config.sources import AnySource
from tailrisk.errors import UserError

Names = Annotated[list[str], Field(min_length=1)] | str
MOST_MODELS = 32766  # model numbers are 16-bit in the tables


class Entry(Strict):
    """An entry of `experiments`: every dataset with every model, all trained by one recipe."""

    datasets: Names = Field(description="One name or several from `datasets`.")
    models: Names = Field(description="One name or several from `models`.")
    recipe: Recipe = Field(description="How the target models are trained.")
    queries: Names | None = Field(
        None, description="One name or several from `queries`, the first one's audit heading the report; null asks all."
    )
    n_models: int | None = Field(
        None,
        ge=4,
        le=MOST_MODELS,
        multiple_of=2,
        description="Target models of this entry, in place of the study's n_models.",
    )
    seed: int | None = Field(
        None, ge=0, description="Seed of this entry, in place of the study's: other halves, other initial weights."
    )


Pairing = Literal["complementary", "balanced", "independent", "unknown"]


class Tables(Strict):
    """A confidence table from elsewhere, with who its records belong to."""

    confidences: str = Field(
        description="Parquet or CSV table with the columns model, row, member and confidence, one line per target "
        "model and record; `loss` (−log p of the true label) is optional."
    )
    records: str = Field(description="Parquet or CSV table with the columns row, record and patient.")
    groups: str | None = Field(
        None, description="Parquet or CSV table with the column record and one column a group variable."
    )


class Given(Tables):
    """An entry of `experiments` that audits a confidence table from elsewhere: no training, all that follows it."""

    pairing: Pairing = Field(
        description="How members were drawn: `complementary` (models 2k and 2k + 1 have complementary members), "
        "`balanced` (every patient is a member of exactly half of the models), `independent` (a fair coin for each "
        "patient and model) or `unknown` (no p-values)."
    )
    title: str | None = Field(None, description="Name in the report.")


def _kind(entry: Any) -> str:
    keys = set(entry) if isinstance(entry, dict) else set(type(entry).model_fields)
    return "given" if keys & (set(Given.model_fields) - {"title"}) else "trained"


AnyEntry = Annotated[Annotated[Entry, Tag("trained")] | Annotated[Given, Tag("given")], Discriminator(_kind)]
ENTRY_TAGS = {"trained", "given"}


class Study(Strict):
    """A study: what is trained, asked, audited, compared and reported."""

    seed: int = Field(1, ge=0, description="Seed of memberships and of everything random in a target model.")
    n_models: int = Field(
        200, ge=4, le=MOST_MODELS, multiple_of=2, description="Target models of an experiment: an even number."
    )
    chunk_size: int = Field(
        25, ge=1, description="Target models that one training job produces; never changes results."
    )
    max_failed_pairs: int = Field(
        2, ge=0, description="Pairs that may be lost to failed models before an experiment stops."
    )
    datasets: dict[Name, AnySource] = Field({}, description="Datasets by name.")
    models: dict[Name, AnyModel] = Field({}, description="Architectures with their sizes, by name.")
    experiments: dict[Name, AnyEntry] = Field(
        min_length=1,
        description="What is trained on what, and how (see Entry), or a confidence table from elsewhere (see Given).",
    )
    queries: dict[Name, AnyQuery] = Field(
        {"clean": Clean(kind="clean")}, min_length=1, description="How the attacker asks a model, by name."
    )
    running: Running = Field(Running(), description="How models are run: speed, memory and disk only; see Running.")
    audit: Audit = Field(Audit(), description="Null distribution, false discovery rate and thresholds; see Audit.")
    subgroups: Subgroups = Field(Subgroups(), description="Tests of who is in the tail; see Subgroups.")
    comparisons: Comparisons = Field(
        Comparisons(), description="Which tables across experiments are made; see Comparisons."
    )
    report: Report = Field(Report(), description="Title and headline of the page; see Report.")

    @model_validator(mode="after")
    def _references_exist(self) -> "Study":
        for name, entry in self.trained.items():
            for kind, used, known in (
                ("dataset", listed(entry.datasets), self.datasets),
                ("model", listed(entry.models), self.models),
                ("query", asked(self, entry), self.queries),
            ):
                for item in used:
                    if item not in known:
                        hint = suggestion(item, known) if known else "there are none: add it"
                        raise ValueError(f"experiments.{name}: no {kind} '{item}'; {hint}")
                if len(set(used)) < len(used):
                    raise ValueError(f"experiments.{name}: a {kind} is listed twice")
            queries = {item: self.queries[item] for item in asked(self, entry)}
            for dataset, model in product(listed(entry.datasets), listed(entry.models)):
                wrong = misfit(self.datasets[dataset].form, self.models[model], entry.recipe.augmentation, queries)
                if wrong:
                    raise ValueError(f"experiments.{name} ('{dataset}' with '{model}'): {wrong}")
            first, *others = queries
            if others and self.comparisons.access and isinstance(self.queries[first], Redacted):
                raise ValueError(
                    f"experiments.{name}: the first query is full access, with which the others are compared, but "
                    f"'{first}' is redacted: list another one first"
                )
            for item in asked(self, entry):
                if isinstance(self.queries[item], Augmented) and entry.recipe.augmentation == "none":
                    raise ValueError(
                        f"experiments.{name}: the query '{item}' asks augmented views, but the recipe has no "
                        "augmentation: give it one, or leave the query out with `queries`"
                    )
        self._comparisons_fit()
        if self.report.threshold not in self.audit.thresholds:
            raise ValueError("report.threshold must be one of audit.thresholds")
        return self

    def _comparisons_fit(self) -> None:
        named = self.comparisons.groups if isinstance(self.comparisons.groups, list) else []
        for key, entries in {
            "groups": named,
            **{f"sweeps.{name}": e for name, e in self.comparisons.sweeps.items()},
        }.items():
            for entry in entries:
                if entry not in self.trained:
                    raise ValueError(
                        f"comparisons.{key}: no entry '{entry}' that trains; {suggestion(entry, self.trained)}"
                    )
            if len(set(entries)) < len(entries):
                raise ValueError(f"comparisons.{key}: an entry is listed twice")
        for name, entries in self.comparisons.sweeps.items():
            if name in self.experiments:
                raise ValueError(f"comparisons.sweeps.{name}: an entry has this name, too: choose another one")
            for entry in entries:
                if len(listed(self.trained[entry].datasets)) > 1:
                    raise ValueError(f"comparisons.sweeps.{name}: the entry '{entry}' has several datasets: split it")
                if asked(self, self.trained[entry]) != asked(self, self.trained[entries[0]]):
                    raise ValueError(
                        f"comparisons.sweeps.{name}: the entries '{entries[0]}' and '{entry}' ask different queries: "
                        "give them the same ones, in the same order"
                    )

    @property
    def trained(self) -> dict[str, Entry]:
        """The entries that train target models."""
        return {name: entry for name, entry in self.experiments.items() if isinstance(entry, Entry)}

    @property
    def given(self) -> dict[str, Given]:
        """The confidence tables from elsewhere."""
        return {name: entry for name, entry in self.experiments.items() if isinstance(entry, Given)}


def listed(value: list[str] | str) -> list[str]:
    """One name or several, as a list."""
    return [value] if isinstance(value, str) else value


def asked(study: Study, entry: Entry) -> list[str]:
    """Names of the queries of an entry; the first one heads the report."""
    return list(study.queries) if entry.queries is None else listed(entry.queries)


@dataclass(frozen=True)
class Experiment:
    """One dataset × model × recipe: `name` is `<entry>.<dataset>.<model>`.

    `recipe` and `asked` are the canonical JSON of a training job: what decides a model, and its queries by name.
    """

    name: str
    entry: str
    dataset: str
    model: str
    n_models: int
    recipe: str
    queries: list[str]
    asked: str


class Combination(NamedTuple):
    """What an experiment is called, and what it puts together, by name."""

    name: str
    entry: str
    dataset: str
    model: str


def combinations(study: Study) -> list[Combination]:
    """The experiments of a study that train, in the order of the configuration."""
    return [
        Combination(f"{name}.{dataset}.{model}", name, dataset, model)
        for name, entry in study.trained.items()
        for dataset in listed(entry.datasets)
        for model in listed(entry.models)
    ]


def experiments(study: Study) -> dict[str, Experiment]:
    """All experiments of a study that train, by name, in the order of the configuration."""
    found = {}
    trained, codes = study.trained, dict[tuple[str, str], str]()
    for name, entry_name, dataset, model in combinations(study):
        entry, spec, code = trained[entry_name], study.models[model], None
        if isinstance(spec, Custom):
            place = spec.path, spec.function
            code = codes[place] = codes.get(place) or code_hash(spec)
        queries = asked(study, entry)
        seed = study.seed if entry.seed is None else entry.seed
        training = Training(seed=seed, model=spec, code=code, recipe=entry.recipe)
        found[name] = Experiment(
            name=name,
            entry=entry_name,
            dataset=dataset,
            model=model,
            n_models=entry.n_models or study.n_models,
            recipe=canonical(training),
            queries=queries,
            asked=canonical({query: study.queries[query].model_dump(mode="json") for query in queries}),
        )
    return found


def code_hash(spec: Custom) -> str:
    """Hash of the module of a user's own model and of all it imports from its folder. UserError where it is missing."""
    module = spec.function.partition(":")[0]
    try:
        return folder_hash(Path(spec.path), module)
    except FileNotFoundError as error:
        raise UserError(
            f"the model function {spec.function} is looked for in {error.filename}, which does not exist"
        ) from None
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UserError(f"{module} in the folder {spec.path} is not valid Python: {error}") from None


def chunks(n_models: int, chunk_size: int) -> list[str]:
    """Names `first-last` of the training jobs that together make models 0 to n_models − 1."""
    return [f"{first}-{min(first + chunk_size, n_models) - 1}" for first in range(0, n_models, chunk_size)]


def chunk_models(chunk: str) -> range:
    """The model numbers of a chunk name."""
    first, last = chunk.split("-")
    return range(int(first), int(last) + 1)


def comparisons(study: Study) -> dict[str, list[str]]:
    """Capacity comparisons `<entry>.<dataset>` with the experiments that they hold beside each other.

    A sweep over several entries is called `<sweep>.<dataset>`, after the dataset of its first entry.
    """
    found: dict[str, list[str]] = {}
    swept = {entry: name for name, entries in study.comparisons.sweeps.items() for entry in entries}
    if study.comparisons.capacity:
        for experiment in combinations(study):
            if experiment.entry not in swept:
                found.setdefault(f"{experiment.entry}.{experiment.dataset}", []).append(experiment.name)
    for name, entries in study.comparisons.sweeps.items():
        (dataset,) = listed(study.trained[entries[0]].datasets)
        members = [e.name for entry in entries for e in combinations(study) if e.entry == entry]
        found[f"{name}.{dataset}"] = members
    return {name: members for name, members in found.items() if len(members) > 1}


def stability_comparisons(study: Study) -> dict[str, list[str]]:
    """Datasets that several experiments are about, with these experiments."""
    found: dict[str, list[str]] = {}
    for experiment in combinations(study) if study.comparisons.stability else ():
        found.setdefault(experiment.dataset, []).append(experiment.name)
    return {dataset: members for dataset, members in found.items() if len(members) > 1}


def group_comparison(study: Study) -> list[str]:
    """The first experiment of every dataset (that takes part), whose groups are compared with those of the others."""
    chosen, first = study.comparisons.groups, dict[str, str]()
    for experiment in combinations(study) if chosen else ():
        if not isinstance(chosen, list) or experiment.entry in chosen:
            first.setdefault(experiment.dataset, experiment.name)
    return list(first.values())


def shown_datasets(study: Study) -> list[str]:
    """Datasets of which a few records are drawn in the report, because their option `show_inputs` says so."""
    used = dict.fromkeys(experiment.dataset for experiment in combinations(study))
    return [name for name in used if getattr(study.datasets[name], "show_inputs", False)]


def access_comparisons(study: Study) -> list[str]:
    """Experiments with several queries, which are compared on the same patients."""
    several = {name for name, entry in study.trained.items() if len(asked(study, entry)) > 1}
    return [e.name for e in combinations(study) if study.comparisons.access and e.entry in several]
