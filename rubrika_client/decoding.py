"""JSON to the dataclasses of `rubrika_client.resources`, by the types of their fields."""

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from rubrika_client.errors import BadAnswerError

T = TypeVar("T")


def decode(kind: type[T], value: Any) -> T:
    """`value` as an instance of the dataclass `kind`. Raises `BadAnswerError` where it does not fit.

    Keys that `kind` does not have are passed over: a newer service may say more than this client knows.
    """
    try:
        made: T = _object(kind, value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadAnswerError(f"The answer is no {kind.__name__} that this client can read: {error!r}.") from error
    return made


def _object(kind: Any, value: Any) -> Any:
    hints = _hints(kind)
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r:.80} is no object")
    known = {field.name: value[field.name] for field in fields(kind) if field.name in value}
    return kind(**{name: _value(hints[name], one) for name, one in known.items()})


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _value(hint: Any, value: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in {types.UnionType, Union}:
        [inner] = [one for one in arguments if one is not type(None)]
        return None if value is None else _value(inner, value)
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError(f"{value!r:.80} is no list")
        return tuple(_value(arguments[0], one) for one in value)
    if origin is not None and issubclass(origin, Mapping):
        return {str(key): _value(arguments[1], one) for key, one in value.items()}
    if is_dataclass(hint):
        return _object(hint, value)
    if hint is datetime:
        return datetime.fromisoformat(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise TypeError(f"{value!r:.80} is no {hint.__name__}")
    return value
