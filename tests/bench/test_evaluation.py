"""The comparison of benchmarks, on the tiny model: same items, same metrics, and how the figures are put together."""

from __future__ import annotations

import json

import pytest

from bench.evaluation import Timing, compare, differences, load_suites, metrics, run_tasks, summary
from bench.measurement import WrongResult
from rlaif_dagster.evaluation.items import SUITES
from rlaif_dagster.evaluation.language_model import PrefixSharingLM
from rlaif_dagster.home import CHECKOUT
from rlaif_dagster.language.base_model import LanguageModel

BENCHMARKS = CHECKOUT / "data" / "benchmarks"


def test_both_sides_evaluate_every_suite_in_turn(tiny_model: LanguageModel, capsys: pytest.CaptureFixture[str]) -> None:
    timings = compare(tiny_model, BENCHMARKS, items=3, rounds=2)
    assert {suite: timing.items for suite, timing in timings.items()} == dict.fromkeys(SUITES, 6)
    assert all(seconds > 0 for timing in timings.values() for seconds in timing.seconds.values())
    assert capsys.readouterr().out == ""


def test_tasks_of_a_suite_are_evaluated_together(tiny_model: LanguageModel) -> None:
    suites = load_suites(BENCHMARKS)
    assert suites.keys() == SUITES.keys()
    numbers = metrics(run_tasks(PrefixSharingLM(tiny_model), suites["truthfulqa_mini"], 2))
    plain = {name for name in numbers if " of item " not in name}
    assert plain == {"truthfulqa_mini_mc1 acc", "truthfulqa_mini_mc2 mc2"}
    assert len(numbers) == len(plain) + 2 * 2
    for name in plain:  # a task's number is the mean of its items'
        items = [value for key, value in numbers.items() if key.startswith(f"{name} of item ")]
        assert numbers[name] == pytest.approx(sum(items) / 2)


def test_a_metric_that_differs_stops_the_comparison(tiny_model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokenizer that eats the spaces of one side alone is such a defect."""
    encode = PrefixSharingLM.tok_encode
    monkeypatch.setattr(
        PrefixSharingLM, "tok_encode", lambda self, text, *a, **k: encode(self, text.replace(" ", ""), *a, **k)
    )
    with pytest.raises(WrongResult, match=r"truthfulqa_mini: \d+ metrics differ from the peer's: .*: ours .*, peer "):
        compare(tiny_model, BENCHMARKS, items=3, rounds=1)


def test_differences_are_beyond_rounding_or_lacking() -> None:
    assert differences({"a": 0.5, "b": 0.25}, {"a": 0.50001, "b": 0.25}) == []
    assert differences({"a": 0.5, "b": 0.25}, {"a": 0.53125, "c": float("nan")}) == [
        "a: ours 0.5, peer 0.53125",
        "b: ours 0.25, peer none",
        "c: ours none, peer nan",
    ]


def test_the_summary_divides_items_per_second() -> None:
    timings = {
        "mmlu_mini": Timing(10, {"ours": 2.0, "peer": 3.0}),
        "hellaswag_mini": Timing(20, {"ours": 4.0, "peer": 15.0}),
    }
    content = json.loads(summary(timings, "tiny", "somewhere").line())
    assert content["part"] == "evaluation"
    assert content["ratios"] == {"overall": 3.0, "mmlu_mini": 1.5, "hellaswag_mini": 3.75}
    assert content["ours"] == {
        "name": "PrefixSharingLM",
        "model": "tiny",
        "items": 30,
        "items_per_second": {"overall": 5.0, "mmlu_mini": 5.0, "hellaswag_mini": 5.0},
        "seconds": 6.0,
    }
    assert content["peer"]["items_per_second"] == {"overall": 1.667, "mmlu_mini": 3.333, "hellaswag_mini": 1.333}
    assert "batch 8" in content["peer"]["name"]
    assert content["machine"] == "somewhere"
