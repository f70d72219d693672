"""`rlaif export`: a trained arm as a folder in Hugging Face layout, with the model card that carries its lineage."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlaif_dagster import atomic
from rlaif_dagster.cli.adapters import Arm, ArmOption, SeedOption, find_adapter
from rlaif_dagster.cli.cells import ConstitutionsOption, ModelsOption, select
from rlaif_dagster.errors import UserError

if TYPE_CHECKING:
    from rlaif_dagster.home import Home
    from rlaif_dagster.spec.model import ModelSpec

CARD = "README.md"
OF_THE_STUDY = ("record.json", "timings.json", "value_head.safetensors")  # kept beside an adapter, of no use outside


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write; absent or empty.")],
    arm: ArmOption = Arm.dpo,
    model: ModelsOption = None,
    constitution: ConstitutionsOption = None,
    seed: SeedOption = None,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="The LoRA adapter alone, instead of the model with it merged in.")
    ] = False,
) -> None:
    """Write a trained arm for `from_pretrained`: weights as safetensors, tokenizer and model card; prints the folder."""
    from rlaif_dagster.bucket.local_copy import fresh_home

    chosen = select(model, constitution)
    name, rules = chosen.one("export")
    target = folder.expanduser().absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} exists and is not an empty folder; name another or remove it")
    home = fresh_home()
    trained = find_adapter(home, name, rules, arm, seed)
    if trained is None:
        raise UserError(
            f"arm base is the base model itself, nothing was trained; `rlaif models pull {name}` prints its folder"
        )
    if target.exists():
        target.rmdir()
    with atomic.new_folder(target) as filling:
        if adapter:
            shutil.copytree(trained.path, filling, ignore=shutil.ignore_patterns(*OF_THE_STUDY), dirs_exist_ok=True)
        else:
            write_merged(name, chosen.project.model(name), home, trained.path, filling)
    typer.echo(target)


def write_merged(name: str, spec: ModelSpec, home: Home, adapter: Path, folder: Path) -> None:
    """The base model with the adapter merged into its weights, its tokenizer, and the adapter's card told so. A base that
    the study quantizes is merged as its publisher gives it: 4 bits would round the adapter away."""
    from rlaif_dagster.language.base_model import load

    lm = load(name, spec.model_copy(update={"quantization": "none"}), home, adapter=adapter)
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    if (adapter / CARD).exists():
        (folder / CARD).write_text(merged_card((adapter / CARD).read_text(encoding="utf-8")), encoding="utf-8")


def merged_card(card: str) -> str:
    """The adapter's card for the merged model: how it is loaded is all that differs."""
    from rlaif_dagster.training.card import USE_MERGED

    loading = re.compile(r"```python\n.*?```", re.DOTALL)
    return loading.sub(
        lambda _: USE_MERGED, card.replace("library_name: peft", "library_name: transformers", 1), count=1
    )
