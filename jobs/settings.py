"""Everything that can be set from the environment, read once into a frozen `Settings`.

`SETTINGS_TABLE` is the single list of variables with their defaults and a sentence each; the table in README.md is
held to it by a test, and so is docker-compose.yml.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from jobs.errors import SettingsError

PROJECT_ROOT = Path(__file__).resolve().parent.parent
SHIPPED_MODEL = PROJECT_ROOT / "ml" / "models" / "rubrika-small"

MIN_SECRET_CHARS = 32

SETTINGS_TABLE: dict[str, tuple[str, str]] = {
    "DATABASE_URL": ("", "PostgreSQL to use (`postgresql://user:password@host:5432/name`); empty: the embedded one"),
    "REDIS_URL": ("", "Redis or Valkey to use (`redis://host:6379/0`); empty: the embedded one"),
    "DATABASE_PASSWORD_FILE": ("", "file with the password that `DATABASE_URL` leaves out, as containers get secrets"),
    "REDIS_PASSWORD_FILE": ("", "file with the password that `REDIS_URL` leaves out"),
    "RUBRIKA_HOST": ("127.0.0.1", "address that the API and the page listen on"),
    "RUBRIKA_PORT": ("8000", "port that the API and the page listen on"),
    "RUBRIKA_URL": ("", "service that `rubrika classify` talks to; empty: the one at the host and port above"),
    "RUBRIKA_KEY": ("", "key that `rubrika classify` shows to that service"),
    "RUBRIKA_DATA_DIR": (
        "",
        "folder of the embedded servers, of logs and of cached networks; empty: `/var/lib/rubrika` for root, "
        "else `$XDG_DATA_HOME/rubrika` or `~/.local/share/rubrika`",
    ),
    "RUBRIKA_WORKERS": ("1", "worker processes that `rubrika up` starts; each uses all cores it is given"),
    "RUBRIKA_THREADS": ("0", "CPU threads of each worker's network; 0: the cores divided by the workers"),
    "RUBRIKA_MODEL": ("", "model folder; empty: the one activated by `rubrika models`, at first the shipped one"),
    "RUBRIKA_TRIAL": (
        "0",
        "1: a worker computes only what asks for its `RUBRIKA_MODEL` by name, and new texts stay with the active model",
    ),
    "RUBRIKA_DEVICE": ("auto", "`auto`, `cpu` or `cuda`: what the network runs on"),
    "RUBRIKA_BACKEND": ("auto", "`auto`, `amx`, `bytes`, `openvino`, `onnxruntime` or `torch`: what runs the network"),
    "RUBRIKA_ARITHMETIC": (
        "auto",
        "`float32`, `bfloat16`, `int8` (OpenVINO alone), `int8-static`: with the ranges of the model's folder, "
        "`float`: the faster of the first two, or `auto`: 8 bits on processors that gain by them, with the ranges "
        "where they agree with float32",
    ),
    "RUBRIKA_AUTH": (
        "",
        "`keys`: whoever has one; `off`: whoever reaches the port is the one owner, refused beyond loopback unless "
        "forced; empty: `off` on loopback, else `keys`",
    ),
    "RUBRIKA_SECRET_KEY": (
        "",
        "signs the cookies of the page, 32 characters at least, the same for every API; empty: `rubrika up` makes one",
    ),
    "RUBRIKA_SECRET_KEY_FILE": ("", "file that holds `RUBRIKA_SECRET_KEY` instead"),
    "RUBRIKA_SESSION_HOURS": (
        "12",
        "the page asks for the key again after so long without use, after 7 days in any case",
    ),
    "RUBRIKA_TRUSTED_PROXIES": (
        "0",
        "proxies of yours in front of the API, whose `X-Forwarded-For`, `-Proto` and `-Host` are believed; 0: nobody's",
    ),
    "RUBRIKA_ALLOW_OPEN": ("0", "1: listen beyond loopback although `RUBRIKA_AUTH` is `off` (behind a proxy of yours)"),
    "RUBRIKA_LOG_LEVEL": ("INFO", "`DEBUG`, `INFO`, `WARNING` or `ERROR`"),
    "RUBRIKA_LOG_FORMAT": ("text", "`text` for people, `json` for machines: one object a line"),
    "RUBRIKA_TRACES": (
        "0",
        "share of jobs, from 0 to 1, that are traced by OpenTelemetry to `OTEL_EXPORTER_OTLP_ENDPOINT`; needs "
        "`.venv/bin/pip install -c constraints.txt -e '.[traces]'`",
    ),
    "RUBRIKA_API_PROCESSES": ("2", "gunicorn processes"),
    "RUBRIKA_API_THREADS": ("16", "threads of each; a request held by `Prefer: wait` occupies one"),
    "RUBRIKA_MAX_STREAMS": (
        "8",
        "streams of events in each API process, half of its threads at most; one more is 503 (the page then asks)",
    ),
    "RUBRIKA_MAX_HELD_REQUESTS": (
        "8",
        "waits, streams, uploads, downloads and passes over a whole file of one key in an API process, half of its "
        "threads at most; more are 429",
    ),
    "RUBRIKA_MAX_REQUESTS_PER_MINUTE": (
        "3000",
        "requests of one key to `/api`, as many at once and then evenly; more are 429; 0: no limit",
    ),
    "RUBRIKA_MAX_WAITING_ROWS": (
        "20000000",
        "rows of one owner that wait or are being computed; what would make more is 429",
    ),
    "RUBRIKA_MAX_WAITING_EXPLANATIONS": (
        "1000",
        "explanations of one owner that wait or are being computed; what would make more is 429",
    ),
    "RUBRIKA_RETENTION_DAYS": ("30", "jobs and texts older than this are dropped, a day at a time; 0: kept for ever"),
    "RUBRIKA_LEASE_SECONDS": ("10", "a worker that gives no sign of life for so long loses its chunk to another"),
    "RUBRIKA_SWEEP_SECONDS": ("2", "how often the sweeper looks for expired leases and unheard bells"),
    "RUBRIKA_CHUNK_ROWS": (
        "256",
        "rows of a file that a worker claims and records as one; a quick worker claims several at once",
    ),
    "RUBRIKA_CACHE_ROWS": (
        "1000000",
        "answers that are kept so that equal texts are not computed again, about 150 bytes each; 0: none",
    ),
    "RUBRIKA_MAX_BODY_BYTES": ("2147483648", "largest upload; a larger one is 413"),
    "RUBRIKA_MAX_JSON_BYTES": ("16777216", "largest JSON body of `/classifications`; a larger one is 413"),
    "RUBRIKA_MAX_UNPACKED_BYTES": (
        "8589934592",
        "largest file when unpacked from gzip or its like; a larger one is 413",
    ),
    "RUBRIKA_MAX_UNPACK_RATIO": (
        "200",
        "most unpacked bytes for each packed one, judged after 10 MB; more are 413 (text gives 3 to 20)",
    ),
    "RUBRIKA_MAX_ARCHIVE_ENTRIES": ("10000", "most parts of a spreadsheet, which is a ZIP archive; more are 413"),
    "RUBRIKA_MAX_PARSER_BYTES": (
        "3221225472",
        "memory of the process that reads one spreadsheet or Parquet file; 413 beyond it (a full sheet takes it all)",
    ),
    "RUBRIKA_MAX_FORM_PARTS": ("50", "most fields in the form of an upload; more are 413"),
    "RUBRIKA_MAX_FORM_FIELD_BYTES": (
        "262144",
        "longest option in the form of an upload, and longest header of a field; a longer one is 413",
    ),
    "RUBRIKA_MAX_ROWS": ("10000000", "most rows in a file; more are 413"),
    "RUBRIKA_MAX_COLUMNS": ("500", "most columns in a file; more are 422"),
    "RUBRIKA_MAX_HEADER_CHARS": ("40000", "longest names of all columns together, in characters; longer ones are 422"),
    "RUBRIKA_MAX_DEPTH": ("64", "deepest nesting of JSON in a row; a deeper one is a row error"),
    "RUBRIKA_MAX_TEXT_CHARS": ("100000", "longest text, its three fields together; a longer one is 422 or a row error"),
    "RUBRIKA_MAX_ITEMS": ("1000", "most posts in one request to `/classifications`; more are 422"),
    "RUBRIKA_MAX_EXPLAINED": ("50", "most posts of one request that may ask for an explanation; more are 422"),
}


@dataclass(frozen=True)
class Settings:
    """The settings of one process. Durations are seconds, sizes are bytes, unless the name says otherwise."""

    database_url: str
    redis_url: str
    host: str
    port: int
    url: str
    key: str
    data_dir: Path
    workers: int
    threads: int
    model: Path
    model_is_given: bool
    trial: bool
    """The given model is not activated, and what names no model is left to others."""
    device: str
    backend: str
    arithmetic: str
    auth: str
    """`off` or `keys`."""
    secret_key: str = field(repr=False)
    secret_key_file: Path | None
    session_hours: int
    trusted_proxies: int
    allow_open: bool
    log_level: str
    log_format: str
    traces: float
    api_processes: int
    api_threads: int
    max_streams: int
    max_held_requests: int
    max_requests_per_minute: int
    max_waiting_rows: int
    max_waiting_explanations: int
    retention_days: int
    lease_seconds: float
    sweep_seconds: float
    chunk_rows: int
    cache_rows: int
    max_body_bytes: int
    max_json_bytes: int
    max_unpacked_bytes: int
    max_unpack_ratio: int
    max_archive_entries: int
    max_parser_bytes: int
    max_form_parts: int
    max_form_field_bytes: int
    max_rows: int
    max_columns: int
    max_header_chars: int
    max_depth: int
    max_text_chars: int
    max_items: int
    max_explained: int

    @staticmethod
    def from_env(env: Mapping[str, str] | None = None) -> "Settings":
        """Read all settings from `env` (the process environment unless given).

        Raises `SettingsError` with one sentence for the first value that cannot be used. Of the disk only the files
        with passwords are read.
        """
        source = os.environ if env is None else env

        def text(name: str) -> str:
            return source.get(name, "").strip() or SETTINGS_TABLE[name][0]

        def number(name: str, low: int, high: int) -> int:
            try:
                value = int(text(name))
            except ValueError:
                value = low - 1
            if not low <= value <= high:
                raise SettingsError(f"{name} must be a whole number from {low} to {high}, not {text(name)!r}.")
            return value

        def seconds(name: str) -> float:
            try:
                value = float(text(name))
            except ValueError:
                value = 0.0
            if not 0.05 <= value <= 86_400:
                raise SettingsError(f"{name} must be a number of seconds from 0.05 to 86400, not {text(name)!r}.")
            return value

        def share(name: str) -> float:
            try:
                value = float(text(name))
            except ValueError:
                value = -1.0
            if not 0 <= value <= 1:
                raise SettingsError(f"{name} must be a number from 0 to 1, not {text(name)!r}.")
            return value

        def choice(name: str, *allowed: str) -> str:
            if text(name) not in allowed:
                raise SettingsError(f"{name} must be one of {', '.join(allowed)}, not {text(name)!r}.")
            return text(name)

        def secret(name: str) -> str:
            if text(name) and len(text(name)) < MIN_SECRET_CHARS:
                raise SettingsError(f"{name} must have {MIN_SECRET_CHARS} characters at least: openssl rand -hex 32.")
            return text(name)

        trial = choice("RUBRIKA_TRIAL", "0", "1") == "1"
        if trial and not text("RUBRIKA_MODEL"):
            raise SettingsError("RUBRIKA_TRIAL must come with RUBRIKA_MODEL, the folder of the model that is tried.")
        return Settings(
            database_url=_with_password(_sqlalchemy_url(text("DATABASE_URL")), "DATABASE", text),
            redis_url=_with_password(text("REDIS_URL"), "REDIS", text),
            host=text("RUBRIKA_HOST"),
            port=number("RUBRIKA_PORT", 1, 65535),
            url=text("RUBRIKA_URL"),
            key=text("RUBRIKA_KEY"),
            data_dir=Path(text("RUBRIKA_DATA_DIR")).expanduser().absolute()
            if text("RUBRIKA_DATA_DIR")
            else _default_data_dir(source),
            workers=number("RUBRIKA_WORKERS", 0, 256),
            threads=number("RUBRIKA_THREADS", 0, 1024),
            model=Path(text("RUBRIKA_MODEL")).expanduser().absolute() if text("RUBRIKA_MODEL") else SHIPPED_MODEL,
            model_is_given=bool(text("RUBRIKA_MODEL")),
            trial=trial,
            device=choice("RUBRIKA_DEVICE", "auto", "cpu", "cuda"),
            backend=choice("RUBRIKA_BACKEND", "auto", "amx", "bytes", "openvino", "onnxruntime", "torch"),
            arithmetic=choice("RUBRIKA_ARITHMETIC", "auto", "float", "float32", "bfloat16", "int8", "int8-static"),
            auth=choice("RUBRIKA_AUTH", "off", "keys")
            if text("RUBRIKA_AUTH")
            else ("off" if _is_loopback(text("RUBRIKA_HOST")) else "keys"),
            secret_key=secret("RUBRIKA_SECRET_KEY"),
            secret_key_file=Path(text("RUBRIKA_SECRET_KEY_FILE")).expanduser().absolute()
            if text("RUBRIKA_SECRET_KEY_FILE")
            else None,
            session_hours=number("RUBRIKA_SESSION_HOURS", 1, 168),
            trusted_proxies=number("RUBRIKA_TRUSTED_PROXIES", 0, 16),
            allow_open=choice("RUBRIKA_ALLOW_OPEN", "0", "1") == "1",
            log_level=choice("RUBRIKA_LOG_LEVEL", "DEBUG", "INFO", "WARNING", "ERROR"),
            log_format=choice("RUBRIKA_LOG_FORMAT", "text", "json"),
            traces=share("RUBRIKA_TRACES"),
            api_processes=number("RUBRIKA_API_PROCESSES", 1, 64),
            api_threads=number("RUBRIKA_API_THREADS", 1, 1024),
            max_streams=number("RUBRIKA_MAX_STREAMS", 0, 1024),
            max_held_requests=number("RUBRIKA_MAX_HELD_REQUESTS", 1, 1024),
            max_requests_per_minute=number("RUBRIKA_MAX_REQUESTS_PER_MINUTE", 0, 10**7),
            max_waiting_rows=number("RUBRIKA_MAX_WAITING_ROWS", 1, 2**53),
            max_waiting_explanations=number("RUBRIKA_MAX_WAITING_EXPLANATIONS", 1, 10**6),
            retention_days=number("RUBRIKA_RETENTION_DAYS", 0, 36_500),
            lease_seconds=seconds("RUBRIKA_LEASE_SECONDS"),
            sweep_seconds=seconds("RUBRIKA_SWEEP_SECONDS"),
            chunk_rows=number("RUBRIKA_CHUNK_ROWS", 1, 100_000),
            cache_rows=number("RUBRIKA_CACHE_ROWS", 0, 10**9),
            max_body_bytes=number("RUBRIKA_MAX_BODY_BYTES", 1, 2**50),
            max_json_bytes=number("RUBRIKA_MAX_JSON_BYTES", 1, 2**40),
            max_unpacked_bytes=number("RUBRIKA_MAX_UNPACKED_BYTES", 1, 2**50),
            max_unpack_ratio=number("RUBRIKA_MAX_UNPACK_RATIO", 1, 10_000),
            max_archive_entries=number("RUBRIKA_MAX_ARCHIVE_ENTRIES", 1, 10**6),
            max_parser_bytes=number("RUBRIKA_MAX_PARSER_BYTES", 2**28, 2**50),
            max_form_parts=number("RUBRIKA_MAX_FORM_PARTS", 1, 10_000),
            max_form_field_bytes=number("RUBRIKA_MAX_FORM_FIELD_BYTES", 1024, 2**30),
            max_rows=number("RUBRIKA_MAX_ROWS", 1, 2**31 - 1),
            max_columns=number("RUBRIKA_MAX_COLUMNS", 1, 1600),
            max_header_chars=number("RUBRIKA_MAX_HEADER_CHARS", 1, 10**7),
            max_depth=number("RUBRIKA_MAX_DEPTH", 1, 500),
            max_text_chars=number("RUBRIKA_MAX_TEXT_CHARS", 1, 10**8),
            max_items=number("RUBRIKA_MAX_ITEMS", 1, 100_000),
            max_explained=number("RUBRIKA_MAX_EXPLAINED", 0, 100_000),
        )

    @property
    def is_loopback(self) -> bool:
        """Whether the API listens to this machine only."""
        return _is_loopback(self.host)


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")


def _sqlalchemy_url(url: str) -> str:
    """Name the driver in a `postgres://` or `postgresql://` address, which is how the world writes them."""
    for prefix in ("postgres://", "postgresql://"):
        if url.startswith(prefix):
            return "postgresql+psycopg2://" + url.removeprefix(prefix)
    if url and not url.startswith("postgresql+psycopg2://"):
        raise SettingsError("DATABASE_URL must begin with postgresql://.")
    return url


def _with_password(url: str, server: str, text: Callable[[str], str]) -> str:
    """Put the password of a file into an address, whatever characters it has."""
    name = f"{server}_PASSWORD_FILE"
    if not text(name):
        return url
    try:
        password = Path(text(name)).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{name} must name a file that can be read, and {text(name)} cannot: {error}.") from error
    parts = urlsplit(url)
    if not password or not parts.hostname or parts.password:
        raise SettingsError(f"{name} must hold a password, for an address in {server}_URL with a host and without one.")
    user = parts.username or ""
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{place}"))


def _default_data_dir(env: Mapping[str, str]) -> Path:
    """A folder of Rubrika's own. Root's home is often closed to the user that PostgreSQL must run as."""
    if sys.platform != "win32" and os.geteuid() == 0:
        return Path("/var/lib/rubrika")
    base = env.get("XDG_DATA_HOME", "")
    return Path(base) / "rubrika" if base else Path.home() / ".local" / "share" / "rubrika"
