"""The identity of everything: equal content has an equal name, different content a different one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from rlaif_dagster.hashing import ID_LENGTH, content_hash, file_sha256, folder_digest


def test_the_hash_is_sha256_of_canonical_json() -> None:
    text = '[{"a":1,"b":"\u2014"}]'
    assert content_hash({"b": "—", "a": 1}) == hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


def test_key_order_and_sequence_type_do_not_count() -> None:
    assert content_hash({"a": 1, "b": [1, 2]}) == content_hash({"b": (1, 2), "a": 1})


@pytest.mark.parametrize(
    ("one", "other"),
    [(["ab", "c"], ["a", "bc"]), ([1], ["1"]), ([None], [""]), ([1], [1.0]), ([True], ["true"]), ([[1], 2], [1, [2]])],
)
def test_values_of_different_shape_or_type_differ(one: list[object], other: list[object]) -> None:
    assert content_hash(*one) != content_hash(*other)


def test_what_is_no_json_has_no_hash() -> None:
    with pytest.raises(TypeError):
        content_hash({1, 2})


def test_a_file_is_hashed_whole_across_read_blocks(tmp_path: Path) -> None:
    content = b"x" * ((1 << 20) + 1)
    (tmp_path / "file").write_bytes(content)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_a_folder_digest_covers_names_and_weights_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    before = folder_digest(tmp_path)
    (tmp_path / "README.md").write_text("a card changes no weight")
    assert folder_digest(tmp_path) == before
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "model.safetensors")
    assert folder_digest(tmp_path) != before
