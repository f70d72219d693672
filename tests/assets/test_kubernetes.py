"""Steps as pods: what dagster-k8s makes of the values, the tags and the image's settings, as far as it can be known without a
cluster: its own configuration schemas, and the very Job that it would send."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import pytest
import yaml

from assets import kubernetes
from rlaif_dagster.errors import UserError
from rlaif_dagster.home import CHECKOUT

DEPLOY = CHECKOUT / "deploy"
VALUES: dict[str, Any] = yaml.safe_load((DEPLOY / "kubernetes/values.yaml").read_text(encoding="utf-8"))
CODE: dict[str, Any] = VALUES["dagster-user-deployments"]["deployments"][0]
LAUNCHER: dict[str, Any] = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
ENV = {variable["name"]: variable["value"] for variable in CODE["env"]}

LOADED = """
import json
from rlaif_dagster.definitions import defs
repository = defs.get_repository_def()
job = next(job for job in repository.get_all_jobs() if "ppo_model" in {node.name for node in job.nodes})
print(json.dumps({"executor": job.executor_def.name, "tags": {node.name: node.definition.tags for node in job.nodes}}))
"""


def snake(value: Any) -> Any:
    """Helm's names as dagster-k8s has them; what is Kubernetes' own (below a config) is left to it."""
    return {re.sub(r"([A-Z])", lambda match: "_" + match[1].lower(), key): item for key, item in value.items()}


def loaded(**environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], env=os.environ | environment, capture_output=True, text=True, cwd=CHECKOUT
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_without_the_setting_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(kubernetes.STEPS, raising=False)
    monkeypatch.setenv(kubernetes.RESOURCES, ENV[kubernetes.RESOURCES])
    assert kubernetes.executor() is None
    assert kubernetes.tags_of("accelerator") == {}


@pytest.mark.parametrize("text", ["[1]", "{", '{"gpu": 1}'])
def test_wrong_settings_are_told(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kubernetes.STEPS, "slurm")
    with pytest.raises(UserError, match="RLAIF_STEPS: found 'slurm', allowed: kubernetes"):
        kubernetes.executor()
    monkeypatch.setenv(kubernetes.STEPS, "kubernetes")
    monkeypatch.setenv(kubernetes.RESOURCES, text)
    assert kubernetes.tags_of("judge") == {}
    with pytest.raises(UserError, match=r"RLAIF_ACCELERATOR_RESOURCES: .*give an object such as"):
        kubernetes.tags_of("accelerator")


def test_without_dagster_k8s_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kubernetes.STEPS, "kubernetes")
    monkeypatch.setattr(kubernetes.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs dagster-k8s: pip install .*\[k8s\]"):
        kubernetes.executor()


def test_the_launchers_values_are_what_it_accepts() -> None:
    pytest.importorskip("dagster_k8s")
    from dagster._config import process_config, resolve_to_config_type
    from dagster_k8s import K8sRunLauncher

    config = snake({name: item for name, item in LAUNCHER.items() if name not in ("envConfigMaps", "runK8sConfig")})
    config |= {
        "env_config_maps": [], "service_account_name": "rlaif-dagster", "instance_config_map": "rlaif-dagster-instance",
        "dagster_home": "/opt/dagster/dagster_home", "run_k8s_config": snake(LAUNCHER["runK8sConfig"]),
    }  # fmt: skip
    outcome = process_config(resolve_to_config_type(K8sRunLauncher.config_type()), config)
    assert outcome.success, outcome.errors


def test_a_training_step_gets_a_pod_with_its_gpu_the_volume_and_the_keys() -> None:
    pytest.importorskip("dagster_k8s")
    from dagster_k8s.container_context import K8sContainerContext
    from dagster_k8s.job import DagsterK8sJobConfig, construct_dagster_k8s_job
    from kubernetes.client import ApiClient

    found = loaded(**ENV)
    assert found["executor"] == "k8s"
    train, report = (found["tags"][name] for name in ("ppo_model", "report"))
    asked = train["dagster-k8s/config"]
    assert not any(key.startswith("dagster-k8s") for key in report)
    # as the chart hands the deployment's config to the code server, and it to runs and steps (container_context)
    assert CODE["includeConfigInLaunchedRuns"]["enabled"]
    of_the_users = {"name": "RLAIF_PROCESSES", "value": "2"}  # handed on with the rest, not one by one as on Ray
    place = {"env": [*CODE["env"], of_the_users], "env_secrets": [secret["name"] for secret in CODE["envSecrets"]]} | {
        "volumes": CODE["volumes"], "volume_mounts": CODE["volumeMounts"], "resources": CODE["resources"],
        "run_k8s_config": snake(LAUNCHER["runK8sConfig"]),
    }  # fmt: skip
    context = K8sContainerContext.create_from_config({"k8s": place}).merge(
        K8sContainerContext.create_from_config(
            {"k8s": {"run_k8s_config": json.loads(asked) if isinstance(asked, str) else asked}}
        )
    )
    config = DagsterK8sJobConfig(job_image="REGISTRY/rlaif-dagster:TAG", dagster_home="/home/rlaif/dagster_home")
    job = construct_dagster_k8s_job(
        config, args=["dagster", "api", "execute_step"], job_name="step", component="step_worker",
        user_defined_k8s_config=context.run_k8s_config,
    )  # fmt: skip
    pod = ApiClient().sanitize_for_serialization(job)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    resources = json.loads(ENV[kubernetes.RESOURCES])
    assert container["resources"] == resources
    assert resources["limits"]["nvidia.com/gpu"] == "1"
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == volume()["metadata"]["name"]
    assert {"name": "rlaif-home", "mountPath": "/rlaif"} in container["volumeMounts"]
    assert {"secretRef": {"name": "rlaif-keys"}} in container["envFrom"]
    assert {"name": "RLAIF_STEPS", "value": "kubernetes"} in container["env"]
    assert of_the_users in container["env"]
    assert pod["securityContext"] == {"runAsUser": 1000, "fsGroup": 1000}


def volume() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "kubernetes/volume.yaml").read_text(encoding="utf-8"))
    return found


def test_the_image_is_the_locked_environment_and_holds_no_results() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert "-c requirements.lock" in text
    assert re.search(r"RLAIF_HOME=(\S+)", text)[1] == CODE["volumeMounts"][0]["mountPath"]  # type: ignore[index]
    for line in text.splitlines():
        if line.startswith("COPY "):
            assert all((CHECKOUT / source).exists() for source in line.split()[1:-1])
    before = text.partition("RUN pip")[0]  # an editable install knows the packages that are there when it is made
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {name.rstrip("*").rstrip(".") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert all(f"COPY {package}/__init__.py {package}/" in before for package in packages)
    assert re.search(r"apt-get install .*\bgcc libc6-dev\b", text)  # see the test of `rlaif doctor`'s compiler
    ignored = (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {".git", ".rlaif", "**/.env"} <= set(ignored)


def test_webserver_daemon_and_code_location_run_one_image_which_has_what_the_chart_starts() -> None:
    webserver, daemon = VALUES["dagsterWebserver"], VALUES["dagsterDaemon"]
    assert webserver["image"] == daemon["image"] == CODE["image"]
    # the image's user is not root: a port below 1024 may be refused, and the probe looks where the chart's default was
    assert webserver["service"]["port"] == webserver["readinessProbe"]["httpGet"]["port"] > 1024
    extras = re.search(r"'\.\[(\S+)\]'", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"))[1].split(",")  # type: ignore[index]
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(name for extra in extras for name in project["optional-dependencies"][extra])]
    installed = {name.partition("==")[0].partition("[")[0] for name in wanted}
    assert {"dagster", "dagster-webserver", "dagster-k8s", "dagster-postgres", "psycopg2-binary"} <= installed
    programs = {program.name for program in entry_points(group="console_scripts") if program.dist.name in installed}
    assert {"dagster", "dagster-webserver", "dagster-daemon"} <= programs


def test_the_charts_version_is_that_of_the_packages() -> None:
    assert f"--version {version('dagster')} " in (DEPLOY / "kubernetes/values.yaml").read_text(encoding="utf-8")


def test_no_key_stands_in_what_is_deployed() -> None:
    for path in (p for p in DEPLOY.rglob("*") if p.is_file()):
        assert not re.search(r"(KEY|TOKEN)\s*[:=]\s*(?!\.\.\.)[\w-]{8,}", Path(path).read_text(encoding="utf-8"))
