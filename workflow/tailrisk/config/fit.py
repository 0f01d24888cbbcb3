"""What goes together: the form of a dataset's records with architectures, augmentations and queries."""

from tailrisk.config.architectures import AnyModel
from tailrisk.config.queries import AnyQuery, Redacted
from tailrisk.config.sources import Form

FORMS_OF_MODELS: dict[str, set[Form]] = {
    "tabular_resnet": {"table"},
    "wide_resnet": {"image"},
    "vit": {"image"},
    "resnet1d": {"signal"},
}
"""Architectures that are not named here take records of any form."""

FORM_OF_AUGMENTATIONS: dict[str, Form] = {"weak": "image", "medium": "image", "mammography": "image", "ecg": "signal"}

IN_WORDS: dict[Form, str] = {"table": "rows of a table", "signal": "signals", "image": "images"}


def misfit(form: Form, model: AnyModel, augmentation: str, queries: dict[str, AnyQuery]) -> str | None:
    """What of a model, an augmentation and queries cannot take records of `form`, in words; None where all can."""
    records = f"whose records are {IN_WORDS[form]}"
    if form not in FORMS_OF_MODELS.get(model.architecture, {form}):
        return f"the architecture {model.architecture} cannot take a dataset {records}: choose another one"
    wanted = FORM_OF_AUGMENTATIONS.get(augmentation)
    if wanted and wanted != form:
        return f"recipe.augmentation '{augmentation}' is for {IN_WORDS[wanted]}, not for a dataset {records}"
    if wanted and model.architecture == "logistic":
        return "the architecture logistic flattens records, which cannot be augmented: set recipe.augmentation to none"
    for name, query in queries.items():
        if isinstance(query, Redacted):
            named = query.known or query.hidden
            if named and form == "image":
                return f"the query '{name}' names features or leads, but this is a dataset {records}: state a region"
            if not named and form != "image":
                return f"the query '{name}' hides a region, but this is a dataset {records}: name features or leads"
    return None
