"""What a drain has computed so far, so that a text which stands in a file again and again is computed once.

Reposts are common. Within a chunk the classifier sees to them; this is for those that stand in different chunks, or in
different jobs. It lives for one drain and holds digests and probabilities, never a text.
"""

import hashlib
from collections.abc import Sequence

from ml.posts import Post

MAX_TEXTS = 100_000
"""About 30 MB. When it is full it begins anew."""

Known = tuple[Sequence[float], bool]
"""Probabilities in the order of the model's topics, and whether the text was truncated."""


class Memo:
    """Probabilities by text. Safe to read in one thread while another writes."""

    def __init__(self, max_texts: int = MAX_TEXTS) -> None:
        self._max_texts = max_texts
        self._known: dict[bytes, Known] = {}

    def get(self, key: bytes) -> Known | None:
        """What was computed for the text with this key; None when nothing was."""
        return self._known.get(key)

    def put(self, key: bytes, known: Known) -> None:
        """Remember a text."""
        if len(self._known) >= self._max_texts:
            self._known = {}
        self._known[key] = known

    def forget(self) -> None:
        """Begin anew."""
        self._known = {}


def key_of(post: Post) -> bytes:
    """A key that only an equal post has: BLAKE2b with 128 bits over the fields and their lengths."""
    digest = hashlib.blake2b(digest_size=16)
    for field in (post.doc_text, post.image2text, post.speech2text):
        data = field.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8))
        digest.update(data)
    return digest.digest()
