"""What tests of every room share: a tiny model, an empty home, and no network."""

from __future__ import annotations

import os
import signal

# one thread a test process: the tiny model gains nothing from more, and a run beside others then stays predictable
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rlaif_dagster.home import Home

# tests end commands by Ctrl-C, to which whatever a script starts in its background is deaf, its children too
signal.signal(signal.SIGINT, signal.default_int_handler)

if TYPE_CHECKING:
    from rlaif_dagster.language.base_model import LanguageModel


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's folder in Hugging Face layout, for specs that name a folder."""
    from tests.tiny import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tiny_model(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """The tiny model, loaded as every other model is. Shared by the whole session: do not alter its weights (load your
    own from `tiny_model_folder`).
    """
    from rlaif_dagster.language.base_model import load
    from rlaif_dagster.spec.model import ModelSpec

    return load("tiny", ModelSpec(folder=str(tiny_model_folder)), Home(tmp_path_factory.mktemp("home")))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home of the test's own, empty."""
    return Home(tmp_path / "home")
