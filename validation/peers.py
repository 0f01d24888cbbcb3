"""Other tools' own functions, called from checkouts of theirs: each attack scores one target of a common matrix.

`available(root)` looks for checkouts in folders of `root` named as their repositories. Their modules are loaded as they
are; modules that these import for training only (keras, torchvision, …) are replaced by empty ones. Every attack gets
the same references, all models but the target's pair, and returns scores [N] with higher meaning "member".
"""

import contextlib
import importlib
import importlib.machinery
import io
import logging
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from matrix import Matrix
from numpy.typing import NDArray

OFFLINE_A = 0.5  # weight of the OUT mean in the offline RMIA, the same for every tool
POPULATION = 2_000  # records that RMIA compares with, the first of the matrix

Scores = NDArray[np.float64]
Attack = Callable[[Matrix, int], Scores]


class _Nothing(types.ModuleType):
    """A module in which every name exists and does nothing."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *args, **options: None})


@contextlib.contextmanager
def _imports(root: Path, stubs: tuple[str, ...] = ()) -> Iterator[None]:
    """Import from `root` with some modules replaced; neither the path nor the replacements stay."""
    before = set(sys.modules)
    sys.path.insert(0, str(root))
    sys.modules.update({name: _Nothing(name) for name in stubs if name not in sys.modules})
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.path.remove(str(root))
        for name in set(sys.modules) - before:
            if name in stubs or name.split(".")[0] in {"src", "attacks", "utils", "modules", "plot"}:
                del sys.modules[name]


def _quiet(action: Callable[..., Any], *args: Any, **options: Any) -> Any:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return action(*args, **options)


def lira_reference(root: Path) -> dict[str, Attack]:
    """tensorflow/privacy, research/mi_lira_2021/plot.py."""
    with _imports(root / "privacy/research/mi_lira_2021"):
        plot = importlib.import_module("plot")
    return _reference_attacks(plot.generate_ours, plot.generate_ours_offline, plot.generate_global)


def lira_analysis(root: Path) -> dict[str, Attack]:
    """najeebjebreel/lira_analysis, attacks/lira.py."""
    unused = ("timm", "torchvision", "utils", "utils.model_utils", "utils.data_utils", "utils.common")
    unused += ("comprehensive_analysis", "comprehensive_analysis.metrics")
    with _imports(root / "lira_analysis", unused):
        lira = importlib.import_module("attacks.lira").LiRA
    one = lira.__new__(lira)
    return _reference_attacks(one.generate_ours, one.generate_ours_offline, one.generate_global)


def _reference_attacks(
    online: Callable[..., Any], offline: Callable[..., Any], threshold: Callable[..., Any]
) -> dict[str, Attack]:
    def attack(function: Callable[..., Any], **options: Any) -> Attack:
        def score(matrix: Matrix, target: int) -> Scores:
            others = matrix.without_pair(target)
            values = matrix.confidences[..., None]
            prediction, _ = function(
                matrix.member[others], values[others], matrix.member[[target]], values[[target]], **options
            )
            return -np.asarray(prediction)  # lower means member there

        return score

    return {
        "lira_online": attack(online),
        "lira_online_fixed": attack(online, fix_variance=True),
        "lira_offline_two_sided": attack(offline),
        "lira_offline_two_sided_fixed": attack(offline, fix_variance=True),
        "loss": attack(threshold),
    }


def tensorflow_privacy(root: Path) -> dict[str, Attack]:
    """tensorflow/privacy, privacy_tests/membership_inference_attack/advanced_mia.py, means instead of medians."""
    folder = "tensorflow_privacy/privacy/privacy_tests/membership_inference_attack"
    packages = ("tensorflow_privacy", "tensorflow_privacy.privacy", "tensorflow_privacy.privacy.privacy_tests")
    stubs = (*packages, "tensorflow_privacy.privacy.privacy_tests.utils")
    with _imports(root / "privacy" / folder, stubs):
        advanced = importlib.import_module("advanced_mia")

    def attack(**options: Any) -> Attack:
        def score(matrix: Matrix, target: int) -> Scores:
            member, values = _references(matrix, target)
            inside = [values[member[:, i], i, None] for i in range(values.shape[1])]
            outside = [values[~member[:, i], i, None] for i in range(values.shape[1])]
            own = matrix.confidences[target].astype(np.float64)[:, None]
            return -advanced.compute_score_lira(own, inside, outside, median_or_mean="mean", **options)

        return score

    return {
        "lira_online": attack(),
        "lira_online_fixed": attack(fix_variance=True),
        "lira_offline_two_sided": attack(option="out"),
        "lira_offline_two_sided_fixed": attack(option="out", fix_variance=True),
    }


def leakoscope(root: Path) -> dict[str, Attack]:
    """moritzknolle/leakoscope, src/privacy_utils/{lira,rmia}.py."""
    lira, rmia = _leakoscope_modules(root)[1:]

    def attack(**options: Any) -> Attack:
        def score(matrix: Matrix, target: int) -> Scores:
            member, values = _references(matrix, target)
            own = matrix.confidences[[target]].astype(np.float64)
            return _quiet(lira.perform_lira, values, member, own, matrix.member[[target]], **options)[0][0]

        return score

    def relative(offline: bool) -> Attack:
        def score(matrix: Matrix, target: int) -> Scores:
            others, p = matrix.without_pair(target), matrix.probability
            population = (np.arange(p.shape[1]) < POPULATION).astype(int)
            data = (p[others], matrix.member[others], p[[target]], matrix.member[[target]])
            np.random.seed(0)  # noqa: NPY002 - theirs draws from numpy's global generator
            return _quiet(rmia.perform_rmia, *data, a=OFFLINE_A, pop_indices=population, offline=offline)[0][0]

        return score

    return {
        "lira_online": attack(),
        "lira_online_fixed": attack(fix_variance=True),
        "lira_offline_two_sided": attack(offline=True),
        "rmia_online": relative(offline=False),
        "rmia_offline": relative(offline=True),
    }


def leakoscope_records(root: Path) -> Callable[[Matrix], tuple[Scores, Scores]]:
    """Its record AUC and Hanley–McNeil standard error, each [N]."""
    common, lira, _ = _leakoscope_modules(root)
    common.preprocess_scores = lira.preprocess_scores  # the import that is missing there
    return lambda matrix: _quiet(common.record_MIA_ROC_analysis, matrix.confidences, matrix.member)[2:]


def _leakoscope_modules(root: Path) -> tuple[Any, Any, Any]:
    stubs = ("keras", "src.train_utils", "src.train_utils.utils")
    with _imports(root / "leakoscope", stubs):
        kinds = Enum("LabelType", ["BINARY", "MULTICLASS", "MULTILABEL"])
        sys.modules["src.train_utils.utils"].LabelType = kinds  # type: ignore[attr-defined]
        names = ("common", "lira", "rmia")
        common, lira, rmia = (importlib.import_module(f"src.privacy_utils.{name}") for name in names)
    return common, lira, rmia


def sacro(root: Path) -> dict[str, Attack]:
    """AI-SDC/SACRO-ML, sacroml/attacks/likelihood_attack.py."""
    with _imports(root / "SACRO-ML"):
        module = importlib.import_module("sacroml.attacks.likelihood_attack")
    logging.disable(logging.INFO)

    def attack(mode: str, fix_variance: bool) -> Attack:
        def score(matrix: Matrix, target: int) -> Scores:
            member, values = _references(matrix, target)
            own = module.LIRAAttack(write_report=False, mode=mode, fix_variance=fix_variance)
            columns = range(values.shape[1])
            outside = {i: list(values[~member[:, i], i]) for i in columns}
            inside = {i: list(values[member[:, i], i]) for i in columns}
            p = 1 / (1 + np.exp(-matrix.confidences[target].astype(np.float64)))
            labels = np.ones(values.shape[1], dtype=int)
            scores, _ = own._compute_scores(labels, np.column_stack([1 - p, p]), outside, inside)
            return np.array(scores)[:, 1]

        return score

    return {
        "lira_online": attack("online-carlini", False),
        "lira_online_fixed": attack("online-carlini", True),
        "lira_offline": attack("offline", False),
        "lira_offline_fixed": attack("offline", True),
        "lira_offline_two_sided": attack("offline-carlini", False),
    }


def privacy_meter(root: Path) -> dict[str, Attack]:
    """privacytrustlab/ml_privacy_meter, modules/mia/attacks/rmia.py."""
    with _imports(root / "ml_privacy_meter/modules/mia/attacks"):
        rmia = importlib.import_module("rmia")

    def attack(population_out_only: bool) -> Attack:
        def score(matrix: Matrix, target: int) -> Scores:
            others, p = matrix.without_pair(target), matrix.probability
            reference, member = p[others].T, matrix.member[others].T
            population = reference[:POPULATION]
            if population_out_only:  # it takes all models for OUT models of the population, and keeps the largest half
                population = population[~member[:POPULATION]].reshape(POPULATION, -1)
            return rmia.run_rmia(
                p[target], reference, member, p[target, :POPULATION], population, OFFLINE_A, len(others) // 2
            )

        return score

    return {"rmia_offline": attack(True), "rmia_offline, its own choice for z": attack(False)}


def leakpro(root: Path) -> dict[str, Attack]:
    """aidotse/LeakPro, leakpro/attacks/mia_attacks/{lira,rmia}.py."""
    unused = ("torchvision", "torchvision.transforms", "torchvision.models", "torchvision.utils", "transformers")
    with _imports(root / "LeakPro", unused):
        lira = importlib.import_module("leakpro.attacks.mia_attacks.lira").AttackLiRA
        rmia = importlib.import_module("leakpro.attacks.mia_attacks.rmia").AttackRMIA
        base = importlib.import_module("leakpro.attacks.mia_attacks.abstract_mia").AbstractMIA
    logging.disable(logging.INFO)

    def likelihood(online: bool) -> Attack:
        def score(matrix: Matrix, target: int) -> Scores:
            member, values = _references(matrix, target)
            one = lira.__new__(lira)
            one.configs = one.AttackConfig(num_shadow_models=len(values), online=online)
            one.num_shadow_models, one.online, one.var_calculation = len(values), online, "carlini"
            one.fix_var_threshold = 32
            one.shadow_models_logits, one.out_indices = values, ~member
            one.target_logits = matrix.confidences[target].astype(np.float64)
            return _in_order(one, one.run_attack, matrix.member[target])

        return score

    def relative(online: bool) -> Attack:
        def score(matrix: Matrix, target: int) -> Scores:
            others = matrix.without_pair(target)
            one = rmia.__new__(rmia)
            one.online, one.temperature, one.epsilon, one.gamma, one.offline_a = online, 1.0, 1e-6, 1.0, OFFLINE_A
            one.ground_truth_indices = matrix.labels
            one.logits_theta, one.logits_shadow_models = matrix.logits[target], matrix.logits[others]
            one.out_indices = ~matrix.member[others]
            p = matrix.probability[:, :POPULATION]
            mean = p[others].mean(axis=0)  # as its prepare_attack: over all models, IN ones included
            if not online:
                mean = 0.5 * ((1 + OFFLINE_A) * mean + 1 - OFFLINE_A)
            one.ratio_z = p[[target]] / (mean + one.epsilon)
            return _in_order(one, one._run_attack, matrix.member[target])

        return score

    def _in_order(one: Any, run: Callable[[], Any], member: NDArray[np.bool_]) -> Scores:
        base.audit_dataset = {"in_members": np.flatnonzero(member), "out_members": np.flatnonzero(~member)}
        _quiet(run)
        scores = np.empty(member.size)
        scores[member], scores[~member] = one.in_member_signals[:, 0], one.out_member_signals[:, 0]
        return scores

    return {
        "lira_online": likelihood(online=True),
        "lira_offline": likelihood(online=False),
        "rmia_online": relative(online=True),
        "rmia_offline": relative(online=False),
    }


def _references(matrix: Matrix, target: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    others = matrix.without_pair(target)
    return matrix.member[others], matrix.confidences[others].astype(np.float64)


PEERS: dict[str, Callable[[Path], dict[str, Attack]]] = {
    "LiRA reference": lira_reference,
    "lira_analysis": lira_analysis,
    "TensorFlow Privacy": tensorflow_privacy,
    "leakoscope": leakoscope,
    "SACRO-ML": sacro,
    "Privacy Meter": privacy_meter,
    "LeakPro": leakpro,
}


def available(root: Path) -> tuple[dict[str, dict[str, Attack]], dict[str, str]]:
    """Attacks of every peer that can be loaded, and why the others cannot."""
    found, missing = {}, {}
    for name, load in PEERS.items():
        try:
            found[name] = load(root)
        except Exception as error:  # whatever a stranger's module raises
            missing[name] = f"{type(error).__name__}: {error}"
    return found, missing
