"""Answers of a base model that a server holds: any that speaks OpenAI's chat protocol (vLLM, llama.cpp, Ollama, a provider).

The table that comes out is the same as from weights in this process, and as there every answer has a seed of its own, from the
hash of its chat, of how often it was asked before and of the recipe's seed. Whether the server keeps to seeds, and how it counts
tokens, is up to the server; the log-probability is the sum of those that it reports, and absent where it reports none. Every
answer is kept as it arrives, so a killed run asks for none twice.

Only the base model is asked for here. Trained arms answer from the weights of this machine.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import Any

from openai import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    DefaultHttpxClient,
    NotFoundError,
    OpenAI,
    PermissionDeniedError,
)
from tqdm.auto import tqdm

from rlaif_dagster import key_hosts
from rlaif_dagster.behaviour import SAMPLING
from rlaif_dagster.errors import UserError
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.language.base_model import Answerer, Message
from rlaif_dagster.language.sampling import Sampled
from rlaif_dagster.loopback import is_here
from rlaif_dagster.spec.recipes import Endpoint, Sampling
from rlaif_dagster.work import Chunks

NO_KEY = "none"  # what a server without keys is sent; never a key that the client would find in the environment
SEED_BITS = 31  # what servers take


class Refused(UserError):
    """A server that is asked gives no answer: `what` it does instead, without the remedy."""

    def __init__(self, where: str, what: str, remedy: str = "") -> None:
        super().__init__(f"{where} {what}{': ' if remedy else ''}{remedy}")
        self.what = what


@dataclass(frozen=True)
class EndpointModel(Answerer):
    """A base model behind a server."""

    endpoint: Endpoint

    def sample(
        self,
        chats: Sequence[list[Message]],
        sampling: Sampling,
        *,
        chunks: Chunks | None = None,
        progress: str | None = None,
    ) -> list[list[Sampled]]:
        """`sampling.samples` answers to every chat, in the order of `chats`; those in `chunks` are not asked for again.

        Raises Refused when the server cannot be reached, or refuses (its key, its model, the request).
        """
        rows = _rows(chats, sampling)
        answers: list[dict[int, Sampled]] = [{} for _ in chats]
        client = self._client()
        with (
            tqdm(total=len(rows), desc=progress, unit="answer", disable=None if progress else True) as bar,
            ThreadPoolExecutor(self.endpoint.concurrency) as pool,
        ):
            places = {
                pool.submit(self._kept, client, chats[chat], repeat, sampling, chunks): (chat, number)
                for chat, number, repeat in rows
            }
            try:
                for done in as_completed(places):
                    chat, number = places[done]
                    answers[chat][number] = Sampled(**done.result())
                    bar.update()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [[by_number[number] for number in range(sampling.samples)] for by_number in answers]

    def has_to_ask(self, chats: Sequence[list[Message]], sampling: Sampling, chunks: Chunks | None) -> bool:
        """Whether any answer is not in `chunks` yet."""
        if chunks is None:
            return True
        rows = _rows(chats, sampling)
        return any(chunks.get(self._key(chats[chat], repeat, sampling)) is None for chat, _, repeat in rows)

    def _client(self) -> OpenAI:
        name = self.endpoint.api_key_env
        if name and not os.environ.get(name):
            raise UserError(
                f"model {self.name}: field 'backend.api_key_env' of data/recipes/generation.yaml names {name}, which is not "
                "set: set it in the environment"
            )
        key = os.environ[name] if name else NO_KEY
        if name:
            key_hosts.check(
                name, self.endpoint.api_base, f"model {self.name}: 'backend' of data/recipes/generation.yaml"
            )
        here = is_here(self.endpoint.api_base)  # where a proxy of the environment does not lead
        return OpenAI(
            base_url=self.endpoint.api_base, api_key=key, timeout=self.endpoint.timeout, max_retries=self.endpoint.retries,
            http_client=DefaultHttpxClient(trust_env=False) if here else None,
        )  # fmt: skip

    def _kept(
        self, client: OpenAI, messages: list[Message], repeat: int, sampling: Sampling, chunks: Chunks | None
    ) -> dict[str, Any]:
        """One answer as JSON, kept or asked for now."""

        def compute() -> dict[str, Any]:
            return asdict(self._ask(client, messages, repeat, sampling))

        return chunks.get_or_compute(self._key(messages, repeat, sampling), compute) if chunks else compute()

    def _key(self, messages: list[Message], repeat: int, sampling: Sampling) -> str:
        """The name under which an answer is kept."""
        settings = [sampling.seed, sampling.max_new_tokens, sampling.temperature, sampling.top_p]
        return content_hash(
            "endpoint", SAMPLING.version, self.spec.revision, self.endpoint.meaning(), settings, messages, repeat
        )

    def _ask(self, client: OpenAI, messages: list[Message], repeat: int, sampling: Sampling) -> Sampled:
        seed = int(content_hash(sampling.seed, messages, repeat), 16) % 2**SEED_BITS
        request: dict[str, Any] = {
            "model": self.endpoint.model, "messages": messages, "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature, "top_p": sampling.top_p, "seed": seed, "logprobs": True,
        }  # fmt: skip
        try:
            reply = client.chat.completions.create(**request)
        except (AuthenticationError, PermissionDeniedError) as error:
            remedy = f"check {self.endpoint.api_key_env}" if self.endpoint.api_key_env else "give backend.api_key_env"
            raise self._refused(f"does not accept the key ({error.status_code})", remedy) from None
        except NotFoundError:
            what, remedy = f"does not serve {self.endpoint.model!r} (404)", "check backend.model and backend.api_base"
            raise self._refused(what, remedy) from None
        except APIStatusError as error:
            raise self._refused(f"answered {error.status_code}: {_line(error)}") from None
        except APIConnectionError as error:
            remedy = "start it, or correct backend.api_base"
            raise self._refused(f"cannot be reached ({_line(error)})", remedy) from None
        return self._read(reply)

    def _read(self, reply: Any) -> Sampled:
        """What a chat completion says. Raises Refused where it holds no answer."""
        if not reply.choices or reply.choices[0].message is None:
            raise self._refused("sent a reply without an answer", "is it a chat model?")
        choice = reply.choices[0]
        content = getattr(choice.logprobs, "content", None) or []
        counted = int(getattr(reply.usage, "completion_tokens", None) or len(content))
        return Sampled(
            text=choice.message.content or "",
            token_ids=[],
            tokens=counted,
            finish_reason="stop" if choice.finish_reason == "stop" else "length",
            logprob=sum(token.logprob for token in content) if content else float("nan"),
        )

    def _refused(self, what: str, remedy: str = "") -> Refused:
        where = f"model {self.name}: the server {self.endpoint.api_base} (data/recipes/generation.yaml)"
        return Refused(where, what, remedy)


def _rows(chats: Sequence[list[Message]], sampling: Sampling) -> list[tuple[int, int, int]]:
    """Of each answer its chat, its number among those to that chat, and how often the same chat was asked before."""
    asked: Counter[str] = Counter()
    rows = []
    for chat, messages in enumerate(chats):
        content = content_hash(messages)
        for number in range(sampling.samples):
            rows.append((chat, number, asked[content]))
            asked[content] += 1
    return rows


def _line(error: Exception) -> str:
    """An error's first line, short."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
