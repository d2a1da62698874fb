"""What a post is, and the one place where its three fields become the one text that the network reads.

Training and serving both call `compose`: a difference between the two would cost quality silently.
"""

import re
from dataclasses import dataclass

FIELDS = ("doc_text", "image2text", "speech2text")

# Plain words rather than special tokens: every vocabulary that can read Russian knows them, and no embedding has to
# be learnt from scratch. The author's own words come first and need no marker.
IMAGE_MARKER = "картинка:"
SPEECH_MARKER = "видео:"

# Control characters, zero-width spaces, byte order marks and lone halves of surrogate pairs say nothing about a topic,
# and the last kind cannot be encoded at all. The zero-width joiner stays: emoji are made with it.
_NOISE = re.compile(
    "[\\s\\x00-\\x1f\\x7f-\\x9f\\u00ad\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060\\ufeff\\ud800-\\udfff]+"
)


@dataclass(frozen=True, slots=True)
class Post:
    """One social-media post; any of the fields may be empty.

    Attributes:
        doc_text: what the author wrote.
        image2text: what optical character recognition read on the picture.
        speech2text: what speech recognition heard in the video.
    """

    doc_text: str = ""
    image2text: str = ""
    speech2text: str = ""


def clean(text: str) -> str:
    """Return `text` with every run of whitespace and control characters as one space, and none at the ends."""
    return _NOISE.sub(" ", text).strip()


def compose(post: Post, max_chars: int | None = None) -> str:
    """Return the one text that the network reads for `post`; empty when all three fields are.

    Args:
        post: the post.
        max_chars: keep no more than about so many characters of each field, so that a huge text costs no more than a
            long one. Where something is left out, the result is longer than `max_chars`.
    """
    # One character more than the limit is kept, so that the caller can see by the length that something is missing.
    # Cleaning comes first: a page of spaces before a text must not push it out.
    end = None if max_chars is None else max_chars + 1
    doc, image, speech = (clean(text)[:end] for text in (post.doc_text, post.image2text, post.speech2text))
    parts = [doc]
    if image:
        parts.append(f"{IMAGE_MARKER} {image}")
    if speech:
        parts.append(f"{SPEECH_MARKER} {speech}")
    return " ".join(part for part in parts if part)


def is_empty(post: Post) -> bool:
    """Say whether there is nothing to read in `post`."""
    return not (clean(post.doc_text) or clean(post.image2text) or clean(post.speech2text))
