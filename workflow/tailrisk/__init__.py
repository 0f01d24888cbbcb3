"""Patient-level privacy audit of medical AI."""

__version__ = "0.1.0"
