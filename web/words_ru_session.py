"""The Russian words of signing in and out."""

RUSSIAN_SESSION: dict[str, str | dict[str, str]] = {
    "page.login.title": "Вход",
    "page.login.heading": "Вход по ключу",
    "page.login.words": "Эта «Рубрика» открыта тем, у кого есть ключ. Ключ выдаёт её администратор.",
    "page.who": "Вы вошли с ключом «{name}»",
    "page.sign_out": "Выйти",
    "session.key": "Ключ",
    "session.hint": "Начинается с rbk_",
    "session.sign_in": "Войти",
    "session.cancel": "Не сейчас",
    "session.again": "Войдите снова",
    "session.again_words": "Сеанс закончился. Всё, что набрано и выбрано на странице, останется на месте.",
    "session.unknown": "Такого ключа нет, или его отозвали.",
    "session.empty": "Введите ключ.",
    "session.not_signed_out": "Выйти не удалось",
}
