"""The whole configuration, and the experiments, chunks and job parameters that follow from it."""

from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from tailrisk.config.architectures import AnyModel, Custom
from tailrisk.config.base import Name, Strict, canonical, suggestion
from tailrisk.config.fingerprint import folder_hash
from tailrisk.config.fit import misfit
from tailrisk.config.queries import AnyQuery, Augmented, Clean, Redacted
from tailrisk.config.recipe import Recipe, Training
from tailrisk.config.sources import AnySource
from tailrisk.errors import UserError

Threshold = Annotated[float, Field(gt=0.5, lt=1)]


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


class Audit(Strict):
    """How confidences become risks."""

    flips: int = Field(999, ge=99, description="Common sign flips that make the null distribution.")
    fdr: float = Field(0.05, gt=0, lt=1, description="False discovery rate under which a patient counts as vulnerable.")
    thresholds: list[Threshold] = Field(
        [0.8, 0.9, 0.95, 0.99], min_length=1, description="AUCs at which patients are counted, rising."
    )
    joint: Literal["equal", "linear"] = Field(
        "equal",
        description="How the joint attack weighs a patient's records: equally, or by a linear rule that is learned on "
        "other pairs (which has no p-value and no interval).",
    )

    rmia_gamma: float = Field(
        1.0, gt=0, description="γ of RMIA: how much likelier than a population record a member must be to count."
    )

    @model_validator(mode="after")
    def _rising(self) -> "Audit":
        if any(a >= b for a, b in pairwise(self.thresholds)):
            raise ValueError("thresholds must rise")
        return self


class Subgroups(Strict):
    """Who is in the tail."""

    tail: float = Field(0.01, gt=0, lt=0.5, description="Share of records, by AUC, that is called the tail.")
    permutations: int = Field(1999, ge=99, description="Permutations of whole patients for the clustered test.")
    variables: list[str] | None = Field(
        None,
        description="Group variables to test; null tests all. A dataset without one of them leaves it out.",
    )
    within: list[str] = Field(
        ["label"],
        description="Variables within whose values all others are tested once more, as a group's risk may be that of "
        "its labels; a dataset without one of them leaves it out.",
    )
    unknown_as_group: list[str] = Field(
        [],
        description="Variables whose missing values are a group, `unknown`; others leave such records out.",
    )


class Comparisons(Strict):
    """Tables across experiments."""

    capacity: bool = Field(
        True, description="Compare the models of an entry on the same dataset, where there are several."
    )
    sweeps: dict[Name, Annotated[list[Name], Field(min_length=2)]] = Field(
        {},
        description="Capacity over several entries, by the name of the sweep: entries on one dataset each, of the same "
        "patients, such as networks with other recipes or images of another size. Their models are compared there "
        "and no longer within each entry.",
    )
    access: bool = Field(
        True, description="Compare the queries of an experiment on the same patients, where there are several."
    )
    stability: bool = Field(
        True, description="Ask whether experiments on the same dataset find the same patients, where there are several."
    )
    groups: bool | list[Name] = Field(
        True,
        description="Compare the residuals of all groups with their shares, over one experiment of each dataset, the "
        "first; or a list of the entries whose datasets take part, each once.",
    )


class Running(Strict):
    """How the models are run: speed, memory and disk, never results."""

    stack_size: int | None = Field(
        None, ge=1, description="Target models trained at once; null takes what was measured for the architecture."
    )
    keep_weights: bool = Field(
        False, description="Keep the weights of finished models in the store: a new query then trains nothing again."
    )
    checkpoint_minutes: float = Field(
        5.0, gt=0, description="Minutes after which a training that is under way is saved, to be resumed from there."
    )


class Report(Strict):
    """The page at the end."""

    title: str = Field("Patient-level privacy audit", description="Title of the page.")
    threshold: Threshold = Field(0.95, description="AUC of the headline; one of `audit.thresholds`.")


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


def experiments(study: Study) -> dict[str, Experiment]:
    """All experiments of a study that train, by name, in the order of the configuration."""
    found = {}
    for entry_name, entry in study.trained.items():
        queries = asked(study, entry)
        for dataset in listed(entry.datasets):
            for model in listed(entry.models):
                spec = study.models[model]
                code = code_hash(spec) if isinstance(spec, Custom) else None
                seed = study.seed if entry.seed is None else entry.seed
                training = Training(seed=seed, model=spec, code=code, recipe=entry.recipe)
                name = f"{entry_name}.{dataset}.{model}"
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
        for experiment in experiments(study).values():
            if experiment.entry not in swept:
                found.setdefault(f"{experiment.entry}.{experiment.dataset}", []).append(experiment.name)
    for name, entries in study.comparisons.sweeps.items():
        (dataset,) = listed(study.trained[entries[0]].datasets)
        members = [e.name for entry in entries for e in experiments(study).values() if e.entry == entry]
        found[f"{name}.{dataset}"] = members
    return {name: members for name, members in found.items() if len(members) > 1}


def stability_comparisons(study: Study) -> dict[str, list[str]]:
    """Datasets that several experiments are about, with these experiments."""
    found: dict[str, list[str]] = {}
    for experiment in experiments(study).values() if study.comparisons.stability else ():
        found.setdefault(experiment.dataset, []).append(experiment.name)
    return {dataset: members for dataset, members in found.items() if len(members) > 1}


def group_comparison(study: Study) -> list[str]:
    """The first experiment of every dataset (that takes part), whose groups are compared with those of the others."""
    chosen, first = study.comparisons.groups, dict[str, str]()
    for experiment in experiments(study).values() if chosen else ():
        if not isinstance(chosen, list) or experiment.entry in chosen:
            first.setdefault(experiment.dataset, experiment.name)
    return list(first.values())


def shown_datasets(study: Study) -> list[str]:
    """Datasets of which a few records are drawn in the report, because their option `show_inputs` says so."""
    used = dict.fromkeys(experiment.dataset for experiment in experiments(study).values())
    return [name for name in used if getattr(study.datasets[name], "show_inputs", False)]


def access_comparisons(study: Study) -> list[str]:
    """Experiments with several queries, which are compared on the same patients."""
    return [e.name for e in experiments(study).values() if study.comparisons.access and len(e.queries) > 1]
