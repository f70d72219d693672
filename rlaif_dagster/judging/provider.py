"""One question to one provider, through litellm: its answer and its price, or an error that says what to do about it.

litellm is kept quiet and local: no fetched price map, no `.env` file read, no log lines (they can carry request details).
What an error says is rewritten before anyone sees it: one short line without anything that looks like a key.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rlaif_dagster import key_hosts
from rlaif_dagster.errors import UserError
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.judging.cache import Answer
from rlaif_dagster.judging.prices import Price, entry_of, price_of
from rlaif_dagster.judging.retry import OVERLOADED, RATE_LIMITED, Unavailable, retry_after
from rlaif_dagster.judging.template import Message
from rlaif_dagster.spec.judge import ApiJudge

NO_KEY = "none"  # what a server without keys is sent; never the key of another provider that litellm would find
_LINE = 200  # characters kept of a provider's error message
_SECRET_NAME = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)$")
_SECRET_LOOK = re.compile(
    r"\b(?:sk|pk|rk|key|gsk|xai|hf)[-_][\w*.-]{6,}|\bBearer\s+\S+|\bAIza[\w-]{10,}", re.IGNORECASE
)


class Rejected(Exception):
    """The provider will not answer this request, and asking again will not help."""


@dataclass(frozen=True)
class Provider:
    """A model behind litellm. Make it with `connect`."""

    judge: str
    spec: ApiJudge
    litellm: Any
    api_key: str | None
    price: Price | None

    @cached_property
    def endpoint(self) -> str:
        """Who answers, as the ledger calls it."""
        return endpoint_of(self.spec)

    async def ask(self, messages: list[Message], extra: Mapping[str, Any] | None = None) -> Answer:
        """One request, without retries; `extra` goes beside the judge's own parameters.

        Raises Unavailable for what may pass (429, 5xx, timeouts, lost connections, bodies that are no answer), Rejected
        for what will not, and UserError for what concerns every request: a key or a model that the provider does not
        accept.
        """
        from openai import OpenAIError

        unlogged()
        start = time.monotonic()
        try:
            response = await self.litellm.acompletion(
                **request_of(self.spec, messages, extra),
                timeout=self.spec.timeout,
                api_key=self.api_key,
                num_retries=0,
                max_retries=0,
            )
        except self.litellm.exceptions.ContentPolicyViolationError:
            return Answer("", "content_filter", 0, 0, 0.0, 1000 * (time.monotonic() - start))
        except OpenAIError as error:
            trouble = self.explained(error)
        else:
            return self.answer(response, 1000 * (time.monotonic() - start))
        raise trouble  # outside the handler: litellm's own error, with what it knows of the request, is not even its context

    def answer(self, response: Any, latency_ms: float) -> Answer:
        """What a chat completion says, in litellm's form. Raises Unavailable when there is nothing in it."""
        if not response.choices:
            raise Unavailable("the response holds no answer", kind="empty", billed=True)
        choice, usage = response.choices[0], getattr(response, "usage", None)
        declined = (getattr(choice.message, "provider_specific_fields", None) or {}).get("refusal")
        declined = declined or getattr(choice.message, "refusal", None)
        tokens_in = int(getattr(usage, "prompt_tokens", None) or 0)
        tokens_out = int(getattr(usage, "completion_tokens", None) or 0)
        return Answer(
            text=self._clean(declined or choice.message.content or ""),
            finish="refusal" if declined else choice.finish_reason or "",
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost_usd=self._cost(response, tokens_in, tokens_out),
            latency_ms=latency_ms,
            logprobs=self._logprobs(choice),
        )

    @cached_property
    def _secrets(self) -> list[str]:
        """The key, and what else the environment keeps secret: litellm finds keys there that no file names."""
        return secrets(self.api_key)

    def _clean(self, text: str) -> str:
        """The text without the key: a server may echo what it was sent."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def clean_line(self, text: str) -> str:
        """The text on one short line, without anything that looks like a key."""
        return without_secrets(text, self.api_key)

    def _logprobs(self, choice: Any) -> str | None:
        """The tokens' log-probabilities as JSON: [token, log-probability, [[alternative, log-probability], ...]] each."""
        content = getattr(getattr(choice, "logprobs", None), "content", None)
        if not content or not self.spec.soft_labels:
            return None
        tokens = [
            [one.token, one.logprob, [[other.token, other.logprob] for other in one.top_logprobs or []]]
            for one in content
        ]
        return self._clean(json.dumps(tokens, ensure_ascii=False))

    def _cost(self, response: Any, tokens_in: int, tokens_out: int) -> float:
        """US dollars: the judge file's price, or litellm's, which knows what a provider takes off for a cached prompt."""
        if self.price is None:
            return 0.0
        if self.spec.usd_per_million_input is not None or self.spec.batch:
            return self.price.of(tokens_in, tokens_out)
        cost = response._hidden_params.get("response_cost")
        return self.price.of(tokens_in, tokens_out) if cost is None else float(cost)

    def explained(self, error: Exception) -> Exception:
        """What litellm's error comes to: Unavailable, Rejected or UserError, without what it knows of the request."""
        status = getattr(error, "status_code", None)
        line = f"{type(error).__name__} {status or ''}".strip() + f": {without_secrets(str(error), self.api_key)}"
        if status == 401:
            where = (
                f"the key in {self.spec.api_key_env}"
                if self.spec.api_key_env
                else "the provider's key in the environment"
            )
            return UserError(f"judge {self.judge}: {self.spec.model} does not accept the key (401); check {where}")
        if without_credit(error, status):
            return UserError(
                f"judge {self.judge}: no credit is left for {self.spec.model} ({line}); top up its account and run again: what "
                "was answered is kept"
            )
        if status == 404:
            return UserError(
                f"judge {self.judge}: {line}; check fields 'model' and 'api_base' of data/judges/{self.judge}.yaml"
            )
        if status is None or status in {408, 409, 429} or status >= 500:
            kind = kind_of(error, status)
            billed = kind in {"timeout", "unreadable", "empty"}
            return Unavailable(line, retry_after(_headers(error)), kind, billed=billed)
        return Rejected(line)


def request_of(spec: ApiJudge, messages: list[Message], extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All that litellm is given to send, but for the key."""
    return {
        "model": spec.model,
        "messages": with_cache_control(messages) if needs_cache_control(spec.model) else messages,
        "temperature": spec.temperature,
        "max_tokens": spec.max_tokens,
        **({"api_base": spec.api_base} if spec.api_base else {}),
        **spec.parameters,
        **(extra or {}),
    }


def needs_cache_control(model: str) -> bool:
    """Whether the provider caches a prompt's beginning only where it is told to: Anthropic's models, by whatever cloud.
    Others do it by themselves."""
    return "claude" in model and not model.startswith("openai/")


def with_cache_control(messages: list[Message]) -> list[Message]:
    """The messages with the end of the constant part (the system message) marked for the provider's prompt cache."""
    return [
        {
            "role": "system",
            "content": [{"type": "text", "text": message["content"], "cache_control": {"type": "ephemeral"}}],
        }
        if message["role"] == "system"
        else message
        for message in messages
    ]


def endpoint_of(spec: ApiJudge) -> str:
    """A model and who serves it, in a word that holds no address of the user's."""
    return f"{spec.model}@{spec.server or content_hash(spec.api_base)[:8]}" if spec.api_base else spec.model


def kind_of(error: BaseException, status: int | None) -> str:
    """What went wrong, in a word: rate_limited, overloaded, timeout, connection (lost or refused), empty or unreadable
    (a body that is no answer), server_error. litellm folds most of them into one; what it was raised from tells."""
    causes = list(chain(error))
    for cause in causes:
        if isinstance(cause, json.JSONDecodeError):
            return "unreadable" if cause.doc.strip() else "empty"
    if status == 429:
        return RATE_LIMITED
    if status in {503, 529}:
        return OVERLOADED
    names = [type(cause).__name__ for cause in causes]
    if status == 408 or any("Timeout" in name for name in names):
        return "timeout"
    if any(isinstance(cause, OSError) for cause in causes) or any(
        name in {"APIConnectionError", "ConnectError", "RemoteProtocolError", "ReadError", "ClientPayloadError"}
        for name in names
    ):
        return "connection"
    return "server_error"


def without_credit(error: BaseException, status: int | None) -> bool:
    """Whether a provider answers nothing more until it is paid: 402, OpenAI's `insufficient_quota` (a 429 that does not pass),
    Anthropic's credit balance (a 400 as for a wrong request)."""
    codes = {body.get("code") for cause in chain(error) if isinstance(body := getattr(cause, "body", None), dict)}
    return status == 402 or "insufficient_quota" in codes or "credit balance is too low" in str(error)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from, the latest first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def connect(judge: str, spec: ApiJudge) -> Provider:
    """A provider ready to be asked; UserError when the environment lacks the judge's key, and for soft labels from one
    that gives none."""
    if spec.api_key_env:
        key = os.environ.get(spec.api_key_env)
        if not key:
            raise UserError(f"judge {judge}: the environment variable {spec.api_key_env} is not set; put the key there")
        key_hosts.check(spec.api_key_env, spec.api_base, f"judge {judge}")
    else:
        key = NO_KEY if spec.api_base else None
    litellm = quiet_litellm()
    if spec.soft_labels and "logprobs" not in (litellm.get_supported_openai_params(model=spec.model) or ["logprobs"]):
        raise UserError(
            f"data/judges/{judge}.yaml: field 'soft_labels': found true, but {spec.model} gives no log-probabilities; "
            "allowed: false"
        )
    make_known(litellm, spec)
    return Provider(judge, spec, litellm, key, price_of(spec))


def quiet_litellm() -> Any:
    """litellm, imported without network, `.env` files and log lines."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")
    import litellm

    litellm.telemetry = False
    litellm.suppress_debug_info = True
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return litellm


def make_known(litellm: Any, spec: ApiJudge) -> None:
    """Tell litellm of a model that its map does not know, such as one on a server of the user's. It would look for a price in
    a dozen places at every answer, which takes a sixth of a request's CPU time; the judge file's own price counts anyway."""
    if entry_of(spec.model) or spec.model in litellm.model_cost:
        return
    try:
        _, provider, _, _ = litellm.get_llm_provider(model=spec.model, api_base=spec.api_base)
    except litellm.exceptions.BadRequestError:  # no provider's name; the first request says so
        return
    litellm.register_model(
        {
            spec.model: {
                "litellm_provider": provider,
                "mode": "chat",
                "input_cost_per_token": 0.0,
                "output_cost_per_token": 0.0,
            }
        }
    )


def unlogged() -> None:
    """Spare litellm, in this task, the log record that it makes of every request: nobody reads it, and it takes a tenth
    of a request's CPU time. A release that has no such switch makes its records."""
    try:
        from litellm._internal_context import is_internal_call
    except ImportError:
        return
    is_internal_call.set(True)


def without_secrets(text: str, key: str | None = None) -> str:
    """The text on one short line, with the key, every secret of the environment and whatever looks like one taken out."""
    for secret in secrets(key):
        text = text.replace(secret, "***")
    return " ".join(_SECRET_LOOK.sub("***", text).split())[:_LINE]


def secrets(key: str | None = None) -> list[str]:
    """The key and every secret of the environment, the longest first: one may be the beginning of another."""
    found = {value for name, value in os.environ.items() if _SECRET_NAME.search(name) and len(value) >= 8}
    if key and key != NO_KEY:
        found.add(key)
    return sorted(found, key=len, reverse=True)


def _headers(error: Exception) -> Mapping[str, str]:
    """The provider's response headers, where litellm keeps them."""
    headers = getattr(error, "litellm_response_headers", None) or getattr(
        getattr(error, "response", None), "headers", None
    )
    return headers or {}
