"""RLAIF on small models as a graph of software-defined assets."""

__version__ = "0.1.0"
