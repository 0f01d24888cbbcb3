"""Wisconsin diagnostic breast cancer data as shipped with scikit-learn: one record a patient."""

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer

from tailrisk.config.sources import BreastCancer
from tailrisk.datasets.contract import Dataset
from tailrisk.datasets.encode import standardised
from tailrisk.datasets.needs import Need


def needs(spec: BreastCancer) -> list[Need]:
    """Nothing on disk."""
    return []


def read(spec: BreastCancer) -> Dataset:
    """569 fine-needle aspirates of 569 patients; 30 features of the cell nuclei; malignant (1) or benign (0)."""
    source = load_breast_cancer()
    ids = np.array([f"wdbc-{number:03d}" for number in range(len(source.data))], dtype=object)
    malignant = 1 - source.target  # scikit-learn codes benign as 1
    inputs, _ = standardised(source.data)
    return Dataset(
        title="Wisconsin breast cancer (diagnostic)",
        task="binary",
        classes=["benign", "malignant"],
        record=ids,
        patient=ids,
        inputs=inputs,
        labels=malignant.astype(np.int64),
        groups=pd.DataFrame({"diagnosis": np.where(malignant == 1, "malignant", "benign")}),
        features=[str(name) for name in source.feature_names],
        licence=spec.terms,
        preprocessing="Features standardised over all records.",
        where="scikit-learn's breast cancer data",
    )
