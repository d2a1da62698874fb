"""What models say of themselves. Training writes the sentences of a card in English; this is how the page says them."""

SENTENCES = (
    (
        "intfloat/multilingual-e5-small (Russian and English vocabulary)",
        "intfloat/multilingual-e5-small (русская и английская часть словаря)",
    ),
    (
        "as the base's; no licence is stated for the training posts",
        "как у основы; для постов, на которых училась модель, лицензия не указана",
    ),
    (
        "Platt scaling per topic with a term for the other topics, fitted on the validation posts",
        "шкалирование Платта по каждой теме с поправкой на остальные темы; подобрано на отложенных постах",
    ),
    (
        "Platt scaling per topic with a term for the other topics, fitted on the validation posts and on crops of them",
        "шкалирование Платта по каждой теме с поправкой на остальные темы; подобрано на отложенных постах "
        "и отрывках из них",
    ),
    (
        "per topic, the best F1 on these, drawn towards the best common threshold",
        "для каждой темы — с лучшей F1 на них же, сдвинуты к лучшему общему порогу",
    ),
    (
        "three of each post, cross-fitted as the figures of whole posts",
        "по три отрывка из каждого поста; измерено перекрёстно, как и показатели целых постов",
    ),
    (
        "per topic, the best F1 on the validation posts, drawn towards the best common threshold",
        "для каждой темы — с лучшей F1 на отложенных постах, сдвинуты к лучшему общему порогу",
    ),
    (
        "cross-fitted: calibration and thresholds from one random half of the validation posts, "
        "figures from the other, both ways, repeated; mean and standard deviation over the "
        "repetitions",
        "перекрёстно: калибровка и пороги подобраны на случайной половине отложенных постов, "
        "показатели измерены на другой, и наоборот, много раз; даны среднее и стандартное отклонение",
    ),
    (
        "cross-fitted: calibration and thresholds from one random half of the validation posts, "
        "figures from the other, both ways, repeated; mean and standard deviation over the "
        "repetitions; each of the networks that were averaged held some of these posts back and answered for them, and "
        "the mean of the networks has learnt all of them",
        "перекрёстно: калибровка и пороги подобраны на случайной половине отложенных постов, "
        "показатели измерены на другой, и наоборот, много раз; даны среднее и стандартное отклонение; за каждый из "
        "этих постов отвечала та из усреднённых сетей, которая на нём не училась, а их среднее училось на всех",
    ),
    (
        "at the shipped thresholds, which were chosen on these same posts: flattering",
        "при порогах модели, которые выбраны на этих же постах, поэтому показатели немного завышены",
    ),
    (
        "cross-fitted as the figures; of each topic bins of equally many posts, from the least "
        "probable on: the mean probability that the model gave (believed) and the share of posts that "
        "have the topic (true)",
        "Измерено перекрёстно, как и показатели. По каждой теме посты упорядочены по вероятности и "
        "разбиты на равные группы: для каждой даны средняя вероятность, которую назвала модель, и "
        "доля постов, действительно относящихся к теме.",
    ),
    (
        "Made for Russian social-media posts; other languages and other kinds of text were not measured.",
        "Модель рассчитана на русские посты соцсетей; на других языках и других текстах её не проверяли.",
    ),
    (
        "The labels of the training posts come from where a post was found and are noisy, and so are the figures.",
        "Темы обучающих постов определены по тому, где пост найден. Они неточны, а с ними и показатели.",
    ),
    (
        "Posts carry traces of their source (channel names, links), on which the model may lean more than it should.",
        "В постах остались следы источника (названия каналов, ссылки); модель может опираться на них "
        "больше, чем следует.",
    ),
    (
        "A short text on none of the topics (a recipe, the weather, code) gets one more often than the "
        "counter-examples.",
        "Короткий текст ни на одну из тем (рецепт, погода, код) получает тему чаще, чем проверочные контрпримеры.",
    ),
    (
        "A text on none of the topics gets one at times, above all in other languages and of kinds that it has not "
        "learnt.",
        "Текст ни на одну из тем иногда всё же получает тему — чаще всего на другом языке или такого рода, какого "
        "не было в обучении.",
    ),
    (
        "Text beyond the longest input is not read; such results are marked as truncated.",
        "Текст, который длиннее предела, читается не до конца; такие результаты отмечены.",
    ),
    (
        "A probability speaks of posts like the training posts: where topics are rarer or commoner, it is off.",
        "Вероятности верны для постов, похожих на обучающие; там, где темы встречаются реже или чаще, они смещены.",
    ),
    (
        "Not for decisions about people.",
        "Модель не предназначена для решений о людях.",
    ),
)
"""Pairs of a sentence as it stands in a card and the same in Russian."""

FACTS = {
    "card.start": ("Начато с модели", "Started from a model"),
    "card.merge_after": (
        "Слои, после которых токены сливаются попарно",
        "Layers after which tokens become one, two by two",
    ),
    "card.averaged_with": ("Веса усреднены с весами моделей", "Weights averaged with those of"),
    "card.hold_back": (
        "Отложена часть отложенного прежде (какая, из скольких)",
        "Part of what was held out (which, of how many)",
    ),
    "card.model": ("Модель", "Model"),
    "card.ngram_crops": ("Отрывков на пост для линейной части", "Crops of a post for the linear part"),
}
"""Names of facts, Russian and English, by their keys."""

RUSSIAN_MODEL: dict[str, str | dict[str, str]] = {
    **{f"said.{english}": russian for english, russian in SENTENCES},
    **{key: russian for key, (russian, _) in FACTS.items()},
}
ENGLISH_MODEL: dict[str, str | dict[str, str]] = {
    **{f"said.{english}": english for english, _ in SENTENCES},
    **{key: english for key, (_, english) in FACTS.items()},
}
