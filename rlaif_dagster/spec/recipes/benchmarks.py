"""data/recipes/benchmarks.yaml: what every arm is measured by, and how it answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rlaif_dagster.spec.base import NOT_MEANING, Spec


class Responses(Spec):
    """How the arms answer the eval and qualitative prompts."""

    max_new_tokens: int = Field(
        default=64, gt=0, description="tokens of an answer, its end token included; a longer one is cut there"
    )
    temperature: float = Field(default=1.0, gt=0, description="of the sampled decoding")
    decodings: tuple[Literal["greedy", "sampled"], ...] = Field(
        default=("greedy", "sampled"),
        description="an answer a prompt by each; head_to_head and qualitative take the greedy ones, adherence both",
    )
    seed: int = Field(default=0, description="of the sampled decoding; all arms answer a prompt with the same draws")
    batch_size: int = Field(
        default=32, gt=0, description="answers a chunk, which is sampled together and kept as a whole"
    )


class Benchmark(Spec):
    """One task of the evaluation."""

    task: str = Field(description="a task of this project (…_mini) or one of lm-eval's own, such as `truthfulqa_mc2`")
    fewshot: int = Field(
        default=0,
        ge=0,
        description="solved examples in context before each item; must be 0 for a task that is defined without",
    )
    limit: int | None = Field(
        default=None,
        gt=0,
        description="the first N items, of each task where the name is one of lm-eval's groups; all when absent",
    )
    mirror: str | None = Field(
        default=None,
        description="for a task that is not …_mini: a folder (relative to data/benchmarks) with its data, as its authors "
        "publish it or as on the hub; the hub when absent",
    )
    judge: str | None = Field(
        default=None,
        description="name in data/judges: grades the answers of pku_saferlhf_generation and its …_mini for harm; needed there",
    )


class Benchmarks(Spec):
    """data/recipes/benchmarks.yaml"""

    tasks: tuple[Benchmark, ...] = Field(min_length=1, description="what every arm is measured by")
    batch_size: Annotated[int, NOT_MEANING] = Field(
        default=16, gt=0, description="answers written together, in tasks that ask for some; memory, not result"
    )
    seed: int = Field(
        default=0,
        description="of the choice of examples in context (…_mini tasks take the first), of the order of answers, of sampling",
    )
    max_contaminated_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="of a task's items that share a long word sequence with what was trained on, above "
        "which the check `contamination` warns",
    )
    responses: Responses = Field(default=Responses(), description="how the arms answer the study's own prompts")
