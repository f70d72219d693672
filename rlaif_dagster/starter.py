"""A study of one's own beside the package: what `rlaif init` writes.

The files are those that come with the package, comments included, so that a new study gives the package's own results
until something is edited. In a checkout they are read from its data/; an installed wheel carries them as data files
(`share/rlaif-dagster/data`), which pyproject.toml lists.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import CHECKOUT, STUDY_FILE
from rlaif_dagster.spec.project import Project

# What of data/ is the package's, the constitutions and labels aside, of which a study takes those it asks for.
WHOLE = (
    "models/*.yaml",
    "judges/*.yaml",
    "recipes/*.yaml",
    "benchmarks/*.jsonl",
    "prompts/sources.yaml",
    "prompts/study.jsonl",
)
INSTALLED = f"share/rlaif-dagster/{STUDY_FILE.as_posix()}"

STUDY = """\
# What `rlaif` works on when a command names no model and no constitution. Every file in models/ and constitutions/ can be
# named by --model and --constitution; these are the default.
models: [{models}]
constitutions: [{constitutions}]
"""

WORKSPACE = """\
# For Dagster's own tools, started in this folder; `rlaif ui` starts them for you.
load_from:
  - python_module:
      module_name: rlaif_dagster.definitions
      working_directory: .
"""

GITIGNORE = """\
# results: tables, adapters, judge answers, checkpoints
.rlaif/
"""

README = """\
# {name}

A study with the Python package rlaif-dagster: an AI judge's preferences train small models, and only what an edit in `data/`
changes is computed again. In this folder:

    rlaif plan      # what an edit makes stale, why, and what it would cost
    rlaif up        # make it
    rlaif report    # the path of the report
    rlaif ui        # the same in Dagster's UI

Results are in `.rlaif/`, which git ignores. `rlaif --help` lists the other commands.
"""


def shipped() -> Path:
    """The package's own data/. Raises UserError where the package was installed without it."""
    if (CHECKOUT / STUDY_FILE).is_file():
        return CHECKOUT / "data"
    for file in importlib.metadata.files("rlaif-dagster") or ():
        if file.as_posix().endswith(INSTALLED):
            return Path(str(file.locate())).resolve().parent
    raise UserError(f"{CHECKOUT}: the package was installed without {INSTALLED}; install it anew, or use a checkout")


def make_study(target: Path, constitutions: Sequence[str]) -> Path:
    """Write a study with the named constitutions of the package into `target`, and return it resolved.

    `target` may exist, and hold other things (a repository, say); a file that would be overwritten is an error, and then
    nothing is written. Raises UserError for that, for an unknown constitution, and where the folder cannot be written.
    """
    target = target.expanduser().resolve()
    package = Project(shipped())
    known = package.names("constitutions")
    for name in constitutions:
        if name not in known:
            raise UserError(f"--constitution: {name!r} does not come with the package; allowed: {', '.join(known)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            _fill(Path(scratch), target.name, package, constitutions)
            taken = sorted(entry.name for entry in Path(scratch).iterdir() if (target / entry.name).exists())
            if taken:
                raise UserError(f"{target / taken[0]} exists already; nothing was written: name another folder")
            target.mkdir(exist_ok=True)
            for entry in Path(scratch).iterdir():
                entry.rename(target / entry.name)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror}); name another folder") from None
    return target


def _fill(folder: Path, name: str, package: Project, constitutions: Sequence[str]) -> None:
    for file in _files(package, constitutions):
        copy = folder / "data" / file.relative_to(package.root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    study = STUDY.format(models=", ".join(package.study().models), constitutions=", ".join(constitutions))
    texts = {
        "data/study.yaml": study, "workspace.yaml": WORKSPACE, ".gitignore": GITIGNORE, "README.md": README.format(name=name),
    }  # fmt: skip
    for file_name, text in texts.items():
        (folder / file_name).write_text(text, encoding="utf-8")


def _files(package: Project, constitutions: Sequence[str]) -> Iterator[Path]:
    """The package's files that a study with these constitutions takes; labels are about constitutions, and follow them."""
    for pattern in WHOLE:
        yield from sorted(package.root.glob(pattern))
    for name in constitutions:
        yield package.root / "constitutions" / f"{name}.yaml"
    for name, labelled in package.labelled_pairs().items():
        if set(labelled.constitutions) & set(constitutions):
            yield package.root / "labels" / f"{name}.yaml"
            yield package.root / "labels" / labelled.file
