"""Candidate answers for the preferences: what the base model says by itself, and what it says under the constitution.

Revisions are the supervised step of constitutional AI (arXiv 2212.08073). A small model hardly ever shows the behaviour
that a constitution asks for, and where no candidate shows it, preferences have nothing to prefer. So the model answers
the same prompts again with the principles as system message and the constitution's exemplars as earlier turns; both
kinds of answers come from the model itself, so training on them stays on-policy. A constitution without exemplars gets
the paper's own form: the model sees its first answer and is asked to rewrite it under the principles.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from rlaif_dagster.hashing import content_hash
from rlaif_dagster.language.base_model import Answerer, LanguageModel, Message
from rlaif_dagster.language.endpoint import EndpointModel
from rlaif_dagster.language.sampling import Sampled, sample
from rlaif_dagster.language.vllm import VllmModel
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.recipes import Generation, Sampling
from rlaif_dagster.work import Chunks

COLUMNS = ("completion_id", "prompt_id", "sample", "text", "tokens", "finish_reason", "logprob", "seed")


def complete(lm: Answerer, prompts: pd.DataFrame, generation: Generation, chunks: Chunks | None) -> pd.DataFrame:
    """The model's own answers to the training prompts (frame `prompts`): table completions, without its keys."""
    training = _training(prompts)
    chats = [lm.chat(text) for text in training["text"]]
    answers = _sample(lm, chats, generation.completions, chunks=chunks, progress=f"{lm.name}: completions")
    return _frame(training["prompt_id"].tolist(), answers, generation.completions)


def revise(
    lm: Answerer,
    prompts: pd.DataFrame,
    completions: pd.DataFrame,
    constitution: Constitution,
    generation: Generation,
    chunks: Chunks | None,
) -> pd.DataFrame:
    """Answers to the training prompts with the constitution in context: table revisions, without its keys.

    `completions` (of the same model) are read only where the constitution has no exemplars, or the recipe asks for none.
    """
    training = _training(prompts)
    if generation.exemplars and constitution.exemplars:
        chats = [in_context_chat(lm, text, constitution, generation.exemplars) for text in training["text"]]
    else:
        first = completions.sort_values("sample").drop_duplicates("prompt_id").set_index("prompt_id")["text"]
        pairs = zip(training["text"], training["prompt_id"], strict=True)
        chats = [rewriting_chat(lm, text, first[prompt_id], constitution) for text, prompt_id in pairs]
    answers = _sample(lm, chats, generation.revisions, chunks=chunks, progress=f"{lm.name}: revisions")
    return _frame(training["prompt_id"].tolist(), answers, generation.revisions)


def _sample(
    lm: Answerer, chats: Sequence[list[Message]], sampling: Sampling, *, chunks: Chunks | None, progress: str
) -> list[list[Sampled]]:
    """By the model in memory, or by the server that stands for it."""
    if isinstance(lm, EndpointModel | VllmModel):
        return lm.sample(chats, sampling, chunks=chunks, progress=progress)
    assert isinstance(lm, LanguageModel)
    return sample(lm, chats, sampling, chunks=chunks, progress=progress)


def in_context_chat(lm: Answerer, prompt: str, constitution: Constitution, exemplars: int) -> list[Message]:
    """The principles as system message, the first `exemplars` exemplars as earlier turns, then the prompt."""
    history: list[Message] = []
    for exemplar in constitution.exemplars[:exemplars]:
        history.append({"role": "user", "content": exemplar.prompt})
        history.append({"role": "assistant", "content": exemplar.response})
    return lm.chat(prompt, system=principles_message(lm, constitution), history=tuple(history))


def rewriting_chat(lm: Answerer, prompt: str, answer: str, constitution: Constitution) -> list[Message]:
    """The prompt, the model's own answer to it, and the request to rewrite that under the principles."""
    history = ({"role": "user", "content": prompt}, {"role": "assistant", "content": answer})
    request = (
        f"Rewrite your answer so that it follows these principles.\n{_listed(constitution)}\nGive only the new answer."
    )
    return lm.chat(request, history=history)


def principles_message(lm: Answerer, constitution: Constitution) -> str:
    """The system message of revisions; the model file's own system message, where it has one, stays in front."""
    own = [lm.spec.system_prompt] if lm.spec.system_prompt else []
    return "\n\n".join([*own, _listed(constitution)])


def _listed(constitution: Constitution) -> str:
    """A single principle as it stands, several as a list."""
    texts = [principle.text.strip() for principle in constitution.principles]
    return texts[0] if len(texts) == 1 else "\n".join(f"- {text}" for text in texts)


def _training(prompts: pd.DataFrame) -> pd.DataFrame:
    return prompts[prompts["split"] == "train"]


def _frame(prompt_ids: Sequence[str], answers: Sequence[Sequence[Sampled]], sampling: Sampling) -> pd.DataFrame:
    """One row an answer; of equal texts to one prompt the first stands (a pair of equals says nothing)."""
    rows = []
    for prompt_id, inner in zip(prompt_ids, answers, strict=True):
        for number, answer in enumerate(inner):
            text = answer.text.strip()
            values = (content_hash(prompt_id, text), prompt_id, number, text, answer.tokens, answer.finish_reason)
            rows.append((*values, answer.logprob, sampling.seed))
    return pd.DataFrame(rows, columns=list(COLUMNS)).drop_duplicates("completion_id", ignore_index=True)
