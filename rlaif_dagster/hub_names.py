"""Names of repositories on the Hugging Face hub, which its libraries take as folders of this machine where there are such."""

from __future__ import annotations

from pathlib import Path

from rlaif_dagster.errors import UserError

HUB_NAME = r"^\w[\w.-]*/\w[\w.-]*$"  # never `..`, never an absolute path, never the name of a reader such as `text`


def on_the_hub(name: str) -> str:
    """The name, where it can only mean the hub: a file from somebody else could name a folder, and what lies there would be read
    as the hub's. Raises UserError."""
    if Path(name).exists():
        raise UserError(
            f"{name}: found in the folder {Path.cwd()}, and would be read in place of the hub's {name}: run `rlaif` in another "
            "folder, or move it (a model of one's own is named by `folder`, prompts of one's own by `file`)"
        )
    return name
