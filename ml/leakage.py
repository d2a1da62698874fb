"""Posts that stand on both sides of a split: what is learnt there is remembered, not understood."""

from collections.abc import Sequence

from ml.findings import Finding, Place, Severity, finding
from ml.rawposts import RawPost


def leaks(one: str, posts: Sequence[RawPost], other: str, others: Sequence[RawPost]) -> list[Finding]:
    """Find texts of `others` that stand in `posts` too, exactly or nearly (see `ml.data.group_key`)."""
    texts = {post.text: post for post in reversed(posts)}
    groups = {post.group: post for post in reversed(posts)}
    distinct = list({(post.text, post.place.file): post for post in others}.values())
    exact = [(post, texts[post.text]) for post in distinct if post.text in texts]
    near = [(post, groups[post.group]) for post in distinct if post.text not in texts and post.group in groups]
    total = len({post.text for post in others})
    found = []
    for pairs, code, how in (
        (exact, "leak", ""),
        (near, "near_leak", ", but for case, punctuation, links or numbers,"),
    ):
        if not pairs:
            continue
        count = len({post.text for post, _ in pairs})
        message = f"{count} of the {total} texts of {other} ({100 * count / total:.1f} %){how} stand in {one} too."
        action = f"Take them out of {one} or of {other}: measured on texts that were learnt, figures are too high."
        places = [
            Place(
                post.place.file,
                post.place.row,
                post.place.line,
                f"[{seen.place.file} row {seen.place.row}] {post.place.example}",
            )
            for post, seen in pairs
        ]
        found.append(finding(Severity.ERROR, code, message, action, places))
    return found
