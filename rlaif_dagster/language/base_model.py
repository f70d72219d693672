"""A language model in memory: the frozen base weights, with a trained adapter merged into them where one is asked for.

Hub models load by the ordinary `from_pretrained` path at the revision the model file pins; weights are safetensors only
and no remote code runs. The embedded model is first turned into such a folder by `language.embedded`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import Home
from rlaif_dagster.hub_names import on_the_hub
from rlaif_dagster.language import onednn, quantization
from rlaif_dagster.language.embedded import hub_problem
from rlaif_dagster.language.quiet import quiet_loading
from rlaif_dagster.spec.model import ModelSpec

Message = dict[str, str]


@dataclass(frozen=True)
class Answerer:
    """What answers chats, wherever its weights are."""

    name: str
    spec: ModelSpec

    def chat(self, user: str, *, system: str | None = None, history: tuple[Message, ...] = ()) -> list[Message]:
        """Messages of one question: an optional system message (the model file's own when None), earlier turns, the user."""
        system = system if system is not None else self.spec.system_prompt
        first = [{"role": "system", "content": system}] if system else []
        return [*first, *history, {"role": "user", "content": user}]


@dataclass(frozen=True)
class LanguageModel(Answerer):
    """A causal model in evaluation mode with its tokenizer."""

    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel

    @property
    def device(self) -> torch.device:
        return self.model.device

    def prompt_ids(self, messages: list[Message]) -> list[int]:
        """Token ids of a chat up to where the assistant's answer begins."""
        text = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def answer_ids(self, answer: str, *, end: bool = True) -> list[int]:
        """Token ids of an assistant's answer, with the end token that closes the turn."""
        ids = self.tokenizer(answer, add_special_tokens=False)["input_ids"]
        return [*ids, self.end_id] if end else ids

    @property
    def end_id(self) -> int:
        """The token that ends an answer (the tokenizer's EOS; for chat models, the end of the turn)."""
        return int(self.tokenizer.eos_token_id)


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def weights_location(spec: ModelSpec, home: Home) -> tuple[str, dict[str, Any]]:
    """What `from_pretrained` is given for a model file: a local folder or a hub repository, and its keywords."""
    if spec.package:
        from rlaif_dagster.language.embedded import ensure_embedded

        return str(ensure_embedded(spec.package, home)), {}
    if spec.folder:
        folder = Path(spec.folder).expanduser()
        if not (folder / "config.json").exists():
            raise UserError(
                f"{folder}: no config.json; field 'folder' of the model file must name a folder in Hugging Face layout"
            )
        return str(folder), {}
    assert spec.hub is not None  # the spec's own validation: exactly one source
    return on_the_hub(spec.hub.repo), {"revision": spec.hub.revision}


def load_tokenizer(spec: ModelSpec, home: Home) -> PreTrainedTokenizerBase:
    location, keywords = weights_location(spec, home)
    with quiet_loading():
        # false and not absent: where a folder brings code of its own, absent means that a terminal is asked "run it? [y/N]"
        tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=False, **keywords)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _check_template(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """UserError where the chat template, a program in Jinja's sandbox, fails or reaches for what the sandbox denies."""
    if not tokenizer.chat_template:
        return
    try:
        tokenizer.apply_chat_template([{"role": "user", "content": "question"}], tokenize=False)
    except (TemplateError, TypeError) as error:
        raise UserError(
            f"model {name}: its chat template cannot be used: {error}; take the model from its authors, or another one"
        ) from error


def unloadable(name: str, spec: ModelSpec, location: str, error: Exception) -> UserError:
    """Why a model cannot be loaded, and what to do."""
    if spec.hub and (reason := hub_problem(error, spec.hub)):
        return UserError(f"model {name}: cannot load {location}: {reason}; then `rlaif models pull {name}`")
    remedy = (
        "field 'folder' must name a whole model in Hugging Face layout: weights as safetensors, no code of its own"
        if spec.folder
        else f"check the network and the hub's access, then `rlaif models pull {name}`"
    )
    return UserError(f"model {name}: cannot load {location}: {str(error).splitlines()[0]}; {remedy}")


def load(name: str, spec: ModelSpec, home: Home, *, adapter: Path | None = None) -> LanguageModel:
    """A fresh copy of the base model on the default device, in evaluation mode, gradients off; `adapter` (a peft folder
    on that base) is merged into the weights, or laid beside them where they are in 16 bits or fewer. A backbone that was kept
    for evaluation is let go first.

    Raises UserError with what to do when the weights can be had neither locally nor from the network.
    """
    from rlaif_dagster.language.backbone import release

    release()
    onednn.use()
    location, keywords = weights_location(spec, home)
    keywords |= quantization.keywords(name, spec, default_device())
    try:
        tokenizer = load_tokenizer(spec, home)
        with quiet_loading():
            model = AutoModelForCausalLM.from_pretrained(
                location, dtype=getattr(torch, spec.dtype), use_safetensors=True, trust_remote_code=False, **keywords
            )
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise unloadable(name, spec, location, error) from error
    _check_template(name, tokenizer)
    quantization.in_one_precision(model)
    if not quantization.is_quantized(model):  # which is put where it belongs as it is loaded
        model = model.to(default_device())
    lm = LanguageModel(name, spec, tokenizer, model.eval())
    if adapter is not None:
        from rlaif_dagster.training.adapters import with_adapter

        lm = with_adapter(lm, adapter)
    lm.model.requires_grad_(False)
    return lm
