"""A table as users bring it, and the options that read it."""

import numpy as np
import pandas as pd


def own_table(n: int = 200) -> pd.DataFrame:
    """A table as a user brings it: text ids, numbers, categories and groups; about 3 records a patient."""
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "pid": [f"{number:04d}" for number in generator.integers(0, n // 3, n)],
            "outcome": generator.choice(["dead", "alive"], n),
            "age": generator.integers(20, 90, n),
            "lactate": generator.lognormal(size=n),
            "unit": generator.choice(["icu", "ward"], n),
            "ethnicity": generator.choice(["a", "b", "c"], n),
        }
    )


OWN = {
    "source": "table",
    "patient": "pid",
    "label": "outcome",
    "numeric": ["age", "lactate"],
    "categorical": ["unit"],
    "groups": ["ethnicity"],
}
