"""The exceptions that cross a boundary. HTTP words are added to them in one place, `api.problems`."""


class RubrikaError(Exception):
    """Base of all errors that Rubrika raises on purpose. Its text is a sentence for a person."""


class SettingsError(RubrikaError):
    """A setting from the environment cannot be used."""


class StartError(RubrikaError):
    """A process or a server cannot start: the sentence says what is in the way and what to do."""


class UnavailableError(RubrikaError):
    """Postgres cannot be reached at the moment; the same request may succeed later."""


class TooSlowError(RubrikaError):
    """Postgres has spent on this all the time that it may; there may be an answer when there is less to do."""


class NotFoundError(RubrikaError):
    """There is no such thing for this owner."""


class ConflictError(RubrikaError):
    """The thing is in a state that does not allow this."""
