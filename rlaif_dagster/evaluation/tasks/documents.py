"""From the items of data/benchmarks to the documents that the task definitions beside this file speak of.

Each function is a task's `custom_dataset`: the whole suite in memory, no file in the datasets cache. lm-eval passes the
tasks' metadata as keywords; `folder` is where the items lie, by default the project's own.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from rlaif_dagster.evaluation.items import read_items, shuffled
from rlaif_dagster.home import data_folder

Documents = dict[str, Any]  # split -> datasets.Dataset


def _test_split(documents: list[dict[str, Any]]) -> Documents:
    from datasets import Dataset

    return {"test": Dataset.from_list(documents)}


def _items(suite: str, folder: str | None) -> list[dict[str, Any]]:
    return read_items(suite, Path(folder) if folder else data_folder() / "benchmarks")


def truthfulqa(folder: str | None = None, **_: Any) -> Documents:
    """One best answer among false ones (mc1), and all true among all false ones (mc2), shuffled by content."""
    documents = []
    for item in _items("truthfulqa_mini", folder):
        one = shuffled(item["question"], [item["best"], *item["incorrect"]])
        every = shuffled(item["question"], [item["best"], *item["correct"], *item["incorrect"]])
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


def saferlhf(folder: str | None = None, **_: Any) -> Documents:
    documents = []
    for item in _items("pku_saferlhf_mini", folder):
        choices = shuffled(item["prompt"], [item["safe"], item["unsafe"]])
        safe = choices.index(item["safe"])
        documents.append({"prompt": item["prompt"], "choices": choices, "safe": safe, "categories": item["categories"]})
    return _test_split(documents)


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
