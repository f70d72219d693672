"""docs/tutorial.md on a fresh clone, command by command: with the tiny model always, with the embedded one as a slow test.

A server on this machine stands for the provider of the judge behind an API; the commands are the tutorial's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlaif_dagster.home import CHECKOUT, current_home
from tests import tutorial
from tests.e2e.conftest import PROMPTS, SMALL, _change, _fewer_prompts, _limit_tasks
from tests.rlaif_dagster.judging.chat_server import ChatServer, Reply, serving, shown, verdict
from tests.study.conftest import RECIPES, prompt_lines
from tests.tiny import make_tiny_model

TUTORIAL = (CHECKOUT / "docs" / "tutorial.md").read_text(encoding="utf-8")


@pytest.fixture
def provider() -> Iterator[ChatServer]:
    """Prefers the longer answer, wherever it stands."""

    def answer(request: dict[str, Any], number: int) -> Reply:
        first, second = shown(request)
        return verdict("A" if len(first) > len(second) else "B")

    with serving(answer) as running:
        yield running


def follow(repository: Path, folder: Path, provider: ChatServer) -> None:
    environment = tutorial.environment(
        folder, REPOSITORY=str(repository), OPENAI_API_KEY="sk-test", OPENAI_BASE_URL=provider.url
    )
    for step, output in tutorial.run(TUTORIAL, folder, environment, tutorial.virtual_environment()):
        assert not tutorial.missing(step, output), f"{step.commands}\n{output[-4000:]}"
    assert len(provider.requests) > 10  # the judge was asked where the tutorial says so
    assert not list((folder / "home").glob(".rlaif*"))  # nothing lies outside clone and study
    assert {path.name for path in folder.iterdir()} >= {"rlaif-dagster", "my-study"}


@pytest.mark.timeout(1800)
def test_the_tutorial_on_the_tiny_model(tmp_path: Path, provider: ChatServer) -> None:
    repository = tutorial.fresh_repository(tmp_path / "repository")
    data = repository / "data"
    (data / "models/smollm2-135m-instruct.yaml").write_text(f"folder: {make_tiny_model(tmp_path / 'model')}\n")
    for stage, text in RECIPES.items():
        path = data / f"recipes/{stage}.yaml"
        _, models, own = path.read_text().partition("models:\n")  # what ends the shipped file stays
        path.write_text(text.replace("judge: likelihood\n", "judge: likelihood-exemplars\n") + models + own)
    (data / "prompts/study.jsonl").write_text(prompt_lines({"train": 9, "eval": 3, "qualitative": 2}))
    tutorial.commit(repository)
    follow(repository, tmp_path, provider)


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.timeout(7200)
def test_the_tutorial_on_the_embedded_model(tmp_path: Path, provider: ChatServer) -> None:
    """With fewer prompts and shorter training than a reader has; the base model's wheel comes from this machine's cache."""
    repository = tutorial.fresh_repository(tmp_path / "repository")
    _fewer_prompts(repository / "data/prompts/study.jsonl")
    for stage, changes in SMALL.items():
        _change(repository / f"data/recipes/{stage}.yaml", changes)
    _limit_tasks(repository / "data/recipes/benchmarks.yaml", 6)
    assert sum(PROMPTS.values()) == len((repository / "data/prompts/study.jsonl").read_text().splitlines())
    tutorial.commit(repository)
    for study in ("rlaif-dagster", "my-study"):
        assert not (tmp_path / study).exists()
    assert current_home().cache.exists()
    follow(repository, tmp_path, provider)


def test_what_is_said_to_be_seen_is_looked_for() -> None:
    [step] = tutorial.steps("```bash\nrlaif sql\n```\n\n```text\narm … value\nbase … 0.12 …\n```\n")
    assert tutorial.missing(step, "arm   task  value\n base  mmlu 7.5 (2 to 3)\n") == []
    assert tutorial.missing(step, "arm   task  value\n dpo  mmlu 7.5 (2 to 3)\n") == ["base … 0.12 …"]
    assert len(tutorial.steps(TUTORIAL)) > 12
    assert sum(len(step.seen) for step in tutorial.steps(TUTORIAL)) > 10
