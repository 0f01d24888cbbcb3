"""Comorbidities of diagnosis codes, against codes taken from the publication by hand."""

import pandas as pd
import pytest

from tailrisk.datasets.comorbidities import CODES, COMORBIDITIES, beginnings, comorbidities


def found(code: str, version: str) -> set[str]:
    flags = comorbidities(pd.Series([code]), pd.Series([version]))
    return {name for name, flag in zip(COMORBIDITIES, flags[0], strict=True) if flag}


def test_there_are_17_of_charlson_and_18_of_elixhauser() -> None:
    assert [name.partition("_")[0] for name in COMORBIDITIES] == ["cci"] * 17 + ["eci"] * 18


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ("430-433", ("430", "431", "432", "433")),
        ("042-044", ("042", "043", "044")),
        ("I60-I62 H340", ("I60", "I61", "I62", "H340")),
        ("V420", ("V420",)),
        ("E105", ("E105",)),
        ("C00-C02", ("C00", "C01", "C02")),
    ],
)
def test_ranges_hold_both_ends_and_keep_zeros(codes, expected) -> None:
    assert beginnings(codes) == expected


@pytest.mark.parametrize(
    ("code", "version", "names"),
    [
        ("41001", "9", {"cci_MI"}),
        ("4139", "9", set()),  # angina
        ("I252", "10", {"cci_MI"}),
        ("I259", "10", set()),
        ("428.0", "9", {"cci_CHF"}),  # a point does not matter
        ("4280", "9", {"cci_CHF"}),
        ("42613", "9", {"eci_Arrhythmia"}),
        ("42611", "9", set()),
        ("40403", "9", {"cci_CHF", "cci_Renal", "eci_HTN1"}),
        ("I130", "10", {"cci_CHF", "eci_HTN1"}),
        ("25060", "9", {"cci_DM2"}),
        ("25000", "9", {"cci_DM1"}),
        ("E1165", "10", {"cci_DM1"}),
        ("E1122", "10", {"cci_DM2"}),
        ("3440", "9", {"cci_Paralysis"}),  # the benchmark's table writes 3340
        ("1749", "9", {"cci_Cancer1"}),
        ("1730", "9", set()),  # other skin cancer counts not
        ("C440", "10", set()),
        ("C509", "10", {"cci_Cancer1"}),
        ("1985", "9", {"cci_Cancer2"}),
        ("C787", "10", {"cci_Cancer2"}),
        ("20280", "9", {"cci_Cancer1", "eci_Lymphoma"}),
        ("042", "9", {"cci_HIV"}),
        ("42", "9", set()),  # a leading zero is part of the code
        ("B20", "10", {"cci_HIV"}),
        ("27801", "9", {"eci_Obesity"}),
        ("E6601", "10", {"eci_Obesity"}),
        ("E871", "10", {"eci_FluidsLytes"}),
        ("E222", "10", {"eci_FluidsLytes"}),
        ("E8710", "9", set()),  # an external cause in ICD-9, electrolytes in ICD-10
        ("V450", "9", {"eci_Arrhythmia"}),
        ("V450", "10", set()),  # a car's occupant in ICD-10
        ("4255", "9", {"cci_CHF", "eci_Alcohol"}),
        ("F329", "10", {"eci_Depression"}),
        ("f329", "10", {"eci_Depression"}),
        ("F315", "10", {"eci_Psychoses", "eci_Depression"}),
    ],
)
def test_codes_stand_for_comorbidities(code, version, names) -> None:
    assert found(code, version) == names


def test_versions_are_not_mixed_and_none_is_empty() -> None:
    for nine, ten in CODES.values():
        assert all(code[0].isdigit() or code[0] in "VE" for code in beginnings(nine))
        assert all(code[0].isalpha() for code in beginnings(ten))
    both = comorbidities(pd.Series(["4280", "I50", "4280"]), pd.Series(["9", "10", "10"]))
    assert both[:, COMORBIDITIES.index("cci_CHF")].tolist() == [True, True, False]
