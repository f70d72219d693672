"""The prompts of a study: read from the user's files or from a dataset on the hub, every row checked.

A file is judged by its content: its version is the hash of the rows it means, so reformatting it, or adding a column
that nobody reads, re-materializes nothing. Each prompt exists once: a text that returned in another split would train
on what it is tested on, so equal texts (letter case and white space aside) are an error, not a warning.
"""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from rlaif_dagster.errors import UserError
from rlaif_dagster.hashing import content_hash
from rlaif_dagster.hub_names import on_the_hub
from rlaif_dagster.rows import check_file, inside, parquet_rows, parse_json
from rlaif_dagster.spec.base import explain
from rlaif_dagster.spec.prompts import HubDataset, PromptRow, PromptSource, PromptSources

COLUMNS = ("prompt_id", "split", "category", "text", "reference", "source")
SEPARATOR = "|"  # between accepted answers in a CSV cell

Record = tuple[str, dict[str, Any]]  # where it stands ("FILE, line 3"), and its columns


def read_prompts(sources: PromptSources, folder: Path) -> pd.DataFrame:
    """All prompts, in the order of the sources: table prompts. `folder` is data/prompts, where file names start from.

    Raises UserError, in one line, at the first row that is wrong or repeats another; the line names the file, the row,
    the field, the value found and what is allowed.
    """
    rows = []
    seen: dict[str, str] = {}
    for source in sources.sources:
        for where, row in _checked(source, folder):
            normalized = " ".join(unicodedata.normalize("NFKC", row.text).casefold().split())
            if normalized in seen:
                raise UserError(f"{where}: field 'text' repeats {seen[normalized]}: {row.text!r}; keep one of the two")
            seen[normalized] = where
            reference = list(row.reference) if row.reference else None
            values = (content_hash(row.text), row.split, row.category, row.text, reference, _name(source))
            rows.append(dict(zip(COLUMNS, values, strict=True)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def sources_version(sources: PromptSources, folder: Path) -> str:
    """Data version of the sources: their meaning and the content of their files' rows.

    A hub dataset counts by its name and revision, without a look at the network: pin a commit to keep a study the same.
    Raises UserError as `read_prompts` does, duplicates aside.
    """
    content: list[Any] = []
    for source in sources.sources:
        rows = [] if source.hub else [row.meaning() for _, row in _checked(source, folder)]
        content.append([source.meaning(), rows])
    return content_hash("prompt_sources", content)


def spelled_out(sources: PromptSources, folder: Path) -> dict[str, Any]:
    """What `sources_version` is the hash of, for people: each prompt by its text, which is its `id` here."""
    files = (source for source in sources.sources if not source.hub)
    rows = [row.meaning() for source in files for _, row in _checked(source, folder)]
    return {"sources": sources.meaning(), "prompts": [{"id": row.pop("text"), **row} for row in rows]}


def _name(source: PromptSource) -> str:
    return source.hub.dataset if source.hub else str(source.file)


def _checked(source: PromptSource, folder: Path) -> Iterator[tuple[str, PromptRow]]:
    """The source's rows, each with the place it stands at."""
    records = _from_hub(source.hub) if source.hub else _from_file(inside(folder, str(source.file)))
    for number, (where, columns) in enumerate(records):
        if source.limit is not None and number >= source.limit:
            return
        yield where, _row(source, where, columns)


def _row(source: PromptSource, where: str, columns: dict[str, Any]) -> PromptRow:
    text = columns.get(source.text)
    content = {
        "text": text.strip() if isinstance(text, str) else text,
        "split": source.constant_split or columns.get(source.split or ""),
        "category": source.constant_category or columns.get(source.category or ""),
        "reference": _reference(columns.get(source.reference or ""), in_csv=_name(source).lower().endswith(".csv")),
    }
    for field, column in (("text", source.text), ("split", source.split), ("category", source.category)):
        if content[field] is None:
            constant = "" if field == "text" else f", or give 'constant_{field}' in sources.yaml"
            raise UserError(
                f"{where}: field '{field}': no value in column {column!r}; "
                f"columns with one: {', '.join(name for name, value in columns.items() if value is not None)}{constant}"
            )
    try:
        return PromptRow.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{where}: {explain(error, PromptRow)}") from None


def _reference(value: Any, *, in_csv: bool) -> Any:
    """Accepted answers as a list: a lone string is a list of one, and nothing, or an empty list, is None. What is no text
    is left to the row's check.
    """
    if isinstance(value, str):
        answers = value.split(SEPARATOR) if in_csv else [value]
        value = [answer.strip() for answer in answers if answer.strip()]
    return value or None


def _from_file(path: Path) -> Iterator[Record]:
    readers = {".jsonl": _from_jsonl, ".csv": _from_csv, ".parquet": _from_parquet}
    if path.suffix.lower() not in readers:
        raise UserError(f"{path}: unknown kind of file {path.suffix!r}; allowed: {', '.join(readers)}")
    if not path.is_file():
        raise UserError(f"{path}: no such file; create it or correct field 'file' in {path.parent / 'sources.yaml'}")
    check_file(path)
    try:
        yield from readers[path.suffix.lower()](path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: {error}; save it as UTF-8") from None


def _from_jsonl(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            columns = parse_json(line, where)
            if not isinstance(columns, dict):
                raise UserError(f"{where}: expected a JSON object, found {line.strip()[:80]!r}")
            yield where, columns


def _from_csv(path: Path) -> Iterator[Record]:
    """Rows of a CSV file with a header; an empty cell is no value, and `|` separates accepted answers."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for columns in reader:
                where = f"{path}, line {reader.line_num}"
                if None in columns:
                    raise UserError(f"{where}: more cells than the header has; quote a cell that contains a comma")
                yield where, {name: value or None for name, value in columns.items()}
        except csv.Error as error:
            raise UserError(f"{path}, line {reader.line_num}: not valid CSV: {error}") from None


def _from_parquet(path: Path) -> Iterator[Record]:
    for number, columns in enumerate(parquet_rows(path), start=1):
        yield f"{path}, row {number}", columns


def _from_hub(hub: HubDataset) -> Iterator[Record]:
    """Rows of a dataset at its revision, from the local cache or the network."""
    from datasets import load_dataset

    dataset = on_the_hub(hub.dataset)
    name = f"dataset {dataset} at {hub.revision}, split {hub.split}"
    try:
        rows = load_dataset(dataset, hub.config, split=hub.split, revision=hub.revision)
    except (OSError, ValueError) as error:  # no network, no such dataset, no such configuration or split
        reason = str(error).strip() or type(error).__name__
        raise UserError(f"{name}: cannot be read: {reason}; check the network, the name and the revision") from None
    for number, columns in enumerate(rows, start=1):
        yield f"{name}, row {number}", dict(columns)
