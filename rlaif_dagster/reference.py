"""docs/reference.md, written from the code: every field of every file in data/, every column of every table, every command
and option, every variable of the environment.

The schemas carry the words, so they cannot fall behind: `make docs` writes the file, and a test fails when it is old.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rlaif_dagster.evaluation.items import SUITES
from rlaif_dagster.home import CHECKOUT
from rlaif_dagster.spec.base import NOT_MEANING, Spec
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.judge import ApiJudge, LikelihoodJudge, PanelJudge
from rlaif_dagster.spec.labels import HumanGrade, LabelledPairs
from rlaif_dagster.spec.model import ModelSpec
from rlaif_dagster.spec.project import RECIPES
from rlaif_dagster.spec.prompts import PromptRow, PromptSources
from rlaif_dagster.spec.study import Study
from rlaif_dagster.warehouse.schemas import TABLES, Table

PATH = CHECKOUT / "docs" / "reference.md"

FILES: dict[str, tuple[type[Spec], ...]] = {
    "data/study.yaml": (Study,),
    "data/constitutions/NAME.yaml": (Constitution,),
    "data/models/NAME.yaml": (ModelSpec,),
    "data/judges/NAME.yaml": (LikelihoodJudge, ApiJudge, PanelJudge),
    "data/prompts/sources.yaml": (PromptSources,),
    "a line of data/prompts/*.jsonl": (PromptRow,),
    **{f"data/recipes/{stage}.yaml": (recipe,) for stage, recipe in RECIPES.items()},
    "data/labels/NAME.yaml": (LabelledPairs,),
    "a line of data/labels/human_grades.jsonl": (HumanGrade,),
    **{f"a line of data/benchmarks/{suite}.jsonl": (item,) for suite, item in SUITES.items()},
}

_LIMITS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}

_INTRODUCTION = """\
# Reference

Written by `make docs` from the schemas; change them, not this file.

## Files in data/

Every field of every file. A field marked ° can change no result: editing it makes nothing again. In a recipe, `models:`
holds what differs for a named model:

```yaml
learning_rate: 2.0e-4
models:
  llama-3.1-8b-instruct:
    learning_rate: 5.0e-6
```
"""

_LABELS = """\
### a row of a file that data/labels/NAME.yaml names

JSON lines, JSON, CSV or Parquet with the columns that the YAML file names: the prompt, two answers, which of them is
preferred, and a category where there is one.
"""

VARIABLES = {
    "RLAIF_DATA": "the folder of the files you edit; by default `data/` of the study's folder",
    "RLAIF_HOME": "the folder of results; by default `.rlaif/` of the study's folder",
    "RLAIF_STORE": "results on S3-compatible storage, `s3://bucket/prefix`; the folder of results is then a copy of it "
    "(deploy/storage.md)",
    "AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY": "where that storage is and the keys to it, as for every tool of "
    "S3's; so are AWS_PROFILE, AWS_REGION and the files of ~/.aws",
    "RLAIF_POSTGRES": "address of a PostgreSQL database for Dagster's storage, instead of SQLite",
    "RLAIF_ONEDNN": "`0`: float32 products by MKL on every processor",
    "RLAIF_REPORTS": "the address at which reports are served, for links in Dagster's UI; by default http://127.0.0.1:3001, where "
    "`rlaif ui` serves them. Another server of `warehouse/report` can take its place",
    "RLAIF_PAYER": "set by `rlaif up --watch` for the commands that it starts, which spend its budget; not for you",
    "RLAIF_STEPS": "`kubernetes`: every step of the daemon's runs is a pod of its own (deploy/README.md); `ray`: every step "
    "runs on a Ray cluster "
    "(deploy/ray.md)",
    "RLAIF_SHARDS": "over how many processes on a Ray cluster a step spreads sampling, judging and benchmarks; by default its own "
    "process does all",
    "RLAIF_NUM_GPUS": "GPUs that a shard, and a step that computes, asks Ray for; by default none",
    "RLAIF_PROCESSES": "in how many processes of one machine, a GPU each, SFT, reward model, DPO and PPO train; by default one",
    "RLAIF_UI_NAMES": "names besides this machine's own under which `rlaif ui` may be called, such as that of a proxy in front",
    "RLAIF_VLLM": "vLLM's program, such as `~/vllm/bin/vllm`, for `backend: vllm`; by default `vllm` on PATH",
    "RAY_ADDRESS": "the Ray cluster, such as `head:6379`; by default the one that runs on this machine, else one is started",
    "RLAIF_ACCELERATOR_RESOURCES": "JSON of what such a pod asks for where it trains, samples or evaluates",
    "RLAIF_BENCHMARK_DATA": "folder of real benchmark data for `make bench`",
    "RLAIF_KEY_HOSTS": "which key may be sent to which server that a file names, such as `MY_SERVER_KEY=gpu-box`; several with "
    "spaces between. Needed for a judge or backend with `api_key_env` and an `api_base` that is not this machine",
    "HF_TOKEN": "access to gated models of the Hugging Face hub",
    "OPENAI_API_KEY, ANTHROPIC_API_KEY": "keys of the judges that come with the package; a judge's field `api_key_env` names "
    "its own variable",
}

_COMMANDS = """\
## Commands

Exit status: 0 when all went well, 1 when a step failed, 2 when there is something for you to fix. `--help` and `-h` show a
command's options.
"""

_TABLES = """\
## Tables

What `rlaif sql` and results.duckdb show. A column marked ° (times, caches) is no part of the table's version.
"""


def reference() -> str:
    """The whole document."""
    parts = [_INTRODUCTION]
    told: set[type[Spec]] = set()
    for file, specs in FILES.items():
        parts.append(f"### {file}\n")
        for spec in specs:
            parts.extend(_of_spec(spec, told, title=len(specs) > 1))
        if specs == (LabelledPairs,):
            parts.append(_LABELS)
    parts.append(_TABLES)
    parts.extend(_of_table(table) for table in TABLES.values())
    parts.append(_COMMANDS)
    parts.extend(_of_command(name, command) for name, command in commands())
    parts.append("## Environment\n")
    parts.append(_rows(("variable", "meaning"), [(f"`{name}`", meaning) for name, meaning in VARIABLES.items()]))
    return "\n".join(parts)


def _of_spec(spec: type[Spec], told: set[type[Spec]], *, title: bool) -> Iterator[str]:
    """The table of a spec's fields, then those of the specs inside it that were not told yet."""
    if spec in told:
        return
    told.add(spec)
    if title:
        yield f"**{spec.__name__}**\n"
    if words := _first_paragraph(spec):
        yield f"{words}\n"
    rows = [_of_field(name, field) for name, field in spec.model_fields.items()]
    yield _rows(("field", "value", "default", "meaning"), rows)
    for field in spec.model_fields.values():
        for inner in _specs_in(field.annotation):
            yield from _of_spec(inner, told, title=True)


def _first_paragraph(spec: type[Spec]) -> str:
    text = " ".join((spec.__doc__ or "").split("\n\n")[0].split())
    if text.startswith("data/"):  # the file's name, which the heading says already
        text = text.partition(": ")[2]
    return text[:1].upper() + text[1:]


def _of_field(name: str, field: FieldInfo) -> tuple[str, str, str, str]:
    mark = "°" if NOT_MEANING in field.metadata else ""
    limits = [
        f"{sign} {getattr(limit, key):g}"
        for limit in field.metadata
        for key, sign in _LIMITS.items()
        if getattr(limit, key, None) is not None
    ]
    value = ", ".join([_type(field.annotation), *limits])
    return f"`{name}`{mark}", value, _default(field), field.description or ""


def _type(annotation: Any) -> str:
    """A type in a reader's words: `number or none`, `list of text`, `high, low`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return "none"
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(argument) for argument in arguments)
    if origin in (tuple, list):
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"mapping to {_type(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return annotation.__name__
    names = {str: "text", int: "integer", float: "number", bool: "yes or no"}
    return names.get(annotation, "anything")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined or value == "" or value in ({}, ()):
        return "–"
    if isinstance(value, Spec):
        changed = value.model_dump(exclude_unset=True)
        return ", ".join(f"{key} {item}" for key, item in changed.items()) or "its own defaults"
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value)
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f"`{value}`"


def _specs_in(annotation: Any) -> Iterator[type[Spec]]:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _specs_in(argument)


def _of_table(table: Table) -> str:
    rows = [(f"`{c.name}`{'°' if c.volatile else ''}", c.type, c.comment) for c in table.all_columns]
    return f"### {table.name}\n\n{table.comment}\n\n{_rows(('column', 'type', 'meaning'), rows)}"


def commands() -> Iterator[tuple[str, Any]]:
    """Every command of the command line with its full name."""
    import typer

    from rlaif_dagster.cli.main import app

    def within(group: Any, name: str) -> Iterator[tuple[str, Any]]:
        for child, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from within(command, f"{name} {child}")
            else:
                yield f"{name} {child}", command

    return within(typer.main.get_command(app), "rlaif")


def _of_command(name: str, command: Any) -> str:
    """What the command does and a row a parameter; `click` tells them as `--help` does."""
    rows = []
    for parameter in command.params:
        if parameter.param_type_name == "option":
            said = ", ".join(f"`{one}`" for one in (*parameter.opts, *parameter.secondary_opts))
        else:
            said = f"`{parameter.metavar or parameter.name.upper()}`"
        kind = "" if getattr(parameter, "is_flag", False) else _of_type(parameter.type_descriptor.annotation)
        default = "required" if parameter.required else _of_default(parameter.default)
        rows.append((said, kind, default, getattr(parameter, "help", "") or ""))
    words = " ".join((command.help or "").split())
    return f"### {name}\n\n{words}\n\n" + (_rows(("option", "value", "default", "meaning"), rows) if rows else "")


def _of_type(annotation: Any) -> str:
    if typing.get_origin(annotation) is list:
        return f"{_of_type(typing.get_args(annotation)[0])}, repeatable"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{choice.value}`" for choice in annotation)
    return {str: "text", int: "integer", float: "number", Path: "path"}.get(annotation, "text")


def _of_default(value: Any) -> str:
    value = getattr(value, "value", value)
    return "–" if value is None or value is False or callable(value) or value == [] else f"`{value}`"


def _rows(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    PATH.write_text(reference(), encoding="utf-8")
