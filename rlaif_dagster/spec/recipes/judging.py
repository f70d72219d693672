"""data/recipes/judging.yaml: how verdicts are asked for and become pairs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rlaif_dagster.spec.base import NOT_MEANING, Spec


class PairBuilding(Spec):
    """From judgments to pairs that train."""

    min_margin: float = Field(default=0.1, ge=0, le=1, description="|2 p - 1| below which a pair is a tie")
    ties: Literal["drop", "keep"] = Field(default="drop", description="keep: a tie is a pair with p_chosen 0.5")
    pairs_per_prompt: Literal["best_worst", "all"] = Field(
        default="best_worst",
        description="best_worst: the pair whose answers differ most in their mean probability of winning; all: every judged pair",
    )
    require_order_consistent: bool = Field(default=False, description="drop pairs whose verdict flips with the order")
    held_out_share: float = Field(default=0.15, gt=0, lt=1, description="of prompts, by hash, kept for validation")


class Trust(Spec):
    """What the judge must reach on every file of labels that speaks for a constitution before anything is trained on its
    verdicts there; what is absent is not asked for."""

    min_accuracy: float | None = Field(default=None, ge=0, le=1, description="agreement with the labels")
    min_kappa: float | None = Field(default=None, ge=-1, le=1, description="Cohen's kappa")
    beat_longest: bool = Field(
        default=False, description="the accuracy's interval must lie above always preferring the longer answer"
    )
    min_order_consistency: float | None = Field(
        default=None, ge=0, le=1, description="pairs with the same preference in both orders"
    )
    max_position_bias: float | None = Field(
        default=None, ge=0, le=0.5, description="distance of the first place's share of verdicts from one half"
    )

    @property
    def asked(self) -> dict[str, float | bool]:
        """The thresholds that are set."""
        return {name: value for name, value in self.model_dump().items() if value is not None and value is not False}


class Judging(Spec):
    """data/recipes/judging.yaml"""

    judge: str = Field(description="name in data/judges")
    mode: Literal["per_principle", "joint", "sampled"] = Field(
        default="per_principle",
        description="a request a principle, one for all principles, or one a pair for a principle drawn by weight",
    )
    orders: Literal["both", "ab"] = Field(
        default="both", description="in which order(s) a comparing judge sees two answers"
    )
    tie_margin: float = Field(default=0.0, ge=0, le=1, description="|2 p - 1| up to which a verdict counts as a tie")
    max_failed_share: float = Field(
        default=0.2, ge=0, le=1, description="of refused, unparseable and error verdicts, above which judging fails"
    )
    budget_usd: Annotated[float | None, NOT_MEANING] = Field(
        default=None,
        ge=0,
        description="a hard stop for each step that judges; `rlaif up --budget` is one for all steps together",
    )
    trust: Trust = Field(
        default=Trust(), description="what the judge must reach on data/labels before anything is trained"
    )
    pairs: PairBuilding = Field(default=PairBuilding(), description="how verdicts become the pairs that train")
