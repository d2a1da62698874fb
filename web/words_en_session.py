"""The English words of signing in and out."""

ENGLISH_SESSION: dict[str, str | dict[str, str]] = {
    "page.login.title": "Sign in",
    "page.login.heading": "Sign in with a key",
    "page.login.words": "This Rubrika is open to those who have a key. Its administrator gives them out.",
    "page.who": "Signed in with the key “{name}”",
    "page.sign_out": "Sign out",
    "session.key": "Key",
    "session.hint": "It begins with rbk_",
    "session.sign_in": "Sign in",
    "session.cancel": "Not now",
    "session.again": "Sign in again",
    "session.again_words": "The session has ended. All that is typed and chosen on this page stays where it is.",
    "session.unknown": "There is no such key, or it was revoked.",
    "session.empty": "Enter a key.",
    "session.not_signed_out": "You could not be signed out",
}
