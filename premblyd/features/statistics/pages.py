"""On the overview and the page of actions: numbers, and bar charts of them as SVG."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from html import escape
from typing import Any, NamedTuple

from premblyd.features.console import words
from premblyd.features.console.handler import Asked, Panel
from premblyd.features.console.overview import PERIODS
from premblyd.features.statistics import statistics
from premblyd.features.statistics.statistics import EventCount
from premblyd.store.engine import Database

MAX_KINDS = 6  # colours; what is rarest goes together
OTHERS = "others"
WIDTH, HEIGHT, GAP = 720, 150, 0.18
# A colour always means the same.
COLOURS = {"verified": 3, "not_verified": 2, "pending": 5, "unknown": 6}


class Series(NamedTuple):
    """A name and how many there were of it, in all."""

    name: str
    colour: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Bars, one for each span, each a stack of named counts."""

    series: Sequence[Series]
    spans: Sequence[int]  # when each began
    counts: Sequence[Mapping[str, int]]
    each_ms: int

    @property
    def highest(self) -> int:
        return max((sum(counts.values()) for counts in self.counts), default=0)

    @property
    def total(self) -> int:
        return sum(series.total for series in self.series)

    def svg(self, title: str) -> str:
        """Return the chart as SVG, with a title for each bar. All text is escaped."""
        summary = f"{title}: {self.total:,} in all, at most {self.highest:,} at once"
        top, width = self.highest or 1, WIDTH / max(1, len(self.spans))
        bars = []
        for index, (from_ms, counts) in enumerate(zip(self.spans, self.counts, strict=True)):
            pieces, y = [], float(HEIGHT)
            for series in self.series:
                if count := counts.get(series.name, 0):
                    height = max(1.0, count / top * HEIGHT)
                    y -= height
                    pieces.append(
                        f'<rect class="k{series.colour}" x="{(index + GAP / 2) * width:.2f}"'
                        f' y="{max(0.0, y):.2f}" width="{width * (1 - GAP):.2f}"'
                        f' height="{height:.2f}"/>'
                    )
            if pieces:
                about = escape(self._about(from_ms, counts))
                bars.append(f"<g><title>{about}</title>{''.join(pieces)}</g>")
        return (
            f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none"'
            f' role="img" aria-label="{escape(summary)}">{"".join(bars)}'
            f'<line class="axis" x1="0" y1="{HEIGHT}" x2="{WIDTH}" y2="{HEIGHT}"/></svg>'
        )

    def _about(self, from_ms: int, counts: Mapping[str, int]) -> str:
        parts = ", ".join(f"{words.label(name)} {count:,}" for name, count in counts.items())
        return f"{words.moment(from_ms)[:-3]} UTC: {parts}"


def stacked(counts: Iterable[EventCount], *, since_ms: int, until_ms: int, each_ms: int) -> Chart:
    """Return the chart of events in spans of `each_ms`."""
    by_span: dict[int, Counter[str]] = {}
    totals: Counter[str] = Counter()
    rows = list(counts)
    for each in rows:
        totals[each.name or "missing"] += each.events
    kept = [
        name
        for name, _ in totals.most_common(MAX_KINDS if len(totals) <= MAX_KINDS else MAX_KINDS - 1)
    ]
    for each in rows:
        name = each.name or "missing"
        by_span.setdefault(each.from_ms, Counter())[name if name in kept else OTHERS] += each.events
    names = sorted(kept, key=_place)
    if len(totals) > len(kept):
        names.append(OTHERS)
        totals[OTHERS] = sum(totals.values()) - sum(totals[name] for name in kept)
    spans = range(since_ms - since_ms % each_ms, until_ms + 1, each_ms)
    return Chart(
        series=[
            Series(name=name, colour=COLOURS.get(name, index % MAX_KINDS + 1), total=totals[name])
            for index, name in enumerate(names)
        ],
        spans=spans,
        counts=[by_span.get(span, Counter()) for span in spans],
        each_ms=each_ms,
    )


def _place(name: str) -> tuple[int, str]:
    order = list(COLOURS)
    return (order.index(name) if name in order else len(order), name)


def of_period(database: Database, asked: Asked) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the numbers of a period, with their charts."""
    names = [action.name for action in asked.config.actions]
    found = statistics.of_period(
        database, since_ms=asked.since_ms, now_ms=asked.now_ms, names=names
    )
    span = {"since_ms": asked.since_ms, "until_ms": asked.now_ms, "each_ms": found.each_ms}
    by_outcome = stacked(found.by_outcome, **span)
    by_code = stacked(found.by_response_code, **span)
    return {each.name: getattr(found, each.name) for each in fields(found)}, {
        "period": asked.period,
        "periods": list(PERIODS),
        "charts": [("by code", by_code), ("by outcome", by_outcome)],
        "events": by_outcome.total,
        "duplicates": sum(each.duplicates for each in found.by_outcome),
        "unmatched": sum(each.unmatched for each in found.by_outcome),
        "reasons": found.rejections_by_reason,
    }


def of_actions(database: Database, asked: Asked) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return how each action fares."""
    names = [action.name for action in asked.config.actions]
    found = statistics.actions(database, since_ms=asked.since_ms, now_ms=asked.now_ms, names=names)
    return {"actions": found}, {}


PANELS = (
    Panel(page="/", template="received.html", find=of_period),
    Panel(page="/actions", template="lastday.html", find=of_actions),
)
