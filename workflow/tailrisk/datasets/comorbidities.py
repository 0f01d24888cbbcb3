"""Comorbidities from diagnosis codes: Charlson's 17 and 18 of Elixhauser's (Quan et al., Medical Care 2005).

The selection and the names are those of the MIMIC-IV-ED benchmark (Xie et al., Scientific Data 2022). Its own tables of
codes have a few slips (ICD-9 344 is none of its paralysis, ICD-10 E22.2 none of its fluid disorders); these here follow
the publication. A diagnosis of a severe form does not take away that of the mild one, as in the benchmark.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

CODES: dict[str, tuple[str, str]] = {
    "cci_MI": ("410 412", "I21 I22 I252"),
    "cci_CHF": (
        "39891 40201 40211 40291 40401 40403 40411 40413 40491 40493 4254-4259 428",
        "I099 I110 I130 I132 I255 I420 I425-I429 I43 I50 P290",
    ),
    "cci_PVD": (
        "0930 4373 440 441 4431-4439 4471 5571 5579 V434",
        "I70 I71 I731 I738 I739 I771 I790 I792 K551 K558 K559 Z958 Z959",
    ),
    "cci_Stroke": ("36234 430-438", "G45 G46 H340 I60-I69"),
    "cci_Dementia": ("290 2941 3312", "F00-F03 F051 G30 G311"),
    "cci_Pulmonary": ("4168 4169 490-505 5064 5081 5088", "I278 I279 J40-J47 J60-J67 J684 J701 J703"),
    "cci_Rheumatic": ("4465 7100-7104 7140-7142 7148 725", "M05 M06 M315 M32-M34 M351 M353 M360"),
    "cci_PUD": ("531-534", "K25-K28"),
    "cci_Liver1": (
        "07022 07023 07032 07033 07044 07054 0706 0709 570 571 5733 5734 5738 5739 V427",
        "B18 K700-K703 K709 K713-K715 K717 K73 K74 K760 K762-K764 K768 K769 Z944",
    ),
    "cci_DM1": (
        "2500-2503 2508 2509",
        "E100 E101 E106 E108 E109 E110 E111 E116 E118 E119 E120 E121 E126 E128 E129 E130 E131 E136 E138 E139 E140 "
        "E141 E146 E148 E149",
    ),
    "cci_DM2": (
        "2504-2507",
        "E102-E105 E107 E112-E115 E117 E122-E125 E127 E132-E135 E137 E142-E145 E147",
    ),
    "cci_Paralysis": ("3341 342 343 3440-3446 3449", "G041 G114 G801 G802 G81 G82 G830-G834 G839"),
    "cci_Renal": (
        "40301 40311 40391 40402 40403 40412 40413 40492 40493 582 5830-5837 585 586 5880 V420 V451 V56",
        "I120 I131 N032-N037 N052-N057 N18 N19 N250 Z490-Z492 Z940 Z992",
    ),
    "cci_Cancer1": (
        "140-172 174-195 200-208 2386",
        "C00-C26 C30-C34 C37-C41 C43 C45-C58 C60-C76 C81-C85 C88 C90-C97",
    ),
    "cci_Liver2": ("4560-4562 5722-5728", "I850 I859 I864 I982 K704 K711 K721 K729 K765-K767"),
    "cci_Cancer2": ("196-199", "C77-C80"),
    "cci_HIV": ("042-044", "B20-B22 B24"),
    "eci_Arrhythmia": (
        "4260 42610 42612 42613 4267 4269 4270-4274 4276-4279 7850 99601 99604 V450 V533",
        "I441-I443 I456 I459 I47-I49 R000 R001 R008 T821 Z450 Z950",
    ),
    "eci_Valvular": (
        "0932 394-397 424 7463-7466 V422 V433",
        "A520 I05-I08 I091 I098 I34-I39 Q230-Q233 Z952-Z954",
    ),
    "eci_PHTN": ("4150 4151 416 4170 4178 4179", "I26 I27 I280 I288 I289"),
    "eci_HTN1": ("402-405", "I11-I13 I15"),
    "eci_HTN2": ("401", "I10"),
    "eci_NeuroOther": (
        "3319 3320 3321 3334 3335 33392 334 335 3362 340 341 345 3481 3483 7803 7843",
        "G10-G13 G20-G22 G254 G255 G312 G318 G319 G32 G35-G37 G40 G41 G931 G934 R470 R56",
    ),
    "eci_Hypothyroid": ("2409 243 244 2461 2468", "E00-E03 E890"),
    "eci_Lymphoma": ("200-202 2030 2386", "C81-C85 C88 C96 C900 C902"),
    "eci_Coagulopathy": ("286 2871 2873-2875", "D65-D68 D691 D693-D696"),
    "eci_Obesity": ("2780", "E66"),
    "eci_WeightLoss": ("260-263 7832 7994", "E40-E46 R634 R64"),
    "eci_FluidsLytes": ("2536 276", "E222 E86 E87"),
    "eci_BloodLoss": ("2800", "D500"),
    "eci_Anemia": ("2801-2809 281", "D508 D509 D51-D53"),
    "eci_Alcohol": (
        "2652 2911-2913 2915-2919 3030 3039 3050 3575 4255 5353 5710-5713 980 V113",
        "E52 F10 G621 I426 K292 K700 K703 K709 T51 Z502 Z714 Z721",
    ),
    "eci_Drugs": ("292 304 3052-3059 V6542", "F11-F16 F18 F19 Z715 Z722"),
    "eci_Psychoses": ("2938 295 29604 29614 29644 29654 297 298", "F20 F22-F25 F28 F29 F302 F312 F315"),
    "eci_Depression": ("2962 2963 2965 3004 309 311", "F204 F313-F315 F32 F33 F341 F412 F432"),
}
"""Beginnings of the codes of every comorbidity in ICD-9-CM and in ICD-10, without the point; ranges hold both ends."""

COMORBIDITIES = list(CODES)


def beginnings(codes: str) -> tuple[str, ...]:
    """The single beginnings that the text of a cell of `CODES` stands for."""
    found: list[str] = []
    for part in codes.split():
        low, _, high = part.partition("-")
        letter = low[: len(low) - len(low.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))]
        first, last = low[len(letter) :], (high or low)[len(letter) :]
        found.extend(f"{letter}{number:0{len(first)}d}" for number in range(int(first), int(last) + 1))
    return tuple(found)


def comorbidities(codes: pd.Series, versions: pd.Series) -> NDArray[np.bool_]:
    """Which of `COMORBIDITIES` [N, 35] the diagnosis `codes` [N] stand for, of ICD `versions` [N] "9" or "10".

    Codes are texts with or without their point; a code counts where it begins as one of `CODES` of its own version.
    """
    plain = codes.str.replace(".", "", regex=False).str.upper()
    flags = np.zeros((len(codes), len(CODES)), dtype=bool)
    for version, column in (("9", 0), ("10", 1)):
        rows = np.flatnonzero(versions.to_numpy() == version)
        part = plain.iloc[rows]
        for number, name in enumerate(COMORBIDITIES):
            flags[rows, number] = part.str.startswith(beginnings(CODES[name][column])).to_numpy(bool)
    return flags
