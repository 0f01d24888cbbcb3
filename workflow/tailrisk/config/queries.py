"""How the attacker asks a trained model about a record."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tailrisk.config.base import Strict

Share = Annotated[float, Field(ge=0, le=1)]
Region = Annotated[tuple[Share, Share, Share, Share], Field(description="Top, left, bottom, right, as shares.")]


class Clean(Strict):
    """The record as it is."""

    kind: Literal["clean"]


class Augmented(Strict):
    """Several randomly augmented views of the record, by the augmentation of the recipe; the score is their mean.

    All target models are asked the same views.
    """

    kind: Literal["augmented"]
    views: int = Field(16, ge=1, description="Views of every record; the paper uses 16.")


class Redacted(Strict):
    """Partial access: what the attacker does not have is filled in. State what is known, or what is hidden."""

    kind: Literal["redacted"]
    known: list[str] | None = Field(
        None, min_length=1, description="Features (of tables) or leads (of signals) that the attacker has."
    )
    hidden: list[str] | None = Field(None, min_length=1, description="Features or leads that the attacker lacks.")
    known_region: Region | None = Field(
        None, description="Part of an image that the attacker has: [top, left, bottom, right] as shares of its sides."
    )
    hidden_region: Region | None = Field(None, description="Part of an image that the attacker lacks.")
    fill: Literal["median", "zero", "donor"] = Field(
        "median",
        description="What stands in for the hidden part: its median over the audited records, zero, or the values of "
        "another patient's record drawn at random.",
    )

    @model_validator(mode="after")
    def _state_one(self) -> "Redacted":
        stated = [self.known, self.hidden, self.known_region, self.hidden_region]
        if sum(part is not None for part in stated) != 1:
            raise ValueError("state exactly one of known, hidden, known_region and hidden_region")
        for region in (self.known_region, self.hidden_region):
            if region and not (region[0] < region[2] and region[1] < region[3]):
                raise ValueError("a region is [top, left, bottom, right] with top < bottom and left < right")
        return self


AnyQuery = Annotated[Clean | Augmented | Redacted, Field(discriminator="kind")]
