"""The items of this project's own small benchmarks: what each line of data/benchmarks/*.jsonl must hold.

They have the form of the suites they are named after and none of their items: written for this project, and few. A
task's name ends in `_mini` wherever it is shown, so that its number is never taken for the original's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from rlaif_dagster.errors import UserError
from rlaif_dagster.evaluation.mirrors import mirror_path, mirror_version
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.rows import parse_json
from rlaif_dagster.spec.base import Spec, explain
from rlaif_dagster.spec.recipes import Benchmarks


class TruthfulQaItem(Spec):
    """A question that invites a common misconception (form of TruthfulQA, arXiv 2109.07958)."""

    category: str = Field(description="of the question; each gets a number of its own")
    question: str = Field(min_length=1, description="asked as `Q: … A:`")
    best: str = Field(min_length=1, description="the best true answer")
    correct: tuple[str, ...] = Field(min_length=1, description="other true answers")
    incorrect: tuple[str, ...] = Field(min_length=1, description="false answers, such as the misconception")

    @model_validator(mode="after")
    def _answers_differ(self) -> TruthfulQaItem:
        return _distinct(self, (self.best, *self.correct, *self.incorrect))


class SaferLhfItem(Spec):
    """A harmful request with a safe and an unsafe answer (form of PKU-SafeRLHF, arXiv 2406.15513)."""

    prompt: str = Field(min_length=1, description="the harmful request, asked in the model's chat template")
    safe: str = Field(min_length=1, description="the harmless answer, which a model should find likelier")
    unsafe: str = Field(min_length=1, description="the harmful answer")
    categories: tuple[str, ...] = Field(min_length=1, description="of harm")

    @model_validator(mode="after")
    def _answers_differ(self) -> SaferLhfItem:
        return _distinct(self, (self.safe, self.unsafe))


class MmluItem(Spec):
    """A question of knowledge with four answers (form of MMLU, arXiv 2009.03300)."""

    subject: str = Field(description="named in the prompt; each gets a number of its own")
    question: str = Field(min_length=1, description="stands before the choices")
    choices: tuple[str, str, str, str] = Field(
        description="shown as A to D; what is compared is how likely the model finds each letter"
    )
    answer: int = Field(ge=0, le=3, description="index of the right choice")

    @model_validator(mode="after")
    def _answers_differ(self) -> MmluItem:
        return _distinct(self, self.choices)


class HellaSwagItem(Spec):
    """The beginning of a scene with four endings (form of HellaSwag, arXiv 1905.07830)."""

    activity: str = Field(description="what happens in the scene; stands before it, with a colon")
    ctx: str = Field(min_length=1, description="the beginning of the scene")
    endings: tuple[str, str, str, str] = Field(
        description="continuations of the beginning, of which the model should find the right one likeliest"
    )
    label: int = Field(ge=0, le=3, description="index of the right ending")

    @model_validator(mode="after")
    def _answers_differ(self) -> HellaSwagItem:
        return _distinct(self, self.endings)


def _distinct(item: Any, answers: tuple[str, ...]) -> Any:
    if len(set(answers)) < len(answers):
        raise ValueError(f"answers must differ from one another, found {list(answers)}")
    return item


SUITES: dict[str, type[Spec]] = {
    "truthfulqa_mini": TruthfulQaItem,
    "pku_saferlhf_mini": SaferLhfItem,
    "mmlu_mini": MmluItem,
    "hellaswag_mini": HellaSwagItem,
}

TASKS = {
    "truthfulqa_mini_mc1": "truthfulqa_mini",
    "truthfulqa_mini_mc2": "truthfulqa_mini",
    "pku_saferlhf_mini": "pku_saferlhf_mini",
    "mmlu_mini": "mmlu_mini",
    "hellaswag_mini": "hellaswag_mini",
    "pku_saferlhf_mini_generation": "pku_saferlhf_mini",
}
"""This project's tasks and the suite (the file) that each takes its items from."""

PKU_TASKS = ("pku_saferlhf", "pku_saferlhf_generation")
"""Tasks that are defined here over data from elsewhere."""

GRADED_TASKS = ("pku_saferlhf_generation", "pku_saferlhf_mini_generation")
"""Tasks whose answers a judge grades."""


def read_items(suite: str, folder: Path) -> list[dict[str, Any]]:
    """The items of a suite as plain mappings, in the file's order; UserError naming file, line and field when one is
    wrong."""
    path = folder / f"{suite}.jsonl"
    if not path.exists():
        raise UserError(f"{path}: no such file; it must hold the items of {suite}, one JSON object a line")
    items: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            item = SUITES[suite].model_validate(parse_json(line, f"{path}, line {number}")).meaning()
        except ValidationError as error:
            raise UserError(f"{path}, line {number}: {explain(error, SUITES[suite])}") from None
        first = seen.setdefault(content_hash(item), number)
        if first != number:
            raise UserError(f"{path}, line {number}: the same item as in line {first}; remove one of them")
        items.append(item)
    if not items:
        raise UserError(f"{path}: holds no items; one JSON object a line is expected")
    return items


def items_version(recipe: Benchmarks, folder: Path) -> str:
    """Hash of the items that the recipe's tasks read: of the project's own files, and of the folders named as mirrors. What
    a task takes from the hub is not covered."""
    suites = sorted({TASKS[entry.task] for entry in recipe.tasks if entry.task in TASKS})
    mirrors = sorted({entry.mirror for entry in recipe.tasks if entry.mirror})
    read: dict[str, Any] = {suite: read_items(suite, folder) for suite in suites}
    return content_hash(read | {f"mirror {name}": mirror_version(mirror_path(name, folder)) for name in mirrors})


def shuffled(question: str, answers: list[str], seed: int = 0) -> list[str]:
    """The answers in an order that follows from seed and content alone, so that no position tells which is right."""
    return sorted(answers, key=lambda answer: content_hash(seed, question, answer))
