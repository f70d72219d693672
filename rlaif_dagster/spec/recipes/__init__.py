"""Recipes: every number of the study that a user may want to turn, one file a stage.

A recipe file holds the defaults and, under `models:`, what differs for a named model; the *effective* recipe of a model
is the merge of the two, and its hash is the data version, so a change for one model leaves the others alone.
"""

from __future__ import annotations

from rlaif_dagster.spec.recipes.benchmarks import Benchmark, Benchmarks, Responses
from rlaif_dagster.spec.recipes.generation import Backend, Endpoint, Generation, OwnVllm, Sampling, Vllm
from rlaif_dagster.spec.recipes.judging import Judging, PairBuilding, Trust
from rlaif_dagster.spec.recipes.ppo import Ppo, RewardSources
from rlaif_dagster.spec.recipes.training import Dpo, Lora, Optimization, Reward, Sft

__all__ = [
    "Backend",
    "Benchmark",
    "Benchmarks",
    "Dpo",
    "Endpoint",
    "Generation",
    "Judging",
    "Lora",
    "Optimization",
    "OwnVllm",
    "PairBuilding",
    "Ppo",
    "Responses",
    "Reward",
    "RewardSources",
    "Sampling",
    "Sft",
    "Trust",
    "Vllm",
]
