"""What a drain has computed so far, so that a text which stands in a file again and again is computed once.

Reposts are common. Within a claim the classifier sees to them; this is for those that stand in different claims, or in
different jobs. It lives for one drain and holds digests and probabilities, never a text; `jobs.answers` is what
all workers know together.
"""

import hashlib

from jobs.answers import DIGEST_BYTES, Answer

MAX_TEXTS = 100_000
"""About 30 MB. When it is full it begins anew."""


class Memo:
    """Answers by the key of a text. Safe to read in one thread while another writes."""

    def __init__(self, max_texts: int = MAX_TEXTS) -> None:
        self._max_texts = max_texts
        self._known: dict[bytes, Answer] = {}

    def get(self, key: bytes) -> Answer | None:
        """What was computed for the text with this key; None when nothing was."""
        return self._known.get(key)

    def put(self, key: bytes, answer: Answer) -> None:
        """Remember a text."""
        if len(self._known) >= self._max_texts:
            self._known = {}
        self._known[key] = answer

    def forget(self) -> None:
        """Begin anew."""
        self._known = {}


def key_of(doc_text: str, image2text: str, speech2text: str) -> bytes:
    """A key that only equal texts have: BLAKE2b with 128 bits over the lengths of the fields, then the fields."""
    doc, image, speech = (
        doc_text.encode("utf-8", "surrogatepass"),
        image2text.encode("utf-8", "surrogatepass"),
        speech2text.encode("utf-8", "surrogatepass"),
    )
    lengths = b"%d %d %d " % (len(doc), len(image), len(speech))
    return hashlib.blake2b(b"".join((lengths, doc, image, speech)), digest_size=DIGEST_BYTES).digest()
