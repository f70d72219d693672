"""Loading without noise: transformers draws a bar over the weights and warns about what is meant, on every load."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging


@contextmanager
def quiet_loading() -> Iterator[None]:
    """No bar over the weights and nothing below an error from transformers inside the block; restored after it.

    Bars over *downloads* stay: they belong to huggingface_hub, and a user who waits for gigabytes wants to see them.
    """
    verbosity = logging.get_verbosity()
    previous = logging.set_tqdm_hook(lambda factory, args, kwargs: factory(*args, **{**kwargs, "disable": True}))
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            # peft asks transformers by a name that it is about to drop
            warnings.filterwarnings("ignore", category=FutureWarning, message=".*is_gradient_checkpointing.*")
            yield
    finally:
        logging.set_verbosity(verbosity)
        logging.set_tqdm_hook(previous)
