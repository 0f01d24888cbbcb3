"""The code that an artefact holds: the files of a checkout of the workflow that git tracks."""

import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tailrisk.errors import UserError

CODE = (
    "Snakefile",
    "workflow",
    "envs",
    "docs",
    "slurm",
    "local",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CITATION.cff",
)
"""What is packed of the code: what the workflow needs to run and be installed, and what says how."""


@dataclass(frozen=True)
class Link:
    """A symbolic link of the checkout to another place in it."""

    target: str


def code(root: Path) -> dict[str, Path | Link]:
    """Files and links of the code by their path in the checkout `root`.

    In a git checkout they are those that git tracks, elsewhere (an unpacked artefact) all; links to a place outside
    are left out. UserError where `root` is no checkout of the workflow, or git cannot list it.
    """
    if not (root / "Snakefile").is_file():
        raise UserError(f"{root.resolve()} is no checkout of the workflow: name one with --code")
    found: dict[str, Path | Link] = {}
    for name in _tracked(root) if (root / ".git").exists() else _all(root):
        path = root / name
        if not path.is_symlink():
            found[str(name)] = path
        elif not path.readlink().is_absolute() and path.resolve().is_relative_to(root.resolve()):
            found[str(name)] = Link(str(path.readlink()))
    return found


def digest(root: Path) -> str:
    """Hash of all that `code` finds, wherever the checkout lies."""
    total = hashlib.sha256()
    for name, content in sorted(code(root).items()):
        text = content.target.encode() if isinstance(content, Link) else content.read_bytes()
        total.update(f"{name}\0{len(text)}\0".encode() + text)
    return total.hexdigest()[:16]


def untracked(root: Path) -> int:
    """How many new files among the code git neither tracks nor ignores; 0 outside a git checkout."""
    return len(_asked(root, "--others", "--exclude-standard")) if (root / ".git").exists() else 0


def _tracked(root: Path) -> list[Path]:
    paths = _asked(root, "--cached")
    return [path for path in paths if (root / path).is_file() or (root / path).is_symlink()]


def _asked(root: Path, *options: str) -> list[Path]:
    """Files of the code as git lists them."""
    git = shutil.which("git")
    if git is None:
        raise UserError(f"{root.resolve()} is a git checkout, but there is no git to tell its files: install git")
    words = [git, "-C", str(root), "ls-files", "-z", *options, "--", *CODE]
    answer = subprocess.run(words, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise UserError(f"git cannot list the files of {root.resolve()}: {' '.join(answer.stderr.split())}")
    return [Path(name) for name in dict.fromkeys(answer.stdout.split("\0")) if name]


def _all(root: Path) -> list[Path]:
    found = []
    for name in CODE:
        path = root / name
        inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
        found += [file.relative_to(root) for file in inside if file.is_file() or file.is_symlink()]
    return [path for path in found if "__pycache__" not in path.parts]
