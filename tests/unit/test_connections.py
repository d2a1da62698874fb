"""The Postgres of each way to run Rubrika allows the connections that all processes together may open."""

import re
from typing import Any

from api.app import create_app
from jobs.database import make_engine
from jobs.settings import PROJECT_ROOT, Settings
from tests.unit.test_deployment import SERVICES, SUBSTITUTION
from tests.unit.test_kubernetes import OURS, PODS, WORKLOADS, environment, kinds

NOWHERE = {"DATABASE_URL": "postgresql://nowhere/x", "REDIS_URL": "redis://nowhere"}
OPERATIONS = " ".join((PROJECT_ROOT / "docs" / "operations.md").read_text().split())
REST = 20
"""Commands, backups, migrations, the autoscaler, and what Postgres keeps for itself."""


def of_pool(pool: Any) -> int:
    """How many connections a pool may hold at once."""
    return int(pool.size() + pool._max_overflow)


def of_api(env: dict[str, str]) -> int:
    """How many connections the processes of one API may hold."""
    of_its_pools = {name: value for name, value in env.items() if name.startswith("RUBRIKA_API_")}
    settings = Settings.from_env({**of_its_pools, **NOWHERE})
    # Nothing connects yet.
    return settings.api_processes * of_pool(create_app(settings).extensions["rubrika"].engine.pool)


def of_others(name: str) -> int:
    """How many connections a worker or a sweeper may hold."""
    command = name.removesuffix("-gpu")
    source = (PROJECT_ROOT / "worker" / {"worker": "main.py", "sweeper": "sweeper.py"}[command]).read_text()
    [size] = re.findall(rf'pool_size=(\d+), application="rubrika {command}"', source)
    url = Settings.from_env(NOWHERE).database_url
    return of_pool(make_engine(url, pool_size=int(size), application="tests").pool)


def allowed(command: list[str]) -> int:
    """What a Postgres is started with, where nothing else is said in the environment."""
    *program, setting = command
    assert program == ["postgres", "-c"]
    name, number = SUBSTITUTION.sub(lambda found: found[3], setting).split("=")
    assert name == "max_connections"
    return int(number)


def pods_at_once(name: str) -> int:
    """How many pods there may be of a workload: in a rollout all old ones may still be ending beside all new ones."""
    spec = WORKLOADS[name]["spec"]
    scaled = [found["spec"] for found in kinds("ScaledObject") if found["spec"]["scaleTargetRef"]["name"] == name]
    replicas = int(scaled[0]["maxReplicaCount"] if scaled else spec["replicas"])
    return replicas if spec.get("strategy", {}).get("type") == "Recreate" else 2 * replicas


def test_the_formula_that_operators_are_told_is_that_of_the_code() -> None:
    for threads in (1, 16):
        assert of_api({"RUBRIKA_API_PROCESSES": "3", "RUBRIKA_API_THREADS": str(threads)}) == 3 * (threads + 4)
    assert (of_others("worker"), of_others("sweeper")) == (8, 5)
    assert (
        "up to `RUBRIKA_API_THREADS` + 4 for each of `RUBRIKA_API_PROCESSES` of each API, 8 for a worker, 5 for a "
        f"sweeper, and {REST} for commands" in OPERATIONS
    )


def test_the_postgres_of_kubernetes_has_room_for_a_rollout_of_everything() -> None:
    [api] = PODS["api"]["containers"]
    each = {name: of_api(environment(api)) if name == "api" else of_others(name) for name in OURS}
    open_at_once = {name: pods_at_once(name) * each[name] for name in OURS}
    needed = sum(open_at_once.values()) + REST
    [postgres] = PODS["postgres"]["containers"]
    assert needed <= allowed(postgres["args"])
    assert (
        f"may be {needed} while a rollout runs old pods beside new ones: {open_at_once['api']} of the API, "
        f"{open_at_once['worker']} of eight workers, {open_at_once['worker-gpu']} of one on a GPU, "
        f"{open_at_once['sweeper']} of the sweepers, {REST} for the rest. "
        f"The Postgres inside allows {allowed(postgres['args'])};" in OPERATIONS
    )
    assert f"{2 * each['worker']} more in either for each worker" in OPERATIONS


def test_the_postgres_of_the_containers_has_room_for_as_many_workers_as_is_said() -> None:
    beside = of_api({}) + of_others("sweeper") + REST
    connections = allowed(SERVICES["postgres"]["command"])
    most = (connections - beside) // of_others("worker")
    assert f"allows {connections} connections, enough for {most} workers beside the API" in OPERATIONS
    assert f"enough for {most} workers" in (PROJECT_ROOT / "docker-compose.yml").read_text()
