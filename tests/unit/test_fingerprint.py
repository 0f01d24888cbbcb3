"""Fingerprints of analysis code: what changes them, and what must not."""

import shutil
import subprocess
import sys

import pytest

from tailrisk.config import fingerprint as module


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package's sources that a test may edit; yields (folder, function that fingerprints a module)."""
    folder = tmp_path / "tailrisk"
    shutil.copytree(module.PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "PACKAGE", folder)

    def take(*names: str) -> str:
        for cached in (module.fingerprint, module._module):
            cached.cache_clear()
        return module.fingerprint(*names)

    yield folder, take
    take("tailrisk.membership")
    for cached in (module.fingerprint, module._module):
        cached.cache_clear()


def edit(path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_comments_docstrings_and_layout_do_not_count(package) -> None:
    folder, take = package
    before = take("tailrisk.stages.gather")
    file = folder / "stages/gather.py"
    edit(file, '"""The gather stage', '"""Another word for the gather stage')
    edit(file, "def _agree(", "# a comment\n\n\ndef _agree(")
    edit(file, "    stamps = {path", '    "A note that does nothing."\n    stamps = {path')
    assert take("tailrisk.stages.gather") == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("stages/gather.py", "model // 2", "model // 3"),  # the stage's own module
        ("tables.py", 'compression="zstd"', 'compression="snappy"'),  # a module that it imports
        ("stages/gather.py", '"model", "split"', '"split", "model"'),  # a value
    ],
)
def test_code_counts(package, file: str, old: str, new: str) -> None:
    folder, take = package
    before = take("tailrisk.stages.gather")
    edit(folder / file, old, new)
    assert take("tailrisk.stages.gather") != before


def test_other_stages_and_settings_do_not_count(package) -> None:
    folder, take = package
    before = take("tailrisk.stages.gather")
    edit(folder / "membership.py", "_BITS = 512", "_BITS = 256")
    edit(folder / "config/study.py", "def listed(", "def as_list(")
    edit(folder / "__init__.py", "__version__ = ", "__version__ = 'x' + ")
    assert take("tailrisk.stages.gather") == before


def test_nothing_is_imported() -> None:
    code = (
        "import sys; from tailrisk.config.plan import Plan; from tailrisk.config.fingerprint import fingerprint; "
        "fingerprint('tailrisk.stages.audit', 'tailrisk.stages.train'); "
        "print([name for name in ('torch', 'pandas', 'numpy', 'scipy', 'pyarrow') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
