"""Work spread over shards: the same numbers as in this process, errors as they are, a dead shard's piece done again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rlaif_dagster import shards
from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from rlaif_dagster.spec.recipes import Sampling
from rlaif_dagster.work import Chunks
from tests.local_ray import two_nodes

if TYPE_CHECKING:
    from rlaif_dagster.language.base_model import LanguageModel

__all__ = ["two_nodes"]
pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("two_nodes")]
CHATS = [[{"role": "user", "content": f"Tell me of {word}."}] for word in ("rain", "salt", "iron", "moss", "wind")]


@pytest.fixture(autouse=True)
def two_shards(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(shards.SHARDS, "2")
    yield
    shards.release()


def spread(function: Callable[[Any], Any], pieces: list[Any]) -> list[Any]:
    """Results in the order of the pieces."""
    found = dict(shards.spread(function, pieces))
    assert sorted(found) == list(range(len(pieces)))
    return [found[place] for place in range(len(pieces))]


def squared_among(folder: Path, processes: int, n: int) -> int:
    """Ends when so many processes have begun a piece."""
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < processes:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return n * n


def node(folder: Path, n: int) -> str:
    """Where a piece is computed, once two processes compute one."""
    import ray

    squared_among(folder, 2, n)
    return str(ray.get_runtime_context().get_node_id())


def test_shards_are_on_all_nodes(tmp_path: Path) -> None:
    assert len(set(spread(partial(node, tmp_path), [0, 1]))) == 2


def test_every_piece_comes_back_under_its_place_from_as_many_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squares = [n * n for n in range(10)]
    assert spread(partial(squared_among, tmp_path, 2), [*range(10)]) == squares
    assert str(os.getpid()) not in {path.name for path in tmp_path.iterdir()}
    assert spread(partial(squared_among, tmp_path, 2), []) == []
    shards.release()
    monkeypatch.setenv(shards.SHARDS, "4")  # two more than there is room for
    assert spread(partial(squared_among, tmp_path, 2), [*range(10)]) == squares


def refused(n: int) -> int:
    if n == 2:
        raise UserError("data/x.yaml: field 'n': found 2, allowed: 1")
    return n


def test_a_users_error_is_raised_as_it_is() -> None:
    with pytest.raises(UserError, match=r"^data/x.yaml: field 'n': found 2, allowed: 1$") as caught:
        spread(refused, [1, 2, 3])
    assert type(caught.value) is UserError


def dies_once(folder: Path, n: int) -> int:
    mark = folder / f"{n}"
    if n % 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), 9)
    return n


def test_a_shard_that_dies_is_started_again_with_its_piece(tmp_path: Path) -> None:
    assert spread(partial(dies_once, tmp_path), [*range(5)]) == [*range(5)]
    assert len(list(tmp_path.iterdir())) == 2


def environment(_: int) -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "RLAIF_ONEDNN")}


def test_a_shard_computes_with_as_many_threads_as_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray gives its processes one thread; other numbers of threads round otherwise."""
    monkeypatch.setenv("RLAIF_ONEDNN", "0")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert spread(environment, [1]) == [{"OMP_NUM_THREADS": None, "RLAIF_ONEDNN": "0"}]
    shards.release()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert spread(environment, [1])[0]["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize(("name", "value"), [(shards.SHARDS, "two"), (shards.SHARDS, "-1"), (shards.GPUS, "nan")])
def test_a_wrong_setting_is_told(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"{name}: found '{value}', allowed: a number, at least 0"):
        shards.shards() if name == shards.SHARDS else shards.gpus()


def test_answers_are_those_of_one_process(tiny_model: LanguageModel, tmp_path: Path) -> None:
    from rlaif_dagster.language.sampling import sample
    from rlaif_dagster.language.sharded import sharded

    sampling = Sampling(max_new_tokens=12, samples=3, batch_size=4)
    elsewhere = sharded(tiny_model.name, tiny_model.spec, Home(tmp_path / "home"))
    assert elsewhere.device.type == "meta"  # no weights here
    chunks = Chunks(tmp_path / "chunks")
    expected = sample(tiny_model, CHATS, sampling)
    assert sample(elsewhere, CHATS, sampling, chunks=chunks) == expected
    assert len(list(chunks.folder.iterdir())) == 4  # 15 answers, 4 in a chunk
    assert sample(tiny_model, CHATS, sampling, chunks=chunks) == expected  # found, whoever drew them


def test_log_likelihoods_and_texts_are_those_of_one_process(
    tiny_model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlaif_dagster.evaluation.language_model import PrefixSharingLM
    from rlaif_dagster.evaluation.request_store import RequestStore
    from rlaif_dagster.language import scoring
    from rlaif_dagster.language.sharded import sharded

    monkeypatch.setattr(scoring, "CHUNK_TOKENS", 40)  # several parts; they are cut here, and shards score them whole
    requests = [
        (None, tiny_model.prompt_ids(chat), tiny_model.answer_ids(answer))
        for chat in CHATS
        for answer in ("Yes.", "No.")
    ]
    elsewhere = PrefixSharingLM(
        sharded(tiny_model.name, tiny_model.spec, Home(tmp_path)), batch_size=2, store=RequestStore(tmp_path / "store")
    )
    here = PrefixSharingLM(tiny_model, batch_size=2)
    assert len(scoring.parts([(context, answer) for _, context, answer in requests])) > 3
    expected = here._loglikelihood_tokens(requests)
    assert elsewhere._loglikelihood_tokens(requests) == expected
    assert elsewhere._loglikelihood_tokens(requests) == expected  # kept
    settings = {"until": ["."], "max_gen_toks": 10, "do_sample": False}
    generation = here._generation(settings)
    contexts = [context for _, context, _ in requests[::2]]
    assert elsewhere._texts(generation, contexts) == here._texts(generation, contexts)
