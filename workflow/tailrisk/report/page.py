"""The page itself: one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tailrisk import __version__
from tailrisk.figures.subgroups import SMALL
from tailrisk.report.context import Context
from tailrisk.report.text import FILTERS
from tailrisk.tables import replacing, write_json


def render(context: Context) -> str:
    """The report as one self-contained HTML document."""
    environment = Environment(
        loader=PackageLoader("tailrisk.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS, svg=Markup)  # only figures drawn by this package pass through `svg`
    return environment.get_template("report.html.j2").render(c=context, small=SMALL, version=__version__)


def write_report(context: Context, page: Path, headlines: Path) -> None:
    """Write the page and, as a JSON list, its headline sentences."""
    text = render(context)
    with replacing(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    write_json(headlines, context.headlines)
