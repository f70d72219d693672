"""Measurements of this project beside its peers on the machine at hand: `make bench`, or `python -m bench [PART]`."""
