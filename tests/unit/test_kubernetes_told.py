"""What docs/operations.md tells about Kubernetes: the commands, the overlays to write, the monitor."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.settings import PROJECT_ROOT
from tests.support import chapter, code_blocks
from tests.unit.test_kubernetes import (
    BASE,
    COMPONENTS,
    KUBERNETES,
    OURS,
    OVERLAYS,
    PODS,
    SETTINGS,
    containers,
    kinds,
    kustomization,
    resources,
)

GUIDE = PROJECT_ROOT / "docs" / "operations.md"
CHAPTER = chapter(GUIDE.read_text(), "Kubernetes")
COMMANDS = "".join(code_blocks(CHAPTER, "sh"))
[MINE] = re.findall(r"kubectl apply --kustomize (\S+)", COMMANDS)
EXAMPLES: dict[str, dict[str, Any]] = {
    # By where the database is: that of an overlay of ours, or one of the operator's.
    "inside" if "../../base" not in found["resources"] else "outside": found
    for found in map(yaml.safe_load, code_blocks(CHAPTER, "yaml"))
    if "images" in found
}
examples = pytest.mark.parametrize("example", sorted(EXAMPLES))


def settings_of(example: str) -> dict[str, str]:
    """The settings of the base with those that an example changes."""
    [generated] = EXAMPLES[example]["configMapGenerator"]
    assert (generated["name"], generated["behavior"]) == ("settings", "merge")
    return {**SETTINGS, **dict(literal.split("=", 1) for literal in generated["literals"])}


def trigger_of(example: str) -> dict[str, str]:
    """Where KEDA asks, as an example patches it."""
    [scaled] = kinds("ScaledObject")
    [trigger] = scaled["spec"]["triggers"]
    metadata = dict(trigger["metadata"])
    for patch in EXAMPLES[example].get("patches", []):
        assert patch["target"] == {"kind": scaled["kind"], "name": scaled["metadata"]["name"]}
        for change in yaml.safe_load(patch["patch"]):
            path, _, name = change["path"].rpartition("/")
            assert (change["op"], path, name in metadata) == ("replace", "/spec/triggers/0/metadata", True)
            metadata[name] = change["value"]
    return metadata


def address(trigger: dict[str, str]) -> str:
    # In its own namespace a service is known by its first name as well.
    host = trigger["host"].removesuffix(".rubrika.svc.cluster.local")
    return f"postgresql://{trigger['userName']}@{host}:{trigger['port']}/{trigger['dbName']}"


def test_there_is_an_example_for_each_place_of_the_database() -> None:
    assert set(EXAMPLES) == {"inside", "outside"}


@examples
def test_what_is_pushed_is_what_is_applied(example: str) -> None:
    overlay = EXAMPLES[example]
    [targets] = re.findall(r"for target in ([a-z -]+); do docker build", COMMANDS)
    assert {image["name"] for image in overlay["images"]} == {f"rubrika-{target}" for target in targets.split()}
    assert {image["name"] for image in overlay["images"]} == {
        container["image"] for name in OURS for container in containers(name)
    }
    for image in overlay["images"]:
        pushed = f"{image['newName']}:{image['newTag']}".replace(image["name"], "rubrika-$target")
        assert f"docker push {pushed}" in COMMANDS
    # The overlay is written before it is applied, under the name that is applied.
    assert CHAPTER.index(f"`{MINE}/kustomization.yaml`") < CHAPTER.index("images:\n")
    assert CHAPTER.rindex("images:\n") < CHAPTER.index(f"--kustomize {MINE}")


@examples
def test_an_overlay_takes_each_resource_once(example: str) -> None:
    parts = [(PROJECT_ROOT / MINE / part).resolve() for part in EXAMPLES[example]["resources"]]
    added = [(PROJECT_ROOT / MINE / part).resolve() for part in EXAMPLES[example]["components"]]
    assert set(parts) <= {BASE, *OVERLAYS}
    assert added == COMPONENTS
    keys = [(found["kind"], found["metadata"]["name"]) for part in parts + added for found in resources(part)]
    assert len(keys) == len(set(keys))
    brought = {name for kind, name in keys if kind in {"Deployment", "StatefulSet"}}
    assert brought == (set(PODS) if example == "inside" else set(PODS) - {"postgres"})


@examples
def test_keda_asks_the_database_that_rubrika_uses(example: str) -> None:
    assert address(trigger_of(example)) == settings_of(example)["DATABASE_URL"]
    assert (settings_of(example)["DATABASE_URL"] == SETTINGS["DATABASE_URL"]) == (example == "inside")


def test_the_secret_has_what_is_read_from_it() -> None:
    [created] = re.findall(r"create secret generic passwords(.*?\n)(?!  )", COMMANDS, flags=re.DOTALL)
    literals = [word.removeprefix("--from-literal=") for word in shlex.split(created) if word != "\n"]
    read = {Path(value).name for name, value in SETTINGS.items() if name.endswith("_FILE")}
    assert {literal.split("=", 1)[0] for literal in literals} == read | {"secret_key"}
    # Beside a database of the operator's it is that database's password, and no random one.
    assert "`--from-literal=postgres='PASSWORD'`" in CHAPTER


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which has kustomize in it, is not installed")
@examples
def test_kustomize_makes_of_it_what_is_meant(example: str, tmp_path: Path) -> None:
    shutil.copytree(KUBERNETES, tmp_path / KUBERNETES.relative_to(PROJECT_ROOT))
    (tmp_path / MINE).mkdir()
    (tmp_path / MINE / "kustomization.yaml").write_text(yaml.safe_dump(EXAMPLES[example]))
    done = subprocess.run(
        ["kubectl", "kustomize", str(tmp_path / MINE)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    made = list(yaml.safe_load_all(done.stdout))
    [config] = [found for found in made if found["kind"] == "ConfigMap"]
    assert config["data"] == settings_of(example)
    [scaled] = [found for found in made if found["kind"] == "ScaledObject"]
    assert scaled["spec"]["triggers"][0]["metadata"] == trigger_of(example)
    pods = {
        found["metadata"]["name"]: found["spec"]["template"]["spec"]["containers"][0]
        for found in made
        if found["kind"] == "Deployment"
    }
    assert set(pods) == OURS | {"redis"}
    for name in OURS:
        assert pods[name]["envFrom"] == [{"configMapRef": {"name": config["metadata"]["name"]}}]
        assert re.fullmatch(r"REGISTRY/rubrika-[a-z-]+:TAG", pods[name]["image"])


def test_the_monitor_finds_the_api_and_is_known_to_the_alerts() -> None:
    [monitor] = [
        found["spec"]
        for found in map(yaml.safe_load, code_blocks(CHAPTER, "yaml"))
        if found.get("kind") == "ServiceMonitor"
    ]
    [given] = kustomization(BASE)["labels"]
    assert monitor["selector"]["matchLabels"] == given["pairs"]
    [endpoint] = monitor["endpoints"]
    ports = {port["name"]: found["metadata"]["name"] for found in kinds("Service") for port in found["spec"]["ports"]}
    assert ports[endpoint["port"]] == "api"
    alerts = (PROJECT_ROOT / "deploy" / "prometheus" / "alerts.yml").read_text()
    assert set(re.findall(r'job="(\w+)"', alerts)) == {given["pairs"][monitor["jobLabel"]]}
