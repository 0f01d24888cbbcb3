"""`tailrisk models-needed`: from an aim to a number of target models."""

import numpy as np
import pytest
from audited_study import finished
from click.testing import CliRunner

from tailrisk.cli import main
from tailrisk.tables import read_table


def said(*arguments: str) -> str:
    done = CliRunner().invoke(main, ["models-needed", *arguments])
    assert done.exit_code in (0, 1), done.output
    return done.output


def number(line: str) -> int:
    return int(line.split(maxsplit=1)[0])


def test_a_standard_error_falls_with_the_root_of_the_models() -> None:
    few, many = (number(said("--auc", "0.8", "--se", se)) for se in ("0.04", "0.02"))
    assert 3.9 < many / few < 4.1
    # φ(d)/√n of equal spreads, and a little for the spread of the spreads.
    assert many / 2 > (np.exp(-(0.8416**2) / 2) / np.sqrt(2 * np.pi) / 0.02) ** 2


def test_power_needs_to_know_among_how_many() -> None:
    assert "a power needs --patients" in said("--power", "0.8")
    assert "state what is to be reached" in said()
    hundred, million = (number(said("--auc", "0.8", "--power", "0.8", "--patients", n)) for n in ("100", "1000000"))
    assert 20 < hundred < million < 200
    several = number(said("--auc", "0.8", "--power", "0.8", "--patients", "100", "--records", "20"))
    assert hundred < several < million


def test_a_finished_audit_says_what_its_records_need() -> None:
    folder = finished().files["main.hospital.wide"].audit
    lines = said("--se", "0.02", "--power", "0.9", "--audit", str(folder)).splitlines()
    assert len(lines) == 3
    observed = read_table(folder / "records.parquet", "audit_records")["auc_se"].mean()
    assert number(lines[1]) / 120 == pytest.approx((observed / 0.02) ** 2, rel=0.02)
    assert "among 300" in lines[2]
    assert "is missing" in said("--se", "0.02", "--audit", str(folder / "nowhere"))
