"""Texts to token ids, the same at training and serving."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from ml.cleaning import NO_CLEANING, Cleaning
from ml.posts import Fields, Post, compose

# Russian text has three to five characters a token. Beyond this many for each token that the network reads nothing
# can matter, so a text is cut there before it is tokenised: a megabyte then costs no more than a page.
CHARS_PER_TOKEN = 16


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
    """

    def __init__(
        self,
        tokenizer: str,
        prefix: str,
        max_tokens: int,
        cleaning: Cleaning = NO_CLEANING,
        fields: Fields = "marked",
    ) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length=max_tokens)
        self._prefix = prefix
        self._cleaning = cleaning
        self._fields: Fields = fields
        self._max_chars = max_tokens * CHARS_PER_TOKEN

    def compose(self, post: Post) -> str:
        """Return the text that stands for `post`, no longer than could matter by more than a little."""
        return compose(post, self._max_chars, self._cleaning, self._fields)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Tokenise all `texts` at once, in parallel where the tokenizer can."""
        inputs = [self._prefix + text[: self._max_chars] for text in texts]
        encodings = self._tokenizer.encode_batch_fast(inputs)
        ids = tuple(np.asarray(encoding.ids, dtype=np.int32) for encoding in encodings)
        truncated = [
            len(text) > self._max_chars or bool(encoding.overflowing)
            for text, encoding in zip(texts, encodings, strict=True)
        ]
        return Encoded(ids, np.array(truncated, dtype=np.bool_))


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
