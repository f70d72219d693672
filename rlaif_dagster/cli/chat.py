"""`rlaif chat`: talk to a trained policy in the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from rlaif_dagster.cli.adapters import Arm, ArmOption, SeedOption, find_adapter
from rlaif_dagster.cli.cells import ConstitutionsOption, ModelsOption, select

if TYPE_CHECKING:
    from rlaif_dagster.language.base_model import LanguageModel, Message

HINT = "/new starts over, /quit or Ctrl-D ends."


def chat(
    arm: ArmOption = Arm.dpo,
    model: ModelsOption = None,
    constitution: ConstitutionsOption = None,
    seed: SeedOption = None,
    system: Annotated[
        str | None, typer.Option("--system", help="System message; the model file's own when absent.")
    ] = None,
    temperature: Annotated[float, typer.Option("--temperature", "-t", min=0, help="0 is greedy.")] = 0.0,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer.")] = 256,
) -> None:
    """Talk to an arm of one cell; the answer appears as it is written. Reads lines from a pipe as well."""
    from rlaif_dagster.bucket.local_copy import fresh_home

    chosen = select(model, constitution)
    name, rules = chosen.one("chat")
    home = fresh_home()
    adapter = find_adapter(home, name, rules, arm, seed)

    from rlaif_dagster.language.base_model import load

    lm = load(name, chosen.project.model(name), home, adapter=adapter.path if adapter else None)
    interactive = sys.stdin.isatty()
    if interactive:
        typer.echo(f"{arm} of {name}{f' under {rules}' if adapter else ''}. {HINT}")
    history: tuple[Message, ...] = ()
    while (question := _read(interactive)) is not None:
        if question == "/quit":
            break
        if question == "/new":
            history = ()
            continue
        if not question:
            continue
        answer = reply(lm, lm.chat(question, system=system, history=history), temperature, max_new_tokens)
        history = (*history, {"role": "user", "content": question}, {"role": "assistant", "content": answer})


def _read(interactive: bool) -> str | None:
    """The next question; None at the end of the input."""
    try:
        return input("> " if interactive else "").strip()
    except EOFError:
        return None


def reply(lm: LanguageModel, messages: list[Message], temperature: float, max_new_tokens: int) -> str:
    """Write the answer to stdout as it is generated; returns it whole.

    Raises UserError when the conversation no longer fits the model's context.
    """
    import torch
    from transformers import TextStreamer

    from rlaif_dagster.errors import UserError
    from rlaif_dagster.language.sampling import end_ids

    class Printer(TextStreamer):
        """Prints each finished word, without the control characters by which a text could drive the terminal."""

        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            print(printable(text), end="\n" if stream_end else "", flush=True)

    ids = lm.prompt_ids(messages)
    limit = getattr(lm.model.config, "max_position_embeddings", None)
    if limit and len(ids) + max_new_tokens > limit:
        raise UserError(
            f"the conversation has {len(ids)} tokens, and with {max_new_tokens} new ones exceeds the model's {limit}; "
            "start over with /new, or lower --max-new-tokens"
        )
    inputs = torch.tensor([ids], device=lm.device)
    sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    with torch.inference_mode():
        output = lm.model.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=max_new_tokens,
            eos_token_id=sorted(end_ids(lm)),
            pad_token_id=lm.tokenizer.pad_token_id,
            streamer=Printer(lm.tokenizer, skip_prompt=True, skip_special_tokens=True),
            **sampling,
        )
    return str(lm.tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True))


def printable(text: str) -> str:
    """The text without control characters other than line breaks and tabs."""
    return "".join(character for character in text if character in "\n\t" or character.isprintable())
