"""Where a base model's files lie on this machine, without network and without loading anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlaif_dagster.home import Home
    from rlaif_dagster.spec.model import ModelSpec


def cached_folder(spec: ModelSpec, home: Home) -> Path | None:
    """The local folder of the weights when they are here, found without network and without loading anything."""
    if spec.package:
        from rlaif_dagster.language.embedded import is_cached, model_folder

        return model_folder(spec.package, home) if is_cached(spec.package, home) else None
    if spec.hub:
        from huggingface_hub import try_to_load_from_cache

        config = try_to_load_from_cache(spec.hub.repo, "config.json", revision=spec.hub.revision)
        folder = Path(config).parent if isinstance(config, str) else None
    else:
        folder = Path(spec.folder or "").expanduser()
    return folder if folder and any(folder.glob("*.safetensors")) else None
