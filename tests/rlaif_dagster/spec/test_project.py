"""The folder data/: what it lists, how recipes are merged, and one line for every kind of mistake."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import CHECKOUT
from rlaif_dagster.spec.judge import PanelJudge
from rlaif_dagster.spec.project import RECIPES, Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A copy of the files that the project ships, to break."""
    shutil.copytree(CHECKOUT / "data", tmp_path / "data")
    return Project(tmp_path / "data")


def append(project: Project, file: str, text: str) -> None:
    with (project.root / file).open("a", encoding="utf-8") as out:
        out.write(text)


def test_the_shipped_files_are_right(project: Project) -> None:
    project.check()
    assert set(project.names("recipes")) == set(RECIPES)
    assert {"structured", "harmlessness", "honesty"} <= set(project.names("constitutions"))
    assert {"smollm2-135m-instruct", "llama-3.1-8b-instruct"} <= set(project.names("models"))


def test_a_new_file_is_listed_at_once_and_a_foreign_one_never(project: Project) -> None:
    before = project.names("constitutions")
    shutil.copy(project.root / "constitutions/structured.yaml", project.root / "constitutions/mine.yaml")
    (project.root / "constitutions/notes.txt").write_text("no YAML")
    assert project.names("constitutions") == sorted([*before, "mine"])


def test_a_snapshot_reads_a_file_once_and_a_project_anew(project: Project) -> None:
    seen = project.snapshot()
    before = seen.judge("likelihood"), seen.recipe("judging"), seen.constitution("honesty")
    append(project, "judges/likelihood.yaml", "description: other\n")
    (project.root / "recipes/judging.yaml").unlink()
    shutil.copy(project.root / "constitutions/structured.yaml", project.root / "constitutions/honesty.yaml")
    assert (seen.judge("likelihood"), seen.recipe("judging"), seen.constitution("honesty")) == before
    assert seen.snapshot() is seen
    assert project.judge("likelihood") != before[0]
    assert project.constitution("honesty") != before[2]
    with pytest.raises(UserError, match="no such file"):
        project.recipe("judging")


def test_a_models_recipe_is_the_defaults_with_its_own_fields_over_them(project: Project) -> None:
    (project.root / "recipes/dpo.yaml").write_text(
        "beta: 0.2\nlora: {r: 8, alpha: 16}\n"
        "models:\n  llama-3.1-8b-instruct:\n    beta: 0.5\n    lora: {r: 64}\n    seeds: [1, 2]\n"
    )
    default, large = project.recipe("dpo", "smollm2-135m-instruct"), project.recipe("dpo", "llama-3.1-8b-instruct")
    assert (default.beta, default.lora.r, default.lora.alpha, default.seeds) == (0.2, 8, 16, (0,))
    assert (large.beta, large.lora.r, large.lora.alpha, large.seeds) == (0.5, 64, 16, (1, 2))


def test_an_override_for_one_model_leaves_the_others_version(project: Project) -> None:
    (project.root / "recipes/dpo.yaml").write_text("beta: 0.2\n")
    before = project.recipe("dpo", "smollm2-135m-instruct").data_version()
    append(project, "recipes/dpo.yaml", "models:\n  llama-3.1-8b-instruct: {beta: 0.5}\n")
    assert project.recipe("dpo", "smollm2-135m-instruct").data_version() == before
    assert project.recipe("dpo", "llama-3.1-8b-instruct").data_version() != before


@pytest.mark.parametrize(
    ("file", "text", "parts"),
    [
        ("study.yaml", "models: [gpt-9]\nconstitutions: [structured]\n", ["'models' names 'gpt-9'", "allowed: "]),
        ("study.yaml", "models: []\nconstitutions: [structured]\n", ["field 'models'", "at least 1"]),
        ("constitutions/structured.yaml", "principles: []\n", ["field 'principles'", "at least 1"]),
        ("models/smollm2-135m-instruct.yaml", "dtype: float32\n", ["give exactly one of package, hub, folder", "none"]),
        ("judges/likelihood.yaml", "kind: oracle\n", ["field 'kind'", "'oracle'", "likelihood, api, panel"]),
        ("recipes/ppo.yaml", "minibatches: 3\nrollout_batch: 16\n", ["minibatches 3 must divide rollout_batch 16"]),
        ("recipes/dpo.yaml", "models: {gpt-9: {beta: 1}}\n", ["'models' names 'gpt-9'", "allowed: "]),
        ("recipes/dpo.yaml", "models: [a]\n", ["'models': expected a mapping"]),
        ("recipes/judging.yaml", "judge: oracle\n", ["field 'judge' names 'oracle'", "allowed: "]),
        ("prompts/sources.yaml", "sources: [{text: t}]\n", ["give exactly one of file, hub"]),
        ("labels/honesty.yaml", "file: x.jsonl\n", ["field 'constitutions' is missing"]),
    ],
)
def test_a_wrong_file_is_told_in_one_line_with_its_name(
    project: Project, file: str, text: str, parts: list[str]
) -> None:
    (project.root / file).write_text(text)
    with pytest.raises(UserError) as caught:
        project.check()
    message = str(caught.value)
    assert "\n" not in message
    for part in [*parts, *([] if "no such file" in parts else [str(project.root / file)])]:
        assert part in message


def test_the_members_of_a_panel_must_exist(project: Project) -> None:
    (project.root / "judges/mine.yaml").write_text("kind: panel\njudges: {likelihood: 1, oracle: 2}\n")
    with pytest.raises(UserError, match="oracle"):
        project.judge("mine")
    (project.root / "judges/oracle.yaml").write_text("kind: api\nmodel: openai/x\n")
    assert isinstance(project.judge("mine"), PanelJudge)
    assert set(project.judges("mine")) == {"mine", "likelihood", "oracle"}


def test_an_unknown_name_lists_the_known_ones(project: Project) -> None:
    with pytest.raises(UserError, match=r"constitutions are: .*structured"):
        project.constitution("unknown")
