"""Reports as one HTML file each: nothing is loaded from outside, and every text of the data is escaped."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ml.errors import DataError

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """Return the page that a template of `ml/templates` makes of `values`.

    Markup among the values is escaped unless it is `markupsafe.Markup`, which only `ml.svg` makes.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def write(file: Path, page: str) -> None:
    """Write a page.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{file} cannot be written: {error.strerror}.") from error
