"""A simulated cohort with known truth: whom a model must memorise, and whom it cannot know."""

import numpy as np
import pandas as pd

from tailrisk.config.sources import Simulated
from tailrisk.datasets.contract import Dataset
from tailrisk.datasets.needs import Need


def needs(spec: Simulated) -> list[Need]:
    """Nothing on disk."""
    return []


def read(spec: Simulated) -> Dataset:
    """Patients of three kinds with 1 to `max_records` similar records each, all of one label a patient.

    *typical*: the label follows a hidden direction of the features. *rare*: a subgroup elsewhere in feature space
    whose label follows a direction of its own. *atypical*: like typical, but with the opposite label, so that a model
    can be right about them only by remembering them. A patient's records are its own centre plus a little noise.
    `controls` adds the pure-noise patients: drawn into halves and audited, never trained on, so that nothing can
    betray them.
    """
    generator = np.random.Generator(np.random.Philox(spec.seed))
    n = spec.patients
    kind = np.full(n, "typical", dtype=object)
    order = generator.permutation(n)
    n_rare, n_atypical = round(spec.rare * n), round(spec.atypical * n)
    kind[order[:n_rare]] = "rare"
    kind[order[n_rare : n_rare + n_atypical]] = "atypical"

    centre = generator.standard_normal((n, spec.features))
    directions = generator.standard_normal((2, spec.features)) / np.sqrt(spec.features)
    rare = kind == "rare"
    own = np.where(rare[:, None], directions[1], directions[0])
    signal = (centre * own).sum(axis=1)  # not a matrix product: its last bits depend on threads
    label = (signal > 0).astype(np.int64)
    centre[:, 0] += 3.0 * rare  # a site of its own in feature space
    centre += 0.8 * np.sign(signal)[:, None] * own
    label[kind == "atypical"] ^= 1

    # Many patients with one record, few with many: 1 + geometric, cut at max_records.
    n_records = np.minimum(generator.geometric(0.35, size=n), spec.max_records)
    n_records[order[-1]] = spec.max_records
    owner = np.repeat(np.arange(n), n_records)
    inputs = centre[owner] + 0.15 * generator.standard_normal((len(owner), spec.features))
    sex = generator.choice(np.array(["female", "male"], dtype=object), size=n)
    patient = np.array([f"sim-{number:05d}" for number in range(n)], dtype=object)
    position = np.concatenate([np.arange(count) for count in n_records])
    return Dataset(
        title="Simulated cohort with known truth",
        task="binary",
        classes=["negative", "positive"],
        record=np.array([f"{patient[p]}-{r:02d}" for p, r in zip(owner, position, strict=True)], dtype=object),
        patient=patient[owner],
        inputs=inputs.astype(np.float32),
        labels=label[owner],
        groups=pd.DataFrame({"kind": kind[owner], "sex": sex[owner]}),
        features=[f"x{number}" for number in range(spec.features)],
        licence=spec.terms,
        preprocessing="None.",
        where="the simulated cohort",
    )
