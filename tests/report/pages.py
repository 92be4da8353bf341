"""A report's page, taken apart without a browser."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

_VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """What a browser would find: elements with their attributes, in order, and texts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(self.text)
        self.close()
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def figures(self) -> list[ElementTree.Element]:
        """The SVG of each figure, which must be well-formed by itself."""
        return [
            ElementTree.fromstring(svg) for svg in re.findall(r"<svg .*?</svg>", self.text, re.S)
        ]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def require_sound(self) -> None:
        """Nothing from outside, one script, ids that are unique, references that lead somewhere."""
        ids = Counter(attributes["id"] for _, attributes in self.elements if "id" in attributes)
        assert max(ids.values()) == 1, ids.most_common(3)
        tags = Counter(tag for tag, _ in self.elements)
        assert tags["script"] == tags["style"] == tags["main"] == tags["h1"] == 1
        assert not tags.keys() & {"link", "iframe", "object", "embed", "form", "base"}
        for tag, attributes in self.elements:
            assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
            assert "src" not in attributes
            if (target := attributes.get("href", "#")).startswith("#"):
                assert target == "#" or target[1:] in ids, target
            else:
                assert target.startswith("data:image/png;base64,"), target
            for name in ("aria-labelledby",):
                assert attributes.get(name, next(iter(ids))) in ids
            for used in re.findall(r"url\(#?([^)]*)\)", attributes.get("style", "")):
                assert used in ids
        for figure in self.figures:
            assert figure.get("tabindex") == "0"
            marks = [each for each in figure.iter() if each.get("class") == "mark"]
            assert marks
            assert all("".join(mark.itertext()).strip() for mark in marks)
