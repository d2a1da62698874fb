"""The two languages of the page. The words themselves are in `words_ru` and `words_en`, under the same keys.

A value is a sentence with `{placeholders}`, or, where a number decides, a sentence per plural category of the language
(the names are those of Unicode CLDR, as the browser's `Intl.PluralRules` gives them). Keys under `page.` are written
into pages by the server; all others travel with each page for its modules.
"""

from collections.abc import Mapping

from web.words_en import ENGLISH
from web.words_ru import RUSSIAN

Words = Mapping[str, str | dict[str, str]]

DEFAULT_LANGUAGE = "ru"
LANGUAGES: Mapping[str, Words] = {"ru": RUSSIAN, "en": ENGLISH}


def choose_language(asked: str | None, remembered: str | None) -> str:
    """The language of a page: what its address asks for, else what the cookie remembers, else Russian."""
    for candidate in (asked, remembered):
        if candidate in LANGUAGES:
            return str(candidate)
    return DEFAULT_LANGUAGE


def server_word(language: str, key: str) -> str:
    """The words under `key`, for a template. Raises `KeyError` for a key that does not exist or needs a number."""
    entry = LANGUAGES[language][key]
    if not isinstance(entry, str):
        raise KeyError(f"{key} has plural forms; only the modules in the browser can choose among them.")
    return entry


def browser_words(language: str) -> dict[str, str | dict[str, str]]:
    """Everything that the modules in the browser may say."""
    return {key: entry for key, entry in LANGUAGES[language].items() if not key.startswith("page.")}
