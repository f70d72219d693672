"""What every file in `data/` has in common: a frozen schema, a meaning, and one clear line when it is wrong.

The *meaning* of a file is what can change a result: its parsed content with defaults filled in, without comments and
without fields marked `Annotated[..., NOT_MEANING]` (descriptions, links, speed settings that cannot change a number).
An input's data version is the hash of its meaning, so reformatting a file re-materializes nothing.
"""

from __future__ import annotations

import copy
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from rlaif_dagster.errors import UserError
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.spec import yaml_limits

NOT_MEANING = "not part of the meaning"
SECRET = "secret"  # type of a pydantic error whose input is shown to nobody


class Spec(BaseModel):
    """A frozen piece of configuration; unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def meaning(self) -> dict[str, Any]:
        """JSON-ready content that can change a result."""
        out: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            if NOT_MEANING not in field.metadata:
                out[name] = _meaning_of(getattr(self, name))
        return out

    def data_version(self) -> str:
        """Data version: content hash of the meaning."""
        return content_hash(self.meaning())


SpecT = TypeVar("SpecT", bound=Spec)


def _meaning_of(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.meaning()
    if isinstance(value, list | tuple):
        return [_meaning_of(item) for item in value]
    if isinstance(value, dict):
        return {key: _meaning_of(item) for key, item in value.items()}
    return value


_READ: dict[Path, tuple[tuple[int, int, int], Any]] = {}
_SHOWN = 120  # characters of a wrong value in a message
_PROBLEMS = 5  # of a wrong file in a message


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; UserError when it is missing, unreadable or not a mapping.

    A file is parsed once a process and state on disk: a plan over many cells reads the same recipes for every one.
    """
    try:
        stat = path.stat()
        stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        known = _READ.get(path)
        if known is None or known[0] != stamp:
            known = _READ[path] = (stamp, yaml_limits.load(yaml_limits.read_limited(path)))
        content = copy.deepcopy(known[1])
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; create it or correct the name") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or a number that is none, or no UTF-8
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of fields, found {type(content).__name__}")
    return content


def parse(kind: type[SpecT], content: dict[str, Any], path: Path) -> SpecT:
    """Validate `content` as `kind`; on failure one line: file, field, value found, what is allowed."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        line = explain(error, kind)
    raise UserError(
        f"{path}: {line}"
    )  # outside the handler: pydantic's error, which repeats the input, is not its context


def explain(error: ValidationError, kind: type[BaseModel]) -> str:
    """The problems of a pydantic error on one line, each with the field, the value found and what is allowed."""
    problems = []
    found = _without_echoes(error.errors(include_url=False))
    for problem in found[:_PROBLEMS]:
        field = ".".join(str(part) for part in problem["loc"] if not _is_tag(part)) or "(whole file)"
        if problem["type"] == "extra_forbidden":
            owner = _owner(kind, problem["loc"])
            allowed = ", ".join(owner.model_fields) if owner else "see docs/reference.md"
            problems.append(f"field '{field}' is unknown; allowed: {allowed}")
        elif problem["type"] == "missing":
            problems.append(f"field '{field}' is missing")
        elif problem["type"] == SECRET:
            problems.append(f"field '{field}' {problem['msg']}")
        elif problem["type"] in ("tuple_type", "list_type"):
            problems.append(f"field '{field}': allowed is a list, such as [a, b], found {_shortened(problem['input'])}")
        elif problem["type"] == "too_short":
            least = problem["ctx"]["min_length"]
            problems.append(f"field '{field}': at least {least} needed, found {_shortened(problem['input'])}")
        else:
            told = problem["msg"].removeprefix("Value error, ")
            problems.append(f"field '{field}': {told}, found {_shortened(problem['input'])}")
    if len(found) > _PROBLEMS:
        problems.append(f"and {len(found) - _PROBLEMS} more")
    return "; ".join(problems)


def _without_echoes(found: list[ErrorDetails]) -> list[ErrorDetails]:
    """A list whose items are wrong is short of right ones, which nobody needs to be told."""
    places = [problem["loc"] for problem in found]
    return [
        problem
        for problem in found
        if problem["type"] != "too_short"
        or not any(
            len(place) > len(problem["loc"]) and place[: len(problem["loc"])] == problem["loc"] for place in places
        )
    ]


def _owner(kind: type[BaseModel], place: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The schema whose field the place names; None where several could be meant."""
    for part in place[:-1]:
        if isinstance(part, int) or _is_tag(part):
            continue
        field = kind.model_fields.get(part)
        inner = set(_schemas(field.annotation)) if field else set()
        if len(inner) != 1:
            return None
        kind = inner.pop()
    return kind


def _schemas(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _schemas(argument)


def _is_tag(part: int | str) -> bool:
    """Whether a part of a location is the tag of one of several shapes, which no file has: `Tag("(server)")`."""
    return str(part).startswith("(")


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"
