"""Versions of what the code does, where a change of the code changes results.

An asset's code version is its own number and those of the behaviours it rests on, so raising a number here makes `rlaif
plan` name every asset that it concerns. Keys of stored chunks carry them too. How a judge is asked is versioned by its
wording (`judging.template`) and belongs to `judge_spec`; this module imports nothing heavy, because plans read it.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass


@dataclass(frozen=True)
class Behaviour:
    """Something the code does, and the version of how it does it."""

    name: str
    version: int | str


CONVERSION = Behaviour("conversion", 1)  # of a package's GGUF weights to safetensors
SAMPLING = Behaviour("sampling", 1)  # what is drawn for the same prompts and settings
SCORING = Behaviour("scoring", 1)  # log-likelihoods of the same answers
REVISING = Behaviour("revising", 1)  # how the constitution is put before the model
BENCHMARKS = Behaviour("benchmarks", 2)  # mini suites and how items are asked
LM_EVAL = Behaviour("lm-eval", importlib.metadata.version("lm-eval"))  # its task definitions and metrics
CORRECTNESS = Behaviour("correctness", 2)  # how an answer is held against its reference


def code_version(own: str, *behaviours: Behaviour) -> str:
    """An asset's code version, such as `1 sampling=1 conversion=1`."""
    return " ".join([own, *(f"{behaviour.name}={behaviour.version}" for behaviour in behaviours)])
