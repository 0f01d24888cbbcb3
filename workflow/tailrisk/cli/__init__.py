"""The command line: `tailrisk <stage>`, which rules call, and what people call beside it."""

from tailrisk.cli import people, stages
from tailrisk.cli.group import main

__all__ = ["main", "people", "stages"]
