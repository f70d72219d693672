"""Where a base model's files lie on this machine, and what of them is missing, without network and without loading anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlaif_dagster.home import Home
    from rlaif_dagster.spec.model import ModelSpec

CONFIG, TOKENIZER, WEIGHTS = "config.json", "tokenizer*", "*.safetensors"
SHOWN = 3  # missing files in a message
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"  # weights in one file, or what names the several


def cached_folder(spec: ModelSpec, home: Home) -> Path | None:
    """The local folder of the model where all that loading needs is here."""
    folder = snapshot(spec, home)
    return folder if folder and not missing(folder) else None


def snapshot(spec: ModelSpec, home: Home) -> Path | None:
    """The local folder of a model, which may be there in part only; None where nothing was fetched."""
    if spec.package:
        from rlaif_dagster.language.embedded import is_cached, model_folder

        return model_folder(spec.package, home) if is_cached(spec.package, home) else None
    if spec.hub:
        from huggingface_hub import try_to_load_from_cache

        config = try_to_load_from_cache(spec.hub.repo, CONFIG, revision=spec.hub.revision)
        return Path(config).parent if isinstance(config, str) else None
    return Path(spec.folder or "").expanduser()


def folder_problem(spec: ModelSpec) -> str | None:
    """Why a model that lies in a folder of the user's own cannot be loaded from it; None for all others, which can be fetched."""
    lacks = missing(Path(spec.folder).expanduser()) if spec.folder else []
    return f"folder {spec.folder} holds no whole model: no {listed(lacks)}" if lacks else None


def listed(names: list[str]) -> str:
    """The first of these files, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def missing(folder: Path) -> list[str]:
    """Names, or patterns, of the files that loading a model needs and this folder lacks."""
    found = {pattern: any(file.is_file() for file in folder.glob(pattern)) for pattern in (CONFIG, TOKENIZER, WEIGHTS)}
    names = weight_files(folder)
    weights = [name for name in names if not (folder / name).is_file()]
    if not names:  # several files cannot be loaded without their index, and nothing else says how many there should be
        weights = [f"{WHOLE} or {INDEX}" if found[WEIGHTS] else WEIGHTS]
    config, tokenizer = ([] if found[pattern] else [pattern] for pattern in (CONFIG, TOKENIZER))
    return [*config, *weights, *tokenizer]


def weight_files(folder: Path) -> list[str]:
    """Names of the files that hold the weights, as the loader finds them: one, or those that the index names. Empty where there
    is neither, or an index that cannot be read."""
    if (folder / WHOLE).is_file():
        return [WHOLE]
    try:
        named = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()
        return sorted({str(name) for name in named})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
