"""A benchmark's data in a local folder (`mirror:` of the recipe): in the layout of its authors' files, or of the hub.

lm-eval's task definitions speak of datasets as the hub has them. The files that the authors publish look otherwise, and
are what people have copies of, so a folder of these is turned into the hub's layout (Parquet and a README that names the
configurations), which lm-eval's own command line reads as well. Recognised by their files:

    truthfulqa   mc_task.json: a list of {question, mc1_targets, mc2_targets}, targets a mapping from answer to 1 or 0
                 (-> multiple_choice); TruthfulQA.csv: Type, Category, Question, Best Answer, Correct Answers, Incorrect
                 Answers, Source, answers separated by `;` (-> generation). With both, questions have their category.
    mmlu         dev/SUBJECT_dev.csv and test/SUBJECT_test.csv (val/SUBJECT_val.csv if there): question, four choices, answer
                 as a letter or as an index 0-3, with or without a header
    hellaswag    hellaswag_val*.jsonl (and hellaswag_train*.jsonl, for examples in context): ind, activity_label, ctx_a,
                 ctx_b, ctx, endings, label, source_id, split, split_type
    saferlhf     *.jsonl of {prompt, response_0, response_1, is_response_0_safe, is_response_1_safe} and, where known,
                 response_0_harm_category, response_1_harm_category (mappings from category to true or false)

Any other folder is taken to have the hub's layout already. Positions are not touched here: `documents` shuffles answers
where a source lists the right one first.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from rlaif_dagster import atomic
from rlaif_dagster.errors import UserError
from rlaif_dagster.hashing import content_hash, file_sha256

LAYOUT_VERSION = 1  # of the folders written here
Row = dict[str, Any]
Tables = dict[tuple[str, str], list[Row]]
"""Rows by (configuration, split)."""

ANSWERS = {letter: place for place, letter in enumerate("ABCD")} | {str(place): place for place in range(4)}
HELLASWAG_FIELDS = (
    "ind", "activity_label", "ctx_a", "ctx_b", "ctx", "endings", "source_id", "split", "split_type", "label",
)  # fmt: skip


def mirror_path(mirror: str, folder: Path) -> Path:
    """The folder that a recipe names, relative to data/benchmarks; UserError when it is not there."""
    path = Path(mirror).expanduser()
    path = path if path.is_absolute() else folder / path
    if not path.is_dir():
        raise UserError(
            f"data/recipes/benchmarks.yaml: field 'mirror': {path} is no folder; name one that holds the task's data"
        )
    return path


def mirror_version(path: Path) -> str:
    """Content hash of every file in the folder, hidden ones aside."""
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and not _hidden(file, path)]
    return content_hash([[file.relative_to(path).as_posix(), _digest(file)] for file in files])


def _hidden(file: Path, path: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(path).parts)


def _digest(file: Path) -> str:
    stat = file.stat()
    return _known_digest(file, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=10_000)
def _known_digest(file: Path, size: int, changed: int) -> str:
    """Of a file of this size and time of change, so that a plan does not read gigabytes again."""
    return file_sha256(file)


def hub_layout(path: Path, cache: Path) -> Path:
    """A folder in the hub's layout with the data of `path`: itself, or a converted copy under `cache`."""
    convert = _converter(path)
    if convert is None:
        return path
    target = cache / content_hash(LAYOUT_VERSION, mirror_version(path))
    if not target.exists():
        tables = convert(path)
        with atomic.new_folder(target) as fresh:
            _write(tables, fresh)
    return target


def has_split(path: Path, split: str) -> bool:
    """Whether a folder in the hub's layout speaks of a split: in a file's name, or in its README."""
    readme = path / "README.md"
    named = readme.exists() and f"split: {split}" in readme.read_text(encoding="utf-8")
    return named or any(split in file.relative_to(path).as_posix() for file in path.rglob("*.parquet"))


def _converter(path: Path) -> Callable[[Path], Tables] | None:
    if (path / "mc_task.json").exists() or (path / "TruthfulQA.csv").exists():
        return _truthfulqa
    if list((path / "test").glob("*_test.csv")):
        return _mmlu
    if list(path.glob("hellaswag_val*.jsonl")):
        return _hellaswag
    return None


def _write(tables: Tables, folder: Path) -> None:
    """Parquet files, and a README whose head names configurations and splits as the hub's do."""
    import pandas as pd

    lines = ["---", "configs:"]
    for config in dict.fromkeys(config for config, _ in tables):
        lines += [f"- config_name: {config}", "  data_files:"]
        for (name, split), rows in tables.items():
            if name == config:
                file = f"{config}/{split}.parquet"
                (folder / config).mkdir(exist_ok=True)
                pd.DataFrame(rows).to_parquet(folder / file)
                lines += [f"  - split: {split}", f"    path: {file}"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]), encoding="utf-8")


def _truthfulqa(path: Path) -> Tables:
    generation = [_generation_row(row, where) for where, row in _csv_rows(path / "TruthfulQA.csv")]
    categories = {row["question"]: row["category"] for row in generation}
    tables: Tables = {("generation", "validation"): generation} if generation else {}
    if (path / "mc_task.json").exists():
        rows = []
        for number, item in enumerate(json.loads((path / "mc_task.json").read_text(encoding="utf-8")), 1):
            try:
                targets = {key: _targets(item[key]) for key in ("mc1_targets", "mc2_targets")}
                question = str(item["question"])
            except (KeyError, TypeError, AttributeError) as error:
                raise UserError(
                    f"{path / 'mc_task.json'}, item {number}: expected question, mc1_targets and mc2_targets, targets a "
                    f"mapping from answer to 1 or 0; found {type(error).__name__}: {error}"
                ) from None
            rows.append({"question": question, **targets, "category": categories.get(question, "")})
        tables["multiple_choice", "validation"] = rows
    return tables


def _targets(answers: dict[str, int]) -> Row:
    return {"choices": list(answers), "labels": [int(label) for label in answers.values()]}


def _generation_row(row: Row, where: str) -> Row:
    names = ("Type", "Category", "Question", "Best Answer", "Correct Answers", "Incorrect Answers")
    if missing := [name for name in names if name not in row]:
        raise UserError(f"{where}: column {missing[0]!r} is missing; found: {', '.join(map(str, row))}")
    correct, incorrect = (
        [answer.strip() for answer in row[name].split(";") if answer.strip()] for name in names[4:]
    )  # fmt: skip
    return {
        "type": row["Type"], "category": row["Category"], "question": row["Question"], "best_answer": row["Best Answer"],
        "correct_answers": correct, "incorrect_answers": incorrect, "source": row.get("Source", ""),
    }  # fmt: skip


def _csv_rows(path: Path) -> Iterator[tuple[str, Row]]:
    if path.exists():
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), 1):
                yield f"{path}, row {number}", row


def _mmlu(path: Path) -> Tables:
    tables: Tables = {}
    for folder, split in (("test", "test"), ("val", "validation"), ("dev", "dev")):
        for file in sorted((path / folder).glob(f"*_{folder}.csv")):
            subject = file.stem.removesuffix(f"_{folder}")
            tables[subject, split] = list(_mmlu_rows(file, subject))
    return dict(sorted(tables.items()))


def _mmlu_rows(file: Path, subject: str) -> Iterator[Row]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        for number, cells in enumerate(csv.reader(lines), 1):
            if number == 1 and cells and cells[0] == "question" and cells[-1] == "answer":
                continue
            answer = ANSWERS.get(cells[-1]) if len(cells) == 6 else None
            if answer is None:
                raise UserError(
                    f"{file}, line {number}: expected question, four choices and an answer A-D or 0-3, found {cells!r}"
                )
            yield {"question": cells[0], "subject": subject, "choices": cells[1:5], "answer": answer}


def _hellaswag(path: Path) -> Tables:
    tables: Tables = {("default", "validation"): _hellaswag_rows(path, "val")}
    if train := _hellaswag_rows(path, "train"):
        tables["default", "train"] = train
    return tables


def _hellaswag_rows(path: Path, split: str) -> list[Row]:
    rows = []
    for file in sorted(path.glob(f"hellaswag_{split}*.jsonl")):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            row = json.loads(line)
            needed = ("activity_label", "ctx_a", "ctx_b", "endings", "label")
            if missing := [name for name in needed if name not in row]:
                raise UserError(f"{file}, line {number}: field {missing[0]!r} is missing; found: {', '.join(row)}")
            rows.append({name: row.get(name, "") for name in HELLASWAG_FIELDS} | {"label": str(row["label"])})
    return rows
