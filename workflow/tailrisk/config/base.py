"""The base of every configuration model: unknown keys are errors that name the nearest known key."""

import difflib
import json
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]+$")]


def suggestion(word: str, known: Iterable[str]) -> str:
    """A "did you mean" clause for `word`, or the list of what is known."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names)}"


class Strict(BaseModel):
    """A configuration section: typed, immutable, closed to unknown keys."""

    # Built when first used: every job of the cluster starts Snakemake, and a study needs few of all the models.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _name_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    raise ValueError(f"unknown key '{key}'; {suggestion(str(key), cls.model_fields)}")
        return data


def canonical(value: Any) -> str:
    """`value` (plain data or a model) as JSON with sorted keys and no spaces: equal settings, equal text."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
