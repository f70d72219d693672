"""The asking judge on a server that takes a second, 64 requests in flight, beside distilabel's litellm step.

`of_ideal` is verdicts a second over the 64 that such a server could give; `cpu_per_request` our CPU time a request over the
peer's. Both run in a process of their own, ask the same server the same questions by the same release of litellm, and
have warmed up before the clock starts. Ours keeps every answer on disk and reads verdicts out of it; the peer's step is
timed without its pipeline, in batches as large as the concurrency, which is how it asks at once. The server is another
process, and what it takes counts for neither.

Speed counts only if both got the answer to each question.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.measurement import Measurement, WrongResult, machine
from rlaif_dagster.home import CHECKOUT, Home, current_home
from rlaif_dagster.judging.api import ApiJudge
from rlaif_dagster.judging.verdicts import Order, Pair, make_pair
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.judge import ApiJudge as Spec

CONCURRENCY = 64
LATENCY = 1.0  # seconds that the server takes for an answer
ROUNDS = 30  # of answers, with all in flight
PEER = "distilabel"
PEER_VERSION = "1.5.3"
LITELLM_VERSION = "1.106.2"  # the one that this project pins
LAW = Constitution.model_validate({"principles": [{"id": "good", "text": "Prefer the good answer."}]})
ORDERS: tuple[Order, ...] = ("ab", "ba")


def measure() -> Measurement:
    """Both sides on ROUNDS times CONCURRENCY questions. Raises WrongResult when one lost an answer."""
    return compare(peer_python(current_home()), concurrency=CONCURRENCY, latency=LATENCY, rounds=ROUNDS)


def compare(peer: Path, *, concurrency: int, latency: float, rounds: int) -> Measurement:
    """Ours, then the peer's, each against a fresh server. Raises WrongResult when answers are missing or differ."""
    verdicts = concurrency * rounds
    with tempfile.TemporaryDirectory(prefix="rlaif-bench-") as folder:
        questions = Path(folder) / "questions.json"
        questions.write_text(json.dumps(asked(concurrency + verdicts)), encoding="utf-8")
        with server(latency) as url:
            arguments = [url, folder, *map(str, (concurrency, concurrency, verdicts))]
            ours = _run([sys.executable, "-m", "bench.judge_run", *arguments], "ours")
        with server(latency) as url:
            script = Path(__file__).parent / "peers" / "distilabel_step.py"
            theirs = _run([str(peer), str(script), str(questions), url, *[str(concurrency)] * 2], "peer")
    return summary(ours, theirs, verdicts=verdicts, concurrency=concurrency, latency=latency)


def summary(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], *, verdicts: int, concurrency: int, latency: float
) -> Measurement:
    """Both sides' seconds as figures. Raises WrongResult when answers are missing or differ."""
    if ours["answers"] != theirs["answers"] or len(ours["answers"]) != verdicts:
        found = [len(taken["answers"]) for taken in (ours, theirs)]
        raise WrongResult(f"of {verdicts} answers ours has {found[0]} and the peer {found[1]}, or they differ")
    sides = {
        side: {
            "verdicts_per_second": verdicts / taken["wall"],
            "of_ideal": verdicts / taken["wall"] * latency / concurrency,
            "cpu_ms_per_request": 1000 * taken["cpu"] / verdicts,
        }
        for side, taken in (("ours", ours), ("peer", theirs))
    }
    return Measurement(
        part="judge",
        ratios={
            "of_ideal": sides["ours"]["of_ideal"],
            "cpu_per_request": sides["ours"]["cpu_ms_per_request"] / sides["peer"]["cpu_ms_per_request"],
        },
        ours={
            "name": "ApiJudge",
            "concurrency": concurrency,
            "latency_s": latency,
            "verdicts": verdicts,
            **sides["ours"],
        },
        peer={"name": f"{PEER} {PEER_VERSION} TextGeneration with LiteLLM {LITELLM_VERSION}", **sides["peer"]},
        machine=machine(threads=1),
    )


def pairs_of(verdicts: int) -> list[Pair]:
    """Pairs whose judging in both orders gives so many verdicts."""
    return [
        make_pair(
            f"{n}", f"Question number {n}?", (f"{n}-x", f"A good answer to {n}."), (f"{n}-y", f"A bad answer to {n}.")
        )
        for n in range(verdicts // 2)
    ]


def asked(verdicts: int) -> list[dict[str, str]]:
    """The very questions that our judge asks, as the peer's step takes them."""
    judge = ApiJudge("bench", Spec(kind="api", model="openai/test"), Home(Path("unused")))
    requests = [request for _, request in judge.requests(pairs_of(verdicts), LAW, ORDERS)]
    return [
        {"system_prompt": request["messages"][0]["content"], "instruction": request["messages"][1]["content"]}
        for request in requests
    ]


@contextmanager
def server(latency: float) -> Iterator[str]:
    """A judge's server in a process of its own; its address."""
    command = [sys.executable, "-m", "bench.chat_server", "--latency", str(latency)]
    process = subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    try:
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.stdin.close()
        process.wait()


def peer_python(home: Home) -> Path:
    """The interpreter of the peer's own environment, made under RLAIF_HOME/cache/peers when it is not there (a few
    minutes, and the package index)."""
    folder = home.cache / "peers" / f"{PEER}-{PEER_VERSION}"
    python = folder / "bin" / "python"
    if not (folder / ".ready").exists():
        print(f"setting up {PEER} {PEER_VERSION} in {folder}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        packages = [f"{PEER}[litellm]=={PEER_VERSION}", f"litellm=={LITELLM_VERSION}"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True, stdout=sys.stderr)
        (folder / ".ready").touch()
    return python


def _run(command: list[str], side: str) -> dict[str, Any]:
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WrongResult(f"{side} ended with status {done.returncode}: {done.stderr.strip().rpartition(chr(10))[2]}")
    taken: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    print(f"{side}: {taken['wall']:.1f} s, CPU {taken['cpu']:.1f} s", file=sys.stderr)
    return taken
