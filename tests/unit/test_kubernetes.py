"""The manifests under deploy/kubernetes say the same as the code that they start, and fit together.

They are read as kustomize reads them: the resources of an overlay are those of its base and its own. What operators are
told about them is in test_kubernetes_told.py.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.app import create_app
from api.server import GRACEFUL_SECONDS
from cli.main import main
from jobs.settings import PROJECT_ROOT, SETTINGS_TABLE, Settings
from tests.unit.test_deployment import OF_LIBRARIES

KUBERNETES = PROJECT_ROOT / "deploy" / "kubernetes"
BASE = KUBERNETES / "base"
OVERLAYS = sorted(path.parent for path in (KUBERNETES / "overlays").glob("*/kustomization.yaml"))
COMPONENTS = sorted(path.parent for path in (KUBERNETES / "components").glob("*/kustomization.yaml"))
COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT_ROOT / "docker-compose.yml").read_text())["services"]
NAME = "app.kubernetes.io/name"
OURS = {"api", "worker", "worker-gpu", "sweeper"}
SERVERS = {"redis", "postgres"}
SECRETS = "/run/secrets/rubrika"


def kustomization(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((folder / "kustomization.yaml").read_text())
    return found


def resources(folder: Path) -> Iterator[dict[str, Any]]:
    for name in kustomization(folder)["resources"]:
        path = (folder / name).resolve()
        if path.is_dir():
            yield from resources(path)
        else:
            yield from yaml.safe_load_all(path.read_text())


EVERYTHING = [*resources(BASE)]
for addition in [*OVERLAYS, *COMPONENTS]:
    EVERYTHING += [found for found in resources(addition) if found not in EVERYTHING]
WORKLOADS = {found["metadata"]["name"]: found for found in EVERYTHING if found["kind"] in {"Deployment", "StatefulSet"}}
PODS = {name: found["spec"]["template"]["spec"] for name, found in WORKLOADS.items()}
SETTINGS = dict(
    line.split("=", 1) for line in (BASE / "settings.env").read_text().splitlines() if line and not line.startswith("#")
)


def kinds(kind: str) -> list[dict[str, Any]]:
    return [found for found in EVERYTHING if found["kind"] == kind]


def containers(workload: str) -> list[dict[str, Any]]:
    return [*PODS[workload].get("initContainers", []), *PODS[workload]["containers"]]


def all_containers() -> list[Any]:
    return [
        pytest.param(name, found, id=f"{name}-{found['name']}") for name in sorted(PODS) for found in containers(name)
    ]


def chosen(selector: dict[str, Any]) -> set[str]:
    """The workloads whose pods a selector takes."""
    labels = {name: found["spec"]["template"]["metadata"]["labels"] for name, found in WORKLOADS.items()}
    taken = {
        name
        for name, found in labels.items()
        if all(found.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    }
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In"
        taken = {name for name in taken if labels[name].get(expression["key"]) in expression["values"]}
    return taken


# --- the files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [BASE, *OVERLAYS, *COMPONENTS], ids=lambda path: path.name)
def test_every_file_is_a_resource_and_every_resource_is_there(folder: Path) -> None:
    named = set(kustomization(folder)["resources"])
    lying = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
    assert lying == {name for name in named if name.endswith(".yaml")}
    assert all((folder / name).exists() for name in named)
    keys = [(found["kind"], found["metadata"]["name"]) for found in resources(folder)]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda path: path.name)
def test_a_component_goes_with_every_overlay(component: Path) -> None:
    """With a base of its own it could not stand beside another one: kustomize takes each resource once."""
    told = kustomization(component)
    assert (told["apiVersion"], told["kind"]) == ("kustomize.config.k8s.io/v1alpha1", "Component")
    assert all((component / name).is_file() for name in told["resources"])
    for overlay in OVERLAYS:
        together = [*resources(overlay), *resources(component)]
        keys = [(found["kind"], found["metadata"]["name"]) for found in together]
        assert len(keys) == len(set(keys))


def test_the_workloads_are_those_of_the_architecture() -> None:
    assert set(WORKLOADS) == OURS | SERVERS
    assert set(COMPOSE) >= OURS


# --- settings -------------------------------------------------------------------------------------------------------


def environment(container: dict[str, Any]) -> dict[str, str]:
    given = {item["name"]: item["value"] for item in container.get("env", [])}
    return {**SETTINGS, **given} if container.get("envFrom") else given


@pytest.mark.parametrize(("workload", "container"), all_containers())
def test_the_settings_exist_and_can_be_used(workload: str, container: dict[str, Any], tmp_path: Path) -> None:
    if workload in SERVERS:
        assert "envFrom" not in container
        return
    assert container["envFrom"] == [{"configMapRef": {"name": "settings"}}]
    env = environment(container)
    # The libraries have as many threads as in the other way to deploy.
    threads = {name: value for name, value in COMPOSE[workload]["environment"].items() if name in OF_LIBRARIES}
    assert {name: env.pop(name, None) for name in threads} == threads
    assert set(env) <= set(SETTINGS_TABLE), "nobody reads what is not in the table"
    for name, value in env.items():
        if name.endswith("_FILE"):
            assert Path(value).parent == Path(SECRETS)
            (tmp_path / Path(value).name).write_text("secret")
            env[name] = str(tmp_path / Path(value).name)
    settings = Settings.from_env(env)
    assert settings.database_url == "postgresql+psycopg2://rubrika:secret@postgres:5432/rubrika"
    assert settings.redis_url == "redis://:secret@redis:6379/0"
    assert settings.log_format == "json"
    if container["args"] == ["api"]:
        assert (settings.auth, settings.allow_open) == ("keys", False)
        assert env["RUBRIKA_SECRET_KEY_FILE"] == str(tmp_path / "secret_key")


def test_a_setting_is_given_once() -> None:
    for workload in OURS:
        for container in containers(workload):
            assert not {item["name"] for item in container.get("env", [])} & set(SETTINGS)


def test_the_config_map_is_made_of_the_settings() -> None:
    assert kustomization(BASE)["configMapGenerator"] == [{"name": "settings", "envs": ["settings.env"]}]


@pytest.mark.parametrize("addition", [*OVERLAYS, *COMPONENTS], ids=lambda path: path.name)
def test_an_addition_gets_the_name_of_the_config_map_that_the_base_makes(addition: Path) -> None:
    """Its hash is put into names of the same namespace alone."""
    own = [addition / name for name in kustomization(addition)["resources"] if (addition / name).is_file()]
    assert own
    documents = [found for path in own for found in yaml.safe_load_all(path.read_text())]
    assert all(found["metadata"]["namespace"] == "rubrika" for found in documents)


# --- what runs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workload", "container"), all_containers())
def test_images_and_commands_are_those_of_the_containers(workload: str, container: dict[str, Any]) -> None:
    if workload in SERVERS:
        assert container["image"] == COMPOSE[workload]["image"]
        return
    [command] = container["args"]
    assert command in main.commands
    service = "migrate" if container["name"] == "migrate" else workload
    assert container["image"] == COMPOSE[service]["image"]
    assert [command] == COMPOSE[service]["command"]
    for name, value in COMPOSE[service]["environment"].items():
        if name in {"RUBRIKA_DEVICE", "RUBRIKA_DATA_DIR", "RUBRIKA_HOST", "RUBRIKA_PORT"}:
            assert container["name"] == "migrate" or environment(container)[name] == value


def test_redis_is_started_as_in_the_other_containers() -> None:
    [script] = COMPOSE["redis"]["command"]
    [container] = containers("redis")
    expected = script.replace("$$", "$").replace("/run/secrets/redis_password", f"{SECRETS}/redis")
    assert container["command"] == COMPOSE["redis"]["entrypoint"]
    assert container["args"] == [expected]
    check = COMPOSE["redis"]["healthcheck"]["test"][1].replace("$$", "$")
    asked = container["readinessProbe"]["exec"]["command"][2]
    assert asked == check.replace("/run/secrets/redis_password", f"{SECRETS}/redis")


@pytest.mark.parametrize("workload", sorted(PODS))
def test_everybody_gets_the_time_to_stop_in_order(workload: str) -> None:
    grace = PODS[workload]["terminationGracePeriodSeconds"]
    asked = int(COMPOSE[workload]["stop_grace_period"].removesuffix("s"))
    pause = sum(
        found.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        for found in containers(workload)
    )
    assert grace >= asked + pause
    assert workload != "api" or grace > GRACEFUL_SECONDS + pause > GRACEFUL_SECONDS


def test_probes_ask_addresses_that_exist() -> None:
    settings = Settings.from_env({"DATABASE_URL": "postgresql://nowhere/x", "REDIS_URL": "redis://nowhere"})
    routes = {rule.rule for rule in create_app(settings).url_map.iter_rules()}
    [api] = PODS["api"]["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert api[probe]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert "/healthz" in routes
    assert api["ports"] == [{"name": "http", "containerPort": int(environment(api)["RUBRIKA_PORT"])}]


def test_nobody_is_led_to_the_counts_without_a_key() -> None:
    """Annotations for Prometheus would lead it there with empty hands, and `RubrikaDown` would speak for ever."""
    assert "prometheus.io/" not in "".join(path.read_text() for path in KUBERNETES.rglob("*.yaml"))


def test_migrations_run_before_the_first_pod_that_answers() -> None:
    assert [found["args"] for found in PODS["api"]["initContainers"]] == [["migrate"]]


# --- rights, bounds, places -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("workload", sorted(PODS))
def test_no_pod_has_rights(workload: str) -> None:
    pod = PODS[workload]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    if workload in OURS:
        assert str(pod["securityContext"]["runAsUser"]) in (PROJECT_ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize(("workload", "container"), all_containers())
def test_no_container_has_rights_or_goes_without_bounds(workload: str, container: dict[str, Any]) -> None:
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in container["resources"]["limits"]
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])


@pytest.mark.parametrize("workload", sorted(PODS))
def test_what_is_mounted_is_there_and_bounded(workload: str) -> None:
    volumes = {volume["name"]: volume for volume in PODS[workload]["volumes"]}
    claims = {claim["metadata"]["name"] for claim in WORKLOADS[workload]["spec"].get("volumeClaimTemplates", [])}
    mounted = {mount["name"] for found in containers(workload) for mount in found["volumeMounts"]}
    assert mounted == set(volumes) | claims
    assert all("sizeLimit" in volume["emptyDir"] for volume in volumes.values() if "emptyDir" in volume)
    secret = volumes["passwords"]["secret"]
    assert secret["secretName"] == "passwords"
    # Group and owner alone; fsGroup makes the group theirs.
    assert secret["defaultMode"] == 0o440
    assert PODS[workload]["securityContext"]["fsGroup"] == PODS[workload]["securityContext"]["runAsGroup"]
    # A server is given its own password and no other.
    assert workload in OURS or [item["key"] for item in secret["items"]] == [workload]


def test_no_secret_is_written_down() -> None:
    assert kinds("Secret") == []
    for path in KUBERNETES.rglob("*"):
        if path.is_file():
            assert not re.search(r"PASSWORD\s*[=:]\s*\S", path.read_text())


# --- who may talk to whom -------------------------------------------------------------------------------------------


def policies() -> dict[str, dict[str, Any]]:
    return {found["metadata"]["name"]: found["spec"] for found in kinds("NetworkPolicy")}


def test_nobody_talks_to_anybody_unless_it_is_said() -> None:
    assert policies()["nobody"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.mark.parametrize(("server", "port"), [("redis", 6379), ("postgres", 5432)])
def test_ours_reach_the_servers_from_both_ends(server: str, port: int) -> None:
    ingress = policies()[f"to-{server}"]
    assert chosen(ingress["podSelector"]) == {server}
    [rule] = ingress["ingress"]
    assert chosen(rule["from"][0]["podSelector"]) == OURS
    assert [item["port"] for item in rule["ports"]] == [port]
    egress = policies()["to-servers"]
    assert chosen(egress["podSelector"]) == OURS
    assert port in {item["port"] for rule in egress["egress"] for item in rule["ports"]}


def test_posts_do_not_leave() -> None:
    """Nothing of ours may go anywhere but to the servers and to the names of the cluster."""
    ports = {item["port"] for spec in policies().values() for rule in spec.get("egress", []) for item in rule["ports"]}
    assert ports == {53, 6379, 5432}


# --- as many as are needed ------------------------------------------------------------------------------------------


def test_keda_scales_the_workers_and_is_not_fought_with() -> None:
    [scaled] = kinds("ScaledObject")
    target = scaled["spec"]["scaleTargetRef"]["name"]
    assert target == "worker"
    assert "replicas" not in WORKLOADS[target]["spec"]
    assert scaled["spec"]["minReplicaCount"] >= 1, "readyz asks for a worker that is alive"
    [trigger] = scaled["spec"]["triggers"]
    [authentication] = kinds("TriggerAuthentication")
    assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
    [parameter] = authentication["spec"]["secretTargetRef"]
    assert (parameter["name"], parameter["key"]) == ("passwords", Path(SETTINGS["DATABASE_PASSWORD_FILE"]).name)


def test_a_drained_node_leaves_somebody_of_each() -> None:
    budgets = {found["metadata"]["name"]: found["spec"] for found in kinds("PodDisruptionBudget")}
    assert set(budgets) == {"api", "worker", "sweeper"}
    for name, budget in budgets.items():
        assert chosen(budget["selector"]) == {name}
        # At least one always stays, and at least one may always go.
        replicas = WORKLOADS[name]["spec"].get("replicas")
        assert budget.get("maxUnavailable") == 1 or budget["minAvailable"] < replicas


@pytest.mark.parametrize("found", kinds("Service"), ids=lambda found: found["metadata"]["name"])
def test_a_service_leads_to_its_pods(found: dict[str, Any]) -> None:
    assert chosen({"matchLabels": found["spec"]["selector"]}) == {found["metadata"]["name"]}
    [port] = found["spec"]["ports"]
    assert port["targetPort"] in {item["name"] for item in containers(found["metadata"]["name"])[-1]["ports"]}


@pytest.mark.parametrize("workload", sorted(WORKLOADS))
def test_a_workload_finds_its_own_pods(workload: str) -> None:
    assert chosen(WORKLOADS[workload]["spec"]["selector"]) == {workload}
