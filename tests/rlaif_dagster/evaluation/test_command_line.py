"""The same slices through lm-eval's own command line, by its `hf` model and by `hf-prefix-sharing`, and through a study's
recipe: what is printed is the same to the last digit.

The slices are of real benchmark files where a folder of them is at hand (see `bench.evaluation.data_folder`), and the test
is skipped where there is none.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import lm_eval
import pytest

from bench.evaluation import data_folder
from rlaif_dagster.evaluation.benchmarks import run_benchmarks
from rlaif_dagster.evaluation.hf_prefix_sharing import NAME
from rlaif_dagster.evaluation.mirrors import hub_layout
from rlaif_dagster.home import CHECKOUT, current_home
from rlaif_dagster.language.base_model import LanguageModel, load, weights_location
from rlaif_dagster.spec.project import Project
from rlaif_dagster.spec.recipes import Benchmarks
from rlaif_dagster.work import Chunks

DATA = data_folder()
TASKS = {
    "truthfulqa_mc1": ("truthfulqa", "truthfulqa/truthfulqa_mc1.yaml", 0),
    "truthfulqa_mc2": ("truthfulqa", "truthfulqa/truthfulqa_mc2.yaml", 0),
    "hellaswag": ("hellaswag", "hellaswag/hellaswag.yaml", 0),
    "mmlu_astronomy": ("mmlu", "mmlu/default/mmlu_astronomy.yaml", 5),
    "mmlu_international_law": ("mmlu", "mmlu/default/mmlu_international_law.yaml", 5),
}
pytestmark = pytest.mark.skipif(DATA is None, reason="no folder of benchmark files")


def printed(module: str, model: str, weights: str, folder: Path, limit: int) -> list[str]:
    """The rows of the table that lm-eval's command line prints."""
    command = [
        sys.executable, "-m", module, "run", "--model", model, "--model_args", f"pretrained={weights},dtype=float32",
        "--tasks", ",".join(f"{task}_slice" for task in TASKS), "--include_path", str(folder), "--device", "cpu",
        "--batch_size", "4", "--limit", str(limit),
    ]  # fmt: skip
    environment = os.environ | {"HF_DATASETS_CACHE": str(folder / "datasets"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [line for line in done.stdout.splitlines() if re.match(r"\|.*(acc|acc_norm)", line)]


def slices(folder: Path) -> Path:
    """lm-eval's definitions with their data from the files at hand."""
    assert DATA is not None
    definitions = Path(lm_eval.__file__).parent / "tasks"
    folder.mkdir()
    for task, (mirror, definition, fewshot) in TASKS.items():
        data = hub_layout(DATA / mirror, folder / "mirrors")
        lines = [
            f"include: {definitions / definition}",
            f"task: {task}_slice",
            f"dataset_path: {data}",
            f"task_alias: {task}_slice",
            f"num_fewshot: {fewshot}",
        ]
        if task == "hellaswag":
            lines.append("training_split: null")
        (folder / f"{task}_slice.yaml").write_text("\n".join(lines) + "\n")
    return folder


def assert_same_everywhere(lm: LanguageModel, weights: str, tmp_path: Path, limit: int) -> None:
    folder = slices(tmp_path / "slices")
    recipe = Benchmarks.model_validate(
        {"tasks": [{"task": task, "fewshot": fewshot, "limit": limit, "mirror": str(DATA / mirror)}
                   for task, (mirror, _, fewshot) in TASKS.items()]}
    )  # fmt: skip
    numbers, _ = run_benchmarks(lm, recipe, tmp_path, chunks=Chunks(tmp_path / "chunks"), mirrors=folder / "mirrors")
    whole = numbers[numbers["category"].isna()].set_index(["task", "metric"])["value"]
    theirs = printed("lm_eval", "hf", weights, folder, limit)
    assert printed("rlaif_dagster.evaluation", NAME, weights, folder, limit) == theirs
    task, told = "", set()
    for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in theirs):
        task = cells[0].removesuffix("_slice") or task
        metric = next(cell for cell in cells if cell in ("acc", "acc_norm"))
        value = next(cell for cell in cells if re.fullmatch(r"\d\.\d{4}", cell))
        assert f"{whole[task, metric]:.4f}" == value, (task, metric)
        told.add(task)
    assert told == set(TASKS)


def test_tiny_model(
    tiny_model: LanguageModel, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    assert_same_everywhere(tiny_model, str(tiny_model_folder), tmp_path, limit=6)


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.timeout(1800)
def test_embedded_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    project, home = Project.current(), current_home()
    name = project.study().models[0]
    weights, _ = weights_location(project.model(name), home)
    assert_same_everywhere(load(name, project.model(name), home), weights, tmp_path, limit=4)
