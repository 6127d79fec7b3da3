"""What a version was made from and what was made from it, as a drawing: a column a step, arrows from left to right.

The surprise: a run is no version, yet it stands between what a version was made from and the version, since it is what
people look for there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.tuning.catalogue import LineageGraph, LineageNode

BOX_WIDTH, BOX_HEIGHT = 168, 44
GAP_X, GAP_Y = 56, 16
MAX_ROWS = 8
"""Of one column; what is beyond is told as a number."""
MAX_CHARS = 24


@dataclass(frozen=True, kw_only=True)
class Box:
    """One version, or the run that made it."""

    x: int
    y: int
    title: str
    detail: str
    href: str
    kind: str
    words: str


@dataclass(frozen=True, kw_only=True)
class LineageDrawing:
    """Boxes and the paths between them, in pixels."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    paths: tuple[str, ...]
    n_left_out: int
    summary: str


def draw_lineage(graph: LineageGraph) -> LineageDrawing:
    """Return the graph around a version."""
    run = graph.origin.get("run")
    columns: dict[int, list[LineageNode]] = {}
    for node in graph.nodes:
        columns.setdefault(_column(node.distance, has_run=bool(run)), []).append(node)
    n_left_out = sum(max(0, len(nodes) - MAX_ROWS) for nodes in columns.values())
    columns = {at: nodes[:MAX_ROWS] for at, nodes in columns.items()}
    if run:
        columns[-1] = []
    order = sorted(columns)
    n_rows = max((len(nodes) for nodes in columns.values()), default=1) or 1
    height = n_rows * (BOX_HEIGHT + GAP_Y) - GAP_Y
    places: dict[str, tuple[int, int]] = {}
    boxes = []
    for number, at in enumerate(order):
        x = number * (BOX_WIDTH + GAP_X)
        nodes = columns[at]
        if run and at == -1:
            y = _start(1, height)
            places["run"] = (x, y)
            boxes.append(_run_box(str(run), str(graph.origin.get("method") or "run"), x, y))
            continue
        for row, node in enumerate(nodes):
            y = _start(len(nodes), height) + row * (BOX_HEIGHT + GAP_Y)
            places[node.digest] = (x, y)
            boxes.append(_box(node, x, y))
    width = len(order) * (BOX_WIDTH + GAP_X) - GAP_X
    told = ", ".join(f"{node.label}" for node in graph.nodes if node.distance < 0)
    after = ", ".join(f"{node.label}" for node in graph.nodes if node.distance > 0)
    return LineageDrawing(
        width=width,
        height=height,
        boxes=tuple(boxes),
        paths=tuple(_paths(graph, places)),
        n_left_out=n_left_out,
        summary=f"Made from {told or 'nothing registered here'}; went into {after or 'nothing yet'}.",
    )


def _column(distance: int, *, has_run: bool) -> int:
    """Return where a version stands: with a run, what lies before it moves one further to the left."""
    return distance - 1 if has_run and distance < 0 else distance


def _start(n_boxes: int, height: int) -> int:
    return (height - (n_boxes * (BOX_HEIGHT + GAP_Y) - GAP_Y)) // 2


def _paths(graph: LineageGraph, places: dict[str, tuple[int, int]]) -> Sequence[str]:
    own = next((node.digest for node in graph.nodes if node.distance == 0), "")
    has_run = "run" in places
    pairs: list[tuple[str, str]] = []
    for child, parent in graph.edges:
        pairs.append((parent, "run") if has_run and child == own else (parent, child))
    if has_run:
        pairs.append(("run", own))
    paths = []
    for start, end in dict.fromkeys(pairs):
        if start in places and end in places:
            x, y = places[start][0] + BOX_WIDTH, places[start][1] + BOX_HEIGHT // 2
            to_x, to_y = places[end][0], places[end][1] + BOX_HEIGHT // 2
            middle = (x + to_x) // 2
            paths.append(f"M{x} {y}C{middle} {y} {middle} {to_y} {to_x} {to_y}")
    return paths


def _box(node: LineageNode, x: int, y: int) -> Box:
    kind, _, rest = node.label.partition(":")
    name, _, number = rest.rpartition("@")
    path = f"/models/{name}/{number}" if kind == "model" else f"/assets/{kind}/{name}/{number}"
    detail = ", ".join(each for each in (node.method, node.precision) if each) or kind
    return Box(
        x=x,
        y=y,
        title=_cut(rest),
        detail=_cut(detail if kind == "model" else kind),
        href=path,
        kind="self" if node.distance == 0 else kind,
        words=f"{node.label}, {detail}",
    )


def _run_box(run: str, method: str, x: int, y: int) -> Box:
    return Box(
        x=x,
        y=y,
        title=_cut(f"run …{run[-8:]}"),
        detail=method,
        href=f"/tuning/{run}",
        kind="run",
        words=f"run {run}, {method}",
    )


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARS else f"{text[: MAX_CHARS - 1]}…"
