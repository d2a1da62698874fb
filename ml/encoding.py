"""Texts to token ids, the same at training and serving."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from ml.cleaning import NO_CLEANING, Cleaning
from ml.posts import Fields, Post, compose

if TYPE_CHECKING:
    from ml.x86.unigram import Unigram

log = logging.getLogger(__name__)

# Russian text has three to five characters a token. Beyond this many for each token that the network reads nothing
# can matter, so a text is cut there before it is tokenised: a megabyte then costs no more than a page.
CHARS_PER_TOKEN = 16

TRIALS = 3
"""One more than there are functions of the tokenizer that are kept."""


@dataclass(frozen=True)
class Encoded:
    """Token ids of n texts.

    Attributes:
        ids: n arrays int32 (length,), special tokens included, without padding.
        truncated: bool (n,), whether something of the text was left out.
    """

    ids: tuple[npt.NDArray[np.int32], ...]
    truncated: npt.NDArray[np.bool_]


class TextEncoder:
    """A tokenizer with the input settings of a model. Threads may share one.

    Args:
        tokenizer: content of a `tokenizer.json`.
        prefix: put before every text, as the base was trained to read.
        max_tokens: longest input, special tokens included.
        cleaning: what is taken out of each field.
        fields: how the fields become one text.
        compiled: let our own code cut the words (`ml.x86.unigram`), where it knows the tokenizer.
    """

    def __init__(
        self,
        tokenizer: str,
        prefix: str,
        max_tokens: int,
        cleaning: Cleaning = NO_CLEANING,
        fields: Fields = "marked",
        compiled: bool = False,
    ) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length=max_tokens)
        self._prefix = prefix
        self._cleaning = cleaning
        self._fields: Fields = fields
        self._max_tokens = max_tokens
        self._max_chars = max_tokens * CHARS_PER_TOKEN
        self._unigram = _own_unigram(self._tokenizer, tokenizer) if compiled else None

    def compose(self, post: Post) -> str:
        """Return the text that stands for `post`, no longer than could matter by more than a little."""
        return compose(post, self._max_chars, self._cleaning, self._fields)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Tokenise all `texts` at once, in parallel where the tokenizer can."""
        inputs = [self._prefix + text[: self._max_chars] for text in texts]
        found = [self._unigram.ids(text, self._max_tokens) if self._unigram else None for text in inputs]
        rest = [place for place, ids in enumerate(found) if ids is None]
        encodings = self._tokenizer.encode_batch_fast([inputs[place] for place in rest])
        for place, encoding in zip(rest, encodings, strict=True):
            found[place] = np.asarray(encoding.ids, dtype=np.int32), bool(encoding.overflowing)
        whole = [one for one in found if one is not None]
        truncated = [len(text) > self._max_chars or more for text, (_, more) in zip(texts, whole, strict=True)]
        return Encoded(tuple(ids for ids, _ in whole), np.array(truncated, dtype=np.bool_))


def _own_unigram(tokenizer: Tokenizer, content: str) -> "Unigram | None":
    """Our own code for a tokenizer; None where it does not know it, or cannot be compiled."""
    from ml import x86
    from ml.x86.unigram import Unigram, suits

    if not suits(content):
        return None
    for _ in range(TRIALS):
        try:
            made = Unigram(tokenizer, content)
            made.ids("а", 8)
        except Exception as error:
            # What is kept may be damaged, or the disk full; what was compiled is there all the same.
            log.warning("what was compiled cannot be kept or read: %s: %s", type(error).__name__, error)
            x86.forget()
        else:
            return made
    return None


def pad(rows: Sequence[npt.NDArray[np.int32]], pad_id: int, multiple: int = 1) -> tuple[npt.NDArray[np.int64], ...]:
    """Return (input_ids, attention_mask), int64 (rows, length): padded to the longest row, rounded up to `multiple`."""
    longest = max(len(row) for row in rows)
    length = -(-longest // multiple) * multiple
    input_ids = np.full((len(rows), length), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), length), dtype=np.int64)
    for index, row in enumerate(rows):
        input_ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return input_ids, mask
