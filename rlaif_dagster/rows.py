"""Rows of a file that may come from somebody else: JSON lines, CSV or Parquet, within bounds.

A file's *name* must lie in the folder that it is named from (a study from elsewhere could name, or link to, any file of
this machine, and its content would go to a judge's provider as prompts). A file's *size on disk* says little: a Parquet
file of two megabytes holds twenty gigabytes of one repeated text, so what it unfolds to is counted while it is read. What
the rows hold is kept as text, whatever a spreadsheet, a browser or a terminal would make of it; whoever shows it escapes
it.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlaif_dagster.errors import UserError

MAX_BYTES = 256 << 20  # of a file, and of what a Parquet file's pages unfold to
MAX_ROWS = 1_000_000
MAX_CHARACTERS = 1 << 30  # of all values of a Parquet file
_BATCH = 256  # rows unfolded at a time


def inside(folder: Path, name: str) -> Path:
    """The file `name` of `folder`; UserError where `..`, an absolute name or a link leads out of it."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"{folder}: field 'file': found {name!r}, which is not inside this folder; put a copy of the file there"
        )
    return path


def check_file(path: Path) -> None:
    """UserError for what is no ordinary file (a device or a pipe never ends) and for one that is too large."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path}: not an ordinary file; put the data there")
    if status.st_size > MAX_BYTES:
        raise UserError(f"{path}: has {status.st_size} bytes, at most {MAX_BYTES} are read; take a part of it")


def parse_json(text: str, where: str) -> Any:
    """The value of a JSON text; UserError for one that is none, or that asks for more stack or digits than there are."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise UserError(f"{where}: not valid JSON: too many lists and objects inside one another") from None
    except ValueError as error:  # an integer of thousands of digits
        raise UserError(f"{where}: not valid JSON: {error}") from None


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, one after the other, never unfolded all at once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            metadata = file.metadata
            unfolded = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
            texts = [field.name for field in file.schema_arrow if pa.types.is_string(field.type)]
        if metadata.num_rows > MAX_ROWS or unfolded > MAX_BYTES:
            raise UserError(
                f"{path}: holds {metadata.num_rows} rows and {unfolded} bytes, at most {MAX_ROWS} and {MAX_BYTES} are read; "
                "take a part of it"
            )
        characters = 0
        # a repeated text stays one text until its row is read
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            for batch in file.iter_batches(_BATCH):
                columns = dict(zip(batch.schema.names, batch.columns, strict=True))
                for row in range(batch.num_rows):
                    values = {name: column[row].as_py() for name, column in columns.items()}
                    characters += sum(len(value) for value in values.values() if isinstance(value, str | bytes))
                    if characters > MAX_CHARACTERS:
                        raise UserError(f"{path}: holds more than {MAX_CHARACTERS} characters; take a part of it")
                    yield values
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a Parquet file: {error}") from None
