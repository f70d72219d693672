"""A model file: exactly one source, and the revision that pins it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from rlaif_dagster.hashing import BLOCK, SAMPLES
from rlaif_dagster.spec.model import Hub, ModelSpec, Package

HASH = "a" * 64
PACKAGE = Package(name="p", version="1", wheel_sha256=HASH, file="f.gguf", sha256="b" * 64, bytes=1)


def test_the_revision_is_what_pins_the_weights() -> None:
    assert ModelSpec(package=PACKAGE).revision == "b" * 64
    assert ModelSpec(hub=Hub(repo="o/n", revision="abc")).revision == "abc"


def test_a_folder_is_known_by_what_it_holds(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(SAMPLES * BLOCK) + b"tail")
    (tmp_path / "notes.md").write_text("read by nobody")
    spec = ModelSpec(folder=str(tmp_path))
    before = spec.revision
    assert spec.meaning()["weights"] == before
    (tmp_path / "notes.md").write_text("edited")
    assert spec.revision == before
    weights.write_bytes(bytes(SAMPLES * BLOCK) + b"TAIL")
    assert spec.revision != before


def test_one_source_and_only_one() -> None:
    with pytest.raises(ValidationError, match=r"found \['package', 'folder'\]"):
        ModelSpec(package=PACKAGE, folder="/models/x")
    with pytest.raises(ValidationError, match="found none"):
        ModelSpec()


@pytest.mark.parametrize("repo", ["no-owner", "a/b/c", "https://hub/a/b", ""])
def test_a_hub_repository_is_owner_and_name(repo: str) -> None:
    with pytest.raises(ValidationError):
        Hub(repo=repo, revision="main")


def test_dtype_is_part_of_the_meaning_and_licence_is_not() -> None:
    plain = ModelSpec(folder="f")
    assert ModelSpec(folder="f", license="MIT", description="d").data_version() == plain.data_version()
    assert ModelSpec(folder="f", dtype="bfloat16").data_version() != plain.data_version()
