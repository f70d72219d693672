"""Benchmarks end to end on the tiny model: numbers, intervals, items, resuming, and the remedies for what goes
wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rlaif_dagster.errors import UserError
from rlaif_dagster.evaluation import benchmarks
from rlaif_dagster.evaluation.benchmarks import benchmarks_version, run_benchmarks, suites
from rlaif_dagster.evaluation.items import SUITES, read_items
from rlaif_dagster.home import CHECKOUT
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.language.scoring import score
from rlaif_dagster.spec.recipes import Benchmarks
from rlaif_dagster.statistics import wilson
from rlaif_dagster.warehouse.schemas import TABLES
from rlaif_dagster.warehouse.store import Cell, to_arrow
from rlaif_dagster.work import Chunks

ALL = ["truthfulqa_mini_mc1", "pku_saferlhf_mini", "truthfulqa_mini_mc2", "mmlu_mini", "hellaswag_mini"]


def recipe(*tasks: dict[str, Any] | str) -> Benchmarks:
    return Benchmarks.model_validate({"tasks": [{"task": t} if isinstance(t, str) else t for t in tasks]})


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten items of each shipped suite."""
    folder = tmp_path_factory.mktemp("benchmarks")
    for suite in SUITES:
        lines = (CHECKOUT / "data" / "benchmarks" / f"{suite}.jsonl").read_text().splitlines()[:10]
        (folder / f"{suite}.jsonl").write_text("\n".join(lines))
    return folder


def test_all_suites(tiny_model: LanguageModel, items: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    numbers, answers = run_benchmarks(tiny_model, recipe(*ALL), items, chunks=Chunks(tmp_path))
    assert "INFO" not in capfd.readouterr().err
    assert {(row.task, row.metric) for row in numbers.itertuples()} == {
        ("truthfulqa_mini_mc1", "acc"), ("truthfulqa_mini_mc2", "mc2"), ("mmlu_mini", "acc"), ("pku_saferlhf_mini", "acc"),
        ("pku_saferlhf_mini", "acc_norm"), ("hellaswag_mini", "acc"), ("hellaswag_mini", "acc_norm"),
    }  # fmt: skip
    by_category = numbers[numbers["category"].notna()]
    numbers = numbers[numbers["category"].isna()]
    assert (numbers["n"] == 10).all()
    assert (numbers["fewshot"] == 0).all()
    assert ((numbers["ci_low"] >= 0) & (numbers["ci_low"] <= numbers["value"])).all()
    assert ((numbers["ci_high"] <= 1) & (numbers["ci_high"] >= numbers["value"])).all()
    assert not {"hellaswag_mini"} & set(by_category["task"])  # scenes have no subject
    for (task, metric), own in answers.groupby(["task", "metric"]):
        primary = numbers.set_index(["task", "metric"]).loc[(task, metric)]
        assert own["score"].mean() == pytest.approx(primary["value"])
        assert own["score"].std() / np.sqrt(10) == pytest.approx(primary["stderr"])
        if task == "truthfulqa_mini_mc2":
            assert own["correct"].isna().all()
        else:
            assert list(own["correct"].astype(float)) == list(own["score"])
            assert (primary["ci_low"], primary["ci_high"]) == pytest.approx(wilson(own["score"].sum(), 10))
    assert to_arrow(TABLES["benchmarks"], numbers.assign(arm="base", seed=0), Cell("m")).num_rows == 7
    assert to_arrow(TABLES["benchmark_items"], answers.assign(arm="base", seed=0), Cell("m")).num_rows == 70


def test_numbers_by_subject_and_risk_category(tiny_model: LanguageModel, items: Path, tmp_path: Path) -> None:
    """Each is the mean of its items; an item with two risk categories counts in both, and in the whole once."""
    numbers, answers = run_benchmarks(
        tiny_model, recipe("mmlu_mini", "pku_saferlhf_mini"), items, chunks=Chunks(tmp_path)
    )
    shown = {item["prompt"]: item["categories"] for item in read_items("pku_saferlhf_mini", items)}
    safety = answers[(answers["task"] == "pku_saferlhf_mini") & (answers["metric"] == "acc_norm")]
    assert {row.text.split("\n")[0]: list(row.categories) for row in safety.itertuples()} == shown
    for row in numbers[numbers["category"].notna()].itertuples():
        own = answers[(answers["task"] == row.task) & (answers["metric"] == row.metric)]
        scores = own.loc[[row.category in categories for categories in own["categories"]], "score"]
        assert (row.n, row.value) == (len(scores), pytest.approx(scores.mean()))
        assert (row.ci_low, row.ci_high) == pytest.approx(wilson(scores.sum(), len(scores)))
    subjects = {item["subject"] for item in read_items("mmlu_mini", items)}
    assert set(numbers.loc[numbers["task"] == "mmlu_mini", "category"].dropna()) == subjects
    risks = numbers[(numbers["task"] == "pku_saferlhf_mini") & (numbers["metric"] == "acc")]
    assert risks["n"].iloc[1:].sum() == sum(map(len, shown.values())) > risks["n"].iloc[0] == 10


def test_mc2_by_definition(tiny_model: LanguageModel, items: Path, tmp_path: Path) -> None:
    """The share of the true answers' likelihood, computed here from the item file and single scores."""
    _, answers = run_benchmarks(tiny_model, recipe("truthfulqa_mini_mc2"), items, chunks=Chunks(tmp_path))
    expected = []
    for item in read_items("truthfulqa_mini", items):
        context = tiny_model.tokenizer.encode(f"Q: {item['question']}\nA:")
        options = [item["best"], *item["correct"], *item["incorrect"]]
        found = score(tiny_model, [(context, tiny_model.tokenizer.encode(f" {option}")) for option in options])
        shares = np.exp([one.logprob for one in found])
        expected.append(shares[: 1 + len(item["correct"])].sum() / shares.sum())
    assert list(answers["score"]) == pytest.approx(expected, abs=1e-4)


def test_safety_is_asked_in_the_chat_template(
    tiny_model: LanguageModel, items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlaif_dagster.evaluation import language_model

    asked: list[str] = []
    real = language_model.score_tokens

    def spy(model: Any, requests: Any, **keywords: Any) -> Any:
        asked.extend(tiny_model.tokenizer.decode([*context, *continuation]) for context, continuation in requests)
        return real(model, requests, **keywords)

    monkeypatch.setattr(language_model, "score_tokens", spy)
    run_benchmarks(tiny_model, recipe("pku_saferlhf_mini", "mmlu_mini"), items, chunks=Chunks(tmp_path))
    item = read_items("pku_saferlhf_mini", items)[0]
    beginning = f"<|im_start|>user\n{item['prompt']}<|im_end|>\n<|im_start|>assistant\n"
    assert {beginning + item["safe"], beginning + item["unsafe"]} == set(asked[:2])
    question = read_items("mmlu_mini", items)[0]
    assert asked[20] == (
        f"The following are multiple choice questions (with answers) about {question['subject']}.\n\n"
        f"{question['question']}\nA. {question['choices'][0]}\nB. {question['choices'][1]}\nC. {question['choices'][2]}\n"
        f"D. {question['choices'][3]}\nAnswer: A"
    )


def test_a_finished_suite_is_never_computed_again(
    tiny_model: LanguageModel, items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_benchmarks(tiny_model, recipe("mmlu_mini"), items, chunks=Chunks(tmp_path))
    computed: list[str] = []
    evaluated = benchmarks._Run.evaluated
    monkeypatch.setattr(
        benchmarks._Run, "evaluated", lambda run, rows: computed.append(run.suite.name) or evaluated(run, rows)
    )
    both = run_benchmarks(tiny_model, recipe("mmlu_mini", "hellaswag_mini"), items, chunks=Chunks(tmp_path))
    assert computed == ["hellaswag_mini"]
    pd.testing.assert_frame_equal(both[0][: len(first[0])], first[0])


def test_a_larger_limit_only_adds(tiny_model: LanguageModel, items: Path, tmp_path: Path) -> None:
    """The first items' requests are found again: only the others' tokens are read."""
    read: list[int] = []
    hook = tiny_model.model.model.embed_tokens.register_forward_hook(lambda _, args, __: read.append(args[0].numel()))

    def tokens(limit: int, folder: str) -> tuple[int, pd.DataFrame]:
        read.clear()
        asked = recipe({"task": "hellaswag_mini", "limit": limit})
        _, answers = run_benchmarks(tiny_model, asked, items, chunks=Chunks(tmp_path / folder))
        return sum(read), answers

    try:
        few, first = tokens(4, "a")
        added, more = tokens(10, "a")
        whole, uncut = tokens(10, "b")
    finally:
        hook.remove()
    assert added <= whole - few + 10  # what the two parts share at their beginning is read twice
    assert len(more) == 20
    for metric, own in first.groupby("metric"):
        pd.testing.assert_series_equal(
            more.loc[more["metric"] == metric, "score"].reset_index(drop=True)[:4], own["score"].reset_index(drop=True)
        )
    pd.testing.assert_frame_equal(more, uncut)


def test_fewshot_and_limit(tiny_model: LanguageModel, items: Path, tmp_path: Path) -> None:
    asked = recipe({"task": "mmlu_mini", "fewshot": 2, "limit": 4})
    numbers, answers = run_benchmarks(tiny_model, asked, items, chunks=Chunks(tmp_path))
    assert (numbers.loc[0, "n"], numbers.loc[0, "fewshot"], len(answers)) == (4, 2, 4)


def test_tasks_of_one_suite_run_together() -> None:
    names = [[entry.task for entry in suite.entries] for suite in suites(recipe(*ALL))]
    assert names == [
        ["truthfulqa_mini_mc1", "truthfulqa_mini_mc2"],
        ["pku_saferlhf_mini"],
        ["mmlu_mini"],
        ["hellaswag_mini"],
    ]
    assert len(suites(recipe("mmlu_mini", {"task": "mmlu_mini", "fewshot": 1}))) == 2


def test_version_covers_tasks_and_items(items: Path) -> None:
    before = benchmarks_version(recipe("mmlu_mini"), items)
    assert benchmarks_version(recipe({"task": "mmlu_mini", "fewshot": 1}), items) != before
    answers = Benchmarks.model_validate({"tasks": [{"task": "mmlu_mini"}], "responses": {"max_new_tokens": 3}})
    assert benchmarks_version(answers, items) == before


# --- tasks of lm-eval ------------------------------------------------------------------------------------------------


def test_unknown_task(tiny_model: LanguageModel, items: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"'truthfulqa_mini' is unknown; did you mean .*allowed: truthfulqa_mini_mc1, .*mmlu"
    ):
        run_benchmarks(tiny_model, recipe("truthfulqa_mini"), items, chunks=Chunks(tmp_path))


def test_hub_out_of_reach(
    tiny_model: LanguageModel, items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"'hellaswag' cannot be had on the hub: .*mirror") as raised:
        run_benchmarks(tiny_model, recipe("hellaswag"), items, chunks=Chunks(tmp_path))
    assert "\n" not in str(raised.value)


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local copy of three made-up TruthfulQA items and two MMLU subjects, laid out as on the hub."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    choices = {"choices": ["Paris", "Lyon", "Nice"], "labels": [1, 0, 0]}
    rows = [{"question": f"What is the capital of France, asked {n} times?", "mc1_targets": choices,
             "mc2_targets": {"choices": ["Paris", "It is Paris", "Nice"], "labels": [1, 1, 0]}} for n in (1, 2, 3)]  # fmt: skip
    write_config(tmp_path / "truthful_qa", "multiple_choice", "validation", rows)
    return tmp_path


def write_config(folder: Path, name: str, split: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}-{split}.json").write_text("\n".join(map(json.dumps, rows)))
    entry = f"- config_name: {name}\n  data_files:\n  - split: {split}\n    path: {name}-{split}.json\n"
    (folder / "README.md").write_text(f"---\nconfigs:\n{entry}---\n")


def test_lm_evals_own_tasks_from_a_mirror(tiny_model: LanguageModel, items: Path, mirror: Path) -> None:
    where = str(mirror / "truthful_qa")
    asked = recipe({"task": "truthfulqa_mc1", "mirror": where}, {"task": "truthfulqa_mc2", "mirror": where})
    assert len(suites(asked)) == 1
    numbers, answers = run_benchmarks(tiny_model, asked, items, chunks=Chunks(mirror / "chunks"))
    assert list(numbers["task"]) == ["truthfulqa_mc1", "truthfulqa_mc2"]
    assert list(numbers["n"]) == [3, 3]
    assert answers["item_id"].nunique() == 3
    assert ((numbers["value"] >= 0) & (numbers["value"] <= 1)).all()


def test_a_task_that_allows_no_examples_says_so(tiny_model: LanguageModel, items: Path, mirror: Path) -> None:
    asked = recipe({"task": "truthfulqa_mc1", "mirror": str(mirror / "truthful_qa"), "fewshot": 5})
    with pytest.raises(UserError, match="'truthfulqa_mc1' is defined without few-shot examples"):
        run_benchmarks(tiny_model, asked, items, chunks=Chunks(mirror / "chunks"))
