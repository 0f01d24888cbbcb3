"""The command line: `tailrisk <stage>`, which rules call, and what people call beside it."""

from tailrisk.cli import archive, people, progress, stages
from tailrisk.cli.group import main

__all__ = ["archive", "main", "people", "progress", "stages"]
