"""Model folders that attack: a pickle is never opened, code beside the weights never runs, nobody is asked whether it may."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from rlaif_dagster.language.base_model import load
from rlaif_dagster.language.embedded import HUB_FILES
from rlaif_dagster.spec.model import ModelSpec

CODE = (
    "import pathlib; pathlib.Path({mark!r}).touch()\nfrom transformers import LlamaConfig as C, LlamaForCausalLM as M\n"
)


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def test_the_payloads_work_where_nobody_is_careful(tmp_path: Path) -> None:
    """What the other tests show to be harmless does harm where it is let in: they test something."""
    torch.save({"x": Payload(tmp_path / "owned")}, tmp_path / "x.bin")
    torch.load(tmp_path / "x.bin", weights_only=False)
    assert (tmp_path / "owned").exists()


def change(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def pickle_instead(folder: Path, mark: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"x": Payload(mark)}, folder / "pytorch_model.bin")


def pickle_by_another_name(folder: Path, mark: Path) -> None:
    torch.save({"x": Payload(mark)}, folder / "model.safetensors")


def header_without_end(folder: Path, mark: Path) -> None:
    (folder / "model.safetensors").write_bytes((1 << 62).to_bytes(8, "little") + b"{}")


def half_a_file(folder: Path, mark: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def other_shapes(folder: Path, mark: Path) -> None:
    change(folder / "config.json", hidden_size=128)


def code_of_its_own(folder: Path, mark: Path) -> None:
    (folder / "evil.py").write_text(CODE.format(mark=str(mark)))
    change(
        folder / "config.json", model_type="evil", auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}
    )


def tokenizer_of_its_own(folder: Path, mark: Path) -> None:
    (folder / "evil.py").write_text(CODE.format(mark=str(mark)) + "class T: pass\n")
    change(folder / "tokenizer_config.json", tokenizer_class="T", auto_map={"AutoTokenizer": ["evil.T", None]})


def template(text: str) -> Callable[[Path, Path], None]:
    def write(folder: Path, mark: Path) -> None:
        for file in folder.glob("*.jinja"):
            file.unlink()
        change(folder / "tokenizer_config.json", chat_template=text.replace("MARK", str(mark)))

    return write


ATTACKS: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "pickle instead of safetensors": (pickle_instead, "weights as safetensors"),
    "pickle by another name": (pickle_by_another_name, "header too large"),
    "a header without end": (header_without_end, "header too large"),
    "half a file": (half_a_file, "incomplete metadata"),
    "other shapes": (other_shapes, "cannot load"),
    "code of its own": (code_of_its_own, "no code of its own"),
    "a tokenizer of its own": (tokenizer_of_its_own, "no code of its own"),
    "a template that looks for classes": (template("{{ ''.__class__.__mro__ }}"), "chat template cannot be used"),
    "a template that runs a command": (
        template("{{ cycler.__init__.__globals__.os.system('touch MARK') }}"), "chat template cannot be used",
    ),
    "a template that reads a file": (template("{% include '/etc/passwd' %}"), "chat template cannot be used"),
    "a template that is none": (template("{% bogus"), "chat template cannot be used"),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_folder_is_refused_in_one_line_and_runs_nothing(
    name: str,
    tiny_model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    attack, told = ATTACKS[name]
    folder, mark = tmp_path / "model", tmp_path / "owned"
    shutil.copytree(tiny_model_folder, folder)
    attack(folder, mark)
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 10))  # who is asked "run it? [y/N]" would say yes
    with pytest.raises(UserError, match=told):
        load("m", ModelSpec(folder=str(folder)), Home(tmp_path / "home"))
    assert not mark.exists()
    assert "[y/N]" not in capsys.readouterr().out


def test_a_pickle_beside_the_weights_is_not_opened(tiny_model_folder: Path, tmp_path: Path) -> None:
    folder, mark = tmp_path / "model", tmp_path / "owned"
    shutil.copytree(tiny_model_folder, folder)
    torch.save({"x": Payload(mark)}, folder / "pytorch_model.bin")
    load("m", ModelSpec(folder=str(folder)), Home(tmp_path / "home"))
    assert not mark.exists()


def test_an_adapter_that_is_a_pickle_is_refused(tiny_model_folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    mark, folder = tmp_path / "owned", tmp_path / "adapter"
    base = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
    get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(folder)
    load("m", ModelSpec(folder=str(tiny_model_folder)), Home(tmp_path / "home"), adapter=folder)
    (folder / "adapter_model.safetensors").unlink()
    torch.save({"x": Payload(mark)}, folder / "adapter_model.bin")
    with pytest.raises(UserError, match=r"no adapter_model\.safetensors; adapters are read as safetensors only"):
        load("m", ModelSpec(folder=str(tiny_model_folder)), Home(tmp_path / "home"), adapter=folder)
    assert not mark.exists()


def test_neither_pickles_nor_code_are_fetched_from_the_hub() -> None:
    from fnmatch import fnmatch

    for file in ("pytorch_model.bin", "model.pt", "model.pkl", "modeling_evil.py", "training_args.bin"):
        assert not any(fnmatch(file, pattern) for pattern in HUB_FILES)
