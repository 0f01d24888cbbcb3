"""Signals of which the file is damaged: whatever the readers stumble on is one sentence."""

from pathlib import Path

import numpy as np
import pytest

from tailrisk.datasets.waveforms import Wanted, waveform
from tailrisk.errors import UserError

WANTED = Wanted(["I", "II"], 50)


def test_a_damaged_header_of_an_array(tmp_path) -> None:
    file = tmp_path / "a.npy"
    np.save(file, np.random.default_rng(0).normal(size=(2, 50)))
    content = file.read_bytes()
    assert waveform(file, WANTED).shape == (2, 50)
    # NumPy reads the header as if it were Python: a bracket that is never closed raises tokenize.TokenError.
    file.write_bytes(content.replace(b", }", b", ("))
    with pytest.raises(UserError, match=r"^not a readable array: "):
        waveform(file, WANTED)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["array", "record"])
def test_any_damage_is_one_sentence(kind: str, tmp_path: Path) -> None:
    signal = np.random.default_rng(0).integers(-400, 400, (2, 50)).astype("<i2")
    if kind == "array":
        file = tmp_path / "a.npy"
        np.save(file, signal)
    else:
        file = tmp_path / "a.hea"
        signal.T.tofile(tmp_path / "a.dat")
        sums = [int(row.sum()) % 65536 for row in signal]
        leads = [f"a.dat 16 200/mV 16 0 {signal[lead, 0]} {sums[lead]} 0 {'ab'[lead]}\n" for lead in (0, 1)]
        file.write_text("a 2 100 50\n" + "".join(leads))
        assert waveform(file, Wanted(["a", "b"], 50, rate=100, units=["mV", "mV"])).shape == (2, 50)
    content = file.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(0, min(len(content), 150), rng.integers(1, 6)):
            damaged[place] = rng.integers(32, 127)
        file.write_bytes(damaged)
        try:
            waveform(file, Wanted(["a", "b"], 50, rate=100, units=["mV", "mV"]))
        except FileNotFoundError:  # of samples in a file of another name
            pass
        except UserError as fault:
            assert "\n" not in str(fault)
