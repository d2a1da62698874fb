"""What a post is, and the one place where its three fields become the one text that the network reads.

Training and serving both call `compose`: a difference between the two would cost quality silently.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from ml.cleaning import NO_CLEANING, Cleaning, squeeze
from ml.cleaning import clean as clean_field
from ml.errors import DataError

FIELDS = ("doc_text", "image2text", "speech2text")

# Plain words rather than special tokens: every vocabulary that can read Russian knows them, and no embedding has to
# be learnt from scratch. The author's own words come first and need no marker.
IMAGE_MARKER = "картинка:"
SPEECH_MARKER = "видео:"

# How the three fields become one text: with a marker before what a machine read or heard, or one after the other.
Fields = Literal["marked", "plain"]
FIELDS_MODES: tuple[Fields, ...] = get_args(Fields)


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
    return squeeze(text)


def fields_named(name: str) -> Fields:
    """Return the way to put fields together that has this name, or raise DataError."""
    for mode in FIELDS_MODES:
        if mode == name:
            return mode
    raise DataError(f"There is no way to put fields together named {name!r}; there are {', '.join(FIELDS_MODES)}.")


def compose(
    post: Post, max_chars: int | None = None, cleaning: Cleaning = NO_CLEANING, fields: Fields = "marked"
) -> str:
    """Return the one text that the network reads for `post`; empty when all three fields are.

    Args:
        post: the post.
        max_chars: keep no more than about so many characters of each field, so that a huge text costs no more than a
            long one. Where something is left out, the result is longer than `max_chars`.
        cleaning: what is taken out of each field.
        fields: `marked`: a word says where what was read on the picture or heard in the video begins; `plain`: not.
    """
    # One character more than the limit is kept, so that the caller can see by the length that something is missing.
    # Cleaning comes first: a page of spaces before a text must not push it out.
    end = None if max_chars is None else max_chars + 1
    doc, image, speech = (
        clean_field(text, cleaning)[:end] for text in (post.doc_text, post.image2text, post.speech2text)
    )
    parts = [doc]
    if image:
        parts.append(image if fields == "plain" else f"{IMAGE_MARKER} {image}")
    if speech:
        parts.append(speech if fields == "plain" else f"{SPEECH_MARKER} {speech}")
    return " ".join(part for part in parts if part)


def is_empty(post: Post) -> bool:
    """Say whether there is nothing to read in `post`."""
    return not (clean(post.doc_text) or clean(post.image2text) or clean(post.speech2text))
