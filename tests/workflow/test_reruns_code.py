"""What an edit of code, environment or files costs: analysis follows its formulas, training only its configuration.

docs/reruns.md tells it, and the last test here holds the two together.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from expected_jobs import ALL, REPORT, auditing, drawing, gathering, training

Edit = Callable[[str, str, str], None]
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
UPGRADED = ("numpy", "torch", "pandas", "pyarrow", "scipy", "scikit-learn", "matplotlib", "tailrisk")


@pytest.fixture
def clone(study, tmp_path_factory) -> Path:
    """Another clone of the repository, all of whose files are new, which runs the study from now on."""
    folder = tmp_path_factory.mktemp("clone")
    places = {"copy_function": shutil.copyfile, "ignore": shutil.ignore_patterns("__pycache__")}
    for name in ("workflow", "envs"):
        shutil.copytree(study.repository / name, folder / name, **places)
    shutil.copyfile(study.repository / "Snakefile", folder / "Snakefile")
    study.repository = folder
    study.environment["PYTHONPATH"] = str(folder / "workflow")
    return folder


@pytest.fixture
def edited_package(clone) -> Edit:
    """Edits the clone's package; for code that must, or must not, rerun something."""

    def edit(file: str, old: str, new: str) -> None:
        path = clone / "workflow/tailrisk" / file
        text = path.read_text()
        assert old in text, f"{old} is not in {file}"
        path.write_text(text.replace(old, new, 1))

    return edit


def test_another_clone_reruns_nothing(study, clone) -> None:
    told = subprocess.run(
        [sys.executable, "-c", "import tailrisk; print(tailrisk.__file__)"],
        env=study.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(told.stdout.strip()).is_relative_to(clone)
    assert study.planned() == {}


def test_the_results_elsewhere_rerun_nothing(study, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("moved") / "study"
    study.folder.rename(folder)
    study.folder = folder
    assert study.planned() == {}


def test_a_formula_reruns_the_analysis_alone(study, edited_package) -> None:
    edited_package("audit/survival.py", "\nimport numpy", "\nLEVEL_OF_CONFIDENCE = 0.94\nimport numpy")
    assert study.planned() == auditing(*ALL)


def test_a_figure_style_redraws_alone(study, edited_package) -> None:
    edited_package("figures/style.py", "\nimport ", "\nANOTHER = 1\nimport ")
    assert study.planned() == drawing(*ALL)


def test_the_search_for_copies_prepares_nothing_again(study, edited_package) -> None:
    edited_package("datasets/near.py", "= 64, 16, 2000", "= 48, 16, 2000")
    assert study.planned() == {"duplicates": ["bc", "own"]} | REPORT


def test_docstrings_and_comments_rerun_nothing(study, clone) -> None:
    """In every module of the package, the Snakefile and every file of rules."""
    modules = sorted((clone / "workflow/tailrisk").rglob("*.py"))
    assert sum(reworded(path) for path in modules) > 4 * len(modules) > 400
    rules = [clone / "Snakefile", *sorted((clone / "workflow/rules").glob("*.smk"))]
    for path in rules:
        text = path.read_text()
        assert text.startswith('"""')
        text = text.replace('"""', '"""Reworded: ', 1).replace("\n    shell:\n", "\n    # How.\n    shell:\n")
        path.write_text(f"{text}\n# The end.\n")
    assert "\n    # How.\n" in (clone / "workflow/rules/train.smk").read_text()
    assert study.planned() == {}


def reworded(path: Path) -> int:
    """Write other words into every docstring of a module, and a comment before it; how many there were."""
    lines = path.read_text().splitlines(keepends=True)
    tree = ast.parse("".join(lines))
    strings = [
        node.value
        for block in ast.walk(tree)
        for node in (block.body if isinstance(block, DOCUMENTED) else [])
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    for string in sorted(strings, key=lambda string: string.lineno, reverse=True):
        line, column = lines[string.lineno - 1], string.col_offset
        assert line[column:].startswith('"""'), f"{path}:{string.lineno}"
        lines[string.lineno - 1] = f'{" " * column}# Why.\n{line[:column]}"""Reworded: {line[column + 3 :]}'
    path.write_text("".join(lines))
    ast.parse("".join(lines))
    return len(strings)


def test_training_code_never_retrains_by_itself(study, edited_package) -> None:
    edited_package("training/engine.py", "import", "SOMETHING = 1\nimport")
    assert "train" not in study.planned()


def test_templates_rewrite_the_page_alone(study, edited_package) -> None:
    edited_package("report/templates/report.html.j2", "</title>", " </title>")
    assert study.planned() == REPORT


def test_a_library_upgrade_reruns_nothing(study, tmp_path_factory) -> None:
    """Newer versions in the metadata of the environment, which is what recorded versions are read from."""
    folder = tmp_path_factory.mktemp("newer")
    for name in UPGRADED:
        metadata = folder / f"{name.replace('-', '_')}-99.0.dist-info/METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 99.0\n")
    study.environment["PYTHONPATH"] = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    read = f"from importlib.metadata import version; print({{version(name) for name in {UPGRADED}}})"
    told = subprocess.run(
        [sys.executable, "-c", read], env=study.environment, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "{'99.0'}"
    assert study.planned() == {}


def test_other_pins_rerun_nothing(study, clone) -> None:
    for path in (clone / "envs").iterdir():
        path.write_text(f"{path.read_text()}\n# newer\n")
    assert study.planned() == {}


def test_touching_everything_reruns_nothing(study) -> None:
    for path in sorted((study.folder / "results/datasets").rglob("*")):
        path.touch()
        time.sleep(0.01)
    assert study.planned() == {}


def test_touched_inputs_above_a_megabyte_are_served(study) -> None:
    """Of larger files Snakemake looks at the time alone; a bound of no bytes shows it on small ones."""
    (study.folder / "results/datasets/own/inputs.npy").touch()
    assert study.planned() == {}
    bound = ("--max-checksum-file-size", "0")
    planned = study.planned(*bound)
    expected = training("mine.own.lr") | gathering("mine.own.lr") | auditing("mine.own.lr")
    assert {rule: jobs for rule, jobs in planned.items() if rule in expected} == expected
    study.run(*bound, "results/targets/mine.own.lr/0-3.parquet")
    assert study.served()["mine.own.lr/0-3"] == (4, 0)


def test_the_documentation_has_every_row(repository) -> None:
    """Every row of the table names a test, every test is in the table."""
    rows = [line for line in (repository / "docs/reruns.md").read_text().splitlines() if line.startswith("| ")][1:]
    named = [re.findall(r"`(test_\w+)`", row) for row in rows]
    assert all(named)
    written = "".join(
        (repository / f"tests/workflow/{name}.py").read_text() for name in ("test_reruns", "test_reruns_code")
    )
    tests = set(re.findall(r"^def (test_\w+)", written, re.MULTILINE)) - {"test_the_documentation_has_every_row"}
    assert {name for row in named for name in row} == tests
