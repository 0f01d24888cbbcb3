"""From a YAML file or a plain mapping to a validated study, with one sentence for what is wrong."""

from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import TypeAdapter, ValidationError

from tailrisk.config.architectures import AnyModel
from tailrisk.config.base import suggestion
from tailrisk.config.queries import AnyQuery
from tailrisk.config.sources import AnySource
from tailrisk.config.sources.base import LEAST, MOST
from tailrisk.config.study import ENTRY_TAGS, Study
from tailrisk.errors import UserError


def _tags(union: Any, key: str) -> set[str]:
    """The values of the key that tells the models of a union apart."""
    return {get_args(model.model_fields[key].annotation)[0] for model in get_args(get_args(union)[0])}


TAGS = _tags(AnyModel, "architecture") | _tags(AnySource, "source") | _tags(AnyQuery, "kind") | ENTRY_TAGS
"""Pydantic puts these into the place of a fault, where they are no keys of the configuration."""


EITHER = {"constrained-int", "tuple[constrained-int, constrained-int]"}
"""The same for the two forms of a size of images."""


def parse(kind: Any, data: Any, where: str) -> Any:
    """Validate plain `data` as `kind`; UserError names `where` and the key of the first fault."""
    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        raise UserError(f"{where}: {_sentence(error)}") from None


def _sentence(error: ValidationError) -> str:
    faults = error.errors()
    first = faults[0]
    # The tag of a union stands third, after section and name; deeper down the same word is a key.
    parts = [str(part) for index, part in enumerate(first["loc"]) if index != 2 or part not in TAGS]
    either = next((index for index, part in enumerate(parts) if part in EITHER), None)
    key = ".".join(parts)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        message = "this key is required"
    elif first["type"] == "union_tag_invalid":
        tag, known = first["ctx"]["tag"], first["ctx"]["expected_tags"].replace("'", "").split(", ")
        message = f"unknown {first['ctx']['discriminator'].strip(chr(39))} '{tag}'; {suggestion(tag, known)}"
    elif either is not None:
        key = ".".join(parts[:either])
        faults = faults[:1]
        message = (
            f"must be a whole number of pixels from {LEAST} to {MOST}, or [height, width], but it is {first['input']!r}"
        )
    elif isinstance(first["input"], dict | list):
        message = f"{message[0].lower()}{message[1:]}"
    elif first["type"] not in {"value_error", "union_tag_not_found"}:
        message = f"{message[0].lower()}{message[1:]}, but it is {first['input']!r}"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{key}: {message}{more}" if key else f"{message}{more}"


def load_study(path: Path) -> Study:
    """Read and validate a configuration file."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a UTF-8 text file") from None
    except OSError as error:
        raise UserError(f"cannot read the configuration {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    return parse(Study, data or {}, str(path))
