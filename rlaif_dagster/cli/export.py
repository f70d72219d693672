"""`rlaif export`: a trained arm as a folder in Hugging Face layout, with the model card that carries its lineage."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
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
        bool,
        typer.Option(
            "--adapter", help="The LoRA adapter and the tokenizer, instead of the model with the adapter merged in."
        ),
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
            write_adapter(name, chosen.project.model(name), home, trained.path, filling)
        else:
            write_merged(name, chosen.project.model(name), home, trained.path, filling)
    typer.echo(target)


def write_adapter(name: str, spec: ModelSpec, home: Home, adapter: Path, folder: Path) -> None:
    """The adapter as it was trained, and the tokenizer and chat template that it was trained with, as TRL leaves them beside an
    adapter."""
    from rlaif_dagster.language.base_model import load_tokenizer, unloadable, weights_location
    from rlaif_dagster.training.card import FOLDER, USE_ADAPTER

    shutil.copytree(adapter, folder, ignore=shutil.ignore_patterns(*OF_THE_STUDY), dirs_exist_ok=True)
    location, _ = weights_location(spec, home)
    try:
        load_tokenizer(spec, home).save_pretrained(folder)
    except (OSError, ValueError) as error:
        raise unloadable(name, spec, location, error) from error
    base = spec.hub.repo if spec.hub else name
    _write_card(folder, adapter, lambda card: with_loading(card, USE_ADAPTER.format(base=base, tokenizer=FOLDER)))


def write_merged(name: str, spec: ModelSpec, home: Home, adapter: Path, folder: Path) -> None:
    """The base model with the adapter merged into its weights, its tokenizer, and the adapter's card told so. A base that
    the study quantizes is merged as its publisher gives it: 4 bits would round the adapter away. 16 bits do in part, and the
    card says so."""
    from rlaif_dagster.language.base_model import load
    from rlaif_dagster.language.quantization import merges
    from rlaif_dagster.training.adapters import merge

    lm = load(name, spec.model_copy(update={"quantization": "none"}), home)
    exact = merges(lm.model)
    lm = merge(lm, adapter)
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    _write_card(folder, adapter, lambda card: merged_card(card, None if exact else spec.dtype))


def _write_card(folder: Path, adapter: Path, exported: Callable[[str], str]) -> None:
    """The card of what is exported, made of the adapter's where it has one."""
    if (adapter / CARD).exists():
        (folder / CARD).write_text(exported((adapter / CARD).read_text(encoding="utf-8")), encoding="utf-8")


def merged_card(card: str, rounded_to: str | None) -> str:
    """The adapter's card for the merged model: how it is loaded differs, and whether the update was rounded, to which type."""
    from rlaif_dagster.training.card import ROUNDED, USE_MERGED

    use = USE_MERGED if rounded_to is None else f"{USE_MERGED}\n\n{ROUNDED.format(dtype=rounded_to)}"
    return with_loading(card.replace("library_name: peft", "library_name: transformers", 1), use)


def with_loading(card: str, how: str) -> str:
    """The card with other lines of Python that load what it is of."""
    return re.sub(r"```python\n.*?```", lambda _: how, card, count=1, flags=re.DOTALL)
