"""What operators are told to install, to put in front and to begin with is what the code takes and gives."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from api.app import create_app
from api.resources.common import MAX_WAIT_SECONDS
from cli.keys_command import keys
from jobs.settings import PROJECT_ROOT, SETTINGS_TABLE, Settings
from jobs.states import Role
from tests.support import chapter, code_blocks
from tests.unit.test_documents import DOCUMENTS, README, prose

OPERATIONS = (PROJECT_ROOT / "docs" / "operations.md").read_text()


def test_the_proxy_that_is_shown_lets_through_all_that_the_service_takes_and_gives() -> None:
    [block] = code_blocks(OPERATIONS, "nginx")
    lines = re.findall(r"^    (\w+) ([^;]+);", block, flags=re.MULTILINE)
    told = {name: value for name, value in lines if name != "proxy_set_header"}
    assert int(told["client_max_body_size"].removesuffix("g")) << 30 == int(SETTINGS_TABLE["RUBRIKA_MAX_BODY_BYTES"][0])
    # Without 1.1 a body in pieces would be gathered all the same.
    assert told["proxy_http_version"] == "1.1"
    assert told["proxy_request_buffering"] == told["proxy_buffering"] == "off"
    assert int(told["proxy_read_timeout"].removesuffix("s")) >= 5 * MAX_WAIT_SECONDS
    assert f"wait {told['proxy_read_timeout'].removesuffix('s')} seconds" in OPERATIONS
    headers = {value.split()[0] for name, value in lines if name == "proxy_set_header"}
    assert headers == {"Host", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT_ROOT)))
def test_what_is_installed_by_hand_is_of_this_checkout_and_held_to_the_pins(document: Path) -> None:
    """By its name alone pip would look for it among the packages of others."""
    # Rows of the table of settings are those of the code.
    text = re.sub(r"^\|.*$", "", prose(document), flags=re.MULTILINE)
    for asked in re.findall(r"pip install ([^`]+)`", text):
        assert re.fullmatch(r"-c constraints\.txt -e '\.\[\w+\]'|\./rubrika_client", asked), asked


@pytest.mark.parametrize("text", [README.read_text(), OPERATIONS], ids=["README", "operations"])
def test_a_machine_among_several_begins_with_an_install(text: str) -> None:
    [found] = [text for text in (text.partition(f"\n## {name} machines\n")[2] for name in ("Several", "More")) if text]
    assert found.lstrip().startswith("`make install`")


def test_the_browser_that_tests_need_is_named() -> None:
    source = (PROJECT_ROOT / "tests" / "e2e" / "browser.py").read_text()
    [(variable, path)] = re.findall(r'os\.environ\.get\("(\w+)", "(\S+)"\)', source)
    beginning = chapter(README.read_text(), "Two commands")
    assert f"`{path}`" in beginning
    assert f"make test {variable}=" in beginning


def test_the_formats_of_files_are_named_that_are_taken_and_given() -> None:
    beginning = chapter(README.read_text(), "The first file")
    # Nothing connects while the app is made.
    settings = Settings.from_env({"DATABASE_URL": "postgresql://nowhere/x", "REDIS_URL": "redis://nowhere"})
    rules = [rule.rule for rule in create_app(settings).url_map.iter_rules()]
    served = {rule.rpartition("/results.")[2] for rule in rules if "/results." in rule}
    taken, given = re.findall(r"A file is (.*?), packed.*?Results come as (.*?)\.\s", beginning, flags=re.DOTALL)[0]
    assert {word.lower() for word in re.findall(r"\w+", given)} - {"or"} == served
    chosen = (PROJECT_ROOT / "web" / "templates" / "web" / "files.html").read_text()
    for name in re.findall(r"[A-Z]{3,}|Parquet", taken):
        assert f".{name.lower()}" in chosen
    assert len(re.findall(r"[A-Z]{3,}|Parquet", taken)) == 8


def test_prometheus_shows_a_key_that_may_read_the_counts() -> None:
    told = (PROJECT_ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text()
    [scrape] = yaml.safe_load(told)["scrape_configs"]
    file = "/etc/prometheus/rubrika.key"
    assert scrape["authorization"] == {"type": "Bearer", "credentials_file": file}
    for text in (told, OPERATIONS):
        made = re.search(rf"rubrika keys create (.*) \| install .* {file}$", text, flags=re.MULTILINE)
        assert made
        asked = keys.commands["create"].make_context("create", shlex.split(made[1]))
        assert asked.params["role"] == Role.ADMIN
