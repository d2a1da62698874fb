"""The Redis of docker-compose.yml, by the very script that starts it there."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis
import yaml

from jobs.bell import Bell
from jobs.settings import PROJECT_ROOT, Settings
from local.binaries import valkey_wheel
from tests.support import free_port, wait_until

PASSWORD = "пароль с пробелом"
SCRIPT: str = yaml.safe_load((PROJECT_ROOT / "docker-compose.yml").read_text())["services"]["redis"]["command"][0]


@pytest.fixture
def guarded(tmp_path: Path, settings: Settings) -> Iterator[Settings]:
    """Settings for a server with a password, which runs on a port of its own."""
    secret = tmp_path / "redis_password"
    secret.write_text(PASSWORD + "\n")
    port = free_port()
    script = SCRIPT.replace("$$", "$").replace("/run/secrets", str(tmp_path)).replace("/run/valkey", str(tmp_path))
    script = script.rstrip() + f" --port {port} --bind 127.0.0.1\n"
    programs = str(valkey_wheel().program("valkey-server").parent)
    server = subprocess.Popen(
        ["sh", "-euc", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
    )
    given = Settings.from_env({"REDIS_URL": f"redis://127.0.0.1:{port}/0", "REDIS_PASSWORD_FILE": str(secret)})
    with redis.Redis.from_url(given.redis_url) as client:
        wait_until(lambda: server.poll() is not None or answers(client), what="the server to answer")
        yield replace(settings, redis_url=given.redis_url)
    server.terminate()
    assert server.wait(10) == 0, "the shell has not made way for the server"


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def test_who_has_the_password_rings_and_nobody_else(guarded: Settings) -> None:
    bell = Bell(guarded)
    assert bell.is_there()
    assert bell.ring()
    assert bell.unheard() == 1
    bell.close()
    stranger = Bell(replace(guarded, redis_url="redis://" + guarded.redis_url.rpartition("@")[2]))
    assert not stranger.is_there()
    assert not stranger.ring()
    stranger.close()


def test_it_never_evicts_keeps_nothing_and_hides_the_password(guarded: Settings) -> None:
    with redis.Redis.from_url(guarded.redis_url, decode_responses=True) as client:
        assert client.config_get("maxmemory*")["maxmemory-policy"] == "noeviction"
        assert client.config_get("save") == {"save": ""}
        pid = client.info("server")["process_id"]
    assert PASSWORD.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
