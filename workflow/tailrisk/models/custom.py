"""A model of the user's own: `module:function` from a folder."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tailrisk.config.architectures import Custom
from tailrisk.errors import UserError

_LOADED: dict[str, Path] = {}
"""Loaded modules that lie in a user's folder, and the folder. Another folder may hold other modules of these names."""


def custom(spec: Custom, shape: tuple[int, ...], n_outputs: int) -> nn.Module:
    """What function(shape, n_outputs, **arguments) returns, tried on two records of zeros.

    The function may import other modules of its folder. UserError where module or function are missing, where they
    raise, and where the module does not map [2, *shape] to [2, n_outputs].
    """
    folder = Path(spec.path).resolve()
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder} (`path` of the model {spec.function})")
    with _importable(folder):
        function = _function(folder, spec.function)
        try:
            model = function(shape, n_outputs, **spec.arguments)
        except Exception as error:
            arguments = "".join(f", {key}={value!r}" for key, value in spec.arguments.items())
            raise UserError(f"{spec.function}({shape}, {n_outputs}{arguments}) raises {_said(error)}") from error
        _check(model, spec.function, shape, n_outputs)
    return model


@cache
def _function(folder: Path, function: str) -> Callable[..., Any]:
    """The function, imported once, so that all models of a process share their classes."""
    name, _, attribute = function.partition(":")
    try:
        module = import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise UserError(
                f"there is no module {name} in {folder}: correct `function` ({function}) or `path` of the model"
            ) from None
        raise UserError(f"the module {name} of {folder} cannot be imported: {_said(error)}") from error
    if (folder / name.replace(".", "/")).with_suffix(".py").is_file() and not _lies_in(folder, name):
        raise UserError(f"the module {name} of {folder} has the name of one already loaded ({module}): rename it")
    found = getattr(module, attribute, None)
    if not callable(found):
        raise UserError(f"the module {name} of {folder} has no function {attribute}: correct `function` of the model")
    return found


def _check(model: object, function: str, shape: tuple[int, ...], n_outputs: int) -> None:
    if not isinstance(model, nn.Module):
        raise UserError(f"{function} must return a torch.nn.Module, not an object of {type(model).__name__}")
    training = model.training
    try:
        with torch.no_grad():
            logits = model.eval()(torch.zeros(2, *shape))
    except Exception as error:
        raise UserError(
            f"the model of {function} fails on two records of the shape {list(shape)}: {_said(error)}"
        ) from error
    model.train(training)
    got = f"shape {list(logits.shape)}" if isinstance(logits, Tensor) else f"type {type(logits).__name__}"
    if got != f"shape {[2, n_outputs]}":
        raise UserError(
            f"the model of {function} must map records {[2, *shape]} to logits {[2, n_outputs]}, "
            f"but gives an output of the {got}"
        )


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Import from `folder` first. Its modules stay loaded, for torch.compile looks them up, until another's come."""
    for name in [name for name, home in _LOADED.items() if home != folder]:
        del sys.modules[name], _LOADED[name]
    path, before = sys.path.copy(), set(sys.modules)
    sys.path.insert(0, str(folder))
    invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = path
        _LOADED.update({name: folder for name in set(sys.modules) - before if _lies_in(folder, name)})


def _lies_in(folder: Path, name: str) -> bool:
    """Whether a loaded module is folder/top.py or of the package folder/top; a folder/venv/… does not count."""
    module, top = sys.modules[name], name.partition(".")[0]
    file = getattr(module, "__file__", None)
    places = [file] if file else list(getattr(module, "__path__", []))
    return any(Path(place) == folder / f"{top}.py" or Path(place).is_relative_to(folder / top) for place in places)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
