"""One table of simulated scores on which this package and other tools are run side by side."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tailrisk.attacks.confidence import confidence

MODELS, RECORDS, PATIENTS, CLASSES = 200, 10_000, 4_990, 5
SEED = 20211207


@dataclass(frozen=True)
class Matrix:
    """Models × records: logits [M, N, C], confidences [M, N] (both float32), member [M, N] bool; labels, patient [N].

    Models 2k and 2k+1 have complementary members, drawn by patient.
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.intp]
    member: NDArray[np.bool_]
    patient: NDArray[np.intp]
    confidences: NDArray[np.float32]

    @cached_property
    def log_likelihood(self) -> NDArray[np.float32]:
        """Log-probability of the true label [M, N]."""
        return -np.logaddexp(0, -self.confidences)

    @cached_property
    def probability(self) -> NDArray[np.float64]:
        """Softmax probability of the true label [M, N]; the sigmoid of the confidence."""
        return 1 / (1 + np.exp(-self.confidences.astype(np.float64)))

    def without_pair(self, target: int) -> NDArray[np.intp]:
        """Numbers of the reference models of one target: all but itself and its partner."""
        models = np.arange(len(self.member))
        return models[models // 2 != target // 2]


def common_matrix(
    models: int = MODELS, records: int = RECORDS, patients: int = PATIENTS, classes: int = CLASSES, seed: int = SEED
) -> Matrix:
    """The common table: every record has its own difficulty, noise and leak, a few of them a strong one.

    The true class's logit has mean `ease` and gains `leak` where the patient is a member; IN scores spread less than
    OUT scores, and the noise of the two models of a pair has correlation −0.3. Philox, keyed by the seed.
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    patient = np.sort(np.append(np.arange(patients), rng.integers(0, patients, records - patients)))
    coins = rng.random((models // 2, patients)) < 0.5
    member = np.empty((models, records), dtype=bool)
    member[0::2], member[1::2] = coins[:, patient], ~coins[:, patient]
    labels = rng.integers(0, classes, records)
    ease = rng.normal(1.5, 1.5, records)
    spread = np.exp(rng.normal(-0.2, 0.3, records))
    leak = rng.exponential(0.25, records) + np.where(rng.random(records) < 0.03, 2.0, 0.0)

    logits = rng.standard_normal((models, records, classes), dtype=np.float32)
    logits[1::2] = -0.3 * logits[0::2] + np.float32(np.sqrt(1 - 0.3**2)) * logits[1::2]
    logits *= np.where(member, 0.85 * spread, spread).astype(np.float32)[..., None]
    # Training pulls the true class up and pushes the others down.
    true = (np.arange(classes) == labels[:, None]).astype(np.float32)
    logits += (ease[:, None] * true).astype(np.float32)
    logits += member[..., None] * (leak[:, None] * (true - 1 / classes)).astype(np.float32)
    confidences = np.stack([confidence(one, labels, "multiclass").astype(np.float32) for one in logits])
    return Matrix(logits, labels, member, patient, confidences)
