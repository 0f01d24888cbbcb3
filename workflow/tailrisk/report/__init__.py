"""The report: one self-contained HTML page for a data-protection officer."""
