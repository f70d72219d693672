"""The comparison of benchmarks, on the tiny model: same items, same metrics, and how the figures are put together."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bench.evaluation import (
    PLAIN,
    SUITES,
    Side,
    Timing,
    compare,
    differences,
    load_suites,
    metrics,
    run_tasks,
    summary,
)
from bench.measurement import WrongResult
from rlaif_dagster.evaluation.hf_prefix_sharing import PrefixSharingHFLM
from rlaif_dagster.home import Home
from rlaif_dagster.language import onednn
from rlaif_dagster.language.base_model import LanguageModel

ANSWERS = ("grey", "blue", "a deep red", "green")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few made-up items in their authors' layout."""
    data = tmp_path_factory.mktemp("data")
    for folder in ("truthfulqa", "mmlu/dev", "mmlu/test", "hellaswag"):
        (data / folder).mkdir(parents=True, exist_ok=True)
    labels = dict(zip(ANSWERS, (1, 1, 0, 0), strict=True))
    questions = [f"Which colour has stone {number}?" for number in range(5)]
    rows = [{"question": one, "mc1_targets": labels, "mc2_targets": labels} for one in questions]
    (data / "truthfulqa" / "mc_task.json").write_text(json.dumps(rows))
    for subject in (task.removeprefix("mmlu_") for task in SUITES["mmlu_5shot"][1]):
        for split in ("dev", "test"):
            lines = [f"{one},{','.join(ANSWERS)},{number % 4}" for number, one in enumerate(questions)]
            (data / "mmlu" / split / f"{subject}_{split}.csv").write_text("\n".join(lines))
    scenes = [
        {"activity_label": "Painting", "ctx_a": f"She paints wall {number}.", "ctx_b": "it is", "endings": ANSWERS,
         "label": number % 4}
        for number in range(5)
    ]  # fmt: skip
    (data / "hellaswag" / "hellaswag_val.jsonl").write_text("\n".join(map(json.dumps, scenes)))
    return data


@pytest.fixture
def job(tiny_model_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("RLAIF_HOME", str(tmp_path))
    return {"weights": str(tiny_model_folder), "data": str(data), "items": dict.fromkeys(SUITES, 3), "batch": 8}


def test_all_sides_evaluate_every_suite_in_turn(
    job: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    timings, about = compare(job, rounds=2)
    assert {suite: timing.items for suite, timing in timings.items()} == {
        "truthfulqa_mc2": 6, "mmlu_5shot": 12, "hellaswag": 6,
    }  # fmt: skip
    assert all(seconds > 0 for timing in timings.values() for seconds in timing.seconds.values())
    assert [side["threads"] for side in about.values()] == [1, 1, 1]
    here = onednn._faster_here() and os.environ.get(onednn.SWITCH) != "0"
    assert {name: side["onednn"] for name, side in about.items()} == {"ours": here, "peer": False, PLAIN: False}
    assert capsys.readouterr().out == ""


def test_a_side_that_fails_says_why(job: dict[str, Any]) -> None:
    with pytest.raises(WrongResult, match=r"ours failed: .*no_such_model"):
        Side("ours", job | {"weights": "./no_such_model"})


def test_metrics_of_tasks_and_of_items(tiny_model: LanguageModel, data: Path, tmp_path: Path) -> None:
    lm = PrefixSharingHFLM(pretrained=tiny_model.model, tokenizer=tiny_model.tokenizer)
    suites = load_suites(data, Home(tmp_path))
    numbers = metrics(run_tasks(lm, suites["hellaswag"], 2))
    plain = {name for name in numbers if " of item " not in name}
    assert plain == {"hellaswag acc", "hellaswag acc_norm"}
    assert len(numbers) == len(plain) + 2 * 2
    for name in plain:  # a task's number is the mean of its items'
        items = [value for key, value in numbers.items() if key.startswith(f"{name} of item ")]
        assert numbers[name] == pytest.approx(sum(items) / 2)


def test_a_metric_that_differs_stops_the_comparison(job: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number of one side moved by a quarter, as a defect in its scoring would."""
    run = Side.run

    def moved(side: Side, suite: str) -> dict[str, Any]:
        found = run(side, suite)
        if side.name == "ours":
            found["metrics"] = {name: value + 0.25 for name, value in found["metrics"].items()}
        return found

    monkeypatch.setattr(Side, "run", moved)
    with pytest.raises(WrongResult, match=r"truthfulqa_mc2: \d+ metrics differ from the peer's \(ours\): .*: ours "):
        compare(job, rounds=1)


def test_differences_are_beyond_rounding_or_lacking() -> None:
    assert differences({"a": 0.5, "b": 0.25}, {"a": 0.50001, "b": 0.25}) == []
    assert differences({"a": 0.5, "b": 0.25}, {"a": 0.53125, "c": float("nan")}) == [
        "a: ours 0.5, peer 0.53125",
        "b: ours 0.25, peer none",
        "c: ours none, peer nan",
    ]


def test_the_summary_divides_items_per_second() -> None:
    timings = {
        "mmlu_mini": Timing(10, {"ours": 2.0, "peer": 3.0, PLAIN: 2.5}),
        "hellaswag_mini": Timing(20, {"ours": 4.0, "peer": 15.0, PLAIN: 7.5}),
    }
    content = json.loads(summary(timings, "tiny", "somewhere").line())
    assert content["part"] == "evaluation"
    assert content["ratios"] == {"overall": 3.0, "mmlu_mini": 1.5, "hellaswag_mini": 3.75}
    assert content["ours"] == {
        "name": "hf-prefix-sharing",
        "model": "tiny",
        "items": 30,
        "items_per_second": {"overall": 5.0, "mmlu_mini": 5.0, "hellaswag_mini": 5.0},
        "seconds": 6.0,
        "without_onednn": {
            "ratios": {"overall": 1.8, "mmlu_mini": 1.2, "hellaswag_mini": 2.0},
            "items_per_second": {"overall": 3.0, "mmlu_mini": 4.0, "hellaswag_mini": 2.667},
            "seconds": 10.0,
        },
    }
    assert content["peer"]["items_per_second"] == {"overall": 1.667, "mmlu_mini": 3.333, "hellaswag_mini": 1.333}
    assert "batch 8" in content["peer"]["name"]
    assert content["machine"] == "somewhere"
