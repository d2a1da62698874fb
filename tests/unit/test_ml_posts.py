"""What the network reads of a post."""

import pytest

from ml.data import group_key, text_key
from ml.encoding import CHARS_PER_TOKEN, TextEncoder, pad
from ml.posts import Post, clean, compose, is_empty
from tests.tiny_model import make_wordpiece


def test_three_fields_become_one_text_with_markers() -> None:
    assert compose(Post("Гол!", "счёт 2:0", "и он забивает")) == "Гол! картинка: счёт 2:0 видео: и он забивает"


@pytest.mark.parametrize(
    ("post", "text"),
    [
        (Post("один"), "один"),
        (Post(image2text="два"), "картинка: два"),
        (Post(speech2text=" три "), "видео: три"),
        (Post("\n\t", "\u200b", "\x00"), ""),
    ],
)
def test_an_empty_field_leaves_no_trace(post: Post, text: str) -> None:
    assert compose(post) == text
    assert is_empty(post) == (not text)


def test_control_characters_and_lone_surrogates_go_and_emoji_stay() -> None:
    assert clean("a\x00b\ud83dc\r\n\u00a0d") == "a b c d"
    family = "👩\u200d👧"
    assert clean(family) == family


def test_a_huge_field_is_cut_before_it_is_read() -> None:
    cut = compose(Post("я" * 1_000_000, "б" * 1_000_000), max_chars=100)
    assert 100 < len(cut) < 250
    assert compose(Post(" " * 1000 + "текст"), max_chars=100) == "текст"


def test_whatever_a_text_holds_can_be_tokenised() -> None:
    encoder = TextEncoder(make_wordpiece().to_str(), "", 16)
    posts = [Post("\ud800"), Post("\x00\x1b[31m"), Post("🏳️\u200d🌈 " * 50), Post("а" * 100_000), Post("")]
    encoded = encoder.encode([encoder.compose(post) for post in posts])
    assert [bool(cut) for cut in encoded.truncated] == [False, False, True, True, False]
    assert all(len(ids) <= 16 for ids in encoded.ids)


def test_text_is_truncated_where_the_network_stops_reading() -> None:
    encoder = TextEncoder(make_wordpiece().to_str(), "", 10)
    short, exact, long = (" ".join(["матч"] * count) for count in (3, 8, 9))
    encoded = encoder.encode([short, exact, long])
    per_word = (len(encoded.ids[0]) - 2) // 3
    assert per_word == 1
    assert encoded.truncated.tolist() == [False, False, True]
    # The separator at the end survives the cut.
    assert encoded.ids[2][-1] == encoded.ids[0][-1]


def test_characters_beyond_any_token_count_as_truncated() -> None:
    encoder = TextEncoder(make_wordpiece().to_str(), "", 10)
    word = "матч" + "ъ" * (CHARS_PER_TOKEN * 10)
    assert encoder.encode([encoder.compose(Post(word))]).truncated.tolist() == [True]


def test_the_prefix_is_read_like_the_text() -> None:
    plain = TextEncoder(make_wordpiece().to_str(), "", 32).encode(["матч"]).ids[0]
    prefixed = TextEncoder(make_wordpiece().to_str(), "финал ", 32).encode(["матч"]).ids[0]
    assert len(prefixed) > len(plain)
    assert prefixed[-2:].tolist() == plain[-2:].tolist()


def test_padding_reaches_the_next_multiple() -> None:
    encoded = TextEncoder(make_wordpiece().to_str(), "", 32).encode(["матч", "матч и финал"]).ids
    input_ids, mask = pad(encoded, 7, multiple=8)
    assert input_ids.shape == mask.shape == (2, 8)
    assert mask.sum(axis=1).tolist() == [len(ids) for ids in encoded]
    assert (input_ids[mask == 0] == 7).all()


def test_equal_texts_share_a_key_and_nearly_equal_ones_a_group() -> None:
    first, second = Post("Скидка 10% https://a.example/x!"), Post("скидка 25 %")
    assert text_key(first) != text_key(second)
    assert group_key(first) == group_key(second)
    assert text_key(Post("a  b")) == text_key(Post("a b "))
