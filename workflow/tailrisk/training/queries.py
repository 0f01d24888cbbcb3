"""How the attacker asks: from trained models to confidences, for every kind of query."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailrisk.attacks.confidence import confidence, loss
from tailrisk.config.queries import AnyQuery, Augmented, Redacted
from tailrisk.config.recipe import Training
from tailrisk.datasets.contract import Prepared
from tailrisk.training import augment
from tailrisk.training.engine import View, predict
from tailrisk.training.redact import plan_redaction, redact
from tailrisk.training.resident import Resident
from tailrisk.training.seeds import seed_of
from tailrisk.training.store import Answers


class Question:
    """A query about the records `rows`, made ready once and asked of many models.

    Every model is asked about the same inputs: the same views of an augmented query, the same donors of a redacted
    one. So a record's confidences differ between models because of the models alone.
    """

    def __init__(
        self,
        name: str,
        query: AnyQuery,
        training: Training,
        prepared: Prepared,
        data: Resident,
        rows: NDArray[np.int64],
    ) -> None:
        self._data, self._rows = data, rows
        self._labels = data.labels.cpu().numpy()[rows]
        self._views: list[View | None] = [None]
        if isinstance(query, Augmented):
            self._views = list(self._augmented(query, training))
        elif isinstance(query, Redacted):
            self._views = [self._redacted(name, query, training, prepared)]

    def ask(self, model: nn.Module, n_models: int) -> Answers:
        """Confidences [K, len(rows)] of the true labels, with losses where a record has several labels; means over
        views where there are several."""
        several = self._data.task == "multilabel"
        sums = np.zeros((2 if several else 1, n_models, len(self._rows)), dtype=np.float64)
        for view in self._views:
            for place, logits in predict(model, self._data, self._rows, view):
                sums[0, :, place] += confidence(logits.cpu().numpy(), self._labels[place], self._data.task)
                if several:
                    sums[1, :, place] += loss(logits.cpu().numpy(), self._labels[place])
        return Answers(*(sums / len(self._views)).astype(np.float32))

    def _augmented(self, query: Augmented, training: Training) -> Iterator[View]:
        kind = training.recipe.augmentation
        for number in range(query.views):
            generator = torch.Generator().manual_seed(seed_of(training.seed, number, "view"))
            drawn = augment.draw(kind, len(self._rows), self._data.shape, generator)

            def view(place: slice, drawn: dict[str, Tensor] = drawn) -> Tensor:
                own = {name: values[place].to(self._data.device) for name, values in drawn.items()}
                return augment.apply(kind, self._clean(place), own)

            yield view

    def _redacted(self, name: str, query: Redacted, training: Training, prepared: Prepared) -> View:
        data = self._data
        plan = plan_redaction(query, prepared, self._rows, training.seed, f"queries.{name}")
        hidden = _hidden(plan.hidden, data)
        fill = None if plan.fill is None else data.encoded(plan.fill[None])

        def filling(place: slice) -> Tensor:
            if fill is not None:
                return fill
            assert plan.donors is not None
            return data.raw(torch.from_numpy(plan.donors[place]))

        def view(place: slice) -> Tensor:
            stored = data.raw(torch.from_numpy(self._rows[place]))
            return data.scaled(redact(stored, hidden, filling(place)))

        return view

    def _clean(self, place: slice) -> Tensor:
        return self._data.scaled(self._data.raw(torch.from_numpy(self._rows[place])))


def _hidden(hidden: NDArray[np.bool_], data: Resident) -> Tensor:
    """The mask of hidden numbers in the form in which inputs are stored on the device."""
    if not data.flat:
        return torch.from_numpy(hidden).to(data.device)
    return data.encoded(hidden.astype(np.float32)[None])[0] > 0
