"""RLAIF on small models as a graph of software-defined assets."""

import logging
import os

__version__ = "0.1.0"

# Read by OpenMP when torch is first imported: threads that wait for one another sleep. By default they spin, and on a machine
# that does anything else beside, a step takes many times as long (docs/experiments.md has the figures).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# On some processors it warns of a kernel that it would fetch from the hub; nobody who does without 4-bit weights wants it.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
