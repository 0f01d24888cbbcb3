"""A fingerprint of analysis code, so that a fixed formula reruns the analysis and a comment reruns nothing."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
SETTINGS = ("tailrisk", "tailrisk.config")
"""Not followed: the version is stamped on tables, and validated settings reach a job as parameters of their own."""


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
            waiting.extend(name for name in _imports(module) if name.startswith(f"{within}."))
    return hashlib.sha256("\n".join(f"{name} {_tree_hash(name)}" for name in sorted(found)).encode()).hexdigest()[:16]


def _file(module: str) -> Path | None:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


@cache
def _tree(module: str) -> ast.Module:
    file = _file(module)
    if file is None:
        raise ValueError(f"no module {module} in the package")
    return ast.parse(file.read_text(encoding="utf-8"))


def _imports(module: str) -> Iterator[str]:
    """Package modules that `module` imports, wherever in it the import stands."""
    for node in ast.walk(_tree(module)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            inside = name.startswith("tailrisk.") and not name.startswith("tailrisk.config")
            if inside and name not in SETTINGS and _file(name):
                yield name


@cache
def _tree_hash(module: str) -> str:
    return _hash(_tree(module))


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
    digest = hashlib.sha256()
    for token in _tokens(tree):
        digest.update(token.encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _tokens(node: ast.AST) -> Iterator[str]:
    """Node types and values in order. Empty fields are left out, as newer Pythons add such fields to old nodes."""
    yield type(node).__name__
    for name, value in ast.iter_fields(node):
        items = value if isinstance(value, list) else [value]
        if name == "body" and isinstance(value, list):
            items = [item for item in value if not _is_docstring(item)]
        for item in items:
            if isinstance(item, ast.AST):
                if not isinstance(item, ast.expr_context):
                    yield f".{name}"
                    yield from _tokens(item)
            elif item is not None and name not in {"type_comment", "kind"}:
                yield f".{name}={item!r}"
    yield "end"


def _is_docstring(node: ast.AST) -> bool:
    """A string standing alone as a statement: a docstring of a module, class, function or attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def files_hash(folder: str) -> str:
    """Hash of the files in a folder of the package, by name and content."""
    digest = hashlib.sha256()
    for file in sorted((PACKAGE / folder).iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]
