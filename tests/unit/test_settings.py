"""Settings are read once, all of them, and a value that cannot be used ends with a sentence that names its variable."""

import dataclasses
import os
from pathlib import Path

import pytest
from redis import Redis
from sqlalchemy import make_url

from cli import model_commands
from jobs.errors import SettingsError
from jobs.settings import SETTINGS_TABLE, SHIPPED_MODEL, Settings
from ml import classifier

BAD = [
    ("DATABASE_URL", "mysql://localhost/rubrika"),
    ("DATABASE_URL", "rubrika.db"),
    *((name, value) for name in ("RUBRIKA_PORT",) for value in ("0", "65536", "-1", "http", "80.5")),
    ("RUBRIKA_WORKERS", "-1"),
    ("RUBRIKA_WORKERS", "257"),
    ("RUBRIKA_THREADS", "many"),
    ("RUBRIKA_TRIAL", "yes"),
    ("RUBRIKA_TRIAL", "1"),  # Of which model, it does not say.
    ("RUBRIKA_DEVICE", "tpu"),
    ("RUBRIKA_DEVICE", "CPU"),
    ("RUBRIKA_BACKEND", "onnx"),
    ("RUBRIKA_ARITHMETIC", "int4"),
    ("RUBRIKA_AUTH", "on"),
    ("RUBRIKA_SECRET_KEY", "too short"),
    ("RUBRIKA_SESSION_HOURS", "0"),
    ("RUBRIKA_SESSION_HOURS", "169"),
    ("RUBRIKA_TRUSTED_PROXIES", "-1"),
    ("RUBRIKA_TRUSTED_PROXIES", "all"),
    ("RUBRIKA_ALLOW_OPEN", "yes"),
    ("RUBRIKA_LOG_LEVEL", "LOUD"),
    ("RUBRIKA_LOG_FORMAT", "xml"),
    ("RUBRIKA_TRACES", "1.1"),
    ("RUBRIKA_TRACES", "nan"),
    ("RUBRIKA_TRACES", "all"),
    ("DATABASE_PASSWORD_FILE", "/nowhere/at/all"),
    ("REDIS_PASSWORD_FILE", "/nowhere/at/all"),
    ("RUBRIKA_API_PROCESSES", "0"),
    ("RUBRIKA_API_THREADS", "0"),
    ("RUBRIKA_MAX_STREAMS", "-1"),
    ("RUBRIKA_MAX_HELD_REQUESTS", "0"),
    ("RUBRIKA_MAX_REQUESTS_PER_MINUTE", "-1"),
    ("RUBRIKA_MAX_WAITING_ROWS", "0"),
    ("RUBRIKA_MAX_WAITING_EXPLANATIONS", "0"),
    ("RUBRIKA_RETENTION_DAYS", "-1"),
    ("RUBRIKA_LEASE_SECONDS", "0"),
    ("RUBRIKA_LEASE_SECONDS", "nan"),
    ("RUBRIKA_LEASE_SECONDS", "inf"),
    ("RUBRIKA_LEASE_SECONDS", "soon"),
    ("RUBRIKA_SWEEP_SECONDS", "-2"),
    ("RUBRIKA_CHUNK_ROWS", "0"),
    ("RUBRIKA_CACHE_ROWS", "-1"),
    ("RUBRIKA_MAX_BODY_BYTES", "2GB"),
    ("RUBRIKA_MAX_JSON_BYTES", "0"),
    ("RUBRIKA_MAX_ARCHIVE_ENTRIES", "0"),
    ("RUBRIKA_MAX_HEADER_CHARS", "0"),
    ("RUBRIKA_MAX_FORM_FIELD_BYTES", "0"),
    ("RUBRIKA_MAX_FORM_PARTS", "0"),
    ("RUBRIKA_MAX_DEPTH", "0"),
    ("RUBRIKA_MAX_UNPACKED_BYTES", "0"),
    ("RUBRIKA_MAX_UNPACK_RATIO", "0"),
    ("RUBRIKA_MAX_PARSER_BYTES", "1000000"),
    ("RUBRIKA_MAX_ROWS", "0"),
    ("RUBRIKA_MAX_ROWS", str(2**31)),
    ("RUBRIKA_MAX_COLUMNS", "1601"),
    ("RUBRIKA_MAX_TEXT_CHARS", "0"),
    ("RUBRIKA_MAX_ITEMS", "0"),
    ("RUBRIKA_MAX_EXPLAINED", "-1"),
]
ANY_TEXT = {
    "REDIS_URL", "RUBRIKA_HOST", "RUBRIKA_URL", "RUBRIKA_KEY", "RUBRIKA_DATA_DIR", "RUBRIKA_MODEL",
    "RUBRIKA_SECRET_KEY_FILE",
}  # fmt: skip
"""Whether these can be used is found out by whoever connects, listens or opens."""


def test_the_defaults() -> None:
    settings = Settings.from_env({})
    assert settings.database_url == ""
    assert settings.redis_url == ""
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.model == SHIPPED_MODEL
    assert (settings.device, settings.backend, settings.auth) == ("auto", "auto", "off")
    assert settings.allow_open is False
    assert settings.workers == 1
    assert settings.lease_seconds == 10.0
    assert settings.retention_days == 30
    assert settings.max_body_bytes == 2 * 1024**3


def test_every_variable_of_the_table_is_read() -> None:
    # A variable that nobody asks for would be a promise that is not kept.
    class Asked(dict[str, str]):
        def __init__(self) -> None:
            super().__init__()
            self.names: set[str] = set()

        def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
            self.names.add(name)
            return default

    asked = Asked()
    Settings.from_env(asked)
    assert set(SETTINGS_TABLE) <= asked.names
    assert asked.names - set(SETTINGS_TABLE) <= {"XDG_DATA_HOME"}


def test_each_default_of_the_table_is_what_an_empty_environment_gives() -> None:
    written = {name: default for name, (default, _) in SETTINGS_TABLE.items()}
    assert Settings.from_env(written) == Settings.from_env({})


def test_an_empty_value_is_no_value_and_space_around_one_does_not_count() -> None:
    assert Settings.from_env(dict.fromkeys(SETTINGS_TABLE, "  ")) == Settings.from_env({})
    assert Settings.from_env({"RUBRIKA_PORT": " 9000 "}).port == 9000


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_is_refused_with_a_sentence_that_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({name: value})
    sentence = str(caught.value)
    assert sentence.startswith(f"{name} must ")
    assert sentence.endswith(".")


def test_every_variable_that_can_be_bad_is_tried() -> None:
    assert {name for name, _ in BAD} == set(SETTINGS_TABLE) - ANY_TEXT


def test_a_trial_is_of_a_model_that_is_named() -> None:
    assert Settings.from_env({"RUBRIKA_TRIAL": "1", "RUBRIKA_MODEL": "models/mine"}).trial
    assert not Settings.from_env({"RUBRIKA_TRIAL": "0", "RUBRIKA_MODEL": "models/mine"}).trial


def test_they_cannot_be_changed() -> None:
    settings = Settings.from_env({})
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    "given",
    ["postgres://u:p@h:5432/n", "postgresql://u:p@h:5432/n", "postgresql+psycopg2://u:p@h:5432/n"],
)
def test_every_way_to_write_the_address_of_postgres_names_one_driver(given: str) -> None:
    assert Settings.from_env({"DATABASE_URL": given}).database_url == "postgresql+psycopg2://u:p@h:5432/n"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False)],
)
def test_what_counts_as_this_machine_alone(host: str, expected: bool) -> None:
    assert Settings.from_env({"RUBRIKA_HOST": host}).is_loopback is expected


@pytest.mark.parametrize(
    ("host", "given", "expected"),
    [
        ("127.0.0.1", "", "off"),
        ("localhost", "", "off"),
        ("0.0.0.0", "", "keys"),
        ("192.0.2.7", "", "keys"),
        ("127.0.0.1", "keys", "keys"),
        ("0.0.0.0", "off", "off"),  # Whether that may be is decided by whoever listens.
    ],
)
def test_keys_are_on_beyond_this_machine_unless_it_is_said_otherwise(host: str, given: str, expected: str) -> None:
    assert Settings.from_env({"RUBRIKA_HOST": host, "RUBRIKA_AUTH": given}).auth == expected


def test_no_secret_is_shown_with_the_settings() -> None:
    assert "s3cret" not in repr(Settings.from_env({"RUBRIKA_SECRET_KEY": "s3cret" * 8}))


def test_paths_are_made_absolute_and_the_data_folder_follows_the_user(tmp_path: Path) -> None:
    given = Settings.from_env({"RUBRIKA_DATA_DIR": "~/rubrika", "RUBRIKA_MODEL": "models/mine"})
    assert given.data_dir == Path.home() / "rubrika"
    assert given.model == Path.cwd() / "models" / "mine"
    found = Settings.from_env({"XDG_DATA_HOME": str(tmp_path)}).data_dir
    assert found == (Path("/var/lib/rubrika") if os.geteuid() == 0 else tmp_path / "rubrika")


@pytest.mark.parametrize("password", ["plain", "p@ss:/?#[]&%20 пароль"])
def test_a_password_may_come_from_a_file_whatever_is_in_it(tmp_path: Path, password: str) -> None:
    secret = tmp_path / "password"
    secret.write_text(password + "\n")
    settings = Settings.from_env(
        {
            "DATABASE_URL": "postgresql://rubrika@db:5432/rubrika",
            "DATABASE_PASSWORD_FILE": str(secret),
            "REDIS_URL": "redis://redis:6379/0",
            "REDIS_PASSWORD_FILE": str(secret),
        }
    )
    database = make_url(settings.database_url)
    assert (database.username, database.password, database.host, database.port) == ("rubrika", password, "db", 5432)
    redis = Redis.from_url(settings.redis_url).connection_pool.connection_kwargs
    assert (redis["password"], redis["host"], redis["port"], redis["db"]) == (password, "redis", 6379, 0)
    assert not redis.get("username")


@pytest.mark.parametrize(
    ("url", "content"),
    [("", "secret"), ("postgresql://u:p@db/x", "secret"), ("postgresql://u@db/x", ""), ("postgresql:///x", "secret")],
)
def test_a_password_without_its_place_is_refused(tmp_path: Path, url: str, content: str) -> None:
    secret = tmp_path / "password"
    secret.write_text(content)
    with pytest.raises(SettingsError, match=r"^DATABASE_PASSWORD_FILE must "):
        Settings.from_env({"DATABASE_URL": url, "DATABASE_PASSWORD_FILE": str(secret)})


def test_what_may_be_chosen_is_the_same_for_the_service_and_on_the_command_line() -> None:
    for backend in classifier.BACKENDS:
        assert Settings.from_env({"RUBRIKA_BACKEND": backend}).backend == backend
    for arithmetic in classifier.ARITHMETICS:
        assert Settings.from_env({"RUBRIKA_ARITHMETIC": arithmetic}).arithmetic == arithmetic
    assert model_commands.BACKENDS == classifier.BACKENDS
    assert set(model_commands.ARITHMETICS) == set(classifier.ARITHMETICS)
