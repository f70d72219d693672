"""Did training see the benchmark? Word sequences that the training texts and a benchmark's items have in common.

An item counts as contaminated when a run of `WORDS` words of it, or all its words where it has fewer, stands in a prompt
or an answer that was trained on. Thirteen words follow GPT-3 (arXiv 2005.14165, appendix C); runs that short texts share by
chance are much shorter. Single lines are compared (a question, an answer), so that a run never crosses from one into
the next, and lines of fewer than `SHORTEST` words are not compared at all: "Paris" proves nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

import pandas as pd

WORDS = 13
SHORTEST = 6  # words of a line that is compared
COLUMNS = ["task", "items", "contaminated", "share", "examples"]
EXAMPLES = 3  # item ids told a task


def words_of(text: str) -> list[str]:
    """Lower-case words without punctuation."""
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())


def runs(text: str) -> Iterator[tuple[str, ...]]:
    """The runs of a text's lines: of WORDS words, or a whole shorter line."""
    for line in text.splitlines():
        words = words_of(line)
        if len(words) >= SHORTEST:
            length = min(WORDS, len(words))
            yield from (tuple(words[start : start + length]) for start in range(len(words) - length + 1))


class Trained:
    """The word sequences of what was trained on, for runs of any length."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._lines = [words_of(line) for text in dict.fromkeys(texts) for line in text.splitlines()]
        self._by_length: dict[int, set[tuple[str, ...]]] = {}

    def holds(self, run: tuple[str, ...]) -> bool:
        if len(run) not in self._by_length:
            self._by_length[len(run)] = {
                tuple(words[start : start + len(run)])
                for words in self._lines
                for start in range(len(words) - len(run) + 1)
            }
        return run in self._by_length[len(run)]


def contamination(items: pd.DataFrame, texts: Iterable[str]) -> pd.DataFrame:
    """One row a task: its items, how many share a run with the training texts, their share, and the ids of the first.

    `items` is the table benchmark_items (task, item_id, text; one row an item and metric); `texts` are the prompts and
    answers that were trained on.
    """
    trained, rows = Trained(texts), []
    for task, own in items.drop_duplicates(["task", "item_id"]).groupby("task", sort=True):
        hit = [any(trained.holds(run) for run in runs(str(text))) for text in own["text"]]
        found = list(own.loc[hit, "item_id"])
        rows.append([task, len(own), len(found), len(found) / len(own), found[:EXAMPLES]])
    return pd.DataFrame(rows, columns=COLUMNS)


def told(found: pd.DataFrame, limit: float) -> tuple[bool, str]:
    """Whether every task's share is within the limit, and the numbers in a sentence."""
    over = found[found["share"] > limit]
    if over.empty:
        return (
            True,
            f"no task shares more than {limit:.0%} of its items with what was trained on (runs of {WORDS} words)",
        )
    parts = [
        f"{row['task']}: {row['contaminated']} of {row['items']} items, such as {', '.join(row['examples'])}"
        for row in over.to_dict("records")
    ]
    return False, f"trained on what is asked (runs of {WORDS} words): {'; '.join(parts)}"
