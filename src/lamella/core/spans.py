"""A run's events as a tree of spans: the run, its turns, each call of a model, each tool; what layers decided as notes on them.

Whoever keeps traces writes spans (OpenTelemetry, a file) and leaves the reading of events to this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, Literal, Protocol, TypeVar

from lamella.core.events import Event

Kind = Literal['run', 'turn', 'model', 'tool', 'embedding']
Facts = Mapping[str, Any]
S = TypeVar('S')
_NOTHING: Facts = {}
_ENDS = frozenset(('run.end', 'run.error', 'embed.end', 'embed.error'))


class SpanWriter(Protocol[S]):
    """Takes spans as they begin and end. Times are readings of the run's clock."""

    def begin(self, kind: Kind, name: str, parent: S | None, at_s: float, facts: Facts) -> S:
        """A span of that kind. `facts` are those of the event that began it."""

    def note(self, span: S, name: str, at_s: float, facts: Facts) -> None:
        """Something that happened within a span."""

    def end(self, span: S, at_s: float, facts: Facts, error: BaseException | None) -> None:
        """The span is over. `facts` are those of the event that ended it; none when what is around it ended first."""


class SpanTree(Generic[S]):
    """Reads the events of one run, in order, and writes its spans. Usable as a sink.

    Every span ends: at the latest with the run, innermost first. `is_over` says that the run is done.
    """

    __slots__ = ('_calls', '_root', '_tools', '_turn', '_writer', 'is_over')

    def __init__(self, writer: SpanWriter[S]) -> None:
        self._writer = writer
        self._root: S | None = None
        self._turn: S | None = None
        self._calls: dict[Any, S] = {}
        self._tools: dict[Any, S] = {}
        self.is_over = False

    def __call__(self, event: Event) -> None:
        if self.is_over:
            return
        name, at_s, facts = event.name, event.at_s, event.facts
        act = _ACTS.get(name)
        if act is not None:
            act(self, at_s, facts)
        elif name in _ENDS:
            self._end_all(at_s, facts)
        else:
            self._note(name, at_s, facts)

    def root(self, at_s: float, facts: Facts = _NOTHING, name: str = '') -> S:
        """The run's own span. It begins with the first event that is heard, which need not be that of its start."""
        if self._root is None:
            self._root = self._writer.begin('run', name or str(facts.get('model', '')), None, at_s, facts)
        return self._root

    def tool(self, ref: str | None) -> S | None:
        """The span of the tool call with this id, while it runs."""
        return self._tools.get(ref)

    def _place(self, at_s: float) -> S:
        return self.root(at_s) if self._turn is None else self._turn

    def _run_start(self, at_s: float, facts: Facts) -> None:
        self.root(at_s, facts)

    def _embed_start(self, at_s: float, facts: Facts) -> None:
        self.root(at_s, facts, f'embed {facts.get("model", "")}')

    def _turn_start(self, at_s: float, facts: Facts) -> None:
        self._turn_end(at_s, _NOTHING)
        self._turn = self._writer.begin('turn', str(facts['turn']), self.root(at_s), at_s, facts)

    def _turn_end(self, at_s: float, facts: Facts) -> None:
        if self._turn is not None:
            self._close(self._calls, at_s)
            self._close(self._tools, at_s)
            turn, self._turn = self._turn, None
            self._writer.end(turn, at_s, facts, None)

    def _model_start(self, at_s: float, facts: Facts) -> None:
        self._begin(self._calls, facts['call'], 'model', facts['model'], at_s, facts)

    def _model_end(self, at_s: float, facts: Facts) -> None:
        self._finish(self._calls, facts.get('call'), at_s, facts)

    def _tool_start(self, at_s: float, facts: Facts) -> None:
        self._begin(self._tools, facts['ref'], 'tool', facts['tool'], at_s, facts)

    def _tool_end(self, at_s: float, facts: Facts) -> None:
        self._finish(self._tools, facts.get('ref'), at_s, facts)

    def _embedding_start(self, at_s: float, facts: Facts) -> None:
        self.root(at_s, _NOTHING, f'embed {facts["model"]}')
        self._begin(self._calls, ('embedding', facts['call']), 'embedding', facts['model'], at_s, facts)

    def _embedding_end(self, at_s: float, facts: Facts) -> None:
        self._finish(self._calls, ('embedding', facts.get('call')), at_s, facts)

    def _begin(self, open_: dict[Any, S], key: Any, kind: Kind, name: str, at_s: float, facts: Facts) -> None:
        self._finish(open_, key, at_s, _NOTHING)
        open_[key] = self._writer.begin(kind, name, self._place(at_s), at_s, facts)

    def _finish(self, open_: dict[Any, S], key: Any, at_s: float, facts: Facts) -> None:
        span = open_.pop(key, None)
        if span is not None:
            self._writer.end(span, at_s, facts, facts.get('error'))

    def _close(self, open_: dict[Any, S], at_s: float) -> None:
        while open_:
            self._writer.end(open_.popitem()[1], at_s, _NOTHING, None)

    def _note(self, name: str, at_s: float, facts: Facts) -> None:
        span = self._calls.get(facts.get('call'))
        span = self._tools.get(facts.get('ref')) if span is None else span
        self._writer.note(self._place(at_s) if span is None else span, name, at_s, facts)

    def _end_all(self, at_s: float, facts: Facts) -> None:
        root = self.root(at_s)
        self._turn_end(at_s, _NOTHING)
        self._close(self._calls, at_s)
        self._close(self._tools, at_s)
        self.is_over = True
        self._writer.end(root, at_s, facts, facts.get('error'))


_ACTS = {
    'embed.start': SpanTree._embed_start,
    'embedding.end': SpanTree._embedding_end,
    'embedding.error': SpanTree._embedding_end,
    'embedding.start': SpanTree._embedding_start,
    'model.end': SpanTree._model_end,
    'model.error': SpanTree._model_end,
    'model.left': SpanTree._model_end,
    'model.start': SpanTree._model_start,
    'run.start': SpanTree._run_start,
    'tool.end': SpanTree._tool_end,
    'tool.error': SpanTree._tool_end,
    'tool.interrupt': SpanTree._tool_end,
    'tool.start': SpanTree._tool_start,
    'turn.end': SpanTree._turn_end,
    'turn.start': SpanTree._turn_start,
}
