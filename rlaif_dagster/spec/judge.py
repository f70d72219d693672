"""A judge: what compares two answers under a principle."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from rlaif_dagster.spec.base import NOT_MEANING, Spec


class LikelihoodJudge(Spec):
    """No network and no question asked: how much likelier a principle makes an answer,
    `log p(y | principle, x) - log p(y | x)` under `model`. Right for models too small to be asked."""

    kind: Literal["likelihood"]
    description: Annotated[str, NOT_MEANING] = ""
    model: str = Field(description="name in data/models")
    exemplars: int = Field(
        default=0, ge=0, description="of the constitution, shown with the principle as earlier turns"
    )
    normalize: Literal["sum", "sqrt", "mean"] = Field(
        default="sqrt", description="the answer's score is divided by 1, by the root of its tokens, or by its tokens"
    )
    temperature: float = Field(default=1.0, gt=0, description="p(a) = sigmoid((score_a - score_b) / temperature)")


class ApiJudge(Spec):
    """A model asked through litellm: any provider, or any OpenAI-compatible server."""

    kind: Literal["api"]
    description: Annotated[str, NOT_MEANING] = ""
    model: str = Field(description="litellm's name, such as `openai/gpt-4o-mini`")
    api_base: Annotated[str | None, NOT_MEANING] = Field(
        default=None, description="endpoint of an OpenAI-compatible server"
    )
    api_key_env: Annotated[str | None, NOT_MEANING] = Field(
        default=None, description="environment variable holding the key"
    )
    temperature: float = Field(default=0.0, ge=0)
    max_tokens: int = Field(default=256, gt=0)
    parameters: dict[str, Any] = Field(default_factory=dict, description="passed on to the provider")
    timeout: Annotated[float, NOT_MEANING] = Field(default=60, gt=0, description="seconds a request")
    retries: Annotated[int, NOT_MEANING] = Field(
        default=5, ge=0, description="on 429, 5xx and timeouts, with jittered backoff"
    )
    concurrency: Annotated[int, NOT_MEANING] = Field(default=8, gt=0, description="requests in flight")
    usd_per_million_input: Annotated[float | None, NOT_MEANING] = Field(
        default=None, ge=0, description="in place of litellm's"
    )
    usd_per_million_output: Annotated[float | None, NOT_MEANING] = Field(
        default=None, ge=0, description="with the input's"
    )

    @model_validator(mode="after")
    def _both_prices(self) -> ApiJudge:
        if (self.usd_per_million_input is None) != (self.usd_per_million_output is None):
            raise ValueError("give both usd_per_million_input and usd_per_million_output, or neither")
        return self


class PanelJudge(Spec):
    """Several judges, each asked by itself; their votes are averaged by weight."""

    kind: Literal["panel"]
    description: Annotated[str, NOT_MEANING] = ""
    judges: dict[str, float] = Field(min_length=2, description="names in data/judges, with weights")

    @field_validator("judges")
    @classmethod
    def _positive(cls, judges: dict[str, float]) -> dict[str, float]:
        if wrong := {name: weight for name, weight in judges.items() if weight <= 0}:
            raise ValueError(f"weights must be greater than 0, found {wrong}")
        return judges


JudgeSpec = LikelihoodJudge | ApiJudge | PanelJudge
