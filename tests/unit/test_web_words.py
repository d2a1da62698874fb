"""Both languages of the page say the same things, and pages and modules ask for nothing that is not there."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from api.files.errors import FileCode
from jobs.states import RowError
from ml.card import APART, CROSS_FITTED, LIMITS
from web.words import DEFAULT_LANGUAGE, LANGUAGES, browser_words, choose_language, server_word
from web.words_en import ENGLISH
from web.words_ru import RUSSIAN

WEB = Path(__file__).resolve().parents[2] / "web"

# Of the Unicode CLDR; whole numbers in Russian are never `other`, fractions are.
PLURAL_CATEGORIES = {"ru": {"one", "few", "many", "other"}, "en": {"one", "other"}}


def placeholders(entry: str | dict[str, str]) -> list[set[str]]:
    sentences = [entry] if isinstance(entry, str) else list(entry.values())
    return [set(re.findall(r"\{(\w+)\}", sentence)) for sentence in sentences]


def test_both_languages_have_the_same_keys_in_the_same_order() -> None:
    assert list(RUSSIAN) == list(ENGLISH)


def test_both_languages_take_the_same_values() -> None:
    for key, russian in RUSSIAN.items():
        english = ENGLISH[key]

        assert type(russian) is type(english), key
        sets = placeholders(russian) + placeholders(english)
        assert all(names == sets[0] for names in sets), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_plural_form_of_the_language_is_there(language: str) -> None:
    for key, entry in LANGUAGES[language].items():
        if isinstance(entry, dict):
            assert set(entry) == PLURAL_CATEGORIES[language], key


def test_nothing_is_said_with_empty_words() -> None:
    for words in LANGUAGES.values():
        for key, entry in words.items():
            for sentence in [entry] if isinstance(entry, str) else entry.values():
                assert sentence.strip() == sentence != "", key


def test_russian_is_written_in_cyrillic_letters() -> None:
    # Names of formats and programs are the same in both languages; everything else differs.
    same = {key for key in RUSSIAN if RUSSIAN[key] == ENGLISH[key]}

    assert same == {"page.nav.api", "page.api", "page.files.help_csv", "card.f1"}


def asked_for() -> set[str]:
    """Patterns of the keys that templates and modules ask for; `*` stands for what is known only when it runs."""
    found: set[str] = set()
    for path in [*(WEB / "templates").rglob("*.html"), *(WEB / "static").rglob("*.js")]:
        source = path.read_text(encoding="utf-8")
        for literal in re.findall(r"""["'`]([a-z_0-9]+(?:\.[a-z_0-9]*(?:\$\{[^}]*\})?[a-z_0-9]*)*)["'`]""", source):
            found.add(re.sub(r"\$\{[^}]*\}", "*", literal))
        found |= {f"{prefix}*" for prefix in re.findall(r"""t\(["']([a-z.]+\.)["'] ~""", source)}
        if "nothing}_start`" in source:
            found.add("history.*_start")
    return found


def test_every_word_is_used_somewhere() -> None:
    patterns = [re.compile(re.escape(name).replace(r"\*", ".+")) for name in asked_for()]

    unused = [key for key in RUSSIAN if not any(pattern.fullmatch(key) for pattern in patterns)]

    assert unused == []


def test_every_word_that_is_asked_for_exists() -> None:
    for path in [*(WEB / "templates").rglob("*.html"), *(WEB / "static").rglob("*.js")]:
        keys = re.findall(r"""\bt\(["']([^"'$]+)["'][,)]""", path.read_text(encoding="utf-8"))

        assert [key for key in keys if key not in RUSSIAN] == [], path.name


def test_a_page_says_nothing_that_only_the_browser_can_count() -> None:
    with pytest.raises(KeyError):
        server_word("ru", "text.words")


def test_the_browser_gets_what_the_server_does_not_say() -> None:
    words = browser_words("en")

    assert "text.words" in words
    assert not any(key.startswith("page.") for key in words)


@pytest.mark.parametrize(
    ("asked", "remembered", "language"),
    [
        (None, None, "ru"),
        ("en", None, "en"),
        (None, "en", "en"),
        ("ru", "en", "ru"),
        ("tlh", "en", "en"),
        ("", "../../etc", DEFAULT_LANGUAGE),
    ],
)
def test_the_address_decides_before_the_cookie(asked: str | None, remembered: str | None, language: str) -> None:
    assert choose_language(asked, remembered) == language


# Of options that the page offers to choose from, and of requests that it does not send.
NOT_ON_THE_PAGE = {"unsupported_media_type", "unknown_sheet", "unknown_encoding", "bad_delimiter", "unknown_field"}


@pytest.mark.parametrize("words", [RUSSIAN, ENGLISH], ids=["ru", "en"])
def test_the_page_has_words_of_its_own_for_every_reason_to_refuse_a_file_or_a_row(words: Mapping[str, object]) -> None:
    assert {code for code in FileCode if f"file.{code}" not in words} == NOT_ON_THE_PAGE
    assert {code for code in RowError if f"row.{code}" not in words} == set()


def test_sentences_of_cards_are_said_in_russian() -> None:
    card = json.loads((WEB.parent / "ml" / "models" / "rubrika-small" / "card.json").read_text(encoding="utf-8"))

    def sentences(value: object) -> Iterator[str]:
        if isinstance(value, dict):
            for inner in value.values():
                yield from sentences(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from sentences(inner)
        elif isinstance(value, str) and " " in value.strip():
            yield value

    known = {
        f"said.{sentence}"
        for sentence in {*sentences(card), *LIMITS, CROSS_FITTED + APART}
        if not re.fullmatch(r"\S+ \d[\d.]*", sentence)
    }
    assert known <= set(RUSSIAN)
