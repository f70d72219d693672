"""RLAIF on small models as a graph of software-defined assets."""

import logging
import os

__version__ = "0.1.0"

# Read by OpenMP when torch is first imported: threads that wait for one another spin for a moment, and then sleep. By default
# they spin for milliseconds, and where anything else runs beside, a step takes many times as long; threads that sleep at once are
# woken too slowly for the small products of sampling and PPO (docs/experiments.md has the figures).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
# On some processors it warns of a kernel that it would fetch from the hub; nobody who does without 4-bit weights wants it.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
