"""A graph with residual blocks of all sorts."""

from lutra.ops import Graph, Shape
from lutra.ops.graph import GraphBuilder


def residual_graph() -> Graph:
    """A bottleneck; a block in a block; one whose inner map is read elsewhere; a projection."""
    build = GraphBuilder(Shape(20, 20, 1))
    stem = build.conv("input", 16, name="stem", kernel=3, stride=2, activation="relu")
    reduced = build.conv(stem, 8, name="neck.reduce", activation="relu")
    inner = build.conv(reduced, 12, name="neck.conv", kernel=3, activation="relu")
    expanded = build.conv(inner, 16, name="neck.expand")
    neck = build.activation(build.add(stem, expanded, name="neck.add"), "relu")

    given = build.conv(neck, 12, name="outer.reduce")
    narrow = build.conv(given, 8, name="inner.reduce", activation="relu")
    wide = build.conv(narrow, 12, name="inner.expand")
    both = build.add(wide, given, name="inner.add")
    outer = build.add(neck, build.conv(both, 16, name="outer.expand"), name="outer.add")

    tapped = build.conv(outer, 8, name="tap.reduce", activation="relu")
    tap = build.add(outer, build.conv(tapped, 16, name="tap.expand"), name="tap.add")
    second = build.add(tap, build.conv(tapped, 16, name="tap.second"), name="tap.again")

    changed = build.conv(second, 24, name="change.conv", stride=2)
    project = build.conv(second, 24, name="change.project", stride=2)
    end = build.add(changed, project, name="change.add")
    return build.build(build.linear(build.global_pool(end), 10))
