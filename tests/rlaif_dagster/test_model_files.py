"""What of a model is here: as the loader itself finds its weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from rlaif_dagster.language.base_model import load
from rlaif_dagster.language.embedded import pull
from rlaif_dagster.model_files import cached_folder, folder_problem, listed, missing, weight_files
from rlaif_dagster.spec.model import ModelSpec

INDEX = "model.safetensors.index.json"


@pytest.fixture
def in_three_files(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """The tiny model with its weights in three files, as transformers writes a large one."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(tiny_model_folder, folder)
    weights = sorted(load_file(folder / "model.safetensors").items())
    files = {}
    for number in range(3):
        name = f"model-0000{number + 1}-of-00003.safetensors"
        part = dict(weights[number::3])
        save_file(part, folder / name, metadata={"format": "pt"})
        files |= dict.fromkeys(part, name)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": files}))
    (folder / "model.safetensors").unlink()
    return folder


def test_of_several_files_every_one_must_be_there(in_three_files: Path, home: Home) -> None:
    spec = ModelSpec(folder=str(in_three_files))
    assert cached_folder(spec, home) == in_three_files == pull("m", spec, home)
    assert len(weight_files(in_three_files)) == 3
    load("m", spec, home)
    (in_three_files / "model-00002-of-00003.safetensors").unlink()
    assert missing(in_three_files) == ["model-00002-of-00003.safetensors"]
    assert cached_folder(spec, home) is None
    assert folder_problem(spec) == f"folder {in_three_files} holds no whole model: no model-00002-of-00003.safetensors"
    with pytest.raises(UserError, match=r"model m: folder .* has no model-00002-of-00003\.safetensors"):
        pull("m", spec, home)
    with pytest.raises(UserError, match="model m: cannot load"):
        load("m", spec, home)


def test_several_files_without_an_index_that_can_be_read_are_no_model(in_three_files: Path, home: Home) -> None:
    spec = ModelSpec(folder=str(in_three_files))
    for text in ("{", "[]", '{"weight_map": []}', '{"weight_map": {}}', "{}"):
        (in_three_files / INDEX).write_text(text)
        assert missing(in_three_files) == [f"model.safetensors or {INDEX}"], text
    (in_three_files / INDEX).unlink()
    assert missing(in_three_files) == [f"model.safetensors or {INDEX}"]
    assert cached_folder(spec, home) is None
    with pytest.raises(UserError, match="model m: cannot load"):
        load("m", spec, home)


def test_a_link_to_what_was_not_fetched_counts_as_missing(tiny_model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "snapshot"
    shutil.copytree(tiny_model_folder, folder)
    assert missing(folder) == []
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(tmp_path / "blobs" / "0123")
    assert missing(folder) == ["*.safetensors"]


def test_a_long_list_is_cut() -> None:
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
