"""A fingerprint of analysis code, so that a fixed formula reruns the analysis and a comment reruns nothing."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
SETTINGS = ("tailrisk", "tailrisk.config")
"""Not followed: the version is stamped on tables, and validated settings reach a job as parameters of their own."""
BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
"""Fields of a statement that hold further statements."""


@cache
def fingerprint(*modules: str, within: str = "tailrisk") -> str:
    """Hash of the syntax trees of `modules` ("tailrisk.audit.audit") and of every module of `within` they import.

    Node types and values count; docstrings, comments and positions do not. Files are parsed, never imported, and the
    hash is the same on every supported Python.
    """
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting.extend(name for name in _module(module)[1] if name.startswith(f"{within}."))
    return hashlib.sha256("\n".join(f"{name} {_tree_hash(name)}" for name in sorted(found)).encode()).hexdigest()[:16]


@cache
def _files(package: Path) -> dict[str, Path]:
    """The package's modules by name. One look at its folders: one for every import takes long on a network's disk."""
    found = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


@cache
def _module(module: str) -> tuple[str, list[str]]:
    """Hash of a module's tree and the package modules that it imports; the tree itself is large and let go."""
    file = _files(PACKAGE).get(module)
    if file is None:
        raise ValueError(f"no module {module} in the package")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return _hash(tree), list(_imports(tree))


def _tree_hash(module: str) -> str:
    return _module(module)[0]


def _imports(tree: ast.Module) -> Iterator[str]:
    """Package modules that a module imports, wherever in it the import stands."""
    known = _files(PACKAGE)
    for node in _statements(tree.body):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            inside = name.startswith("tailrisk.") and not name.startswith("tailrisk.config")
            if inside and name not in SETTINGS and name in known:
                yield name


def _statements(body: list[Any]) -> Iterator[ast.AST]:
    """The statements of a block and of all blocks inside it. Expressions, most of a tree, hold no import."""
    for node in body:
        yield node
        for block in BLOCKS:
            yield from _statements(getattr(node, block, []))


def folder_hash(folder: Path, module: str) -> str:
    """Hash of a module outside the package ("nets.small" in `folder`) and of what it imports from that folder.

    FileNotFoundError where the module is not there.
    """
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file, package = _place(folder, name)
        if name in found or (name != module and not file.is_file()):
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        found[name] = _hash(tree)
        parts = name.split(".")
        waiting.extend(".".join(parts[:depth]) for depth in range(1, len(parts)))  # importing a.b runs a first
        base = parts if package else parts[:-1]
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                waiting.extend(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                start = base[: len(base) - node.level + 1] if node.level else []
                source = [*start, *([node.module] if node.module else [])]
                waiting.append(".".join(source))
                waiting.extend(".".join([*source, alias.name]) for alias in node.names)
    text = "\n".join(f"{name} {digest}" for name, digest in sorted(found.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _place(folder: Path, module: str) -> tuple[Path, bool]:
    """Where a module of a folder is or would be, and whether it is a package."""
    place = Path(folder, *module.split("."))
    return (place / "__init__.py", True) if place.is_dir() else (place.with_suffix(".py"), False)


def _hash(tree: ast.Module) -> str:
    tokens: list[str] = []
    _tokens(tree, tokens)
    return hashlib.sha256("".join(f"{token}\0" for token in tokens).encode()).hexdigest()


def _tokens(node: ast.AST, found: list[str]) -> None:
    """Append node types and values in order, without empty fields, as newer Pythons add such fields to old nodes."""
    found.append(type(node).__name__)
    for name in node._fields:
        value = getattr(node, name, None)
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, ast.AST):
                if not isinstance(item, ast.expr_context) and not (name == "body" and _is_docstring(item)):
                    found.append(f".{name}")
                    _tokens(item, found)
            elif item is not None and name not in {"type_comment", "kind"}:
                found.append(f".{name}={item!r}")
    found.append("end")


def _is_docstring(node: ast.AST) -> bool:
    """A string standing alone as a statement: a docstring of a module, class, function or attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def files_hash(folder: str) -> str:
    """Hash of the files in a folder of the package, by name and content."""
    digest = hashlib.sha256()
    for file in sorted((PACKAGE / folder).iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]
