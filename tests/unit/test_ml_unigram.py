"""Our own code cuts texts into the tokens that the library finds, whatever they hold."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("numba", reason="Numba is not to be had for this processor or Python")

from ml import artifact
from ml.encoding import TextEncoder
from ml.x86 import unigram
from tests.tiny_model import make_wordpiece
from tests.unit.test_ml_shipped import SHIPPED_MODEL

MOST = 24
FOLDER = artifact.read(SHIPPED_MODEL)
CONTENT = FOLDER.tokenizer()
LIBRARY = TextEncoder(CONTENT, FOLDER.prefix, MOST)
OURS = TextEncoder(CONTENT, FOLDER.prefix, MOST, compiled=True)

WORDS = [
    "матч",
    "Сборная",
    "переподготовка",
    "https://t.me/x?y=1",
    "№5",
    "…",
    "❤️",
    "👨‍👩‍👧",
    "🇷🇺",
    "ﬁ",
    "½",
    "й",
    "漢字",
    "👍🏽",
    "#️⃣",
    "क्ष",
    "한",
    "ааааааааааааааааааааа",
]
ODD = [
    "\u2581",
    "\u0301",
    "\u200d",
    "\ufe0f",
    "\u00a0",
    "\u00ad",
    "\u0600",
    "\n",
    "\r\n",
    "\t",
    "\u3000",
    "\x00",
    "´",
    "‗",
    "</s>",
    "<mask>",
    "<",
    "\U0010ffff",
    "\u115f",
    "\u1161",
    "\U0001f3fb",
    "\U0001f1f8",
    "\u0e33",
    "и\u0306",
    "е\u0308",
    "e\u0301",
    "г\u0301",
]
TEXTS = st.lists(st.sampled_from([" ", "  ", *WORDS, *ODD]) | st.text(max_size=3), max_size=30).map("".join)


def test_it_is_our_own_code_that_is_tried() -> None:
    assert OURS._unigram is not None
    assert LIBRARY._unigram is None


@given(TEXTS)
@example("")
@example(" ")
@example("конец ")
@example(" начало")
@example("a\u2581b \u2581 c")
@example("два  пробела   и три")
@example("слово \u0301знак")
@example("а\u200dб\u0301 в\ufe0fг д")
@example("мои\u0306 и\u0306 и\u0306ти е\u0308ж cafe\u0301s")
@example("а\u00a0 б \u00a0в")
@example("е" + "\u0301" * 40 + "ж")
def test_texts_are_cut_as_the_library_cuts_them(text: str) -> None:
    for one in (text, "Матч: " + text):
        try:
            expected = LIBRARY.encode([one])
        except UnicodeEncodeError:
            with pytest.raises(UnicodeEncodeError):
                OURS.encode([one])
            continue
        found = OURS.encode([one])
        assert found.ids[0].tolist() == expected.ids[0].tolist()
        assert found.truncated.tolist() == expected.truncated.tolist()
        assert found.ids[0].dtype == np.int32


def test_texts_keep_their_places_where_the_library_cuts_some() -> None:
    texts = ["матч", "x </s> y", "длинный текст " * 20, "x <mask>", ""]
    found, expected = OURS.encode(texts), LIBRARY.encode(texts)
    assert [ids.tolist() for ids in found.ids] == [ids.tolist() for ids in expected.ids]
    assert found.truncated.tolist() == expected.truncated.tolist() == [False, False, True, False, False]


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"byte_fallback": True}},
        {"model": {"unk_id": None}},
        {"pre_tokenizer": {"split": False}},
        {"pre_tokenizer": {"prepend_scheme": "first"}},
        {"normalizer": {"normalizers": []}},
    ],
    ids=str,
)
def test_other_tokenizers_are_left_to_the_library(changes: dict[str, dict[str, Any]]) -> None:
    assert unigram.suits(CONTENT)
    told = json.loads(CONTENT)
    for part, values in changes.items():
        told[part] |= values
    assert not unigram.suits(json.dumps(told))
    assert TextEncoder(make_wordpiece().to_str(), "", 16, compiled=True)._unigram is None


def test_what_cannot_be_compiled_is_left_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_: object) -> None:
        raise EOFError("Ran out of input")

    monkeypatch.setattr(unigram, "cut", damaged)
    encoder = TextEncoder(CONTENT, FOLDER.prefix, MOST, compiled=True)
    assert encoder._unigram is None
    assert encoder.encode(["матч"]).ids[0].tolist() == LIBRARY.encode(["матч"]).ids[0].tolist()
