"""The user's folder `data/`, read and checked. Listing it gives the partitions; nothing is cached, so an edit is seen at once.

A step works on a `snapshot`: what its result is kept under and what it works with must be the same file, whatever is edited
meanwhile.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from rlaif_dagster.errors import UserError
from rlaif_dagster.home import data_folder
from rlaif_dagster.spec.base import Spec, parse, read_yaml
from rlaif_dagster.spec.constitution import Constitution
from rlaif_dagster.spec.judge import ApiJudge, JudgeSpec, LikelihoodJudge, PanelJudge
from rlaif_dagster.spec.labels import LabelledPairs
from rlaif_dagster.spec.model import ModelSpec
from rlaif_dagster.spec.prompts import PromptSources
from rlaif_dagster.spec.recipes import Benchmarks, Dpo, Generation, Judging, Ppo, Reward, Sft
from rlaif_dagster.spec.study import Study

SpecT = TypeVar("SpecT", bound=Spec)

_NAME = re.compile(r"[\w+-][\w.+-]{0,99}")

RECIPES: dict[str, type[Spec]] = {
    "generation": Generation, "judging": Judging, "sft": Sft, "reward": Reward, "dpo": Dpo, "ppo": Ppo,
    "benchmarks": Benchmarks,
}  # fmt: skip


@dataclass(frozen=True)
class Project:
    """All files of one `data/` folder, by name."""

    root: Path

    @classmethod
    def current(cls) -> Project:
        return cls(data_folder())

    def snapshot(self) -> Project:
        """The same files, each as it stands when it is read first."""
        return _Snapshot(self.root)

    def names(self, kind: str) -> list[str]:
        """Names of the files `data/KIND/*.yaml`, sorted. A name becomes a folder, a partition and a word in reports, so
        UserError for one that could be more than that."""
        names = sorted(path.stem for path in (self.root / kind).glob("[!.]*.yaml"))
        for name in names:
            if not _NAME.fullmatch(name):
                raise UserError(
                    f"{self.root / kind}: {name + '.yaml'!r}: allowed in a name: letters, digits, '.', '_', '-', '+'; rename it"
                )
        return names

    def _path(self, kind: str, name: str) -> Path:
        path = self.root / kind / f"{name}.yaml"
        if not path.exists():
            raise UserError(f"{path}: no such file; {kind} are: {', '.join(self.names(kind)) or 'none'}")
        return path

    def _content(self, path: Path) -> dict[str, Any]:
        """What a file holds, the caller's to alter."""
        return read_yaml(path)

    def _read(self, kind: str, name: str, spec: type[SpecT]) -> SpecT:
        path = self._path(kind, name)
        return parse(spec, self._content(path), path)

    def constitution(self, name: str) -> Constitution:
        return self._read("constitutions", name, Constitution)

    def model(self, name: str) -> ModelSpec:
        return self._read("models", name, ModelSpec)

    def study(self) -> Study:
        path = self.root / "study.yaml"
        if not path.exists():
            raise UserError(f"{path}: no such file; work in the folder of a study, or make one with `rlaif init DIR`")
        study = parse(Study, self._content(path), path)
        for kind in ("models", "constitutions"):
            for name in getattr(study, kind):
                if name not in self.names(kind):
                    raise UserError(f"{path}: field '{kind}' names {name!r}; allowed: {', '.join(self.names(kind))}")
        return study

    def prompt_sources(self) -> PromptSources:
        path = self.root / "prompts" / "sources.yaml"
        return parse(PromptSources, self._content(path), path)

    def labelled_pairs(self) -> dict[str, LabelledPairs]:
        return {name: self._read("labels", name, LabelledPairs) for name in self.names("labels")}

    def judge(self, name: str) -> JudgeSpec:
        """One judge; the members of a panel are checked to exist."""
        path = self._path("judges", name)
        content = self._content(path)
        kinds: dict[Any, type[Spec]] = {"likelihood": LikelihoodJudge, "api": ApiJudge, "panel": PanelJudge}
        if content.get("kind") not in kinds:
            raise UserError(f"{path}: field 'kind': found {content.get('kind')!r}, allowed: {', '.join(kinds)}")
        judge = TypeAdapter(JudgeSpec).validate_python(parse(kinds[content["kind"]], content, path))
        if isinstance(judge, PanelJudge):
            for member in judge.judges:
                self._path("judges", member)
        return judge

    def judges(self, name: str) -> dict[str, JudgeSpec]:
        """The named judge and, where it is a panel, its members."""
        judge = self.judge(name)
        members = judge.judges if isinstance(judge, PanelJudge) else ()
        return {name: judge} | {member: self.judge(member) for member in members}

    def recipe(self, stage: str, model: str | None = None) -> Any:
        """The effective recipe of a stage for a model: the file's defaults, overridden by what it says under `models:`."""
        path = self._path("recipes", stage)
        content = self._content(path)
        overrides = content.pop("models", None) or {}
        if not isinstance(overrides, dict):
            raise UserError(f"{path}: field 'models': expected a mapping from model to fields, found {overrides!r}")
        for name in overrides:
            if name not in self.names("models"):
                raise UserError(f"{path}: field 'models' names {name!r}; allowed: {', '.join(self.names('models'))}")
        return parse(RECIPES[stage], _merged(content, overrides.get(model) or {}), path)

    def check(self) -> None:
        """Read everything once; the first wrong file raises UserError."""
        self.study()
        for name in self.names("constitutions"):
            self.constitution(name)
        for name in self.names("models"):
            self.model(name)
            for stage in RECIPES:
                self.recipe(stage, name)
        for name in self.names("judges"):
            self.judge(name)
        named = self.recipe("judging").judge
        if named not in self.names("judges"):
            path = self._path("recipes", "judging")
            raise UserError(f"{path}: field 'judge' names {named!r}; allowed: {', '.join(self.names('judges'))}")
        self.prompt_sources()
        self.labelled_pairs()


@dataclass(frozen=True)
class _Snapshot(Project):
    """A project whose files do not change under its reader."""

    _known: dict[Path, dict[str, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def snapshot(self) -> Project:
        return self

    def _path(self, kind: str, name: str) -> Path:
        path = self.root / kind / f"{name}.yaml"
        return path if path in self._known else super()._path(kind, name)

    def _content(self, path: Path) -> dict[str, Any]:
        if path not in self._known:
            self._known[path] = read_yaml(path)
        return copy.deepcopy(self._known[path])


def _merged(defaults: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    out = dict(defaults)
    for key, value in overrides.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _merged(out[key], value) if both else value
    return out
