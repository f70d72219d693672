"""lm-eval's numbers through shared prefixes are the numbers of lm-eval's own `hf` model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

import rlaif_dagster.evaluation.tasks
from rlaif_dagster.errors import UserError
from rlaif_dagster.evaluation.items import TASKS
from rlaif_dagster.evaluation.language_model import PrefixSharingLM
from rlaif_dagster.home import CHECKOUT
from rlaif_dagster.language.base_model import LanguageModel
from rlaif_dagster.work import Chunks

PAIRS = [
    ("", "The capital of France"),
    ("Q: What is the capital of France?\nA:", " Paris"),
    ("Q: What is the capital of France?\nA: ", "Paris"),  # a trailing space belongs to the continuation
    ("Q: What is the capital of France?\nA:", " a city on the river Seine."),
    ("Q: What is the capital of France?\nA:  \n", "Paris"),
    ("<|im_start|>user\nWhy?<|im_end|>\n", "Be brief, say what you know"),
    ("one, two, three " * 200, "four, five, six"),  # longer than the model reads: cut from the left
]


@pytest.fixture(scope="module")
def both(tiny_model: LanguageModel) -> tuple[PrefixSharingLM, HFLM]:
    theirs = HFLM(pretrained=tiny_model.model, tokenizer=tiny_model.tokenizer, batch_size=3)
    return PrefixSharingLM(tiny_model, batch_size=3), theirs


def instances(kind: str, arguments: list[tuple[Any, ...]]) -> list[Instance]:
    return [Instance(kind, {}, args, number) for number, args in enumerate(arguments)]


def test_loglikelihood(both: tuple[PrefixSharingLM, HFLM]) -> None:
    ours, theirs = (lm.loglikelihood(instances("loglikelihood", PAIRS)) for lm in both)
    assert [value for value, _ in ours] == pytest.approx([value for value, _ in theirs], abs=1e-4)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]


def test_loglikelihood_rolling(both: tuple[PrefixSharingLM, HFLM]) -> None:
    texts = [("Be honest, be harmless and be helpful.",), ("Count from one to ten: one, two, three. " * 90,)]
    ours, theirs = (lm.loglikelihood_rolling(instances("loglikelihood_rolling", texts)) for lm in both)
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_generate_until(both: tuple[PrefixSharingLM, HFLM], tmp_path: Path) -> None:
    """Greedy texts agree, however long and wherever they stop; a second run finds them stored."""
    asked = [
        ("Q: What is the capital of France?\nA:", {"until": ["\n"], "max_gen_toks": 90}),
        ("Name three fruits.", {"until": ["\n"], "max_gen_toks": 90}),
        ("Count from one to ten: one, two,", {"until": ["\n"], "max_gen_toks": 90}),
        ("Be honest", {"until": [" a", "e"], "max_gen_toks": 30, "do_sample": False}),
    ]
    ours, theirs = (lm.generate_until(instances("generate_until", asked)) for lm in both)
    assert ours == theirs
    assert len(set(ours)) > 1
    storing = PrefixSharingLM(both[0].lm, batch_size=3, chunks=Chunks(tmp_path))
    assert storing.generate_until(instances("generate_until", asked)) == ours
    assert len(list(tmp_path.glob("*.json"))) == 2
    assert storing.generate_until(instances("generate_until", asked)) == ours


def test_what_is_not_offered_is_refused(both: tuple[PrefixSharingLM, HFLM]) -> None:
    with pytest.raises(UserError, match="num_beams are not offered; allowed: until"):
        both[0].generate_until(instances("generate_until", [("a", {"until": [], "num_beams": 4})]))
    with pytest.raises(UserError, match="leaves no room"):
        both[0].generate_until(instances("generate_until", [("a", {"until": [], "max_gen_toks": 5000})]))


def test_metrics_equal_those_of_hf(both: tuple[PrefixSharingLM, HFLM]) -> None:
    """All five tasks, with examples in context and in the chat template as well: every metric and standard error
    agrees."""
    folder = Path(rlaif_dagster.evaluation.tasks.__file__).parent
    for fewshot, chat in ((0, False), (2, True)):
        ours, theirs = (
            simple_evaluate(
                lm,
                tasks=list(TASKS),
                num_fewshot=fewshot,
                limit=6,
                apply_chat_template=chat,
                bootstrap_iters=10,
                task_manager=TaskManager(
                    include_path=str(folder),
                    include_defaults=False,
                    metadata={"folder": str(CHECKOUT / "data" / "benchmarks")},
                ),
            )["results"]
            for lm in both
        )
        assert ours.keys() == theirs.keys() == set(TASKS)
        for task, metrics in theirs.items():
            numbers = {key: value for key, value in metrics.items() if isinstance(value, float)}
            assert {key: ours[task][key] for key in numbers} == pytest.approx(numbers, abs=1e-4)
