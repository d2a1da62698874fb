"""docker-compose.yml, the Dockerfile and the pins say the same as the code that they start."""

import ast
import importlib.metadata
import platform
import re
import shlex
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from api.server import GRACEFUL_SECONDS
from cli.main import PARTS, main
from jobs.settings import PROJECT_ROOT, SETTINGS_TABLE, SHIPPED_MODEL, Settings

COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT_ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SERVERS = {"postgres", "redis"}
OURS = set(SERVICES) - SERVERS
DOCKERFILE = (PROJECT_ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["project"]
OF_LIBRARIES = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "TORCHINDUCTOR_COMPILE_THREADS"}
SUBSTITUTION = re.compile(r"\$\{(\w+)(?:(:[?-])([^}]*))?\}")


def stages() -> dict[str, tuple[str, str]]:
    """The stages of the Dockerfile: what each is made from, and its lines."""
    parts = re.split(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    return {parts[n + 1]: (parts[n], parts[n + 2]) for n in range(1, len(parts), 3)}


def copied_into(target: str) -> set[str]:
    """The top folders and files of the project that an image holds."""
    origin, lines = stages()[target]
    found: set[str] = set() if origin not in stages() else copied_into(origin)
    for sources in re.findall(r"^COPY (.+) \S+$", lines, flags=re.MULTILINE):
        found |= {source.strip("/") for source in sources.split()}
    return found


def seconds(duration: str) -> int:
    """A duration of the compose file, which are all written in seconds."""
    assert duration.endswith("s")
    return int(duration.removesuffix("s"))


# --- docker-compose.yml ---------------------------------------------------------------------------------------------


def test_the_services_are_those_of_the_architecture() -> None:
    assert {"postgres", "redis", "migrate", "api", "worker", "worker-gpu", "sweeper"} == set(SERVICES)


@pytest.mark.parametrize("service", sorted(OURS))
def test_every_variable_of_ours_is_a_setting(service: str) -> None:
    unknown = set(SERVICES[service]["environment"]) - set(SETTINGS_TABLE) - OF_LIBRARIES
    assert not unknown, f"{service} sets {unknown}, which nobody reads"


def test_every_setting_can_be_given_to_somebody_or_has_no_place_here() -> None:
    given = {name for service in OURS for name in SERVICES[service]["environment"]}
    # Workers are scaled, a model is mounted where it is named, in an override, and the last two are for clients.
    of_an_override = {"RUBRIKA_MODEL", "RUBRIKA_TRIAL"}
    assert set(SETTINGS_TABLE) - given == {"RUBRIKA_WORKERS", "RUBRIKA_URL", "RUBRIKA_KEY"} | of_an_override


@pytest.mark.parametrize("service", sorted(OURS))
def test_the_settings_of_each_service_can_be_used(service: str, tmp_path: Path) -> None:
    given = SERVICES[service]["environment"]
    env = {name: str(value) for name, value in given.items() if value is not None}
    for name in SERVICES[service]["secrets"]:
        (tmp_path / name).write_text(f"the {name}\n")
    files = {name: value for name, value in env.items() if name.endswith("_FILE")}
    assert {Path(value).name for value in files.values()} == set(SERVICES[service]["secrets"])
    assert {str(Path(value).parent) for value in files.values()} == {"/run/secrets"}
    settings = Settings.from_env({**env, **{name: str(tmp_path / Path(value).name) for name, value in files.items()}})
    assert settings.database_url == "postgresql+psycopg2://rubrika:the%20postgres_password@postgres:5432/rubrika"
    assert settings.redis_url == "redis://:the%20redis_password@redis:6379/0"


@pytest.mark.parametrize("service", sorted(OURS))
def test_every_command_exists(service: str) -> None:
    [command] = SERVICES[service]["command"]
    assert command in main.commands
    assert command == service.removesuffix("-gpu")


@pytest.mark.parametrize("service", sorted(OURS))
def test_every_image_is_built_from_a_stage_that_exists_and_has_one_name(service: str) -> None:
    target = SERVICES[service]["build"]["target"]
    assert target in stages()
    assert SERVICES[service]["image"] == f"rubrika-{target}"


def test_the_gpu_is_asked_for_under_its_profile_alone() -> None:
    assert [name for name, service in SERVICES.items() if "profiles" in service] == ["worker-gpu"]
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]
    [device] = SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]
    assert SERVICES["worker-gpu"]["environment"]["RUBRIKA_DEVICE"] == "cuda"
    assert SERVICES["worker"]["environment"]["RUBRIKA_DEVICE"] == "cpu"
    assert all("deploy" not in SERVICES[name] for name in SERVICES if name != "worker-gpu")


def test_what_can_be_asked_has_a_health_check() -> None:
    assert {name for name, service in SERVICES.items() if "healthcheck" in service} == {"postgres", "redis", "api"}
    assert "/healthz" in SERVICES["api"]["healthcheck"]["test"][-1]


def test_nothing_of_ours_starts_before_the_migrations_are_done() -> None:
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert SERVICES["migrate"]["restart"] == "no"
    for name in OURS - {"migrate"}:
        assert SERVICES[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert SERVICES[name]["restart"] == "unless-stopped"


def test_everybody_gets_the_time_to_stop_in_order() -> None:
    assert seconds(SERVICES["api"]["stop_grace_period"]) > GRACEFUL_SECONDS
    # As much as `rubrika up` gives them.
    for name in ("worker", "worker-gpu", "postgres"):
        assert seconds(SERVICES[name]["stop_grace_period"]) >= 60


def test_only_the_api_is_published_and_only_to_this_machine() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["api"]
    [port] = SERVICES["api"]["ports"]
    published = SUBSTITUTION.sub(lambda found: found[3], port)
    assert published == f"127.0.0.1:8000:{SERVICES['api']['environment']['RUBRIKA_PORT']}"
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert all(service["networks"] == ["inside"] for name, service in SERVICES.items() if name != "api")


def test_passwords_come_from_files_and_stand_nowhere() -> None:
    assert COMPOSE["secrets"] == {
        name: {"file": f"./secrets/{name}"} for name in ("postgres_password", "redis_password", "secret_key")
    }
    # What signs the cookies of the page is for the API alone, which listens beyond loopback and so asks for keys.
    assert [name for name, service in SERVICES.items() if "secret_key" in service.get("secrets", [])] == ["api"]
    assert SERVICES["api"]["environment"]["RUBRIKA_ALLOW_OPEN"] is None
    assert SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD_FILE"] == "/run/secrets/postgres_password"
    assert SERVICES["postgres"]["secrets"] == ["postgres_password"]
    assert SERVICES["redis"]["secrets"] == ["redis_password"]
    assert "/secrets/" in (PROJECT_ROOT / ".gitignore").read_text().splitlines()
    assert not re.search(r"PASSWORD(?!_FILE)[:=]", (PROJECT_ROOT / "docker-compose.yml").read_text())


def test_redis_never_evicts_and_saves_nothing() -> None:
    [script] = SERVICES["redis"]["command"]
    words = shlex.split(script.splitlines()[-1])[3:]
    given = dict(zip(words[::2], words[1::2], strict=True))
    assert given == {"--save": "", "--appendonly": "no", "--maxmemory": "64mb", "--maxmemory-policy": "noeviction"}


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_every_container_is_bounded_and_has_no_rights(service: str) -> None:
    found = SERVICES[service]
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert found["read_only"] is True
    assert found["pids_limit"] > 0
    assert SUBSTITUTION.sub(lambda match: match[3], str(found["mem_limit"]))[-1] in "mg"
    # Those of ours have their user in the Dockerfile.
    assert service in OURS or found["user"] not in {"root", "0"}


def test_the_worker_on_a_gpu_has_room_for_its_threads_however_many_cores_the_host_has() -> None:
    """Unless they are told, its libraries start some for each core, and the compiler a process with all of these."""
    given = SERVICES["worker-gpu"]["environment"]
    assert set(given) >= OF_LIBRARIES
    threads = {name: int(given[name]) for name in OF_LIBRARIES}
    each = sum(count for name, count in threads.items() if not name.startswith("TORCHINDUCTOR"))
    # The worker itself and every process of the compiler, and as many again for CUDA and for what runs beside.
    assert 2 * each * (1 + threads["TORCHINDUCTOR_COMPILE_THREADS"]) < SERVICES["worker-gpu"]["pids_limit"]
    assert SERVICES["worker-gpu"]["pids_limit"] > SERVICES["worker"]["pids_limit"]


@pytest.mark.parametrize("service", sorted(OURS))
def test_our_containers_can_write_only_where_it_is_said(service: str) -> None:
    writable = {place.split(":")[0] for place in SERVICES[service].get("tmpfs", [])}
    writable |= {place.split(":")[1] for place in SERVICES[service].get("volumes", [])}
    assert "/tmp" in writable  # noqa: S108  (the place in the container)


def test_uploads_are_on_disk_and_graphs_are_kept() -> None:
    # A file in memory would be bounded by the memory of the container, and a body may have gigabytes.
    assert SERVICES["api"]["volumes"] == ["uploads:/tmp"]
    for name in ("worker", "worker-gpu"):
        assert SERVICES[name]["environment"]["RUBRIKA_DATA_DIR"] == "/data"
        assert SERVICES[name]["volumes"] == ["cache:/data"]
    assert set(COMPOSE["volumes"]) == {"postgres", "cache", "uploads"}


# --- Dockerfile -----------------------------------------------------------------------------------------------------


def test_each_image_holds_what_its_commands_import() -> None:
    shared = {"pyproject.toml", "README.md", "constraints.txt", "jobs", "cli", "rubrika_client"}
    assert copied_into("api") == shared | {"api", "web", "migrations", "worker"}
    assert copied_into("worker") == copied_into("worker-gpu") == shared | {"ml", "worker"}


def in_image(
    target: str, program: str, tmp_path: Path, told: str = "", env: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a program where there is no more of the project than an image holds."""
    for name in copied_into(target):
        (tmp_path / name).symlink_to(PROJECT_ROOT / name)
    # Without `site` the rest of the checkout, which is installed as editable, is not found.
    return subprocess.run(
        [sys.executable, "-S", "-c", program],
        cwd=tmp_path,
        input=told,
        env={
            **(env or {}),
            "PYTHONPATH": f"{tmp_path}:{sysconfig.get_path('purelib')}:{sysconfig.get_path('platlib')}",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("target", "modules"),
    [
        ("api", "api.server, jobs.migrate, worker.sweeper, cli.classifying"),
        ("worker", "worker.main, cli.classifying"),
        ("worker-gpu", "worker.main, cli.classifying"),
    ],
)
def test_an_image_can_import_its_commands_with_what_it_holds(target: str, modules: str, tmp_path: Path) -> None:
    done = in_image(target, f"import cli.main, {modules}", tmp_path)
    assert done.returncode == 0, done.stderr


COMMANDS = """
import sys
from pathlib import Path
from click.testing import CliRunner
from cli.main import main

Path("a.csv").write_text("text\\nfirst\\n")
for command in sys.stdin.read().splitlines():
    done = CliRunner().invoke(main, command.split())
    ended = isinstance(done.exception, SystemExit | None)
    print(command.split()[0], (done.output if ended else repr(done.exception)).strip().replace("\\n", " "), sep="|")
"""


@pytest.mark.parametrize("target", ["api", "worker"])
def test_what_an_image_cannot_do_it_says_in_a_sentence(target: str, tmp_path: Path) -> None:
    # `up` and its servers are in neither, and the rest is in one of the two.
    of_model = ["predict a.csv", "evaluate . .", "explain text"]
    asked = ["up", "backup b.tar", "restore a.csv", *({"api": of_model, "worker": ["api", "predict a.csv"]}[target])]
    env = {"DATABASE_URL": "postgresql://nowhere/x", "REDIS_URL": "redis://nowhere"}
    done = in_image(target, COMMANDS, tmp_path, "\n".join(asked), env)
    assert done.returncode == 0, done.stderr
    said = dict(line.split("|", 1) for line in done.stdout.splitlines())
    assert len(said) == len(asked)
    for command, sentence in said.items():
        assert re.match(f"rubrika: `{command}` needs the part `\\w+` of Rubrika, which this image leaves out", sentence)


@pytest.mark.parametrize("target", ["api", "worker"])
def test_an_image_asks_the_database_that_is_named(target: str, tmp_path: Path) -> None:
    env = {"DATABASE_URL": "postgresql://127.0.0.1:1/x", "REDIS_URL": "redis://nowhere"}
    done = in_image(target, COMMANDS, tmp_path, "keys list\nmodels list", env)
    assert done.returncode == 0, done.stderr
    said = [line.split("|", 1) for line in done.stdout.splitlines()]
    assert [command for command, _ in said] == ["keys", "models"]
    for _, sentence in said:
        assert sentence.startswith("rubrika: The database of DATABASE_URL cannot be reached"), sentence


@pytest.mark.parametrize(("target", "command"), [("api", "sweeper"), ("worker", "worker")])
def test_an_image_has_no_servers_to_join(target: str, command: str, tmp_path: Path) -> None:
    done = in_image(target, COMMANDS, tmp_path, command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{command}|rubrika: DATABASE_URL and REDIS_URL must be set"), done.stdout


def test_every_part_that_an_image_leaves_out_is_one_that_commands_speak_of() -> None:
    # Whatever of ours a command imports is in its image, or named by a sentence when it is not.
    of_commands = {
        (name.module if isinstance(name, ast.ImportFrom) else name.names[0].name).split(".")[0]
        for file in (PROJECT_ROOT / "cli").glob("*.py")
        for name in ast.walk(ast.parse(file.read_text()))
        if isinstance(name, ast.Import) or (isinstance(name, ast.ImportFrom) and name.module and not name.level)
    }
    ours = {name for name in of_commands if (PROJECT_ROOT / name / "__init__.py").exists()}
    always = set.intersection(*(copied_into(target) for target in ("api", "worker", "worker-gpu")))
    assert {"cli", "jobs", "rubrika_client"} <= always
    assert ours - always <= PARTS


def test_the_model_is_in_the_images_of_workers_alone() -> None:
    assert SHIPPED_MODEL.relative_to(PROJECT_ROOT).parts[0] == "ml"
    assert {target for target in stages() if "ml" in copied_into(target)} == {"worker", "worker-gpu"}


@pytest.mark.parametrize("target", sorted({SERVICES[name]["build"]["target"] for name in OURS}))
def test_no_image_runs_as_root(target: str) -> None:
    lines = stages()[target][1]
    assert re.findall(r"^USER (\S+)$", lines, flags=re.MULTILINE) == ["rubrika"]
    assert "RUN" not in lines.split("USER rubrika")[1]


def test_what_is_copied_exists_and_is_sent_to_the_builder() -> None:
    sent = {
        line.removeprefix("!").strip("/")
        for line in (PROJECT_ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = set().union(*(copied_into(target) for target in stages()))
    assert copied == sent
    assert not [name for name in copied if not (PROJECT_ROOT / name).exists()]


def test_what_is_compiled_for_a_gpu_is_kept_with_the_data() -> None:
    lines = stages()["worker-gpu"][1]
    assert re.findall(r"^VOLUME (\S+)$", lines, flags=re.MULTILINE) == ["/data"]
    places = dict(re.findall(r"(\w+_CACHE_DIR)=(\S+)", lines))
    assert set(places) == {"TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"}
    assert {str(Path(place).parent) for place in places.values()} == {"/data"}


def test_the_python_of_the_images_is_one_that_the_project_takes() -> None:
    version = re.search(r"^FROM python:3\.(\d+)-slim AS base$", DOCKERFILE, flags=re.MULTILINE)
    least = re.fullmatch(r">=3\.(\d+)", PROJECT["requires-python"])
    assert version
    assert least
    assert int(version[1]) >= int(least[1])


def test_every_install_is_held_to_the_pins_and_torch_is_for_the_gpu_alone() -> None:
    for target, (_, lines) in stages().items():
        for install in re.findall(r"pip install (.+)$", lines, flags=re.MULTILINE):
            asked = install.removeprefix("--constraint constraints.txt ").split()
            assert asked == (["'.[gpu]'"] if target == "worker-gpu" else ["."])


# --- pins and the default install -----------------------------------------------------------------------------------


def pins() -> dict[str, str]:
    """The versions of constraints.txt by the canonical names of their packages."""
    lines = (PROJECT_ROOT / "constraints.txt").read_text().splitlines()
    given = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in given}


def closure(requirements: list[str], python: str = platform.python_version()) -> dict[str, list[str]]:
    """Everything that an install of these brings along on a version of Python, each with the way that leads to it."""
    machine = {"python_full_version": python, "python_version": ".".join(python.split(".")[:2])}
    found: dict[str, list[str]] = {}
    waiting = [(Requirement(requirement), [""], ["rubrika"]) for requirement in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement, extras, way = waiting.pop()
        if requirement.marker and not any(requirement.marker.evaluate({**machine, "extra": extra}) for extra in extras):
            continue
        name = canonicalize_name(requirement.name)
        key = name, frozenset(requirement.extras)
        if key in seen:
            continue
        seen.add(key)
        found.setdefault(name, [*way, name])
        try:
            needed = importlib.metadata.requires(requirement.name) or []
        except importlib.metadata.PackageNotFoundError:
            # Another Python's; the one that runs this has not installed it.
            needed = []
        waiting += [(Requirement(item), ["", *requirement.extras], found[name]) for item in needed]
    return found


@pytest.mark.parametrize("python", [f"{PROJECT['requires-python'].removeprefix('>=')}.0", platform.python_version()])
def test_pins_cover_the_whole_default_install_and_allow_it(python: str) -> None:
    pinned = pins()
    assert not set(closure(PROJECT["dependencies"], python)) - set(pinned)
    for text in PROJECT["dependencies"]:
        requirement = Requirement(text)
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{text} does not allow its pin {version}"


def test_the_default_install_never_brings_torch() -> None:
    ways = closure(PROJECT["dependencies"])
    assert len(ways) > len(PROJECT["dependencies"]), "the walk has not gone anywhere"
    for name in ("torch", "transformers", "scikit-learn"):
        assert name not in ways, f"{name} is brought along by {' -> '.join(ways[name])}"


@pytest.mark.parametrize("extra", ["train", "gpu"])
def test_torch_is_pinned_exactly_where_it_is_asked_for(extra: str) -> None:
    asked = [text for text in PROJECT["optional-dependencies"][extra] if Requirement(text).name == "torch"]
    assert asked == [f"torch=={pins()['torch']}"]
