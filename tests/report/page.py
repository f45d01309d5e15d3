"""What a browser sees of a report."""

from __future__ import annotations

import json
from html.parser import HTMLParser


class Page(HTMLParser):
    """Collects what a browser would fetch, and what it would show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.figures: list[dict] = []
        self.viewport = ""
        self.styles = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag == "meta" and given.get("name") == "viewport":
            self.viewport = given.get("content") or ""
        self._inside = "figure" if given.get("type") == "application/json" else tag

    def handle_data(self, data: str) -> None:
        if self._inside == "figure":
            self.figures.append(json.loads(data))
        elif self._inside == "style":
            self.styles += data

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""
