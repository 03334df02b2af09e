"""HTML read strictly: tags, texts and attributes, and no tag that is not closed in order."""

from __future__ import annotations

from html.parser import HTMLParser

_VOID = {"meta", "br", "link", "img", "input", "hr", "wbr"}


class Page(HTMLParser):
    """Tags, texts and attributes of a page; fails on tags that are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.styles: list[str] = []
        self._within = False  # a tag that only says where a line may break, or not
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        name = tag == "span" and ("class", "name") in attrs
        self._within = name or tag == "wbr"
        if tag not in _VOID:
            self.open.append("name" if name else tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        ended = self.open.pop()
        self._within = ended == "name"
        assert (ended == tag) or (ended == "name" and tag == "span")

    def handle_data(self, data: str) -> None:
        if self._within and self.text:
            data = self.text.pop() + data
        (self.styles if "style" in self.open else self.text).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    @property
    def cells(self) -> list[str]:
        """Texts, one for each piece between tags."""
        return [" ".join(text.split()) for text in self.text if text.strip()]
