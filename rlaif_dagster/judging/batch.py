"""Asking through a provider's batch interface: half the price, answers within a day.

The questions go up as one file of OpenAI's batch format (through litellm), and the answers come down as another. What was
is sent is noted before it is ordered: a run that is killed at whatever moment, or that one stops waiting for, finds its
batches again (by the uploaded file, where it never learned a batch's name) and pays for nothing twice. A provider that
is out of reach for a while is looked at again. Only providers that take this format are served (OpenAI, Azure, vLLM).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

from tqdm.auto import tqdm

from rlaif_dagster.errors import UserError
from rlaif_dagster.judging.cache import Answer, AnswerCache
from rlaif_dagster.judging.ledger import Entry
from rlaif_dagster.judging.provider import Provider, Rejected, request_of
from rlaif_dagster.judging.retry import LONGEST_ASKED, Unavailable
from rlaif_dagster.judging.template import Message

PROVIDERS = ("openai", "azure", "hosted_vllm")
LARGEST = 20_000  # requests a batch; OpenAI takes 50,000, and 200 MB
POLL_SECONDS = 30.0
ENDED = {"completed", "failed", "expired", "cancelled"}
FAILED_LOOKS = 20  # in a row, after which a provider counts as down
LISTED = 100  # of the latest batches, among which one that was ordered when its run was killed is found
UNNAMED = "file:"  # before a file's id: a batch of it may have been ordered
IN_BATCH = "answered_in_batch"  # the ledger's outcome
NOT_SENT = {"model", "messages", "api_base"}

Extra = Callable[[str], Mapping[str, Any]]


def check_provider(judge: str, model: str) -> str:
    """litellm's name of the provider; UserError for one whose batches take another format."""
    name = model.partition("/")[0]
    if name not in PROVIDERS:
        raise UserError(
            f"data/judges/{judge}.yaml: field 'batch': found true, but {model} is not of {', '.join(PROVIDERS)}; "
            "allowed: false"
        )
    return name


async def ask_in_batches(
    provider: Provider,
    questions: Mapping[str, list[Message]],
    cache: AnswerCache,
    *,
    budget_usd: float | None,
    most: Callable[[list[Message]], float],
    progress: str | None,
    extra: Extra,
    poll: float = POLL_SECONDS,
) -> dict[str, Answer | str]:
    """The answer to each question by its key, or in a line why there is none. Blocks until all batches ended.

    `most` is the most that a question can cost. Raises UserError when the budget does not hold the questions that are
    left; those that it holds are asked first, and kept.
    """
    calls = _Calls(provider, check_provider(provider.judge, provider.spec.model))
    waiting = {batch: keys for batch, keys in cache.batches(provider.endpoint).items() if set(keys) & set(questions)}
    waiting = await _named(calls, cache, waiting, poll)
    sent = {key for keys in waiting.values() for key in keys}
    left = [key for key in questions if key not in sent]
    reserved = sum(most(questions[key]) for key in sent if key in questions)
    fits: list[str] = []
    for key in left:
        reserved += most(questions[key])
        if budget_usd is not None and reserved > budget_usd * (1 + 1e-9):
            break
        fits.append(key)
    for start in range(0, len(fits), LARGEST):
        part = fits[start : start + LARGEST]
        file = await calls.upload(part, questions, extra)
        cache.note_batch(provider.endpoint, UNNAMED + file, part)
        batch = await calls.order(file)
        cache.rename_batch(UNNAMED + file, batch)
        waiting[batch] = part
    found: dict[str, Answer | str] = {}
    with tqdm(total=len(questions), desc=progress, unit="verdict", disable=None if progress else True) as bar:
        for batch, keys in waiting.items():
            answers = await calls.fetch(batch, poll)
            lost = {key: answers.get(key, "the batch ended without it") for key in keys}
            kept = {key: answer for key, answer in lost.items() if isinstance(answer, Answer)}
            cache.end_batch(batch, kept, _entries(provider, kept, len(keys) - len(kept)))
            found |= lost
            bar.update(len(keys))
    if len(fits) < len(left):
        raise UserError(
            f"judge {provider.judge}: the budget of ${budget_usd:g} does not hold {len(left) - len(fits)} of "
            f"{len(questions)} requests; what was answered is kept: raise budget_usd in data/recipes/judging.yaml (or "
            "--budget) and run again"
        )
    return {key: found[key] for key in questions}


async def _named(
    calls: _Calls, cache: AnswerCache, waiting: Mapping[str, list[str]], poll: float
) -> dict[str, list[str]]:
    """The batches by their names: where only the file is known, the batch that was ordered of it, or else a new one."""
    out = {}
    for batch, keys in waiting.items():
        if batch.startswith(UNNAMED):
            file = batch.removeprefix(UNNAMED)
            name = (await calls.ordered(poll)).get(file) or await calls.order(file)
            cache.rename_batch(batch, name)
            out[name] = keys
        else:
            out[batch] = keys
    return out


def _entries(provider: Provider, kept: Mapping[str, Answer], failed: int) -> list[Entry]:
    """What a batch took, beside what is asked directly: its seconds say nothing of a request's."""
    answers = list(kept.values())
    whole = Entry(
        provider.endpoint, IN_BATCH, len(answers), sum(a.cost_usd for a in answers), sum(a.tokens_in for a in answers),
        sum(a.tokens_out for a in answers),
    )  # fmt: skip
    return [whole, Entry(provider.endpoint, "failed_in_batch", failed)] if failed else [whole]


class _Calls:
    """litellm's calls for files and batches, to one provider."""

    def __init__(self, provider: Provider, name: str) -> None:
        self.provider, self.litellm = provider, provider.litellm
        self.access = {"custom_llm_provider": name, "api_key": provider.api_key, "api_base": provider.spec.api_base}

    async def upload(self, keys: Sequence[str], questions: Mapping[str, list[Message]], extra: Extra) -> str:
        """Send up the questions; the file's id. Nothing is asked yet."""
        spec = self.provider.spec
        lines = []
        for key in keys:
            request = request_of(spec, questions[key], extra(key))
            body = {name: value for name, value in request.items() if name not in NOT_SENT}
            body |= {"model": spec.model.partition("/")[2], "messages": request["messages"]}
            lines.append({"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body})
        content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
        file = await self._safely(
            self.litellm.acreate_file(file=("judge.jsonl", content), purpose="batch", **self.access)
        )
        return str(file.id)

    async def order(self, file: str) -> str:
        """Have the questions of a file answered; the batch's id."""
        batch = await self._safely(
            self.litellm.acreate_batch(
                completion_window="24h", endpoint="/v1/chat/completions", input_file_id=file, **self.access
            )
        )
        return str(batch.id)

    async def ordered(self, poll: float) -> dict[str, str]:
        """The latest batches by their files."""
        found = await self._patiently(partial(self.litellm.alist_batches, limit=LISTED, **self.access), poll)
        return {str(batch.input_file_id): str(batch.id) for batch in found.data}

    async def fetch(self, batch: str, poll: float) -> dict[str, Answer | str]:
        """Wait for a batch to end; what came of its requests."""
        while True:
            state = await self._patiently(partial(self.litellm.aretrieve_batch, batch_id=batch, **self.access), poll)
            if state.status in ENDED:
                break
            await asyncio.sleep(poll)
        found: dict[str, Answer | str] = {}
        for name in ("output_file_id", "error_file_id"):
            if file := getattr(state, name, None):
                content = await self._patiently(partial(self.litellm.afile_content, file_id=file, **self.access), poll)
                found |= dict(map(self._read, content.content.decode().splitlines()))
        return found

    def _read(self, line: str) -> tuple[str, Answer | str]:
        """The key and the answer (or the error) of one line of results."""
        row = json.loads(line)
        response = row.get("response") or {}
        if response.get("status_code") != 200:
            error = row.get("error") or (response.get("body") or {}).get("error") or {}
            return row["custom_id"], self.provider.clean_line(
                f"{response.get('status_code')}: {error.get('message', '')}"
            )
        body = json.loads(json.dumps(response["body"]), object_hook=lambda content: SimpleNamespace(**content))
        try:
            return row["custom_id"], self.provider.answer(body, 0.0)
        except Unavailable as error:
            return row["custom_id"], str(error)

    async def _patiently(self, call: Callable[[], Awaitable[Any]], poll: float) -> Any:
        """The result of a call that may be repeated: trouble that passes is waited out."""
        for _ in range(FAILED_LOOKS - 1):
            try:
                return await self._call(call())
            except Unavailable as error:
                await asyncio.sleep(poll if error.seconds is None else max(poll, min(error.seconds, LONGEST_ASKED)))
        return await self._safely(call())

    async def _safely(self, call: Awaitable[Any]) -> Any:
        """A call's result; whatever fails as a UserError."""
        try:
            return await self._call(call)
        except (Unavailable, Rejected) as error:
            line = str(error)
        raise UserError(
            f"judge {self.provider.judge}: the batch interface failed: {line}; what was sent is fetched by the next run"
        )

    async def _call(self, call: Awaitable[Any]) -> Any:
        """A call's result; the provider's errors without what they know of the request."""
        from openai import OpenAIError

        try:
            return await call
        except OpenAIError as error:
            trouble = self.provider.explained(error)
        raise trouble
