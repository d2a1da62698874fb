"""The model that ships: whole, small enough, and sensible on texts that nobody would argue about."""

from pathlib import Path

import numpy as np
import pytest

from jobs.settings import PROJECT_ROOT, SHIPPED_MODEL
from ml import artifact, counter_examples, data, held, metrics
from ml.classifier import Classifier
from ml.posts import Post
from web.examples import EXAMPLES

OBVIOUS = {
    "sport": "Сборная России по хоккею обыграла Канаду 3:2 и вышла в финал чемпионата мира",
    "humour": "Анекдот. Приходит мужик к врачу и говорит: доктор, меня все игнорируют. Врач: следующий!",
    "ads": "Скидка 50% по промокоду ЛЕТО! Заказывайте доставку суши на сайте, ссылка в описании",
    "politics": "Президент подписал закон, который приняла Государственная дума; в правительстве обсуждают санкции",
    "personal": "Мои родные, сегодня нашей дочке годик! Мы с мужем так счастливы, спасибо вам за поздравления",
}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return Classifier.load(SHIPPED_MODEL, device="cpu", threads=1, cache_dir=tmp_path_factory.mktemp("cache"))


def test_the_shipped_folder_is_whole_small_and_names_its_base() -> None:
    folder = artifact.read(SHIPPED_MODEL)
    assert (SHIPPED_MODEL / artifact.WEIGHTS).stat().st_size < 60e6
    assert sum(file.stat().st_size for file in SHIPPED_MODEL.iterdir()) < 70e6
    assert folder.info.name == SHIPPED_MODEL.name
    assert folder.info.card["base"].startswith("intfloat/multilingual-e5-small")
    assert [topic.id for topic in folder.info.topics] == ["sport", "humour", "ads", "social", "politics", "personal"]
    assert all(0.02 <= topic.threshold <= 0.98 for topic in folder.info.topics)


def test_the_card_for_people_tells_the_figures_of_the_card_for_programs() -> None:
    text = (Path(SHIPPED_MODEL) / "README.md").read_text(encoding="utf-8")
    figures = artifact.read(SHIPPED_MODEL).info.card["validation"]["figures"]
    for figure in figures.values():
        assert f"{figure['mean']:.3f}" in text


@pytest.mark.parametrize("topic", OBVIOUS)
def test_an_obvious_text_gets_its_topic_first_and_assigned(classifier: Classifier, topic: str) -> None:
    (probabilities,) = classifier.predict([Post(OBVIOUS[topic])]).probabilities.tolist()
    ids = [one.id for one in classifier.info.topics]
    assert ids[probabilities.index(max(probabilities))] == topic
    assert probabilities[ids.index(topic)] >= classifier.info.topics[ids.index(topic)].threshold


def test_eight_bits_assign_what_whole_numbers_assign(tmp_path: Path) -> None:
    posts = [Post(text) for text in OBVIOUS.values()] + [
        Post(one.doc_text, one.image2text, one.speech2text) for one in EXAMPLES
    ]
    assigned = []
    for arithmetic in ("float", "int8"):
        one = Classifier.load(SHIPPED_MODEL, arithmetic=arithmetic, device="cpu", threads=1, cache_dir=tmp_path)
        thresholds = [topic.threshold for topic in one.info.topics]
        assigned.append((one.predict(posts).probabilities >= thresholds).tolist())
    assert assigned[0] == assigned[1]


def test_few_texts_of_kinds_that_it_has_not_learnt_get_a_topic(classifier: Classifier) -> None:
    ours = counter_examples.read([counter_examples.Source(PROJECT_ROOT / "configs" / "counter-examples.tsv")])
    kept = held.read(SHIPPED_MODEL)
    assert kept is not None
    unseen = [post for post in ours.posts if post in ours.held]
    assert {data.text_key(post) for post in unseen} <= kept.none
    probabilities = classifier.predict(unseen).probabilities
    thresholds = np.array([topic.threshold for topic in classifier.info.topics])
    assert len(unseen) > 100
    assert metrics.off_topic_share(probabilities, thresholds) <= 0.15


def test_a_text_on_none_of_the_topics_gets_none(classifier: Classifier) -> None:
    text = "Фотосинтез происходит в хлоропластах: энергия света превращает воду и углекислый газ в глюкозу и кислород"
    predictions = classifier.predict([Post(text)])
    thresholds = [topic.threshold for topic in classifier.info.topics]
    assert (predictions.probabilities[0] < thresholds).all()
