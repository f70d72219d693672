"""From the items of data/benchmarks to the documents that the task definitions beside this file speak of.

Each function is a task's `custom_dataset`: the whole suite in memory, no file in the datasets cache. lm-eval passes the
tasks' metadata as keywords: `folder` is where the items lie (by default the project's own), `mirror` a local copy of a
suite that is not the project's, `seed` decides the order of answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from rlaif_dagster.errors import UserError
from rlaif_dagster.evaluation.correctness import refuses
from rlaif_dagster.evaluation.items import read_items, shuffled
from rlaif_dagster.home import data_folder
from rlaif_dagster.hub_names import on_the_hub

PKU = "PKU-Alignment/PKU-SafeRLHF"
PKU_FIELDS = ("prompt", "response_0", "response_1", "is_response_0_safe", "is_response_1_safe")

Documents = dict[str, Any]  # split -> datasets.Dataset


def reordered(seed: int) -> Any:
    """`process_docs` for lm-eval's own TruthfulQA, whose data list the right answers first: answers and labels in an order
    that follows from seed and content."""

    def reorder(doc: dict[str, Any]) -> dict[str, Any]:
        out = {}
        for name in ("mc1_targets", "mc2_targets"):
            labels = dict(zip(doc[name]["choices"], doc[name]["labels"], strict=True))
            order = shuffled(doc["question"], list(labels), seed)
            out[name] = {"choices": order, "labels": [labels[answer] for answer in order]}
        return out

    return lambda dataset: dataset.map(reorder)


def categories_of(doc: dict[str, Any]) -> list[str]:
    """The risk categories, or the subject or category, of a document of any of the suites; none where it has none."""
    found = doc.get("categories") or [doc.get("subject") or doc.get("category")]
    return [str(category) for category in found if category]


def text_of(doc: dict[str, Any]) -> str:
    """What is asked and what may be answered, a line each: the item itself, without what a task's prompt puts around
    it."""
    question = next((doc[name] for name in ("question", "query", "prompt", "ctx") if doc.get(name)), "")
    answers: dict[str, None] = {}
    for name in ("choices", "endings", "mc1_choices", "mc2_choices", "correct_answers", "incorrect_answers"):
        answers.update(dict.fromkeys(doc.get(name) or ()))
    for name in ("mc1_targets", "mc2_targets"):
        answers.update(dict.fromkeys((doc.get(name) or {}).get("choices", ())))
    return "\n".join([str(question).strip(), *map(str, answers)])


def _test_split(documents: list[dict[str, Any]]) -> Documents:
    from datasets import Dataset

    return {"test": Dataset.from_list(documents)}


def _items(suite: str, folder: str | None) -> list[dict[str, Any]]:
    return read_items(suite, Path(folder) if folder else data_folder() / "benchmarks")


def truthfulqa(folder: str | None = None, seed: int = 0, **_: Any) -> Documents:
    """One best answer among false ones (mc1), and all true among all false ones (mc2), shuffled by content."""
    documents = []
    for item in _items("truthfulqa_mini", folder):
        one = shuffled(item["question"], [item["best"], *item["incorrect"]], seed)
        every = shuffled(item["question"], [item["best"], *item["correct"], *item["incorrect"]], seed)
        labels = [int(answer not in item["incorrect"]) for answer in every]
        documents.append(
            {
                "category": item["category"],
                "question": item["question"],
                "mc1_choices": one,
                "mc1_answer": one.index(item["best"]),
                "mc2_choices": every,
                "mc2_labels": labels,
            }
        )
    return _test_split(documents)


def share_of_truth(doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, float]:
    """TruthfulQA's MC2: the probability of the true answers among all answers, their likelihoods normalized to one."""
    loglikelihoods = np.array([value for value, _ in results])
    shares = np.exp(loglikelihoods - loglikelihoods.max())
    return {"mc2": float(shares[np.array(doc["mc2_labels"]) == 1].sum() / shares.sum())}


def saferlhf(folder: str | None = None, seed: int = 0, **_: Any) -> Documents:
    return _safety_pairs(_items("pku_saferlhf_mini", folder), seed)


def saferlhf_prompts(folder: str | None = None, **_: Any) -> Documents:
    return _safety_prompts(_items("pku_saferlhf_mini", folder))


def pku_pairs(mirror: str | None = None, seed: int = 0, **_: Any) -> Documents:
    return _safety_pairs(_pku_items(mirror), seed)


def pku_prompts(mirror: str | None = None, **_: Any) -> Documents:
    return _safety_prompts(_pku_items(mirror))


def _safety_pairs(items: Iterable[dict[str, Any]], seed: int) -> Documents:
    documents = []
    for item in items:
        choices = shuffled(item["prompt"], [item["safe"], item["unsafe"]], seed)
        safe = choices.index(item["safe"])
        documents.append({"prompt": item["prompt"], "choices": choices, "safe": safe, "categories": item["categories"]})
    return _test_split(documents)


def _safety_prompts(items: Iterable[dict[str, Any]]) -> Documents:
    """Each request once, with the risk categories of all its pairs."""
    categories: dict[str, dict[str, None]] = {}
    for item in items:
        categories.setdefault(item["prompt"], {}).update(dict.fromkeys(item["categories"]))
    return _test_split([{"prompt": prompt, "categories": list(found)} for prompt, found in categories.items()])


def _pku_items(mirror: str | None) -> list[dict[str, Any]]:
    """The pairs of which one answer is safe and the other is not: prompt, safe, unsafe, categories of the unsafe one."""
    items = []
    for where, row in _pku_rows(mirror):
        if missing := [name for name in PKU_FIELDS if row.get(name) is None]:
            raise UserError(f"{where}: field {missing[0]!r} is missing; found: {', '.join(row)}")
        if bool(row["is_response_0_safe"]) == bool(row["is_response_1_safe"]):
            continue
        safe, unsafe = (0, 1) if row["is_response_0_safe"] else (1, 0)
        answers = {"safe": str(row[f"response_{safe}"]), "unsafe": str(row[f"response_{unsafe}"])}
        if answers["safe"].strip() == answers["unsafe"].strip():
            continue
        harms = row.get(f"response_{unsafe}_harm_category") or {}
        items.append(
            {"prompt": str(row["prompt"]), **answers, "categories": [name for name, harm in harms.items() if harm]}
        )
    if not items:
        raise UserError(f"{mirror or PKU}: no pair has one safe and one unsafe answer")
    return items


def _pku_rows(mirror: str | None) -> Iterable[tuple[str, dict[str, Any]]]:
    """Rows with the place they stand at, from JSON lines in the mirror, or from the hub's layout (there or on the hub)."""
    files = sorted(Path(mirror).glob("*.jsonl")) if mirror else []
    if files:
        for file in files:
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
                if line.strip():
                    yield f"{file}, line {number}", json.loads(line)
        return
    from datasets import load_dataset

    for number, row in enumerate(load_dataset(mirror or on_the_hub(PKU), split="test"), 1):
        yield f"{mirror or PKU}, row {number}", dict(row)


def refused(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Does the answer say that it will not help?"""
    return {"refused": float(refuses(results[0]))}


def mmlu(folder: str | None = None, **_: Any) -> Documents:
    return _test_split(_items("mmlu_mini", folder))


def hellaswag(folder: str | None = None, **_: Any) -> Documents:
    """The scene as lm-eval writes it: activity, colon, beginning."""
    documents = [
        {
            "query": re.sub(r" +", " ", f"{item['activity']}: {item['ctx']}").strip(),
            "choices": [ending.strip() for ending in item["endings"]],
            "label": item["label"],
        }
        for item in _items("hellaswag_mini", folder)
    ]
    return _test_split(documents)
