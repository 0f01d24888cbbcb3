"""The sections of a configuration beside datasets, models, queries and experiments."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tailrisk.config.base import Name, Strict

Threshold = Annotated[float, Field(gt=0.5, lt=1)]


class Audit(Strict):
    """How confidences become risks."""

    flips: int = Field(999, ge=99, description="Common sign flips that make the null distribution.")
    fdr: float = Field(0.05, gt=0, lt=1, description="False discovery rate under which a patient counts as vulnerable.")
    thresholds: list[Threshold] = Field(
        [0.8, 0.9, 0.95, 0.99], min_length=1, description="AUCs at which patients are counted, rising."
    )
    joint: Literal["equal", "linear"] = Field(
        "equal",
        description="How the joint attack weighs a patient's records: equally, or by a linear rule that is learned on "
        "other pairs (which has no p-value and no interval).",
    )

    rmia_gamma: float = Field(
        1.0, gt=0, description="γ of RMIA: how much likelier than a population record a member must be to count."
    )

    @model_validator(mode="after")
    def _rising(self) -> "Audit":
        if any(a >= b for a, b in pairwise(self.thresholds)):
            raise ValueError("thresholds must rise")
        return self


class Subgroups(Strict):
    """Who is in the tail."""

    tail: float = Field(0.01, gt=0, lt=0.5, description="Share of records, by AUC, that is called the tail.")
    permutations: int = Field(1999, ge=99, description="Permutations of whole patients for the clustered test.")
    variables: list[str] | None = Field(
        None,
        description="Group variables to test; null tests all. A dataset without one of them leaves it out.",
    )
    within: list[str] = Field(
        ["label"],
        description="Variables within whose values all others are tested once more, as a group's risk may be that of "
        "its labels; a dataset without one of them leaves it out.",
    )
    unknown_as_group: list[str] = Field(
        [],
        description="Variables whose missing values are a group, `unknown`; others leave such records out.",
    )


class Comparisons(Strict):
    """Tables across experiments."""

    capacity: bool = Field(
        True, description="Compare the models of an entry on the same dataset, where there are several."
    )
    sweeps: dict[Name, Annotated[list[Name], Field(min_length=2)]] = Field(
        {},
        description="Capacity over several entries, by the name of the sweep: entries on one dataset each, of the same "
        "patients, such as networks with other recipes or images of another size. Their models are compared there "
        "and no longer within each entry.",
    )
    access: bool = Field(
        True, description="Compare the queries of an experiment on the same patients, where there are several."
    )
    stability: bool = Field(
        True, description="Ask whether experiments on the same dataset find the same patients, where there are several."
    )
    groups: bool | list[Name] = Field(
        True,
        description="Compare the residuals of all groups with their shares, over one experiment of each dataset, the "
        "first; or a list of the entries whose datasets take part, each once.",
    )


class Running(Strict):
    """How the models are run: speed, memory and disk, never results."""

    stack_size: int | None = Field(
        None, ge=1, description="Target models trained at once; null takes what was measured for the architecture."
    )
    keep_weights: bool = Field(
        False, description="Keep the weights of finished models in the store: a new query then trains nothing again."
    )
    checkpoint_minutes: float = Field(
        5.0, gt=0, description="Minutes after which a training that is under way is saved, to be resumed from there."
    )


class Report(Strict):
    """The page at the end."""

    title: str = Field("Patient-level privacy audit", description="Title of the page.")
    threshold: Threshold = Field(0.95, description="AUC of the headline; one of `audit.thresholds`.")
