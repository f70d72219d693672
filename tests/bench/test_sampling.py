"""Ours beside continuous batching: how the figures are put together, and a small measurement of both."""

from __future__ import annotations

import json

import pytest

from bench.measurement import WrongResult
from bench.sampling import Side, compare, equal, summary
from rlaif_dagster.language.base_model import LanguageModel


def sides(ours: list[list[int]], peer: list[list[int]]) -> dict[str, Side]:
    return {"ours": Side([3.0, 2.0], ours), "peer": Side([8.0, 9.0], peer)}


def test_figures_by_hand() -> None:
    content = json.loads(summary({"completions": sides([[1, 2], [3, 4]], [[1, 2], [3, 4]])}, "tiny").line())
    assert content["ratios"] == {"completions_seconds": 0.25}
    assert content["ours"]["completions"] == {"seconds": [3.0, 2.0], "tokens_per_second": 2.0, "equal_answers": 1.0}
    assert content["peer"]["completions"]["tokens_per_second"] == 0.5


@pytest.mark.parametrize("peer", [[[1, 2]], [[1, 2], [3, 5]]], ids=["one is missing", "one is another"])
def test_other_answers_stop_the_comparison(peer: list[list[int]]) -> None:
    with pytest.raises(WrongResult, match=r"^completions: 2 and \d answers, of which \d+% are the same"):
        summary({"completions": sides([[1, 2], [3, 4]], peer)}, "tiny")


def test_a_small_measurement(tiny_model: LanguageModel) -> None:
    chats = [tiny_model.chat(text) for text in ("Who are you?", "What is rain?", "Name a bird.")]
    found = compare(tiny_model, chats, new_tokens=4, rounds=2)
    assert [len(answer) for answer in found["ours"].answers] == [4, 4, 4]
    assert equal(found) == 1
    assert [len(side.seconds) for side in found.values()] == [2, 2]
