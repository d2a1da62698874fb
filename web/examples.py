"""Posts to try on the first page. Russian in both languages of the page, because Russian is what the model reads."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A post with the key, under `page.example.`, of the words on its button."""

    key: str
    doc_text: str
    image2text: str = ""
    speech2text: str = ""


EXAMPLES = (
    Example(
        "match",
        "Вот это концовка! Наши отыгрались с 0:2 и забили победный гол на последней минуте добавленного времени. "
        "Вратарь — красавец, вытащил пенальти. До плей-офф осталось два матча 🔥",
    ),
    Example(
        "sale",
        "Только до воскресенья — скидка 30 % на всю зимнюю коллекцию! Бесплатная доставка от 3000 рублей, примерка "
        "перед покупкой. Промокод ЗИМА30, ссылка в шапке профиля.",
        image2text="РАСПРОДАЖА −30 % куртки пуховики промокод ЗИМА30",
    ),
    Example(
        "joke",
        "Купил абонемент в спортзал на год. Второй месяц хожу мимо него на работу — тренер уже здоровается, "
        "говорит, прогресс налицо 😂",
    ),
    Example(
        "news",
        "Депутаты приняли в третьем чтении поправки к закону о выборах",
        speech2text="Сегодня на заседании парламента депутаты приняли в третьем чтении поправки к закону о выборах "
        "президента оппозиция голосовала против документ направлен на подпись",
    ),
)
