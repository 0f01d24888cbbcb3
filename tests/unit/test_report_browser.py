"""The report opened in a real browser."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from audited_study import finished
from matplotlib.image import imread

from tailrisk.report.page import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH: the page cannot be opened in a browser")
HEADINGS = (
    "How many patients are exposed", "What was audited", "The datasets", "Larger models", "What the attacker knows",
    "Are they the same patients?", "Small groups", "Each experiment",
    "Method in short", "What these figures do not say", "Provenance",
)  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(finished().context(Configuration="seed: 1"), folder / "report.html", folder / "headlines.json")
    return folder / "report.html"


def chromium(page: Path, *options: str) -> str:
    """Open the page headless, with a profile of its own and no network, and return what the browser prints."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
               f"--user-data-dir={page.parent / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND", *options,
               page.as_uri()]  # fmt: skip
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_headings_and_figures_are_in_the_document_the_browser_built(page: Path) -> None:
    document = chromium(page, "--dump-dom")
    assert [heading for heading in HEADINGS if f"<h2>{heading}</h2>" not in document] == []
    assert (
        len(re.findall(r"<svg\b", document)) == 19
    )  # four of each experiment, three of their capacities, three of access, one
    assert document.count("<details") == 15


def test_screenshot_shows_text_and_coloured_figures(page: Path) -> None:
    shot = page.parent / "page.png"
    chromium(page, f"--screenshot={shot}", "--window-size=1240,6000")
    pixels = imread(shot)[..., :3]
    assert pixels.shape[:2] == (6000, 1240)
    blank_rows = (pixels > 0.99).all(axis=(1, 2))
    assert blank_rows.mean() < 0.75
    for colour in (
        (0x00, 0x72, 0xB2),
        (0xD5, 0x5E, 0x00),
        (0x00, 0x9E, 0x73),
    ):  # blue, vermillion, green of the figures
        near = (np.abs(pixels - np.array(colour) / 255) < 0.02).all(axis=2)
        assert near.sum() > 50, colour
