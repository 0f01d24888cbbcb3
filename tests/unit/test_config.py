"""Configuration: what is accepted, what is refused in which words, and what is derived from it."""

import copy
import json
from collections import Counter

import jsonschema
import pytest
import yaml

from tailrisk.compare.capacity import _called
from tailrisk.config.load import load_study, parse
from tailrisk.config.plan import Plan
from tailrisk.config.schema import reference_text, schema_text
from tailrisk.config.study import Study, chunk_models, chunks, experiments
from tailrisk.errors import UserError

MINIMAL = {
    "datasets": {"bc": {"source": "breast_cancer"}},
    "models": {"lr": {"architecture": "logistic"}, "net": {"architecture": "tabular_resnet", "width": 8, "depth": 1}},
    "experiments": {
        "first": {
            "datasets": "bc",
            "models": ["lr", "net"],
            "recipe": {"epochs": 2, "batch_size": 32, "learning_rate": 0.1},
        }
    },
}


def changed(path: str, value: object) -> dict:
    """MINIMAL with the value at a dotted path replaced."""
    config = copy.deepcopy(MINIMAL)
    *parents, last = path.split(".")
    section = config
    for key in parents:
        section = section.setdefault(key, {})
    section[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("n_model", 4, "unknown key 'n_model'; did you mean 'n_models'?"),
        ("experiments.first.recipe.learnig_rate", 1, "unknown key 'learnig_rate'; did you mean 'learning_rate'?"),
        ("datasets.bc.tets", 0.1, "datasets.bc: unknown key 'tets'; did you mean 'test'?"),
        ("n_models", 5, "n_models: "),
        ("n_models", 2, "n_models: "),
        ("experiments.first.n_models", 7, "experiments.first.n_models: "),
        ("experiments.first.models", ["nett"], "no model 'nett'; did you mean 'net'?"),
        ("experiments.first.datasets", "bcx", "no dataset 'bcx'; did you mean 'bc'?"),
        ("experiments.first.models", ["net", "net"], "listed twice"),
        ("datasets.Upper", {"source": "breast_cancer"}, "datasets.Upper"),
        ("datasets.bc.source", "brest_cancer", "unknown source 'brest_cancer'; did you mean 'breast_cancer'?"),
        ("models.net.architecture", "logistc", "unknown architecture 'logistc'; did you mean 'logistic'?"),
        ("experiments.first.models", [], "experiments.first.models"),
        ("experiments.first.recipe.learning_rate", float("inf"), "experiments.first.recipe.learning_rate: "),
        ("n_models", 40000, "n_models: "),
        ("datasets.bc.validation", 0.9, "leave a share of patients for the audit"),
        ("datasets.t", {"source": "table", "path": "x.csv", "patient": "p", "label": "y"}, "at least one feature"),
        ("experiments.first.recipe.epochs", 0, "experiments.first.recipe.epochs: "),
        ("experiments.first.recipe.early_stopping", {"every": 9}, "never be used"),
        ("audit.thresholds", [0.9, 0.8], "must rise"),
        ("report.threshold", 0.7, "one of audit.thresholds"),
        ("models.net.width", 0, "models.net.width: "),
        ("experiments", {}, "experiments: "),
        ("experiments.first.queries", ["cleen"], "experiments.first: no query 'cleen'; did you mean 'clean'?"),
        ("queries", {"v": {"kind": "augmented"}}, "'v' asks augmented views, but the recipe has no augmentation"),
        ("queries", {"r": {"kind": "redacted"}}, "queries.r: state exactly one of known, hidden"),
        ("queries", {"r": {"kind": "redacted", "known": ["a"], "hidden": ["b"]}}, "state exactly one of known, hidden"),
        ("queries", {"r": {"kind": "redacted", "known_region": [0.5, 0, 0.5, 1]}}, "top < bottom and left < right"),
        ("queries", {"r": {"kind": "redactd"}}, "unknown kind 'redactd'; did you mean 'redacted'?"),
        ("models.net", {"architecture": "wide_resnet", "depth": 29, "width": 2}, "is 6n + 4 (10, 16, 22, 28, 40 ...)"),
        ("models.net", {"architecture": "vit", "pretrained": False, "weights": "x.pth"}, "pretrained is false"),
        (
            "models.net",
            {"architecture": "custom", "function": "model.py"},
            "models.net.function: write module:function, such as",
        ),
        ("models.net", {"architecture": "vit", "weights": "x.pth"}, "state weights and sha256 together"),
        ("queries", {"p": {"kind": "redacted", "hidden": ["a"]}, "c": {"kind": "clean"}}, "first query is full access"),
        ("experiments.first.recipe.preset", ["chexpert"], "experiments.first.recipe.preset: "),
        ("experiments.first.recipe", {"preset": "chexprt"}, "unknown preset 'chexprt'; did you mean 'chexpert'?"),
        (
            "models.net",
            {"architecture": "resnet1d"},
            "resnet1d cannot take a dataset whose records are rows of a table",
        ),
        (
            "experiments.first.recipe.augmentation",
            "ecg",
            "'ecg' is for signals, not for a dataset whose records are rows",
        ),
        (
            "queries",
            {"r": {"kind": "redacted", "hidden_region": [0, 0, 1, 0.5]}},
            "hides a region, but this is a dataset",
        ),
        ("experiments.first.recipe.accumulation", 3, "accumulation must divide batch_size (32)"),
        ("experiments.first.recipe.retry", 1.0, "experiments.first.recipe.retry: "),
        ("running.stack_size", 0, "running.stack_size: "),
    ],
)
def test_faults_are_named(path: str, value: object, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(Study, changed(path, value), "study.yaml")
    assert str(caught.value).startswith("study.yaml: ")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lists_multiply_into_experiments() -> None:
    found = experiments(parse(Study, MINIMAL, "x"))
    assert list(found) == ["first.bc.lr", "first.bc.net"]
    assert {experiment.n_models for experiment in found.values()} == {200}


def test_recipe_holds_what_changes_a_model_and_nothing_else() -> None:
    before = experiments(parse(Study, MINIMAL, "x"))["first.bc.net"].recipe
    assert json.loads(before)["model"] == {"architecture": "tabular_resnet", "width": 8, "depth": 1}
    for path, value in (
        ("n_models", 100),
        ("chunk_size", 3),
        ("audit.flips", 500),
        ("report.title", "other"),
        ("models.more", {"architecture": "logistic"}),
        ("max_failed_pairs", 0),
    ):
        assert experiments(parse(Study, changed(path, value), "x"))["first.bc.net"].recipe == before, path
    for path, value in (("seed", 2), ("experiments.first.recipe.epochs", 3), ("models.net.depth", 2)):
        assert experiments(parse(Study, changed(path, value), "x"))["first.bc.net"].recipe != before, path


def test_running_is_no_part_of_a_recipe() -> None:
    found = Plan.of(MINIMAL)
    other = Plan.of(changed("running", {"stack_size": 3, "keep_weights": True}))
    assert other.experiments == found.experiments
    assert json.loads(other.running)["stack_size"] == 3


def test_an_entry_asks_its_own_queries() -> None:
    config = changed("queries", {"b": {"kind": "clean"}, "a": {"kind": "redacted", "hidden": ["mean area"]}})
    plan = Plan.of(config)
    assert plan.experiment("first.bc.lr").queries == ["b", "a"]  # in the order of the configuration
    assert plan.access == ["first.bc.lr", "first.bc.net"]
    config["experiments"]["second"] = config["experiments"]["first"] | {"queries": "a"}
    plan = Plan.of(config)
    assert plan.experiment("second.bc.lr").queries == ["a"]
    assert "second.bc.lr" not in plan.access
    assert json.loads(plan.experiment("second.bc.lr").asked)["a"]["hidden"] == ["mean area"]
    assert plan.for_each_query("{experiment}/{query}").count("second.bc.net/a") == 1


def test_a_model_of_ones_own_is_known_by_its_code(tmp_path) -> None:
    spec = {"architecture": "custom", "function": "nets.small:make", "path": str(tmp_path)}
    config = changed("models.net", spec)
    with pytest.raises(UserError, match=r"nets.small:make is looked for in .*small\.py, which does not exist"):
        _ = Plan.of(config).experiments
    (tmp_path / "nets").mkdir()
    file = tmp_path / "nets/small.py"
    recipes = []
    for source in (
        "def make(shape, n):\n    return 1\n",
        "def make(shape, n):\n    return 1  # one\n",
        "def make(s, n): return 2",
    ):
        file.write_text(source)
        recipes.append(Plan.of(config).experiment("first.bc.net").recipe)
    assert recipes[0] == recipes[1] != recipes[2]
    (tmp_path / "nets/small").mkdir()
    (tmp_path / "nets/small/__init__.py").write_text("def make(s, n): return 2")
    assert Plan.of(config).experiment("first.bc.net").recipe == recipes[2]
    file = tmp_path / "nets/small/__init__.py"
    hashes = []
    for width in (4, 64):  # what a module imports from its folder counts, what it imports from elsewhere does not
        (tmp_path / "nets/sizes.py").write_text(f"WIDTH = {width}")
        file.write_text("import os\nfrom ..sizes import WIDTH\ndef make(s, n): return WIDTH")
        hashes.append(Plan.of(config).experiment("first.bc.net").recipe)
    assert hashes[0] != hashes[1]
    file.write_text("def make(")
    with pytest.raises(UserError, match="is not valid Python"):
        _ = Plan.of(config).experiments


def test_order_of_keys_does_not_matter() -> None:
    config = copy.deepcopy(MINIMAL)
    recipe = config["experiments"]["first"]["recipe"]
    config["experiments"]["first"]["recipe"] = dict(reversed(recipe.items()))
    one, other = Plan.of(config), Plan.of(MINIMAL)
    assert one.experiments == other.experiments
    assert one.audit_options == other.audit_options


@pytest.mark.parametrize(("n_models", "size"), [(200, 25), (200, 200), (10, 4), (4, 1)])
def test_chunks_cover_every_model_once(n_models: int, size: int) -> None:
    assert [model for chunk in chunks(n_models, size) for model in chunk_models(chunk)] == list(range(n_models))


def test_committed_configurations_are_valid(repository) -> None:
    schema = json.loads((repository / "workflow/schemas/config.schema.json").read_text())
    for name in ("config.yaml", "open.yaml", "imaging.yaml"):
        path = repository / "config" / name
        load_study(path)
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)


def test_schema_and_reference_are_those_of_the_models(repository) -> None:
    assert (repository / "workflow/schemas/config.schema.json").read_text() == schema_text()
    assert (repository / "config/README.md").read_text().endswith(reference_text())


def test_every_key_is_described() -> None:
    schema = json.loads(schema_text())
    for section in [schema, *schema["$defs"].values()]:
        assert section["description"]
        for key, value in section.get("properties", {}).items():
            assert "const" in value or value.get("description"), f"{section['title']}.{key} lacks a description"
            assert "const" in value or f"| `{key}` |" in reference_text()


def test_broken_yaml_is_one_sentence(tmp_path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("datasets: [")
    with pytest.raises(UserError, match="is not valid YAML"):
        load_study(path)
    with pytest.raises(UserError, match="cannot read the configuration"):
        load_study(tmp_path / "absent.yaml")


GIVEN = {"confidences": "c.parquet", "records": "r.csv", "pairing": "balanced"}


def test_a_given_table_needs_no_dataset_and_no_model() -> None:
    plan = Plan.of({"experiments": {"mine": GIVEN}})
    assert plan.experiments == {}
    assert plan.for_each_query("{experiment}/{query}") == ["mine/given"]
    assert plan.pairing("mine") == "balanced"
    assert plan.described("mine") == "results/given/mine"
    both = Plan.of(changed("experiments.mine", GIVEN))
    assert both.for_each_query("{experiment}") == ["first.bc.lr", "first.bc.net", "mine"]
    assert both.pairing("first.bc.lr") == "complementary"
    retitled = Plan.of({"experiments": {"mine": GIVEN | {"title": "Ours", "pairing": "unknown"}}})
    assert retitled.given("mine") == plan.given("mine")  # neither reads the table again
    with pytest.raises(UserError, match="no experiment 'yours'"):
        plan.given("yours")


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (GIVEN | {"pairing": "ballanced"}, "experiments.mine.pairing: "),
        (GIVEN | {"recipe": {}}, "experiments.mine: unknown key 'recipe'; "),
        ({"confidences": "c.csv", "pairing": "unknown"}, "experiments.mine.records: this key is required"),
        ({"confidence": "c.csv", "records": "r.csv"}, "unknown key 'confidence'; did you mean 'confidences'?"),
    ],
)
def test_faults_of_a_given_table_are_named(entry: dict, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        Plan.of({"experiments": {"mine": entry}})
    assert sentence in str(error.value)


def test_an_entry_of_another_seed_is_another_experiment_on_the_same_patients() -> None:
    config = copy.deepcopy(MINIMAL)
    config["experiments"]["again"] = config["experiments"]["first"] | {"seed": 7, "models": "lr"}
    plan = Plan.of(config)
    first, again = (json.loads(plan.experiment(f"{name}.bc.lr").recipe) for name in ("first", "again"))
    assert (first.pop("seed"), again.pop("seed")) == (1, 7)
    assert first == again
    assert plan.stability == {"bc": ["first.bc.lr", "first.bc.net", "again.bc.lr"]}
    assert plan.grouped == ["first.bc.lr"]
    assert plan.named("audit", plan.grouped, "{dataset}/{query}") == ["--audit first.bc.lr=bc/clean"]
    off = Plan.of(config | {"comparisons": {"stability": False, "groups": False}})
    assert (off.stability, off.grouped) == ({}, [])


def swept(**comparisons) -> dict:
    config = copy.deepcopy(MINIMAL)
    config["datasets"]["bc-again"] = config["datasets"]["bc"] | {"split_seed": 1}
    config["experiments"]["other"] = config["experiments"]["first"] | {"datasets": "bc-again", "models": "net"}
    return config | {"comparisons": comparisons}


def test_a_sweep_compares_the_models_of_several_entries() -> None:
    members = ["first.bc.lr", "first.bc.net", "other.bc-again.net"]
    assert Plan.of(swept(sweeps={"size": ["first", "other"]})).comparisons == {"size.bc": members}
    assert Plan.of(swept()).comparisons == {"first.bc": members[:2]}
    assert Plan.of(swept()).grouped == ["first.bc.lr", "other.bc-again.net"]
    assert Plan.of(swept(groups=["other"])).grouped == ["other.bc-again.net"]
    assert _called(members[2], Counter(["lr", "net", "net"])) == "net (bc-again)"
    assert _called(members[0], Counter(["lr", "net", "net"])) == "lr"


@pytest.mark.parametrize(
    ("comparisons", "sentence"),
    [
        ({"sweeps": {"size": ["first", "othr"]}}, "comparisons.sweeps.size: no entry 'othr' that trains; did you mean"),
        ({"sweeps": {"size": ["first", "first"]}}, "comparisons.sweeps.size: an entry is listed twice"),
        ({"sweeps": {"first": ["first", "other"]}}, "comparisons.sweeps.first: an entry has this name, too"),
        ({"sweeps": {"size": ["first"]}}, "comparisons.sweeps.size: "),
        ({"groups": ["frst"]}, "comparisons.groups: no entry 'frst' that trains; did you mean 'first'?"),
    ],
)
def test_faults_of_comparisons_are_named(comparisons: dict, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        Plan.of(swept(**comparisons))
    assert sentence in str(error.value)


def test_a_sweep_wants_one_dataset_and_the_same_queries_of_each_entry() -> None:
    several = swept(sweeps={"size": ["first", "other"]})
    several["experiments"]["other"]["datasets"] = ["bc", "bc-again"]
    with pytest.raises(UserError, match="the entry 'other' has several datasets: split it"):
        Plan.of(several)
    asking = swept(sweeps={"size": ["first", "other"]})
    asking["queries"] = {
        name: {"kind": "redacted", "known": ["x"]} if name == "part" else {"kind": "clean"}
        for name in ("clean", "part")
    }
    asking["experiments"]["other"]["queries"] = "clean"
    with pytest.raises(UserError, match="the entries 'first' and 'other' ask different queries"):
        Plan.of(asking)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ({"source": "mimic_iv_ed", "path": "x"}, "datasets.d.mimic_iv: this key is required"),
        (
            {"source": "nih_chestxray14", "path": "x", "size": "big"},
            "datasets.d.size: must be a whole number of pixels from 8 to 4096, or [height, width], but it is 'big'",
        ),
    ],
)
def test_keys_of_sources_are_named_as_they_are(source: dict, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        Plan.of(changed("datasets", {"d": source, "bc": {"source": "breast_cancer"}}))
    assert sentence in str(error.value)
