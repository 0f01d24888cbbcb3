"""Simulated confidence tables of every design of membership, for the tests of the statistics."""

import numpy as np
import paired_scores


def coins(design, models, patients, rng):
    """Membership [models, patients] as the design draws it; that of `unknown` is 40 % IN."""
    if design == "complementary":
        return paired_scores.membership(models // 2, np.arange(patients), rng)
    if design == "balanced":
        return rng.permuted(np.repeat([[True], [False]], models // 2, axis=0) * np.ones(patients, bool), axis=0)
    return rng.random((models, patients)) < (0.5 if design == "independent" else 0.4)


def table(design, models, sizes, rng, effect=0.0, within_patient=0.5, shared=0.0):
    """confidences float32 [models, N], member, patient for patients with `sizes` records.

    Records of a patient correlate by `within_patient`, all records under a model by `shared` besides; `effect` (a
    number or one per record) is added where the patient is a member.
    """
    patient = np.repeat(np.arange(len(sizes)), sizes)
    member = coins(design, models, len(sizes), rng)[:, patient]
    own = np.sqrt(1 - within_patient) * rng.standard_normal(member.shape)
    own += np.sqrt(within_patient) * rng.standard_normal((models, len(sizes)))[:, patient]
    scores = np.sqrt(1 - shared) * own + np.sqrt(shared) * rng.standard_normal((models, 1))
    return (scores + effect * member).astype(np.float32), member, patient
