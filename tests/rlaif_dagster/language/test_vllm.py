"""vLLM as a child: found or asked for in a line, healthy before it is asked, the table of a server, and gone afterwards."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from rlaif_dagster.language.candidates import COLUMNS, complete
from rlaif_dagster.language.vllm import PROGRAM, VllmModel
from rlaif_dagster.spec.base import parse
from rlaif_dagster.spec.model import ModelSpec
from rlaif_dagster.spec.recipes import Generation, OwnVllm, Sampling, Vllm
from rlaif_dagster.work import Chunks
from tests.rlaif_dagster.language.test_endpoint import PROMPTS

SPAWN = multiprocessing.get_context("spawn")
STANDIN = Path(__file__).with_name("vllm_program.py")
SAMPLING = Generation(backend=OwnVllm(vllm=Vllm()), completions=Sampling(samples=2, temperature=0.7, max_new_tokens=9))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the program tells what it was started with; it stands where RLAIF_VLLM says."""
    script = tmp_path / "bin" / "vllm"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\n{STANDIN.read_text()}")
    script.chmod(0o755)
    monkeypatch.setenv(PROGRAM, str(script))
    monkeypatch.setenv("VLLM_STANDIN", str(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # which leads nowhere
    return tmp_path


def model(folder: Path, home: Home, **fields: Any) -> VllmModel:
    return VllmModel("tiny", ModelSpec(folder=str(folder)), Vllm(retries=0, **fields), home)


def started(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "started.jsonl").read_text().splitlines()]


def test_the_table_comes_out_and_the_program_is_gone(installed: Path, tiny_model_folder: Path, home: Home) -> None:
    frame = complete(model(tiny_model_folder, home, max_model_len=99), PROMPTS, SAMPLING, None)
    assert tuple(frame.columns) == COLUMNS
    assert frame["prompt_id"].tolist() == ["a", "a", "b", "b", "c", "c"]
    assert frame["text"].nunique() == 6
    assert (frame["logprob"] == -1.0).all()
    [start] = started(installed)
    assert (start["verb"], start["model"]) == ("serve", str(tiny_model_folder))
    port = start["options"].pop("port")
    assert start["options"] == {
        "host": "127.0.0.1", "served-model-name": "tiny", "dtype": "float32", "load-format": "safetensors",
        "generation-config": "vllm", "max-model-len": "99", "tensor-parallel-size": "1",
    }  # fmt: skip
    assert start["environment"] == {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    assert not psutil.pid_exists(start["pid"])
    assert int(port) not in {c.laddr.port for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN}


def test_a_hub_model_is_served_at_its_revision(installed: Path, home: Home) -> None:
    (installed / "fails").write_text("enough")
    spec = ModelSpec.model_validate({"hub": {"repo": "owner/model", "revision": "abc123"}, "dtype": "bfloat16"})
    with pytest.raises(UserError, match="enough"):
        complete(VllmModel("m", spec, Vllm(gpu_memory_utilization=0.5), home), PROMPTS, SAMPLING, None)
    [start] = started(installed)
    assert start["model"] == "owner/model"
    chosen = {
        name: start["options"].get(name)
        for name in ("revision", "tokenizer-revision", "dtype", "gpu-memory-utilization")
    }
    assert chosen == {
        "revision": "abc123",
        "tokenizer-revision": "abc123",
        "dtype": "bfloat16",
        "gpu-memory-utilization": "0.5",
    }


def test_without_the_program_one_line_says_how_to_have_it(
    tiny_model_folder: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PROGRAM, raising=False)
    monkeypatch.setenv("PATH", str(home.root))
    with pytest.raises(UserError, match=r"no program 'vllm': install vLLM into .* then set RLAIF_VLLM=") as caught:
        complete(model(tiny_model_folder, home), PROMPTS, SAMPLING, None)
    assert "\n" not in str(caught.value)
    quantized = VllmModel("tiny", ModelSpec(folder=str(tiny_model_folder), quantization="4bit"), Vllm(), home)
    with pytest.raises(UserError, match="not started for a base in 4bit"):
        complete(quantized, PROMPTS, SAMPLING, None)


def test_a_start_that_fails_and_one_that_never_ends_are_told(
    installed: Path, tiny_model_folder: Path, home: Home
) -> None:
    (installed / "fails").write_text("a trace\nValueError: not enough memory\n")
    with pytest.raises(UserError, match=r"vLLM ended: ValueError: not enough memory; all of it: .*tiny\.log") as caught:
        complete(model(tiny_model_folder, home), PROMPTS, SAMPLING, None)
    assert "\n" not in str(caught.value)
    (installed / "bin" / "vllm").write_text(f"#!{sys.executable}\nimport time\ntime.sleep(600)\n")
    with pytest.raises(UserError, match=r"did not answer within 0\.5 s: .* or raise backend\.vllm\.start_timeout"):
        complete(model(tiny_model_folder, home, start_timeout=0.5), PROMPTS, SAMPLING, None)


def test_what_it_answered_before_it_died_is_kept(
    installed: Path, tiny_model_folder: Path, home: Home, tmp_path: Path
) -> None:
    (installed / "dies").touch()
    chunks = Chunks(tmp_path / "chunks")
    with pytest.raises(UserError, match="vLLM ended: nothing was said"):
        complete(model(tiny_model_folder, home, concurrency=1), PROMPTS, SAMPLING, chunks)
    assert not [start for start in started(installed) if psutil.pid_exists(start["pid"])]
    (installed / "dies").unlink()
    before = len((installed / "asked.jsonl").read_text().splitlines())
    frame = complete(model(tiny_model_folder, home, concurrency=1), PROMPTS, SAMPLING, chunks)
    asked = len((installed / "asked.jsonl").read_text().splitlines())
    assert (before, asked, len(frame)) == (1, 6, 6)
    again = complete(model(tiny_model_folder, home), PROMPTS, SAMPLING, chunks)
    assert again.equals(frame)
    assert len(started(installed)) == 2  # all is there: it is not even started


def test_what_it_refuses_is_told_with_its_own_remedies(installed: Path, tiny_model_folder: Path, home: Home) -> None:
    (installed / "refuses").write_text("This model's maximum context length is 99 tokens")
    with pytest.raises(
        UserError, match=r"vLLM answered 400: .*maximum context length is 99 .*; look at fields max_model_len"
    ) as told:
        complete(model(tiny_model_folder, home, max_model_len=99), PROMPTS, SAMPLING, None)
    assert "\n" not in str(told.value)
    assert "api_base" not in str(told.value)
    assert not psutil.pid_exists(started(installed)[-1]["pid"])


def holds_open(folder: str, home: Home) -> None:
    """A step that is in the middle of its sampling until it is killed."""
    from rlaif_dagster.language.vllm import free_port, served

    with served("tiny", ModelSpec(folder=folder), Vllm(), home, free_port()):
        (home.root / "open").touch()
        time.sleep(600)


def test_it_dies_with_a_step_that_is_killed(installed: Path, tiny_model_folder: Path, home: Home) -> None:
    home.root.mkdir()
    process = SPAWN.Process(target=holds_open, args=(str(tiny_model_folder), home))
    process.start()
    deadline = time.monotonic() + 60
    while not (home.root / "open").exists():
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    [start] = started(installed)
    server = psutil.Process(start["pid"])
    os.kill(int(process.pid or 0), 9)
    process.join(10)
    _, alive = psutil.wait_procs([server], 15)
    assert not alive


def test_the_recipe_names_it_and_nothing_in_it_changes_what_it_means() -> None:
    named = parse(Generation, {"backend": "vllm"}, Path("generation.yaml"))
    tuned = parse(
        Generation, {"backend": {"vllm": {"tensor_parallel_size": 2, "concurrency": 8}}}, Path("generation.yaml")
    )
    assert named.data_version() == tuned.data_version() != Generation().data_version()
    assert named.served_by() == [{"vllm": {}}]
    with pytest.raises(UserError) as told:
        parse(Generation, {"backend": {"vllm": {"gpu_memory_utilization": 3}}}, Path("generation.yaml"))
    limit = "field 'backend.vllm.gpu_memory_utilization': Input should be less than or equal to 1, found 3"
    assert str(told.value) == f"generation.yaml: {limit}"
    with pytest.raises(UserError, match=r"field 'backend': allowed: transformers, vllm, or a mapping .*, found 'vlm'"):
        parse(Generation, {"backend": "vlm"}, Path("generation.yaml"))
    with pytest.raises(UserError, match="arguments"):  # a study may come from somebody else: it passes nothing on
        parse(Generation, {"backend": {"vllm": {"arguments": ["--trust-remote-code"]}}}, Path("generation.yaml"))
