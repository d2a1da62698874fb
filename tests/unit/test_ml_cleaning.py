"""What is taken out of a field, and where what is left stood."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml import artifact
from ml.classifier import Classifier
from ml.cleaning import STEPS, Cleaning, clean, clean_with_offsets
from ml.errors import DataError, ModelError
from ml.posts import Post, compose
from tests.tiny_model import make_tiny_model


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        ("header", "some_channel https://t.me/some_channel/558 Гол!", "Гол!"),
        ("header", "https://t.me/s/other/1546 Конкурс", "Конкурс"),
        ("header", "Смотрите https://t.me/other/1", "Смотрите https://t.me/other/1"),
        ("links", "запись тут:https://a.example/x?y=1#z и www.b.example/ и vk.com/club1!", "запись тут: и и"),
        ("links", "раз.два, 3.5 км и почта ivan@vk.com/", "раз.два, 3.5 км и почта ivan@vk.com/"),
        ("handles", "писать @ruchka_el, или [club1|Клуб «А»] и [id22|Маше]", "писать , или Клуб «А» и Маше"),
        ("handles", "ivan@mail.example [5|6]", "ivan@mail.example [5|6]"),
        ("hashtags", "выпуск #анекдот #шутка@канал дня", "выпуск дня"),
        ("hashtags", "№1 и C# и песня#1", "№1 и C# и песня#1"),
        ("emoji", "Финал🔥🔥🔥!👩\u200d👧 1️⃣ ☀️", "Финал ! 1"),
        ("emoji", "«Кавычки» — тире… © № 5°", "«Кавычки» — тире… © № 5°"),
        ("repeats", "Ааааа нуууу!!!! 1000000 ....", "Ааа нуу!! 1000000 .."),
    ],
)
def test_a_step_takes_out_what_it_names_and_nothing_else(step: str, before: str, after: str) -> None:
    assert clean(before, Cleaning.of([step])) == after


MARKS = st.sampled_from(
    ["https://t.me/a/1", "@name", "#тег", "🔥", "👩\u200d👧", "[id1|Имя]", "!!!", "\n\t ", "\x00", "ааа"]
)
TEXTS = st.lists(st.one_of(MARKS, st.text(max_size=5)), max_size=12).map("".join)


@given(TEXTS, st.sets(st.sampled_from(STEPS)))
def test_offsets_lead_back_to_the_text_that_was_sent(text: str, steps: set[str]) -> None:
    cleaning = Cleaning.of(steps)
    cleaned, offsets = clean_with_offsets(text, cleaning)
    assert cleaned == clean(text, cleaning)
    assert len(offsets) == len(cleaned)
    assert (offsets[1:] >= offsets[:-1]).all()
    assert all(text[place] == letter for letter, place in zip(cleaned, offsets, strict=True) if letter != " ")


@pytest.mark.parametrize("unit", ["a", "@", "#", "[id1|", "https://", "t.me/", "]", "🔥", "@a", "www.", "ab!!! "])
def test_no_text_is_dear_to_clean(unit: str) -> None:
    # A pattern that had to try two ways at every place would run for hours on this and meet the limit of the test.
    text = unit * (2_000_000 // len(unit))
    assert len(clean(text, Cleaning.of(STEPS))) <= len(text)


def test_a_step_that_does_not_exist_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(DataError, match=r"'emojis'.*links.*Did you mean emoji\?"):
        Cleaning.parse("links, emojis")
    assert Cleaning.parse(" emoji,links ").names == ("links", "emoji")
    assert Cleaning.parse("").switched("links") == Cleaning(links=True)


def test_fields_are_cleaned_each_by_itself_and_put_together_with_or_without_marks() -> None:
    post = Post("Гол! 🔥", "@ruchka", "и он https://a.example")
    assert compose(post, cleaning=Cleaning.of(["emoji", "handles", "links"])) == "Гол! видео: и он"
    assert compose(post, fields="plain") == "Гол! 🔥 @ruchka и он https://a.example"


def test_a_model_reads_posts_as_its_folder_says(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "model")
    settings = json.loads((folder / artifact.SETTINGS).read_text(encoding="utf-8"))
    assert "cleaning" not in settings, "the folder stands for those made before cleaning"
    posts = [Post("матч 🔥", "финал"), Post("матч", "финал")]

    def tokens() -> list[list[int]]:
        model = Classifier.load(folder, device="cpu", threads=1, cache_dir=tmp_path / "cache")
        prepared = model.prepare(posts)
        return [prepared.ids[text].tolist() for text in prepared.text_of]

    before = tokens()
    assert before[0] != before[1]
    artifact.write_json(folder / artifact.SETTINGS, {**settings, "cleaning": ["emoji"], "fields": "plain"})
    artifact.write_manifest(folder)
    after = tokens()
    assert after[0] == after[1]
    assert len(after[1]) < len(before[1]), "the marker is gone"
    artifact.write_json(folder / artifact.SETTINGS, {**settings, "cleaning": ["spelling"]})
    artifact.write_manifest(folder)
    with pytest.raises(ModelError, match="spelling"):
        artifact.read(folder)
