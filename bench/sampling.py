"""Sampling beside transformers' continuous batching (`generate_batch`): the same greedy answers of the study's first model.

Two jobs, as the study has them: `completions` (the training prompts) and `revisions` (behind the constitution and its exemplars,
a prefix that all prompts share; the peer shares blocks of its cache). Both sides answer in this process, with the weights and the
threads of one model, and in turn; the least time of a side counts, since what other programs do can only add to it.

Ours returns the log-probability of an answer, which the peer is not asked for. Speed counts only at equal work: as many answers,
no side with more than a few that differ (another order of sums can tip a token that ties with another).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.measurement import Measurement, WrongResult, machine
from rlaif_dagster.home import current_home
from rlaif_dagster.prompts import read_prompts
from rlaif_dagster.spec.project import Project

if TYPE_CHECKING:
    from rlaif_dagster.language.base_model import LanguageModel, Message

PROMPTS = 96
NEW_TOKENS = 48
BATCH = 32  # prompts in a batch of ours; the peer chooses for itself
ROUNDS = 2
EQUAL = 0.9  # least share of answers that are the same, token by token

Answers = list[list[int]]


@dataclass(frozen=True)
class Side:
    """One side's job: seconds of each round, and the token ids it answered with in the last."""

    seconds: list[float]
    answers: Answers


def measure() -> Measurement:
    """Both jobs on the study's first model. Raises WrongResult when answers are missing or other ones."""
    from rlaif_dagster.language.base_model import load
    from rlaif_dagster.language.candidates import in_context_chat

    project, home = Project.current(), current_home()
    study = project.study()
    name, constitution = study.models[0], project.constitution(study.constitutions[0])
    lm = load(name, project.model(name), home)
    exemplars = project.recipe("generation", name).exemplars
    frame = read_prompts(project.prompt_sources(), project.root / "prompts")
    texts = frame.loc[frame["split"] == "train", "text"].tolist()[:PROMPTS]
    jobs = {
        "completions": [lm.chat(text) for text in texts],
        "revisions": [in_context_chat(lm, text, constitution, exemplars) for text in texts],
    }
    return summary({job: compare(lm, chats, new_tokens=NEW_TOKENS, rounds=ROUNDS) for job, chats in jobs.items()}, name)


def compare(lm: LanguageModel, chats: Sequence[list[Message]], *, new_tokens: int, rounds: int) -> dict[str, Side]:
    """Both sides in turn; who goes first changes from round to round."""
    sides: dict[str, Callable[[], Answers]] = {
        "ours": lambda: ours(lm, chats, new_tokens),
        "peer": lambda: continuous_batching(lm, chats, new_tokens),
    }
    found = {name: Side([], []) for name in sides}
    for turn in range(rounds):
        for name in sorted(sides, reverse=bool(turn % 2)):
            started = time.perf_counter()
            found[name].answers[:] = sides[name]()
            found[name].seconds.append(time.perf_counter() - started)
            print(f"{name}: {found[name].seconds[-1]:.1f} s", file=sys.stderr)
    return found


def ours(lm: LanguageModel, chats: Sequence[list[Message]], new_tokens: int) -> Answers:
    """As the assets sample, at temperature 0."""
    from rlaif_dagster.language.sampling import sample
    from rlaif_dagster.spec.recipes import Sampling

    greedy = Sampling(samples=1, temperature=0.0, max_new_tokens=new_tokens, batch_size=BATCH)
    return [answers[0].token_ids for answers in sample(lm, chats, greedy)]


def continuous_batching(lm: LanguageModel, chats: Sequence[list[Message]], new_tokens: int) -> Answers:
    """By `generate_batch` with its own settings, ending at the same tokens."""
    from transformers import GenerationConfig

    from rlaif_dagster.language.sampling import end_ids

    config = GenerationConfig(do_sample=False, max_new_tokens=new_tokens, eos_token_id=sorted(end_ids(lm)))
    outputs = lm.model.generate_batch(inputs=[lm.prompt_ids(chat) for chat in chats], generation_config=config)
    return [list(output.generated_tokens) for output in outputs.values()]  # in the order of the inputs


def summary(jobs: Mapping[str, Mapping[str, Side]], model: str) -> Measurement:
    """Each job's least seconds of ours over the peer's. Raises WrongResult when a side did not do the work."""
    for job, sides in jobs.items():
        asked, given = len(sides["ours"].answers), len(sides["peer"].answers)
        if asked != given or equal(sides) < EQUAL:
            raise WrongResult(f"{job}: {asked} and {given} answers, of which {equal(sides):.0%} are the same")
    return Measurement(
        part="sampling",
        ratios={
            f"{job}_seconds": min(sides["ours"].seconds) / min(sides["peer"].seconds) for job, sides in jobs.items()
        },
        ours={"name": "language.sampling", "model": model, **_figures(jobs, "ours")},
        peer={"name": "transformers generate_batch", **_figures(jobs, "peer")},
        machine=_machine(),
    )


def equal(sides: Mapping[str, Side]) -> float:
    """Share of the answers that are the same on both sides, token by token."""
    pairs = list(zip(sides["ours"].answers, sides["peer"].answers, strict=False))
    return sum(mine == theirs for mine, theirs in pairs) / max(len(pairs), 1)


def _figures(jobs: Mapping[str, Mapping[str, Side]], name: str) -> dict[str, object]:
    return {
        job: {
            "seconds": sides[name].seconds,
            "tokens_per_second": sum(map(len, sides[name].answers)) / min(sides[name].seconds),
            "equal_answers": equal(sides),
        }
        for job, sides in jobs.items()
    }


def _machine() -> str:
    import torch

    return machine(torch.get_num_threads(), torch.cuda.get_device_name() if torch.cuda.is_available() else None)
