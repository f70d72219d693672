"""`rlaif doctor`: what this machine has, and what the chosen study would miss. Warnings never change the exit status."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rlaif_dagster.cli.cells import ConstitutionsOption, ModelsOption, Selection, select
from rlaif_dagster.cli.screen import results
from rlaif_dagster.cli.wording import gibibytes, plural, room
from rlaif_dagster.errors import UserError
from rlaif_dagster.key_hosts import withheld

if TYPE_CHECKING:
    from rlaif_dagster.home import Home
    from rlaif_dagster.memory_places import Place
    from rlaif_dagster.memory_plan import Need
    from rlaif_dagster.spec.model import ModelSpec

PACKAGES = ("torch", "transformers", "trl", "peft", "lm-eval", "litellm", "dagster", "duckdb")
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "HF_TOKEN")
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
SHOWN_STEPS = 4  # of the memory plan
ADAPTERS_AND_TABLES = 2 * 2**30  # disk that a cell's results stay below at the default sizes
GGUF_BYTES_PER_PARAMETER = 0.7  # of 4- to 6-bit files, embeddings in higher precision among them
SIZE_IN_NAME = re.compile(r"(\d+(?:\.\d+)?)\s*([bm])(?:\b|[-_])", re.IGNORECASE)


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, and for a warning what to do."""

    what: str
    state: Literal["ok", "warn"]
    text: str


def doctor(model: ModelsOption = None, constitution: ConstitutionsOption = None) -> None:
    """Check files, accelerator, memory, disk, base models and keys for the chosen models. Shows no key, only whether it is set."""
    from rich.table import Table
    from rich.text import Text

    from rlaif_dagster.home import current_home

    chosen, home = select(model, constitution), current_home()
    findings = list(examine(chosen, home))
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        state = Text(finding.state, style="green" if finding.state == "ok" else "yellow")
        table.add_row(state, finding.what, Text(finding.text))
    console = results()
    console.print(table)
    warnings = sum(finding.state == "warn" for finding in findings)
    console.print(plural(warnings, "warning") if warnings else "Everything is in place.")


def examine(chosen: Selection, home: Home) -> Iterable[Finding]:
    """All findings, in the order of a reader's questions."""
    yield from software()
    yield files(chosen)
    yield accelerator()
    yield from compiler()
    for name in chosen.models:
        spec = chosen.project.model(name)
        yield base_model(name, spec, home)
        yield from memory(name, chosen, home)
        yield from vllm(name, chosen)
    yield from disks(chosen, home)
    yield from store(home)
    yield from keys(chosen)


def software() -> Iterable[Finding]:
    """Python and the packages whose versions decide results."""
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    versions, missing = [], []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    yield Finding("packages", "ok", ", ".join(versions))
    if missing:
        yield Finding("packages", "warn", f"not installed: {', '.join(missing)}; run `make venv`")


def files(chosen: Selection) -> Finding:
    """The user's files, read as a plan reads them."""
    from rlaif_dagster.inputs import check_inputs

    try:
        check_inputs(chosen.project)
    except UserError as error:
        return Finding("files", "warn", str(error))
    return Finding("files", "ok", f"{chosen.project.root} reads without errors")


def accelerator() -> Finding:
    """What torch would compute on."""
    import torch

    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        return Finding("accelerator", "ok", f"{gpu.name}, {gibibytes(gpu.total_memory)}")
    cores = os.cpu_count() or 1
    text = (
        f"none; {plural(cores, 'CPU core')}, {torch.get_num_threads()} used. Fine for models up to some 500M parameters"
    )
    return Finding("accelerator", "ok", text)


def compiler() -> Iterable[Finding]:
    """Whether Triton, in which TRL's losses run on a GPU, finds what it compiles its launcher with."""
    import torch

    if torch.cuda.is_available() and not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        yield Finding(
            "compiler", "warn", "no gcc and no clang, without which no training starts on a GPU: apt install gcc"
        )


def base_model(name: str, spec: ModelSpec, home: Home) -> Finding:
    """Whether the weights are here already, all of them."""
    from rlaif_dagster.cli.models import source
    from rlaif_dagster.model_files import cached_folder, folder_problem, listed, missing, snapshot

    what = f"model {name}"
    if folder := cached_folder(spec, home):
        return Finding(what, "ok", f"{source(spec)}, in {folder}")
    if problem := folder_problem(spec):
        return Finding(what, "warn", problem)
    token = "" if not spec.hub or os.environ.get("HF_TOKEN") else "; HF_TOKEN is not set, which a gated model needs"
    part = snapshot(spec, home)
    lacks = f"here without {listed(missing(part))}" if part else "not here yet"
    return Finding(what, "warn", f"{source(spec)}, {lacks}; `rlaif models pull {name}` fetches it{token}")


def memory(name: str, chosen: Selection, home: Home) -> Iterable[Finding]:
    """Planned peaks of a model's steps against the memory of what would compute: a line a place where steps run."""
    from rlaif_dagster.memory_needs import needs
    from rlaif_dagster.memory_places import places

    try:
        there = places()
    except UserError as error:
        yield Finding("memory", "warn", str(error))
        return
    try:
        planned = needs(chosen.project, home, name, chosen.constitutions, there)
    except UserError:
        return  # told under files
    if not planned:
        text = f"{room(there.training)}; {name} is not here, and its file has no `shape` to plan by"
        yield Finding("memory", "ok", text)
        return
    for place in dict.fromkeys((there.training, there.answering)):
        yield _peaks(name, place, [need for asset, need in planned.items() if there.of(asset) == place])


def _peaks(name: str, place: Place, needed: list[Need]) -> Finding:
    """The largest steps of one place; where it is too small, what the first of them is made of."""
    steps = sorted(needed, key=lambda need: -need.bytes)
    shown = ", ".join(f"{need.step} {gibibytes(need.bytes)}" for need in steps[:SHOWN_STEPS])
    compared = "" if place.bytes is not None else ", not compared with this machine"
    text = f"{room(place)}{compared}; {name} needs at its peaks some: {shown}"
    largest = steps[0]
    if place.holds(largest.bytes):
        return Finding("memory", "ok", text)
    parts = ", ".join(f"{part.name} {gibibytes(part.bytes)}" for part in largest.parts)
    times, fewer = (f"{place.copies} times ", "Run fewer processes, lower") if place.copies > 1 else ("", "Lower")
    return Finding(
        "memory", "warn",
        f"{text}. {largest.step}: {times}{parts}. {fewer} batch_size or max_length, set gradient_checkpointing, or take a "
        "smaller model or a machine with more",
    )  # fmt: skip


def vllm(name: str, chosen: Selection) -> Iterable[Finding]:
    """Whether the program that a recipe samples with is here; nothing for other recipes."""
    from rlaif_dagster.language.vllm import program
    from rlaif_dagster.spec.recipes import OwnVllm

    try:
        if isinstance(chosen.project.recipe("generation", name).backend, OwnVllm):
            yield Finding("vllm", "ok", program(name))
    except UserError as error:  # a file that cannot be read is told under files, too
        yield Finding("vllm", "warn", str(error))


def estimate_parameters(name: str, spec: ModelSpec, home: Home) -> float | None:
    """From the weights when they are here, else from the size of the file or the name; None when neither says."""
    from rlaif_dagster.model_files import cached_folder, weight_files

    if folder := cached_folder(spec, home):
        return sum((folder / name).stat().st_size for name in weight_files(folder)) / BYTES[spec.dtype]
    if spec.package:
        return spec.package.bytes / GGUF_BYTES_PER_PARAMETER
    if sizes := SIZE_IN_NAME.findall(spec.hub.repo if spec.hub else name):
        number, unit = sizes[-1]
        return float(number) * (1e9 if unit.lower() == "b" else 1e6)
    return None


def store(home: Home) -> Iterable[Finding]:
    """Whether the storage that the environment names can be used; nothing where results are local."""
    from rlaif_dagster.bucket.local_copy import store_of

    try:
        bucket = store_of(home)
        if bucket is not None:
            makers = [one.name for one in bucket.list("locks/") if one.size]
            text = f"{bucket.address} answers and keeps conditional writes; {home.root} is its copy"
            yield Finding("store", "ok", f"{text}; being made: {', '.join(makers) or 'nothing'}")
    except UserError as error:
        yield Finding("store", "warn", str(error))


def disks(chosen: Selection, home: Home) -> Iterable[Finding]:
    """Free space against what the cells take and the models still to be fetched, roughly: results and the embedded model go to
    RLAIF_HOME, models of the hub to the hub's own cache, which may be the same disk."""
    from huggingface_hub.constants import HF_HUB_CACHE

    from rlaif_dagster.model_files import cached_folder

    here, hub = ADAPTERS_AND_TABLES * len(list(chosen.cells())), 0
    for name in chosen.models:
        spec = chosen.project.model(name)
        if not cached_folder(spec, home):
            size = int((estimate_parameters(name, spec, home) or 0) * BYTES[spec.dtype])
            here, hub = (here, hub + size) if spec.hub else (here + size, hub)
    cache = Path(HF_HUB_CACHE)
    if _existing(cache).stat().st_dev == _existing(home.root).stat().st_dev:
        here, hub = here + hub, 0
    yield _disk(home.root, "RLAIF_HOME", "the chosen cells take", here)
    if hub:
        yield _disk(cache, "the hub's cache; HF_HOME moves it", "the models to be fetched take", hub)


def _disk(folder: Path, name: str, what: str, need: int) -> Finding:
    free = shutil.disk_usage(_existing(folder)).free
    text = f"{gibibytes(free)} free at {folder} ({name}); {what} at most some {gibibytes(need)}"
    return Finding("disk", "ok" if free > need else "warn", text)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(one for one in (folder, *folder.parents) if one.exists())


def keys(chosen: Selection) -> Iterable[Finding]:
    """Which keys the environment holds: names only. A key that the study's judge needs and that is not there is a warning."""
    from rlaif_dagster.spec.judge import ApiJudge

    present = [name for name in KEYS if os.environ.get(name)]
    absent = [name for name in KEYS if name not in present]
    yield Finding("keys", "ok", f"set: {', '.join(present) or 'none'}; not set: {', '.join(absent) or 'none'}")
    try:
        judge = chosen.project.recipe("judging").judge
        judges = chosen.project.judges(judge)
    except UserError:
        return  # told under files
    asked = {name: spec for name, spec in judges.items() if isinstance(spec, ApiJudge)}
    needed = {name: spec.api_key_env for name, spec in asked.items() if spec.api_key_env}
    missing = [f"{key} (judge {name})" for name, key in needed.items() if not os.environ.get(key)]
    kept_back = [why for name, key in needed.items() if (why := withheld(key, asked[name].api_base))]
    if missing:
        yield Finding("judge", "warn", f"{judge} needs {', '.join(missing)}: set it in the environment")
    elif kept_back:
        yield Finding("judge", "warn", f"{judge}: {'; '.join(kept_back)}")
    else:
        kinds = ", ".join(sorted({spec.kind for spec in judges.values()}))
        yield Finding("judge", "ok", f"{judge} ({kinds}){'' if needed else ', needs no key'}")
