# SPDX-License-Identifier: MIT
"""Draws the steps of a start as bars and how starts grow as lines: SVG, without a library."""

import math
from collections.abc import Iterable
from pathlib import Path
from xml.sax.saxutils import escape

from measure import Row, number
from start import FIRST_OUTPUT, GROWTH, PHASES

WIDTH = 860
MARGIN = 24

# Light or dark colours, as the viewer prefers, on an opaque background.
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .ground { fill: #ffffff } .title { font-weight: 600 } .small { font-size: 11px }
  .axis { stroke: #8c959f } .grid { stroke: #d8dee4 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .ground { fill: #0d1117 } .axis { stroke: #848d97 }
    .grid { stroke: #30363d }
  }
"""

COLOURS = {"floor": "#8c959f", "minivmm": "#2f81f7", "qemu": "#d4763b"}
MORE_COLOURS = ("#2da44e", "#a371f7", "#bf3989")

# The pieces of a bar: name, steps, colour.
PIECES = (
    ("exec, libraries, options", ("exec",), "#8c959f"),
    ("files, RAM, devices", ("memory", "devices"), "#2da44e"),
    ("open /dev/kvm, create the VM", ("kvm", "vm"), "#2f81f7"),
    ("memory slot", ("slots",), "#a371f7"),
    ("interrupt controllers", ("irqchip",), "#bf3989"),
    ("vCPU", ("vcpus",), "#d4763b"),
    ("kernel, tables", ("image",), "#e3b341"),
    ("threads", ("threads", "entry"), "#57606a"),
    ("first entry and exit", ("first-exit",), "#1b7c83"),
    ("output", ("output",), "#cf222e"),
)


def text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">'
            f"{escape(words)}</text>")


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def svg(height: float, title: str, parts: Iterable[str]) -> str:
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{height:.0f}"/>',
        text(MARGIN, 28, title, kind="title"), *parts, "</svg>", ""])


def round_step(span: float) -> float:
    """The distance between about eight marks: 1, 2 or 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(span / 8))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= span / 8)


def phases(rows: list[Row]) -> str:
    """A bar per contender with a piece per group of steps; the time axis is below."""
    names = list(dict.fromkeys(row.contender for row in rows))
    took = {name: {row.case: row.median for row in rows if row.contender == name}
            for name in names}
    left, right, top, bar, gap = 100, WIDTH - MARGIN - 60, 52, 44, 18
    longest = max(sum(steps.values()) for steps in took.values())
    scale = (right - left) / longest
    bottom = top + len(names) * (bar + gap)
    step = round_step(longest)
    parts = []
    for mark in range(int(longest / step) + 1):
        x = left + mark * step * scale
        parts += [line(x, top - 8, x, bottom, "grid"),
                  text(x, bottom + 16, f"{mark * step:.4g}", "middle", "small")]
    parts.append(text(right, bottom + 34, "ms since exec (medians of each step)", "end", "small"))
    for index, name in enumerate(names):
        x, y = float(left), top + index * (bar + gap)
        parts.append(text(left - 10, y + bar / 2 + 5, name, "end"))
        for piece, steps, colour in PIECES:
            wide = sum(took[name].get(each, 0) for each in steps) * scale
            parts.append(f'<rect x="{x:.1f}" y="{y}" width="{max(wide, 0):.1f}" height="{bar}" '
                         f'fill="{colour}"><title>{escape(piece)}: {wide / scale:.3f} ms'
                         '</title></rect>')
            x += wide
        parts.append(text(x + 8, y + bar / 2 + 5, f"{sum(took[name].values()):.2f} ms"))
    return svg(*legend(parts, took, bottom + 60))


def legend(parts: list[str], took: dict[str, dict[str, float]], top: float
           ) -> tuple[float, str, list[str]]:
    """A table of the time of each piece in each contender."""
    columns = {name: WIDTH - MARGIN - 110 * index for index, name in enumerate(reversed(took))}
    parts += [text(x, top, f"{name}, ms", "end", "small") for name, x in columns.items()]
    for piece, steps, colour in PIECES:
        top += 20
        parts += [f'<rect x="{MARGIN}" y="{top - 11}" width="13" height="13" fill="{colour}"/>',
                  text(MARGIN + 22, top, piece)]
        for name, x in columns.items():
            value = sum(took[name].get(each, 0) for each in steps)
            parts.append(text(x, top, f"{value:.3f}", "end"))
    return top + 20, "Where a start goes: exec to the guest's first output", parts


def growth(rows: list[Row]) -> str:
    """A panel per parameter; all share a logarithmic time axis."""
    panels = {title: [(tick, case) for tick, case in cases
                      if any(row.case == case for row in rows)]
              for title, cases in GROWTH.items()}
    names = list(dict.fromkeys(row.contender for row in rows))
    colours = dict(zip((n for n in names if n not in COLOURS), MORE_COLOURS)) | COLOURS
    wanted = {case for cases in panels.values() for _, case in cases}
    shown = [row for row in rows if row.case in wanted]
    low = 10 ** math.floor(math.log10(min(row.low for row in shown)))
    high = max(row.high for row in shown) * 1.1
    left, top, tall, gap = 60, 90, 240, 20
    wide = (WIDTH - left - MARGIN - gap * (len(panels) - 1)) / len(panels)

    def y_of(value: float) -> float:
        return top + tall * (1 - math.log(value / low) / math.log(high / low))

    marks = [m * 10 ** e for e in range(-3, 6) for m in (1, 2, 5) if low <= m * 10 ** e <= high]
    parts = [text(MARGIN, top - 14, "ms", kind="small")]
    parts += [text(left - 8, y_of(mark) + 4, f"{mark:g}", "end", "small") for mark in marks]
    for index, name in enumerate(names):
        x = MARGIN + index * 110
        parts += [f'<line x1="{x}" y1="52" x2="{x + 22}" y2="52" stroke="{colours[name]}" '
                  'stroke-width="3"/>', text(x + 30, 56, name)]
    for index, (title, cases) in enumerate(panels.items()):
        start = left + index * (wide + gap)
        parts += [line(start, y_of(mark), start + wide, y_of(mark), "grid") for mark in marks]
        parts += [line(start, top + tall, start + wide, top + tall, "axis"),
                  text(start + wide / 2, top + tall + 38, title, "middle")]
        xs = [start + wide * (i + 0.5) / len(cases) for i in range(len(cases))]
        parts += [text(x, top + tall + 17, tick, "middle", "small")
                  for x, (tick, _) in zip(xs, cases)]
        for name in names:
            found = {row.case: row for row in shown if row.contender == name}
            points = [(x, found[case]) for x, (_, case) in zip(xs, cases) if case in found]
            parts += curve(points, colours[name], y_of)
    return svg(top + tall + 54, "How a start grows: exec to the guest's first output "
               "(median; 10 % to 90 %)", parts)


def curve(points: list[tuple[float, Row]], colour: str, y_of) -> Iterable[str]:
    path = " ".join(f"{x:.1f},{y_of(row.median):.1f}" for x, row in points)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for x, row in points:
        yield (f'<line x1="{x:.1f}" y1="{y_of(row.low):.1f}" x2="{x:.1f}" '
               f'y2="{y_of(row.high):.1f}" stroke="{colour}" stroke-opacity="0.5" '
               'stroke-width="3"/>')
        yield (f'<circle cx="{x:.1f}" cy="{y_of(row.median):.1f}" r="3.5" fill="{colour}">'
               f"<title>{escape(row.contender)}, {escape(row.case)}: {number(row.median)} ms"
               "</title></circle>")


def draw(rows: list[Row], directory: Path):
    """Draws the pictures for which there are figures."""
    directory.mkdir(parents=True, exist_ok=True)
    for table, name, picture in ((PHASES, "start-phases.svg", phases),
                                 (FIRST_OUTPUT, "start-growth.svg", growth)):
        of_table = [row for row in rows if row.table == table]
        if of_table:
            (directory / name).write_text(picture(of_table))
