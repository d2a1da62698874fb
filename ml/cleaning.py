"""What may be taken out of a field before the network reads it, each step a switch that an ablation can measure.

The steps of a model are recorded in its folder and applied in `ml.posts.compose` alone, at training and at serving.
White space and control characters are always squeezed: no tokenizer here sees them, so there is nothing to switch.

An explanation speaks of the field as it was sent: `clean_with_offsets` says for each character that is left where it
stood there. A result of `clean` and its text are the same, character by character.
"""

import dataclasses
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ml.errors import DataError

# Control characters, zero-width spaces, byte order marks and lone halves of surrogate pairs say nothing about a topic,
# and the last kind cannot be encoded at all. The zero-width joiner stays: emoji are made with it.
_UNSEEN = (
    "\\x00-\\x08\\x0e-\\x1b\\x7f-\\x84\\x86-\\x9f"
    "\\u00ad\\u200b\\u200e\\u200f\\u202a-\\u202e\\u2060\\ufeff\\ud800-\\udfff"
)
_NOISE = re.compile(f"[\\s{_UNSEEN}]+")
_NO_SPACE = re.compile(f"[{_UNSEEN}]")

_SITE = r"(?:t\.me|telegram\.me|vk\.(?:com|cc|link|ru)|youtu\.be|youtube\.com|instagram\.com|ok\.ru|dzen\.ru)"
_LINK = rf"(?:https?://\S+|\bwww\.\S+|(?<![\w@.]){_SITE}/\S+)"

# Emoji and the dingbats, arrows and flags that are written as such, with joiners, skin tones and the sign that asks
# for the coloured form. Blocks of Unicode 16 in which nearly every character is a picture.
_EMOJI = (
    "[\\u2190-\\u21ff\\u2300-\\u23ff\\u2460-\\u24ff\\u25a0-\\u27bf\\u2900-\\u297f\\u2b00-\\u2bff\\u3030\\u303d"
    "\\u3297\\u3299\\ufe0f\\u200d\\u20e3\\U0001f000-\\U0001faff\\U000e0020-\\U000e007f]+"
)

# The order is that of application. A header comes before links, because it is known by its link; a repetition last,
# since what is taken out may bring equal characters together. No pattern can match in two ways that it would have to
# try in turn, so the time grows with the length of the text alone.
_STEPS: dict[str, tuple[re.Pattern[str], str]] = {
    # What a post that was copied from a channel starts with: the handle of the channel and the address of the post.
    "header": (re.compile(rf"\A(?:@?[A-Za-z]\w{{3,31}} )?(?:https?://)?{_SITE}/\S+ ?"), ""),
    "links": (re.compile(_LINK), " "),
    # Telegram's and others' @name, and VK's [club1|Name], [id1|Name], whose name is left.
    "handles": (re.compile(r"(?<![\w@])@\w{2,32}|\[(?:club|id|public|event)\d+\|([^\[\]|]{0,100})\]"), r" \1 "),
    "hashtags": (re.compile(r"(?<!\w)#\w+(?:@\w+)?"), " "),
    "emoji": (re.compile(_EMOJI), " "),
    # A letter or sign said three times or more is said twice; digits make numbers and stay.
    "repeats": (re.compile(r"([^\d\s])\1{2,}"), r"\1\1"),
}
STEPS = tuple(_STEPS)


@dataclass(frozen=True)
class Cleaning:
    """Which steps are on; none by default, as in every model folder that says nothing of them.

    Attributes:
        header: takes away the handle and address that a post copied from a channel begins with.
        links: takes away addresses of the web.
        handles: takes away `@name`, and the marks of `[club1|Name]` around the name.
        hashtags: takes away `#word` with its word.
        emoji: takes away emoji and other small pictures.
        repeats: makes three and more of a letter or a sign two.
    """

    header: bool = False
    links: bool = False
    handles: bool = False
    hashtags: bool = False
    emoji: bool = False
    repeats: bool = False

    @classmethod
    def of(cls, names: Iterable[str]) -> "Cleaning":
        """Return the cleaning with these steps.

        Raises:
            DataError: a name is not one of `STEPS`.
        """
        chosen = list(names)
        for name in chosen:
            if name not in STEPS:
                near = difflib.get_close_matches(name, STEPS, 1)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise DataError(f"There is no step of cleaning {name!r}; there are {', '.join(STEPS)}.{hint}")
        return cls(**dict.fromkeys(chosen, True))

    @classmethod
    def parse(cls, text: str) -> "Cleaning":
        """Return the cleaning that a list like `links,emoji` names; an empty text names none.

        Raises:
            DataError: as `of`.
        """
        return cls.of(part.strip() for part in text.split(",") if part.strip())

    @property
    def names(self) -> tuple[str, ...]:
        """The steps that are on, in the order of their application."""
        return tuple(name for name in STEPS if getattr(self, name))

    def switched(self, name: str) -> "Cleaning":
        """Return the same with one step turned the other way."""
        return dataclasses.replace(self, **{name: not getattr(self, name)})


NO_CLEANING = Cleaning()


def squeeze(text: str) -> str:
    """Return `text` with every run of white space and control characters as one space, and none at the ends."""
    # `_NOISE.sub(" ", text).strip()` stops at every space between two words. Most texts have nothing but white space.
    if _NO_SPACE.search(text):
        text = _NO_SPACE.sub(" ", text)
    return " ".join(text.split())


def clean(text: str, cleaning: Cleaning = NO_CLEANING) -> str:
    """Return what is left of a field after squeezing and the steps of `cleaning`."""
    text = squeeze(text)
    names = cleaning.names
    if not names:
        return text
    for name in names:
        pattern, replacement = _STEPS[name]
        text = pattern.sub(replacement, text)
    return squeeze(text)


def clean_with_offsets(text: str, cleaning: Cleaning = NO_CLEANING) -> tuple[str, npt.NDArray[np.int64]]:
    """Return `clean(text, cleaning)` and where each of its characters stood, int64 (characters,), indices into `text`.

    Indices rise. A space that stands for white space or for what was taken out has the index of the first character.
    """
    offsets = np.arange(len(text), dtype=np.int64)
    text, offsets = _stripped(*_substitute(_NOISE, " ", text, offsets))
    if not cleaning.names:
        return text, offsets
    for name in cleaning.names:
        pattern, replacement = _STEPS[name]
        text, offsets = _substitute(pattern, replacement, text, offsets)
    return _stripped(*_substitute(_NOISE, " ", text, offsets))


def _substitute(
    pattern: re.Pattern[str], replacement: str, text: str, offsets: npt.NDArray[np.int64]
) -> tuple[str, npt.NDArray[np.int64]]:
    pieces: list[str] = []
    places: list[npt.NDArray[np.int64]] = []
    done = 0
    for match in pattern.finditer(text):
        start, end = match.span()
        new = match.expand(replacement)
        # A part of the match that is kept stands where it stood; what is put before it, at the start, and after, at
        # the end.
        stands = np.full(len(new), start)
        if pattern.groups and match[1]:
            before = new.index(match[1])
            after = before + len(match[1])
            stands[before:after] = np.arange(*match.span(1))
            stands[after:] = end - 1
        pieces += [text[done:start], new]
        places += [offsets[done:start], offsets[stands]]
        done = end
    return "".join([*pieces, text[done:]]), np.concatenate([*places, offsets[done:]])


def _stripped(text: str, offsets: npt.NDArray[np.int64]) -> tuple[str, npt.NDArray[np.int64]]:
    start = len(text) - len(text.lstrip())
    kept = text.strip()
    return kept, offsets[start : start + len(kept)]
