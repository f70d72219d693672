"""What a YAML file in data/ may ask of this machine, checked before it is built in memory.

A file may come from somebody else. Tags that name Python objects are refused by the safe loader; what it does not refuse is
*size*: ten anchors of ten aliases each stand for a billion values (each costs nothing until it is validated or printed),
and brackets in brackets exhaust the stack of a loader that recurses. So the parser's events are counted first, in time
linear in the file, an alias counting as all that it stands for.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rlaif_dagster.errors import UserError

MAX_BYTES = 1 << 20  # of a file; the largest that comes with the package has some 2,000
MAX_CHARACTERS = 4 << 20  # with every alias written out
SHOWN = 60  # characters of a key in a message
MAX_DEPTH = 40  # of collections inside one another; the package's own need 5


@dataclass
class _Node:
    """A value being read: its characters so far, aliases written out, how deep it goes, and the keys of a mapping."""

    anchor: str | None
    characters: int = 1
    depth: int = 1
    keys: set[str] | None = None  # of a mapping, those read so far
    at_key: bool = True  # of a mapping: a key comes next, not a value


def read_limited(path: Path) -> str:
    """The text of a file that is safe to load; UserError, in one line, for one that is too large, nested too deeply or no
    ordinary file. Raises OSError and UnicodeDecodeError as reading does, yaml.YAMLError where it is no YAML.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path}: not an ordinary file; put a YAML file there")
    if status.st_size > MAX_BYTES:
        raise UserError(f"{path}: has {status.st_size} bytes, at most {MAX_BYTES} are read; it is no file of a study")
    text = path.read_text(encoding="utf-8")
    _check(text, path)
    return text


def _check(text: str, path: Path) -> None:
    finished: dict[str, _Node] = {}
    open_nodes = [_Node(None)]
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            is_mapping = isinstance(event, yaml.MappingStartEvent)
            open_nodes.append(_Node(event.anchor, keys=set() if is_mapping else None))
        elif isinstance(event, yaml.CollectionEndEvent):
            _close(open_nodes.pop(), open_nodes[-1], finished)
        elif isinstance(event, yaml.ScalarEvent):
            _note_key(event, open_nodes[-1], path)
            _close(_Node(event.anchor, 1 + len(event.value), 0), open_nodes[-1], finished)
        elif isinstance(event, yaml.AliasEvent):
            if any(node.anchor == event.anchor for node in open_nodes):
                raise UserError(f"{path}: not valid YAML: *{event.anchor} stands inside what it names; write it out")
            if event.anchor in finished:  # the loader tells of a name that nothing has
                _close(_Node(None, finished[event.anchor].characters, finished[event.anchor].depth), open_nodes[-1], {})
        if len(open_nodes) > MAX_DEPTH or open_nodes[-1].depth > MAX_DEPTH:
            raise UserError(
                f"{path}: more than {MAX_DEPTH} lists and mappings inside one another; it is no file of a study"
            )
        if open_nodes[-1].characters > MAX_CHARACTERS:
            raise UserError(
                f"{path}: stands for more than {MAX_CHARACTERS} characters once its aliases are written out; write them out"
            )


def _note_key(event: yaml.ScalarEvent, parent: _Node, path: Path) -> None:
    """The loader would keep the last of two equal keys, and say nothing of the first."""
    if parent.keys is None or not parent.at_key:
        return
    if event.value in parent.keys:
        assert event.start_mark is not None
        line = event.start_mark.line + 1
        raise UserError(
            f"{path}: line {line}: key {event.value[:SHOWN]!r} stands there twice; put its contents under one"
        )
    parent.keys.add(event.value)


def _close(node: _Node, parent: _Node, finished: dict[str, _Node]) -> None:
    parent.at_key = not parent.at_key
    parent.characters += node.characters
    parent.depth = max(parent.depth, node.depth + 1)
    if node.anchor:
        finished[node.anchor] = node


def load(text: str) -> Any:
    """The content of a text that `read_limited` let pass. Raises yaml.YAMLError, ValueError for a number or date that is
    none."""
    return yaml.load(text, _Loader)


_Loader: Any = getattr(
    yaml, "CSafeLoader", yaml.SafeLoader
)  # libyaml, where PyYAML was built with it, is ten times quicker
