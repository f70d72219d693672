"""The meaning of a file is what can change a result, and a wrong file is told in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from rlaif_dagster.errors import UserError
from rlaif_dagster.spec.base import NOT_MEANING, Spec, parse, read_yaml
from rlaif_dagster.spec.constitution import Constitution, Principle


class Inner(Spec):
    weight: float = 1.0
    note: Annotated[str, NOT_MEANING] = ""


class Outer(Spec):
    name: str
    count: int = Field(default=3, gt=0)
    inner: tuple[Inner, ...] = (Inner(),)
    options: dict[str, Inner] = Field(default_factory=dict)
    description: Annotated[str, NOT_MEANING] = ""
    limit: Annotated[int | None, NOT_MEANING] = Field(default=None, gt=0)


def test_meaning_has_the_defaults_and_lacks_what_changes_nothing_at_every_depth() -> None:
    spec = Outer(name="n", description="for people", limit=7, options={"x": Inner(note="for people")})
    assert spec.meaning() == {"name": "n", "count": 3, "inner": [{"weight": 1.0}], "options": {"x": {"weight": 1.0}}}


def test_spelling_out_a_default_or_a_comment_changes_no_version(tmp_path: Path) -> None:
    short, long = tmp_path / "short.yaml", tmp_path / "long.yaml"
    short.write_text("name: n\n")
    long.write_text("# a comment\ndescription: words\ncount:   3\nname: 'n'\ninner: [{weight: 1, note: words}]\n")
    versions = {parse(Outer, read_yaml(path), path).data_version() for path in (short, long)}
    assert len(versions) == 1
    assert Outer(name="n", count=4).data_version() not in versions


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ({}, ["field 'name' is missing"]),
        ({"name": "n", "cuont": 1}, ["field 'cuont' is unknown", "allowed: name, count, inner, options"]),
        ({"name": "n", "count": 0}, ["field 'count'", "greater than 0", "found 0"]),
        ({"name": "n", "count": "many"}, ["field 'count'", "integer", "found 'many'"]),
        ({"name": "n", "inner": [{"weight": "x"}]}, ["field 'inner.0.weight'", "found 'x'"]),
        ({"name": "n", "inner": [{"wieght": 1}]}, ["field 'inner.0.wieght' is unknown; allowed: weight"]),
        ({"name": "n", "inner": 3}, ["field 'inner': allowed is a list, such as [a, b], found 3"]),
        ({"count": 0, "limit": -1}, ["'name' is missing", "'count'", "'limit'"]),
    ],
)
def test_a_wrong_field_is_named_with_what_was_found_and_what_is_allowed(
    content: dict[str, object], parts: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        parse(Outer, content, tmp_path / "file.yaml")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'file.yaml'}: ")
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_list_whose_items_are_wrong_is_not_called_short(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        parse(
            Constitution, {"principles": [{"id": "a", "text": "Be brief and kind.", "wieght": 2}]}, tmp_path / "a.yaml"
        )
    assert str(caught.value) == (
        f"{tmp_path / 'a.yaml'}: field 'principles.0.wieght' is unknown; allowed: {', '.join(Principle.model_fields)}"
    )
    with pytest.raises(UserError, match=r"field 'principles': at least 1 needed, found \[\]$"):
        parse(Constitution, {"principles": []}, tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (b"name: [", "not valid YAML"),
        (b"- a\n- b\n", "expected a mapping of fields, found list"),
        (b"", "expected a mapping of fields, found NoneType"),
        (b"name: \xff\xfe", "not valid YAML"),
    ],
)
def test_what_is_no_mapping_is_told_in_one_line(text: bytes, part: str, tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(text)
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_yaml(tmp_path / "absent.yaml")
