"""What doctor finds, and that it never shows a key."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from rlaif_dagster import memory_places
from rlaif_dagster.cli.cells import select
from rlaif_dagster.cli.doctor import (
    Finding,
    base_model,
    compiler,
    disks,
    estimate_parameters,
    examine,
    files,
    keys,
    memory,
)
from rlaif_dagster.home import Home
from rlaif_dagster.memory_places import Place
from rlaif_dagster.spec.model import Hub, ModelSpec, Package

SECRET = "sk-very-secret"
PACKAGE = Package(name="p", version="1", wheel_sha256="a" * 64, file="f", sha256="b" * 64, bytes=98_000_000)


def states(findings: list[Finding]) -> dict[str, str]:
    return {finding.what: finding.state for finding in findings}


def test_warnings_are_counted_and_the_exit_status_stays_0(rlaif: Callable[..., Result]) -> None:
    done = rlaif("doctor")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == "1 warning"  # the tiny model's folder does not exist
    assert "model tiny" in done.stdout


def test_only_names_of_keys_are_shown(rlaif: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    done = rlaif("doctor")
    assert SECRET not in done.output
    assert "set: OPENAI_API_KEY; not set: ANTHROPIC_API_KEY, HF_TOKEN" in done.stdout


def test_a_judge_whose_key_is_missing_is_a_warning(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_JUDGE_KEY", raising=False)
    assert states(list(keys(select(None, None))))["judge"] == "ok"
    (data / "recipes/judging.yaml").write_text("judge: paid\n")
    (warning,) = [finding for finding in keys(select(None, None)) if finding.what == "judge"]
    assert (warning.state, warning.text) == ("warn", "paid needs MY_JUDGE_KEY (judge paid): set it in the environment")
    monkeypatch.setenv("MY_JUDGE_KEY", SECRET)
    assert states(list(keys(select(None, None))))["judge"] == "ok"


def test_a_gpu_without_a_c_compiler_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert states(list(compiler())) == {"compiler": "warn"}
    (tmp_path / "clang").write_text("#!/bin/sh\n")
    (tmp_path / "clang").chmod(0o755)
    assert list(compiler()) == []


def test_a_wrong_file_is_a_finding_and_the_rest_is_still_examined(data: Path, home: Home) -> None:
    (data / "recipes/judging.yaml").write_text("judge: [\n")
    found = list(examine(select(None, None), home))
    assert states(found)["files"] == "warn"
    assert {"accelerator", "disk", "keys", "model tiny"} <= set(states(found))
    assert "judging.yaml: not valid YAML" in files(select(None, None)).text


def test_vllms_program_is_found_where_a_recipe_samples_with_it(
    rlaif: Callable[..., Result], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "vllm" not in states(list(examine(select(None, None), Home(tmp_path / "home"))))
    (data / "recipes/generation.yaml").write_text("backend: vllm\n")
    program = tmp_path / "environment" / "bin" / "vllm"
    monkeypatch.setenv("RLAIF_VLLM", str(program))
    done = rlaif("doctor")
    assert done.exit_code == 0
    assert f"there is no program '{program}'" in " ".join(done.stdout.split())
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    done = rlaif("doctor")
    assert done.exit_code == 0
    assert str(program) in "".join(done.stdout.split())


def test_weights_that_are_here_are_found_and_measured(home: Home, tmp_path: Path) -> None:
    spec = ModelSpec(folder=str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"0" * 4000)
    (tmp_path / "config.json").write_text("{}")
    found = base_model("m", spec, home)
    assert (found.state, found.text) == ("warn", f"folder {tmp_path} holds no whole model: no tokenizer*")
    (tmp_path / "tokenizer.json").write_text("{}")
    assert base_model("m", spec, home).state == "ok"
    assert estimate_parameters("m", spec, home) == 1000


def test_a_pull_that_was_cut_is_told_and_counted(data: Path, home: Home, hub_in_part: Path) -> None:
    (data / "models/tiny.yaml").write_text("hub: {repo: owner/tiny-7B, revision: abc}\n")
    spec = select(None, None).project.model("tiny")
    found = base_model("tiny", spec, home)
    assert found.state == "warn"
    assert found.text.startswith(
        "hub owner/tiny-7B, here without model-00002-of-00003.safetensors; `rlaif models pull tiny` fetches it"
    )
    [needed] = [one.text for one in disks(select(None, None), home)]
    (hub_in_part / "model-00002-of-00003.safetensors").write_bytes(b"0")
    assert base_model("tiny", spec, home).state == "ok"
    [whole] = [one.text for one in disks(select(None, None), home)]
    assert "at most some 28.1 GiB" in needed  # 7e9 parameters of 4 bytes, and 2 GiB of results
    assert "at most some 2.0 GiB" in whole


@pytest.fixture
def hub_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache after a pull that was cut: a snapshot with the second of three files missing."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "hub/models--owner--tiny-7B/snapshots/abc"
    folder.mkdir(parents=True)
    files = [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    index = {"weight_map": {"a": files[0], "b": files[0], "c": files[1], "d": files[2]}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in ("config.json", "tokenizer.json", files[0], files[2]):
        (folder / name).write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("repo", "parameters"), [("meta-llama/Llama-3.1-8B-Instruct", 8e9), ("o/SmolLM2-135M", 135e6), ("o/gpt2", None)]
)
def test_the_size_is_guessed_from_the_name_before_the_weights_are_here(
    repo: str, parameters: float | None, home: Home
) -> None:
    assert estimate_parameters("m", ModelSpec(hub=Hub(repo=repo, revision="0" * 40)), home) == parameters


def test_the_embedded_models_size_is_guessed_from_its_file(home: Home) -> None:
    guess = estimate_parameters("m", ModelSpec(package=PACKAGE), home)
    assert guess == pytest.approx(135e6, rel=0.1)


def test_a_model_that_is_too_large_for_the_machine_is_a_warning(
    data: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(hidden: int, memory_bytes: int) -> Finding:
        sizes = f"hidden_size: {hidden}, intermediate_size: {4 * hidden}, num_hidden_layers: 2, num_attention_heads: 4"
        text = f"folder: /none\nshape: {{{sizes}, num_key_value_heads: 4, vocab_size: 1000}}\n"
        (data / "models/tiny.yaml").write_text(text)
        monkeypatch.setattr(memory_places, "machine", lambda: Place("cpu", memory_bytes))
        (finding,) = memory("tiny", select(None, None), home)
        return finding

    assert found(64, 2**40).state == "ok"
    warned = found(4096, 2**30)
    assert (warned.state, "weights" in warned.text) == ("warn", True)
    assert "Lower batch_size" in warned.text
    monkeypatch.setenv("RLAIF_PROCESSES", "2")
    monkeypatch.setattr(memory_places, "machine", lambda: Place("cpu", 2**30))
    training, answering = memory("tiny", select(None, None), home)
    assert training.text.startswith("1.0 GiB memory for 2 processes; tiny needs at its peaks some: ")
    assert "2 times runtime" in training.text
    assert "Run fewer processes, lower batch_size" in training.text
    assert "_model" not in answering.text


def test_on_a_cluster_memory_is_planned_and_not_compared(
    data: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = "hidden_size: 4096, intermediate_size: 14336, num_hidden_layers: 32, num_attention_heads: 32"
    text = f"folder: /none\ndtype: bfloat16\nshape: {{{sizes}, num_key_value_heads: 8, vocab_size: 128256}}\n"
    (data / "models/tiny.yaml").write_text(text)
    monkeypatch.setattr(memory_places, "machine", lambda: Place("cpu", 2**30))
    monkeypatch.setenv("RLAIF_STEPS", "ray")
    monkeypatch.setenv("RLAIF_NUM_GPUS", "1")
    (finding,) = memory("tiny", select(None, None), home)
    assert finding.state == "ok"
    assert finding.text.startswith("GPU memory on the cluster, not compared with this machine; tiny needs at its peaks")
    monkeypatch.setenv("RLAIF_NUM_GPUS", "one")
    (wrong,) = memory("tiny", select(None, None), home)
    assert (wrong.state, "RLAIF_NUM_GPUS: found 'one'" in wrong.text) == ("warn", True)


def test_a_model_of_unknown_shape_is_told(data: Path, home: Home) -> None:
    (finding,) = memory("tiny", select(None, None), home)
    assert (finding.state, "no `shape` to plan by" in finding.text) == ("ok", True)
