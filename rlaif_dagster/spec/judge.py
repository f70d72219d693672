"""A judge: what compares two answers under a principle."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from rlaif_dagster.spec.base import NOT_MEANING, SECRET, Spec

# have a field of their own, or would make a request cost more than the budget reserves for it
# What a provider may be told beside the judge's own fields: what a request asks for, and nothing that says where it goes, of which
# litellm knows many names. `extra_body` goes into the request's body as it is.
PARAMETERS = {
    "allowed_openai_params", "api_version", "cache_control", "drop_params", "extra_body", "extra_headers", "frequency_penalty",
    "logit_bias", "logprobs", "metadata", "min_p", "modalities", "parallel_tool_calls", "prediction", "presence_penalty",
    "prompt_cache_key", "reasoning_effort", "repetition_penalty", "response_format", "safe_prompt", "safety_identifier",
    "safety_settings", "seed", "service_tier", "stop", "store", "thinking", "tool_choice", "tools", "top_k", "top_logprobs",
    "top_p", "user", "verbosity", "web_search_options",
}  # fmt: skip
SECRET_NAME = re.compile(
    r"(?:^|[_-])(?:(?:api|access|auth|private|secret|subscription)[_-]?key|key[_-]?secret|authorization|bearer|credentials?|"
    r"password|secret|(?:access|ad|api|auth|bearer|session)[_-]?token)$",
    re.IGNORECASE,
)


class LikelihoodJudge(Spec):
    """No network and no question asked: how much likelier a principle makes an answer,
    `log p(y | principle, x) - log p(y | x)` under `model`. Right for models too small to be asked."""

    kind: Literal["likelihood"] = Field(
        description="which of the kinds of judge the file describes; each has fields of its own"
    )
    description: Annotated[str, NOT_MEANING] = Field(default="", description="for people; changes no result")
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

    kind: Literal["api"] = Field(
        description="which of the kinds of judge the file describes; each has fields of its own"
    )
    description: Annotated[str, NOT_MEANING] = Field(default="", description="for people; changes no result")
    model: str = Field(description="litellm's name, such as `openai/gpt-4o-mini`")
    api_base: Annotated[str | None, NOT_MEANING] = Field(
        default=None,
        description="endpoint of an OpenAI-compatible server; answers are kept by it unless `server` names the server",
    )
    server: Annotated[str | None, NOT_MEANING] = Field(
        default=None,
        min_length=1,
        description="a name for what answers at api_base: answers are kept by it, so that another port or address asks nothing again",
    )
    api_key_env: Annotated[str | None, NOT_MEANING] = Field(
        default=None, description="environment variable holding the key"
    )
    temperature: float = Field(default=0.0, ge=0, description="at which the provider draws the reply; 0 is greedy")
    max_tokens: int = Field(
        default=256,
        gt=0,
        description="of a reply, its reason included; the budget reserves the price of all of them for each request",
    )
    reasoning: Annotated[Literal["none", "brief", "long"], NOT_MEANING] = Field(
        default="brief", description="before the verdict: none, a reason of 25 words, or one of 150 (raise max_tokens)"
    )
    structured: Annotated[bool | None, NOT_MEANING] = Field(
        default=None,
        description="make the provider keep to a JSON schema; where absent, if litellm knows that the model can",
    )
    soft_labels: Annotated[bool, NOT_MEANING] = Field(
        default=False, description="read p(a) from the log-probabilities of the verdict, where the answer carries them"
    )
    parameters: dict[str, Any] = Field(default_factory=dict, description="passed on to the provider")
    timeout: Annotated[float, NOT_MEANING] = Field(default=60, gt=0, description="seconds a request")
    retries: Annotated[int, NOT_MEANING] = Field(
        default=5,
        ge=0,
        description="on 5xx, timeouts and lost connections, with jittered backoff; rate limits are waited out longer",
    )
    concurrency: Annotated[int, NOT_MEANING] = Field(
        default=8,
        gt=0,
        description="requests in flight at most; fewer while the provider turns some away",
    )
    requests_per_minute: Annotated[float | None, NOT_MEANING] = Field(
        default=None, gt=0, description="the account's limit"
    )
    tokens_per_minute: Annotated[float | None, NOT_MEANING] = Field(
        default=None, gt=0, description="the account's limit, read and written tokens together"
    )
    batch: Annotated[bool, NOT_MEANING] = Field(
        default=False, description="use the provider's batch interface: half the price, answers within a day"
    )
    usd_per_million_input: Annotated[float | None, NOT_MEANING] = Field(
        default=None, ge=0, description="in place of litellm's"
    )
    usd_per_million_output: Annotated[float | None, NOT_MEANING] = Field(
        default=None, ge=0, description="with the input's"
    )

    def meaning(self) -> dict[str, Any]:
        """Besides what is said to be meaning: who answers (the server's name, else its address), and how it is asked
        where that is not the default, so that a field added later leaves the answers of older files in place."""
        own: dict[str, Any] = {}
        if self.server or self.api_base:
            own["server"] = self.server or str(self.api_base).rstrip("/")
        for name in ("reasoning", "structured", "soft_labels"):
            if (value := getattr(self, name)) != type(self).model_fields[name].default:
                own[name] = value
        return super().meaning() | own

    @field_validator("api_key_env")
    @classmethod
    def _is_a_name(cls, name: str | None) -> str | None:
        """A key that was pasted where its variable's name belongs would be told in the next error."""
        if name is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
            raise PydanticCustomError(
                SECRET,
                "takes the name of an environment variable in capitals, such as OPENAI_API_KEY; what it holds is something else, "
                "perhaps the key itself, and is not shown",
            )
        return name

    @field_validator("api_base")
    @classmethod
    def _holds_no_password(cls, address: str | None) -> str | None:
        parts = urlsplit(address or "")
        if parts.username or parts.password or any(_is_secret(name) for name, _ in parse_qsl(parts.query)):
            raise PydanticCustomError(
                SECRET,
                "may hold no user, password or key, and is not shown; put the key into the variable of api_key_env",
            )
        return address

    @field_validator("parameters")
    @classmethod
    def _parameters_of_its_own(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        """A key in a file would reach the cache, the lineage and the version control, and an address would be sent the
        environment's."""
        wrong = sorted({*map(str, parameters)} - PARAMETERS | {name for name in _names(parameters) if _is_secret(name)})
        if wrong:
            raise PydanticCustomError(
                SECRET,
                "may not hold {wrong}; use the judge's own fields, api_key_env for a key, the provider's own environment variables for "
                "other credentials and addresses, and extra_body for what a provider alone knows; allowed: {allowed}",
                {"wrong": ", ".join(wrong), "allowed": ", ".join(sorted(PARAMETERS))},
            )
        return parameters

    @model_validator(mode="after")
    def _server_has_an_address(self) -> ApiJudge:
        if self.server and not self.api_base:
            raise ValueError(f"server {self.server!r} names what answers at api_base, which is missing")
        return self

    @model_validator(mode="after")
    def _both_prices(self) -> ApiJudge:
        if (self.usd_per_million_input is None) != (self.usd_per_million_output is None):
            raise ValueError("give both usd_per_million_input and usd_per_million_output, or neither")
        return self


def _is_secret(name: str) -> bool:
    return name.lower() == "key" or SECRET_NAME.search(name) is not None


def _names(content: Any) -> Iterator[str]:
    """Every field's name, however deep."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield str(name)
            yield from _names(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _names(value)


class PanelJudge(Spec):
    """Several judges, each asked by itself; their votes are averaged by weight."""

    kind: Literal["panel"] = Field(
        description="which of the kinds of judge the file describes; each has fields of its own"
    )
    description: Annotated[str, NOT_MEANING] = Field(default="", description="for people; changes no result")
    judges: dict[str, float] = Field(min_length=2, description="names in data/judges, with weights")

    @field_validator("judges")
    @classmethod
    def _positive(cls, judges: dict[str, float]) -> dict[str, float]:
        if wrong := {name: weight for name, weight in judges.items() if weight <= 0}:
            raise ValueError(f"weights must be greater than 0, found {wrong}")
        return judges


JudgeSpec = LikelihoodJudge | ApiJudge | PanelJudge
