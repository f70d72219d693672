"""vLLM as the sampler of a step: started from the user's own installation, asked as any other server is, and ended.

vLLM pins its own torch and transformers, so it lives in a virtual environment of its own and is a program here, not a library:
`vllm` on PATH, or what RLAIF_VLLM names. The environment names it and no file of a study does, as a study may come from
somebody else. It listens on a free port of this machine's loopback, reads safetensors only, runs no code of the model's own, and
reports its usage to nobody. It ends with the step, also where that is killed (`rlaif_dagster.lifeline`).
"""

from __future__ import annotations

import http.client
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from rlaif_dagster.errors import UserError
from rlaif_dagster.handed_on import PROGRAM
from rlaif_dagster.home import Home
from rlaif_dagster.language.backbone import release
from rlaif_dagster.language.base_model import Answerer, Message, weights_location
from rlaif_dagster.language.endpoint import EndpointModel, Refused
from rlaif_dagster.language.sampling import Sampled
from rlaif_dagster.lifeline import lifeline
from rlaif_dagster.spec.model import ModelSpec
from rlaif_dagster.spec.recipes import Endpoint, Sampling, Vllm
from rlaif_dagster.work import Chunks

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
LOOK_SECONDS = 0.2  # between two looks at a server that starts
SECONDS_TO_END = 3.0  # between the last answer of a server that dies and its end
TALKS_TO_NOBODY = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


@dataclass(frozen=True)
class VllmModel(Answerer):
    """A base model that vLLM holds for as long as it is asked."""

    backend: Vllm
    home: Home

    def sample(
        self,
        chats: Sequence[list[Message]],
        sampling: Sampling,
        *,
        chunks: Chunks | None = None,
        progress: str | None = None,
    ) -> list[list[Sampled]]:
        """As an `EndpointModel` does; vLLM starts where an answer is still lacking. Raises UserError when it is not installed,
        does not start, or ends."""
        port = free_port()
        endpoint = Endpoint(
            api_base=f"http://{LOOPBACK}:{port}/v1", model=self.name, concurrency=self.backend.concurrency,
            timeout=self.backend.timeout, retries=self.backend.retries,
        )  # fmt: skip
        asked = EndpointModel(self.name, self.spec, endpoint)
        lacking = asked.has_to_ask(chats, sampling, chunks)
        with served(self.name, self.spec, self.backend, self.home, port) if lacking else nullcontext():
            return asked.sample(chats, sampling, chunks=chunks, progress=progress)


def program(name: str) -> str:
    """Where vLLM's program is. Raises UserError, with what to do."""
    wanted = os.environ.get(PROGRAM) or "vllm"
    found = shutil.which(str(Path(wanted).expanduser()))
    if found is None:
        raise UserError(
            f"model {name}: data/recipes/generation.yaml says `backend: vllm`, and there is no program {wanted!r}: install vLLM "
            f"into an environment of its own (python3 -m venv ~/vllm && ~/vllm/bin/pip install vllm), then set "
            f"{PROGRAM}=~/vllm/bin/vllm"
        )
    return found


@contextmanager
def served(name: str, spec: ModelSpec, backend: Vllm, home: Home, port: int) -> Iterator[None]:
    """vLLM with the base model at a port, until the block ends. What it says goes into a file under work/vllm. Raises
    UserError, also for what the block is refused."""
    if spec.quantization != "none":
        raise UserError(
            f"model {name}: vLLM is not started for a base in {spec.quantization} (field 'quantization' of its file): use "
            "`backend: transformers` in data/recipes/generation.yaml"
        )
    found = program(name)
    release()  # a model that evaluation has kept would hold the memory that vLLM takes
    told = home.work / "vllm" / f"{name}.log"
    told.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "rlaif_dagster.lifeline", found, *options(name, spec, backend, home, port)]
    server = None
    try:
        with lifeline() as living, told.open("wb") as output:
            server = subprocess.Popen(
                command, stdin=living, stdout=output, stderr=subprocess.STDOUT, env=_environment(),
                start_new_session=True,
            )  # fmt: skip
            _wait_until_healthy(name, server, port, backend.start_timeout, told)
            try:
                yield
            except Refused as error:
                raise _broken(name, server, error, told) from None
    finally:
        if server is not None:
            server.wait()


def options(name: str, spec: ModelSpec, backend: Vllm, home: Home, port: int) -> list[str]:
    """What vLLM is told: the weights as every other backend reads them, and nothing of the model's own defaults for sampling."""
    location, keywords = weights_location(spec, home)
    told = {
        **{option: keywords["revision"] for option in ("revision", "tokenizer-revision") if keywords},
        "host": LOOPBACK,
        "port": port,
        "served-model-name": name,
        "dtype": spec.dtype,
        "load-format": "safetensors",
        "generation-config": "vllm",
        "max-model-len": backend.max_model_len,
        "tensor-parallel-size": backend.tensor_parallel_size,
        "gpu-memory-utilization": backend.gpu_memory_utilization,
    }
    given = [f"--{option}={value}" for option, value in told.items() if value is not None]
    return ["serve", location, *given]


def _environment() -> dict[str, str]:
    """This process's, but for a key that vLLM would ask of whoever asks it."""
    return {name: value for name, value in os.environ.items() if name != "VLLM_API_KEY"} | TALKS_TO_NOBODY


def free_port() -> int:
    """A port of this machine's loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _wait_until_healthy(name: str, server: subprocess.Popen[bytes], port: int, seconds: float, told: Path) -> None:
    log.info("model %s: vLLM starts; what it says goes to %s", name, told)
    deadline = time.monotonic() + seconds
    while not _healthy(port):
        if server.poll() is not None:
            raise _ended(name, told)
        if time.monotonic() > deadline:
            raise UserError(
                f"model {name}: vLLM did not answer within {seconds:g} s: see {told}, or raise backend.vllm.start_timeout in "
                "data/recipes/generation.yaml"
            )
        time.sleep(LOOK_SECONDS)


def _healthy(port: int) -> bool:
    """Whether the server says that it can be asked. No proxy stands between two programs of one machine."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=10)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _broken(name: str, server: subprocess.Popen[bytes], error: Refused, told: Path) -> UserError:
    """Why no more answers come: vLLM has ended, or what it does instead of answering."""
    try:
        server.wait(timeout=SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        return UserError(
            f"model {name}: vLLM {error.what}; look at fields max_model_len and timeout of backend.vllm in "
            f"data/recipes/generation.yaml, and at {told}"
        )
    return _ended(name, told)


def _ended(name: str, told: Path) -> UserError:
    """Why vLLM is not there any more, in its own words."""
    lines = [line.strip() for line in told.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line]
    said = (errors or lines or ["nothing was said"])[-1][:300]
    return UserError(f"model {name}: vLLM ended: {said}; all of it: {told}")
