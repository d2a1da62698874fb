"""What the readers of all text formats have in common."""

from dataclasses import replace

from api.files.model import FileReader, Layout, Limits, ReadOptions
from api.files.source import Text


class TextReader(FileReader):
    """Reads a file that is text; its encoding may be known only when all of it was read."""

    def __init__(self, text: Text, layout: Layout, options: ReadOptions, limits: Limits) -> None:
        self._text = text
        super().__init__(layout, options, limits)

    @property
    def layout(self) -> Layout:
        return replace(self._layout, encoding=self._text.encoding)
