"""Check a folder of labelled posts before a model is trained on it.

The folder holds a CSV file per topic, or sub-folders of such files for splits that were made by hand (`train`,
`valid`, `test` and their likes). Every finding says where, shows an example and says what to do.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from ml.data import NAMES_FILE
from ml.errors import DataError
from ml.findings import CheckReport, Finding, PartReport, Place, Severity, TopicCount, example, finding
from ml.leakage import leaks
from ml.posts import FIELDS, clean, compose
from ml.rawposts import RawFile, RawPost, read_raw

SPLITS = ("train", "valid", "validation", "val", "dev", "test", "holdout")

# Below these a topic can hardly be learnt, or not be split into five folds at all.
FEW_POSTS, TOO_FEW_POSTS = 50, 5
UNBALANCED = 10.0
LONGEST_CHARS = 20_000
MOST_LINES = 200
SHORTEST_WORDS = 2
# A handle or a site that stands in so many posts, nearly all of one topic, says where a post was found.
TRACE_POSTS, TRACE_SHARE = 15, 0.95
INSIDE_SHARE = 0.8

_WORD = re.compile(r"[^\W\d_]{2,}")
# Of a link the site counts, and of a social network the channel.
_TRACE = re.compile(r"@\w{3,}|(?:https?://)?\b(?:t\.me|vk\.com)/[a-z_]\w+|https?://[\w.-]+", re.IGNORECASE)
_ORDER = list(Severity)


def check(folder: Path, against: Path | None = None) -> CheckReport:
    """Check `folder`, and whether its posts stand in `against`, a folder of the same form, too.

    Raises:
        DataError: there is no such folder.
    """
    parts = _parts(folder)
    if against is not None:
        parts += [(f"{against.name}{f'/{name}' if name else ''}", path) for name, path in _parts(against)]
    reports: list[PartReport] = []
    found: list[Finding] = []
    posts: dict[str, list[RawPost]] = {}
    for name, path in parts:
        files, problems = _read_part(path, name)
        found += problems
        posts[name] = [post for file in files for post in file.posts]
        reports.append(_describe(name, files))
        found += _check_part(name, files, posts[name])
    for one, other in combinations(posts, 2):
        found += leaks(one or folder.name, posts[one], other, posts[other])
        found += _missing_topics(one or folder.name, posts[one], other, posts[other])
    found.sort(key=lambda one: _ORDER.index(one.severity))
    return CheckReport(str(folder), tuple(reports), tuple(found))


def _parts(folder: Path) -> list[tuple[str, Path]]:
    """The folder itself, or its splits."""
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}: training data is a folder of CSV files, one per topic.")
    splits = [folder / name for name in SPLITS if (folder / name).is_dir()]
    if splits and not list(folder.glob("*.csv")):
        return [(path.name, path) for path in splits]
    return [("", folder)]


def _read_part(folder: Path, part: str) -> tuple[list[RawFile], list[Finding]]:
    prefix = f"{part}/" if part else ""
    paths = sorted(folder.glob("*.csv"))
    found: list[Finding] = []
    files: list[RawFile] = []
    if len(paths) < 2:
        message = f"{folder} holds {len(paths)} CSV files: at least two topics are needed, a file each."
        action = "Write one CSV file per topic; its name is the id of the topic."
        found.append(finding(Severity.ERROR, "few_topics", message, action, [Place(prefix or str(folder))]))
    for path in paths:
        file, problems = read_raw(path, f"{prefix}{path.name}")
        files.append(file)
        found += problems
    others = [path.name for path in sorted(folder.iterdir()) if path.is_file() and path not in paths]
    unread = [name for name in others if name != NAMES_FILE and not name.startswith((".", "README"))]
    if unread:
        message = f"Training reads `*.csv` and {NAMES_FILE} only, not {', '.join(unread[:10])}."
        places = [Place(f"{prefix}{name}") for name in unread]
        found.append(finding(Severity.NOTE, "unread_files", message, "Save as CSV what is meant to be read.", places))
    return files, [*found, *_names(folder, prefix, {path.stem for path in paths})]


def _names(folder: Path, prefix: str, topics: set[str]) -> list[Finding]:
    here = [Place(f"{prefix}{NAMES_FILE}")]
    found = []
    odd = sorted(topic for topic in topics if ";" in topic or topic != topic.strip())
    if odd:
        message = f"{odd[0]!r} cannot be the id of a topic: results list ids with `;` between them."
        found.append(finding(Severity.ERROR, "topic_id", message, "Rename the file.", [Place(f"{prefix}{odd[0]}.csv")]))
    file = folder / NAMES_FILE
    if not file.exists():
        return found
    try:
        given = {
            str(key): (value["name"], value["name_en"]) for key, value in json.loads(file.read_text("utf-8")).items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{NAMES_FILE} cannot be read: {type(error).__name__}: {error}."
        action = 'Write it like {"sport": {"name": "Спорт", "name_en": "Sport"}}.'
        return [*found, finding(Severity.ERROR, "names", message, action, here)]
    if set(given) != topics:
        listed = ", ".join(sorted(set(given) ^ topics)[:10])
        message = f"{NAMES_FILE} and the CSV files do not name the same topics: {listed}."
        action = "A topic without a name is shown by its id; a name without a file is left out."
        found.append(finding(Severity.WARNING, "names", message, action, here))
    return found


def _describe(name: str, files: Sequence[RawFile]) -> PartReport:
    topics = _topics_by([post for file in files for post in file.posts], by_group=False)
    counts = Counter(topic for one in topics.values() for topic in one)
    alone = Counter(next(iter(one)) for one in topics.values() if len(one) == 1)
    sets = Counter(tuple(sorted(one)) for one in topics.values())
    return PartReport(
        name,
        rows=sum(file.rows for file in files),
        distinct=len(topics),
        groups=len({post.group for file in files for post in file.posts}),
        topics=tuple(TopicCount(file.topic, counts[file.topic], alone[file.topic]) for file in files),
        label_sets=tuple(sorted(sets.items(), key=lambda item: (-item[1], item[0]))),
    )


def _topics_by(posts: Sequence[RawPost], *, by_group: bool) -> dict[str, set[str]]:
    """The topics of every text, or of every group of near-equal texts."""
    topics: dict[str, set[str]] = defaultdict(set)
    for post in posts:
        topics[post.group if by_group else post.text].add(post.topic)
    return topics


def _check_part(part: str, files: Sequence[RawFile], posts: Sequence[RawPost]) -> list[Finding]:
    return [
        *_empty(files),
        *_copies(posts),
        *_disagreeing(posts),
        *_lengths(posts),
        *_characters(posts),
        *_balance(part, files),
        *_traces(posts),
    ]


def _empty(files: Sequence[RawFile]) -> list[Finding]:
    places = [place for file in files for place in file.empty]
    if not places:
        return []
    message = f"{len(places)} rows have no text in any field; training leaves them out."
    action = "Look whether their text stands in another column; else take them out."
    return [finding(Severity.WARNING, "empty_rows", message, action, places)]


def _copies(posts: Sequence[RawPost]) -> list[Finding]:
    """Equal texts, within a topic and across, and near-equal ones within a topic."""
    first: dict[tuple[str, str], RawPost] = {}
    near: dict[tuple[str, str], RawPost] = {}
    same: list[Place] = []
    alike: list[Place] = []
    for post in posts:
        seen = first.setdefault((post.topic, post.text), post)
        if seen is not post:
            same.append(_beside(post, seen))
        elif (kin := near.setdefault((post.topic, post.group), post)) is not post:
            alike.append(_beside(post, kin))
    several = {text for text, topics in _topics_by(posts, by_group=False).items() if len(topics) > 1}
    found = []
    if same:
        message = f"{len(same)} rows repeat a text of the same topic; training reads each text once."
        found.append(finding(Severity.NOTE, "duplicates", message, "Nothing has to be done.", same))
    if alike:
        message = (
            f"{len(alike)} texts differ from another of the same topic in case, punctuation, links, emoji or numbers "
            "alone; a split keeps them together."
        )
        action = "Nothing, if splits are made by Rubrika; else keep them together in yours."
        found.append(finding(Severity.NOTE, "near_duplicates", message, action, alike))
    if several:
        first_of = {post.text: post for post in reversed(posts) if post.text in several}
        topics = _topics_by(posts, by_group=False)
        places = [
            Place(
                post.place.file, post.place.row, post.place.line, f"[{' + '.join(sorted(topics[text]))}] {_shown(post)}"
            )
            for text, post in sorted(first_of.items(), key=lambda item: (item[1].place.file, item[1].place.row))
        ]
        message = f"{len(several)} texts stand in the files of several topics, so they have all of these topics."
        action = "Nothing where that is meant; else take the text out of the file where it is wrong."
        found.append(finding(Severity.NOTE, "several_topics", message, action, places))
    return found


def _disagreeing(posts: Sequence[RawPost]) -> list[Finding]:
    """Near-equal texts whose topics differ: at least one of them has a wrong or a missing label."""
    of_text = _topics_by(posts, by_group=False)
    members: dict[str, dict[str, RawPost]] = defaultdict(dict)
    for post in posts:
        members[post.group].setdefault(post.text, post)
    places = []
    for texts in members.values():
        ordered = list(texts.values())
        for post in ordered[1:]:
            if of_text[post.text] != of_text[ordered[0].text]:
                topics = " + ".join(sorted(of_text[post.text]))
                others = " + ".join(sorted(of_text[ordered[0].text]))
                where = f"[{topics}; {others} in {ordered[0].place.file} row {ordered[0].place.row}]"
                places.append(Place(post.place.file, post.place.row, post.place.line, f"{where} {_shown(post)}"))
    if not places:
        return []
    message = f"{len(places)} texts are near-equal to another and have other topics: one of the two labels is wrong."
    action = "Decide which topics are right and put both texts into these files."
    return [finding(Severity.WARNING, "disagreeing_labels", message, action, places)]


def _lengths(posts: Sequence[RawPost]) -> list[Finding]:
    long = [post.place for post in posts if max(map(len, _fields(post))) > LONGEST_CHARS]
    many = [post.place for post in posts if max(text.count("\n") for text in _fields(post)) > MOST_LINES]
    texts = [(post, _WORD.findall(compose(post.post))) for post in posts]
    wordless = [post.place for post, words in texts if not words]
    short = [post.place for post, words in texts if 0 < len(words) < SHORTEST_WORDS]
    found = []
    if long or many:
        places = list(dict.fromkeys([*long, *many]))
        message = f"{len(places)} rows hold a field of more than {LONGEST_CHARS} characters or {MOST_LINES} lines."
        action = (
            "Look for a quote that is not closed: it makes one cell of many rows. No model reads so much of a post."
        )
        found.append(finding(Severity.WARNING, "too_long", message, action, places))
    if wordless:
        message = f"{len(wordless)} texts have no word, only emoji, numbers or signs: they teach nothing about a topic."
        found.append(finding(Severity.WARNING, "no_words", message, "Take them out.", wordless))
    if short:
        message = f"{len(short)} texts have fewer than {SHORTEST_WORDS} words."
        action = "Keep those that a reader could give the topic; take out the others."
        found.append(finding(Severity.NOTE, "very_short", message, action, short))
    return found


def _characters(posts: Sequence[RawPost]) -> list[Finding]:
    lost = [post.place for post in posts if any("\ufffd" in text or "\x00" in text for text in _fields(post))]
    garbled = [
        Place(post.place.file, post.place.row, post.place.line, f"{word} is {fixed}; {post.place.example}")
        for post in posts
        if (pair := _garbled_word(compose(post.post))) is not None
        for word, fixed in [pair]
    ]
    found = []
    if lost:
        message = f"{len(lost)} texts hold U+FFFD or NUL, which stand where characters were lost."
        action = "Export them anew from where they come from."
        found.append(finding(Severity.WARNING, "lost_characters", message, action, lost))
    if garbled:
        message = f"{len(garbled)} texts are UTF-8 that was read as another encoding and saved like that."
        action = "Export them anew, or repair them (text.encode('cp1251').decode('utf-8') in Python)."
        found.append(finding(Severity.ERROR, "garbled", message, action, garbled))
    return found


def _garbled_word(text: str) -> tuple[str, str] | None:
    """Return a word that becomes Cyrillic when its bytes are read as UTF-8, with what it becomes."""
    if not re.search("[РС][^а-яёА-ЯЁ\\w\\s]|[РС][ЂЃѓ‚„…†‡€‰Љ‹ЊЌЋЏђ°±Ііґµ¶·ё№є»јЅѕї]|[ÐÑ]", text):
        return None
    for word in text.split():
        for encoding in ("windows-1251", "windows-1252"):
            try:
                fixed = word.encode(encoding).decode("utf-8")
            except (UnicodeEncodeError, UnicodeDecodeError):
                continue
            if len(re.findall("[а-яёА-ЯЁ]", fixed)) >= 3 and len(fixed) < len(word):
                return word[:40], fixed[:20]
    return None


def _balance(part: str, files: Sequence[RawFile]) -> list[Finding]:
    texts = {file.topic: {post.text for post in file.posts} for file in files}
    groups = {file.topic: {post.group for post in file.posts} for file in files}
    found = []
    for file in files:
        size, here = len(groups[file.topic]), [Place(file.name)]
        if file.rows and size < FEW_POSTS and part in ("", "train"):
            grave = Severity.ERROR if size < TOO_FEW_POSTS else Severity.WARNING
            message = f"{file.topic} has {size} different posts."
            action = f"Collect more: {TOO_FEW_POSTS} are the least that can be split, some hundreds teach a topic."
            found.append(finding(grave, "few_posts", message, action, here))
        for other, theirs in texts.items():
            shared = len(texts[file.topic] & theirs)
            if other != file.topic and shared > INSIDE_SHARE * len(texts[file.topic]):
                message = f"{shared} of the {len(texts[file.topic])} texts of {file.topic} stand in {other} too."
                action = "Look whether these are two topics or one."
                found.append(finding(Severity.WARNING, "topic_inside_topic", message, action, here))
    sizes = {topic: len(one) for topic, one in texts.items() if one}
    if sizes and max(sizes.values()) > UNBALANCED * min(sizes.values()):
        least, most = min(sizes, key=lambda one: sizes[one]), max(sizes, key=lambda one: sizes[one])
        message = f"{most} has {sizes[most]} texts and {least} {sizes[least]}: more than {UNBALANCED:g} times as many."
        action = f"Collect more for {least}; figures of rare topics are uncertain, whatever model is trained."
        found.append(finding(Severity.WARNING, "unbalanced", message, action, [Place(part or "all files")]))
    return found


def _traces(posts: Sequence[RawPost]) -> list[Finding]:
    """Handles and links that betray the topic: a model leans on them, and texts from elsewhere have none."""
    topics: dict[str, Counter[str]] = defaultdict(Counter)
    for post in {post.text: post for post in posts}.values():
        for trace in {match.casefold().rstrip("./") for match in _TRACE.findall(compose(post.post))}:
            topics[trace][post.topic] += 1
    places = [
        Place(f"{topic}.csv", example=f"{trace} stands in {counts.total()} posts, {number} of them of {topic}")
        for trace, counts in sorted(topics.items(), key=lambda item: -item[1].total())
        for topic, number in counts.most_common(1)
        if counts.total() >= TRACE_POSTS and number >= TRACE_SHARE * counts.total()
    ]
    if not places:
        return []
    message = f"{len(places)} handles or links stand in the posts of one topic almost alone."
    action = "Take them out of the texts if posts to be classified come from elsewhere: the model may lean on them."
    return [finding(Severity.WARNING, "traces_of_source", message, action, places)]


def _missing_topics(one: str, posts: Sequence[RawPost], other: str, others: Sequence[RawPost]) -> list[Finding]:
    differing = sorted({post.topic for post in posts} ^ {post.topic for post in others})
    if not differing or not posts or not others:
        return []
    message = f"{one} and {other} do not have the same topics: {', '.join(differing)} stand in one of them only."
    action = "Give each topic posts in every split, or leave it out of all."
    return [finding(Severity.ERROR, "missing_topics", message, action, [Place(other)])]


def _fields(post: RawPost) -> tuple[str, ...]:
    return tuple(getattr(post.post, field) for field in FIELDS)


def _shown(post: RawPost) -> str:
    return example(clean(compose(post.post)))


def _beside(post: RawPost, seen: RawPost) -> Place:
    where = f"[as {seen.place.file} row {seen.place.row}] {post.place.example}"
    return Place(post.place.file, post.place.row, post.place.line, where)
