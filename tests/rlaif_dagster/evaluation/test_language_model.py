"""lm-eval's numbers through shared prefixes are the numbers of lm-eval's own `hf` model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

import rlaif_dagster.evaluation.tasks
from rlaif_dagster.errors import UserError
from rlaif_dagster.evaluation import language_model
from rlaif_dagster.evaluation.items import TASKS
from rlaif_dagster.evaluation.language_model import PrefixSharingLM
from rlaif_dagster.evaluation.request_store import RequestStore
from rlaif_dagster.home import CHECKOUT
from rlaif_dagster.language import scoring
from rlaif_dagster.language.base_model import LanguageModel

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
    storing = PrefixSharingLM(both[0].lm, batch_size=3, store=RequestStore(tmp_path))
    assert storing.generate_until(instances("generate_until", asked)) == ours
    with no_forward_pass(both[0].lm):
        assert storing.generate_until(instances("generate_until", asked)) == ours


def test_sampled_texts_follow_from_seed_and_context_alone(tiny_model: LanguageModel) -> None:
    """Whatever else is in the batch, and however the requests are cut into batches."""
    settings = {"until": ["\n"], "max_gen_toks": 12, "do_sample": True, "temperature": 1.0}
    asked = [(text, settings) for text in ("Be honest", "Name three fruits.", "Why is the sky", "Count from one")]
    together = PrefixSharingLM(tiny_model, batch_size=4).generate_until(instances("generate_until", asked))
    alone = [
        PrefixSharingLM(tiny_model, batch_size=1).generate_until(instances("generate_until", [one]))[0] for one in asked
    ]
    assert together == alone
    assert PrefixSharingLM(tiny_model, seed=1).generate_until(instances("generate_until", asked)) != together


def test_finished_requests_are_never_computed_again(tiny_model: LanguageModel, tmp_path: Path) -> None:
    """A larger limit only adds, and a run that is cut short keeps what it had: token for token."""
    lm = PrefixSharingLM(tiny_model, store=RequestStore(tmp_path))
    few = [(f"Q: {number}?\nA:", answer) for number in range(4) for answer in (" yes", " no")]
    more = [*few, ("Q: 9?\nA:", " maybe")]
    first = lm.loglikelihood(instances("loglikelihood", few))
    with no_forward_pass(tiny_model):
        assert lm.loglikelihood(instances("loglikelihood", few)) == first
    read: list[int] = []
    hook = tiny_model.model.model.embed_tokens.register_forward_hook(lambda _, args, __: read.append(args[0].numel()))
    try:
        assert lm.loglikelihood(instances("loglikelihood", more))[:-1] == first
    finally:
        hook.remove()
    context, continuation = lm._encode_pair(*more[-1])
    assert sum(read) == len(context) + len(continuation) - 1


def test_a_killed_run_keeps_every_forward_pass(
    tiny_model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language_model, "COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(scoring, "ROW_TOKENS", {"cpu": 16})
    lm = PrefixSharingLM(tiny_model, store=RequestStore(tmp_path))
    asked = [(f"Q: {number}, what comes next?\nA:", " something else") for number in range(12)]
    passes: list[int] = []

    def dies(_: Any, args: Any, __: Any) -> None:
        passes.append(args[0].numel())
        if len(passes) == 8:
            raise KeyboardInterrupt

    hook = tiny_model.model.model.embed_tokens.register_forward_hook(dies)
    try:
        with pytest.raises(KeyboardInterrupt):
            lm.loglikelihood(instances("loglikelihood", asked))
        passes.clear()
        passes += [0] * 8  # never dies again
        resumed = lm.loglikelihood(instances("loglikelihood", asked))
    finally:
        hook.remove()
    whole = PrefixSharingLM(tiny_model).loglikelihood(instances("loglikelihood", asked))
    assert [value for value, _ in resumed] == pytest.approx([value for value, _ in whole], abs=1e-4)
    assert [greedy for _, greedy in resumed] == [greedy for _, greedy in whole]
    nodes = len({tuple(ids[:end]) for ids in encoded(lm, asked) for end in range(1, len(ids))})
    assert 0 < sum(passes) < nodes - 4 * 16  # at least half of the eight passes' work was kept


def encoded(lm: PrefixSharingLM, asked: list[tuple[str, str]]) -> list[list[int]]:
    pairs = [lm._encode_pair(*one) for one in asked]
    return [context + continuation for context, continuation in pairs]


@contextmanager
def no_forward_pass(lm: LanguageModel) -> Iterator[None]:
    def fails(*_: Any) -> None:
        raise AssertionError("the model was run")

    hook = lm.model.model.embed_tokens.register_forward_hook(fails)
    try:
        yield
    finally:
        hook.remove()


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
