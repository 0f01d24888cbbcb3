"""Events in the order of whose they are and when they were, to look up those before a moment."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

ORIGIN = np.datetime64("1900-01-01", "s")
BITS = 35
"""Bits of the seconds since `ORIGIN`, enough for a thousand years."""


class Timeline:
    """Events of `who` [N] (ids) at the times `when` [N]. Events of nobody or at no known time are left out.

    `order` [M] holds the rows of the events, by person and within a person by time.
    """

    def __init__(self, who: pd.Series, when: pd.Series) -> None:
        rows = np.flatnonzero((who.notna() & when.notna()).to_numpy())
        codes, self._people = pd.factorize(who.iloc[rows])
        keys = (codes.astype(np.int64) << BITS) + _seconds(when.iloc[rows])
        order = np.argsort(keys, kind="stable")
        self.order = rows[order]
        self._keys = keys[order]

    def moments(self, who: pd.Series, at: pd.Series) -> NDArray[np.int64]:
        """The moments `at` [K] in the lives of `who` [K], as `before` takes them; -1 for the unknown."""
        person = pd.Index(self._people).get_indexer(pd.Index(who)).astype(np.int64)
        known = (person >= 0) & at.notna().to_numpy()
        return np.where(known, (person << BITS) + _seconds(at), -1)

    def before(
        self, moments: NDArray[np.int64], days: float | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where in `order` the events of the same person strictly before each of `moments` [K] begin, and end (the end
        not included). With `days`, only events at most so long before. An unknown moment has none."""
        birth = moments >> BITS << BITS
        earliest = birth if days is None else np.maximum(birth, moments - int(days * 86400))
        return np.searchsorted(self._keys, earliest), np.searchsorted(self._keys, moments)


def _seconds(when: pd.Series) -> NDArray[np.int64]:
    return (when.to_numpy("datetime64[s]") - ORIGIN).astype(np.int64)
