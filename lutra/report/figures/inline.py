"""A figure as SVG inside a page: its text as text, the page's colours, marks to point at."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree

from lutra.report.figures.drawing import COLOURS, FAINT, GRID, INK, SERIES, Drawing, styled
from lutra.text import printable

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_HREF = f"{{{_XLINK}}}href"
_NUMBERS = ("d", "points", "transform", "x", "y")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_FONT = re.compile(r"'DejaVu Sans'(?:, [^;]+)?")
_MARKS = ("use", "path")
_NAMES = {INK: "ink", FAINT: "faint", GRID: "grid"} | {
    colour: f"series-{index}" for index, colour in enumerate(SERIES)
}


@styled
def inline_svg(drawing: Drawing, name: str) -> str:
    """The figure as an ``<svg>`` element that fills the width it is given.

    Its ids begin with ``name``; its colours are the page's variables (``--ink``, ``--series-0``).
    A mark has its text as ``<title>``, so that browsers show it and read it out.
    """
    root = _written(drawing)
    groups = {each.get("id"): each for each in root.iter() if each.get("id")}
    for group_name, texts in drawing.marks.items():
        _tell(groups[group_name], texts)
    _share_styles(root)
    _rename(root, name)
    for element in root.iter():
        for attribute, value in element.attrib.items():
            element.set(attribute, _shorter(attribute, value))
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.attrib |= {"role": "group", "tabindex": "0", "aria-labelledby": f"{name}-title"}
    ElementTree.register_namespace("", _SVG)
    return ElementTree.tostring(root, encoding="unicode")


def _written(drawing: Drawing) -> ElementTree.Element:
    """What matplotlib writes, less what it says of itself."""
    data = io.BytesIO()
    drawing.figure.savefig(data, format="svg", facecolor="none", metadata={"Date": None})
    root = ElementTree.fromstring(data.getvalue())  # noqa: S314 (written a line above)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):  # page.css has the style
                parent.remove(child)
    return root


def _tell(group: ElementTree.Element, texts: Sequence[str]) -> None:
    """Put a text into each mark of a group, in the order in which they were drawn."""
    marks = list(_drawn(group))
    if len(marks) != len(texts):
        raise AssertionError(f"{len(marks)} marks were drawn for {len(texts)} texts")
    for mark, text in zip(marks, texts, strict=True):
        mark.set("class", "mark")
        title = ElementTree.SubElement(mark, f"{{{_SVG}}}title")
        title.text = "\n".join(map(printable, text.split("\n")))


def _drawn(element: ElementTree.Element) -> Iterator[ElementTree.Element]:
    for child in element:
        if child.tag == f"{{{_SVG}}}defs":
            continue
        if child.tag in {f"{{{_SVG}}}{tag}" for tag in _MARKS}:
            yield child
        else:
            yield from _drawn(child)


def _share_styles(root: ElementTree.Element) -> None:
    """Have a group say once what all its marks say each."""
    for group in root.iter(f"{{{_SVG}}}g"):
        marks = [child for child in group if child.get("class") == "mark"]
        styles = {mark.get("style") for mark in marks}
        if len(marks) > 1 and len(styles) == 1 and None not in styles:
            group.set("style", str(marks[0].get("style")))
            for mark in marks:
                del mark.attrib["style"]


def _rename(root: ElementTree.Element, name: str) -> None:
    """Keep the ids that something refers to, under names that no other figure has."""
    used = {value[1:] for each in root.iter() if (value := each.get(_HREF, "")).startswith("#")}
    for element in root.iter():
        for value in element.attrib.values():
            used.update(_REFERENCE.findall(value))
    short = {old: f"{name}-{index}" for index, old in enumerate(sorted(used))}
    for element in root.iter():
        if (old := element.attrib.pop("id", None)) in short:
            element.set("id", short[old])
        if (target := element.attrib.pop(_HREF, None)) is not None:
            local = target.startswith("#")
            element.set("href", f"#{short[target[1:]]}" if local else target)
        for attribute, value in element.attrib.items():
            element.set(attribute, _REFERENCE.sub(lambda m: f"url(#{short[m[1]]})", value))


def _shorter(attribute: str, value: str) -> str:
    """Numbers to a tenth of what can be seen, colours and fonts as the page has them."""
    if attribute in _NUMBERS:
        value = _LONG_NUMBER.sub(lambda number: f"{float(number[0]):.1f}", value)
    if attribute == "style":
        for colour in COLOURS:
            value = value.replace(colour, f"var(--{_NAMES[colour]})")
        value = _FONT.sub("var(--font)", value)
    return value
