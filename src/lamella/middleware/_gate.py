"""Holds the parts of an answer until all that they say is sure, and lets them go in the order in which they came."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from lamella.middleware._banned import Banned, Hit, Watch
from lamella.middleware._pii_view import view_of
from lamella.middleware._texts import texts_of
from lamella.types import (
    File,
    Finished,
    Raw,
    ReasoningDelta,
    ResponseStarted,
    Restarted,
    Source,
    StreamPart,
    TextDelta,
    ToolInputDelta,
    ToolRequested,
)

LONGEST_SENTENCE = 2000
_SENTENCE = re.compile(r'[.!?…]+["\')\]»”]*\s|[。！？]+["」』)]*(?=[^。！？"」』)])|\n')


class _Lane:
    """All text, or all reasoning, of an answer, in the order in which it comes."""

    __slots__ = ('checked', 'fed', 'text', 'watch')

    def __init__(self, banned: Banned) -> None:
        self.watch = Watch(banned)
        self.fed = 0  # characters that came
        self.checked: int | None = None  # of them are valid; `None` when nobody asks
        self.text = ''  # what is not valid yet

    @property
    def sure(self) -> int:
        sure = self.fed - self.watch.held
        return sure if self.checked is None else min(sure, self.checked)


class Gate:
    """One answer. `by` says what else than the list is asked: nothing, each sentence, or the whole text at its end."""

    __slots__ = ('_banned', '_by', '_calls', '_open', '_parts', '_reasoning', '_text')

    def __init__(self, banned: Banned, by: str | None) -> None:
        self._banned, self._by = banned, by
        self._clear()

    def _clear(self) -> None:
        self._text, self._reasoning = _Lane(self._banned), _Lane(self._banned)
        if self._by is not None:
            self._text.checked = 0
        self._parts: deque[tuple[Any, int]] = deque()  # with the place in its lane
        self._calls: dict[int, list[str]] = {}  # tool input that is being written
        self._open = False

    def put(self, part: StreamPart) -> Hit | None:
        """Take one part, and say what is wrong with what is known now."""
        kind = type(part)
        if kind is Restarted or kind is ResponseStarted:
            self._clear()
        lane = self._lane(part)
        self._parts.append((part, 0 if lane is None else lane.fed))
        if isinstance(part, (TextDelta, ReasoningDelta)) and lane is not None:
            return self._say(lane, part.text)
        if isinstance(part, ToolInputDelta):
            self._calls.setdefault(part.index, []).append(part.delta)
        elif isinstance(part, ToolRequested):
            self._calls.pop(part.index, None)
            return self._look(texts_of(part.tool_request.input))
        elif isinstance(part, Finished):
            return self._end(part)
        elif isinstance(part, (Source, File, Raw)):
            return self._look(texts_of(part))
        return None

    def _lane(self, part: StreamPart) -> _Lane | None:
        return (
            self._text if isinstance(part, TextDelta) else self._reasoning if isinstance(part, ReasoningDelta) else None
        )

    def _say(self, lane: _Lane, text: str, final: bool = False) -> Hit | None:
        lane.fed += len(text)
        if lane.checked is not None:
            lane.text += text
        return lane.watch.feed(text, final)

    def _end(self, part: Finished) -> Hit | None:
        self._open = True
        for lane in (self._text, self._reasoning):
            if (hit := self._say(lane, '', final=True)) is not None:
                return hit
        unfinished = [view_of(''.join(written), json=True).text for written in self._calls.values()]
        self._calls.clear()
        return self._look([*unfinished, *texts_of([part.finish_message, part.warnings])])

    def _look(self, texts: Iterator[str] | Sequence[str]) -> Hit | None:
        for text in texts:
            hit, _ = self._banned.find(text, 0, True)
            if hit is not None:
                return hit
        return None

    def unasked(self) -> Iterator[str]:
        """What of the text somebody is to be asked about now. It counts as valid when the next is taken."""
        lane = self._text
        if lane.checked is None:
            return
        while (end := self._sentence(lane.text)) > 0:
            if lane.text[:end].strip():
                yield lane.text[:end]
            lane.checked, lane.text = lane.checked + end, lane.text[end:]

    def _sentence(self, text: str) -> int:
        """Where the text, or its first sentence, ends; 0 when that is not known."""
        if self._by == 'whole':
            return len(text) if self._open else 0
        found = _SENTENCE.search(text, 0, LONGEST_SENTENCE)
        if found is not None:
            return found.end()
        return LONGEST_SENTENCE if len(text) > LONGEST_SENTENCE else len(text) if self._open else 0

    def ready(self) -> Iterator[StreamPart]:
        """The parts that may go now. Pieces of one text that waited for each other go as one: the first alone might show what
        only the next makes harmless."""
        last: Any = None
        part: Any
        for part in self._ready():
            if last is not None and _joins(last, part):
                last = last.replace(text=last.text + part.text)
                continue
            if last is not None:
                yield last
            last = part
        if last is not None:
            yield last

    def _ready(self) -> Iterator[StreamPart]:
        while self._parts:
            part, start = self._parts[0]
            lane = self._lane(part)
            if lane is not None:
                sure = lane.sure - start
                if sure < len(part.text):
                    if sure > 0:
                        first, rest = _parted(part, sure)
                        self._parts[0] = rest, start + sure
                        yield first
                    return
            elif type(part) is ToolInputDelta and part.index in self._calls:
                return
            self._parts.popleft()
            yield part


def _joins(one: Any, two: Any) -> bool:
    if type(one) is not type(two) or not isinstance(one, (TextDelta, ReasoningDelta)):
        return False
    plain = two.metadata is None and getattr(one, 'signature', None) is None and getattr(two, 'signature', None) is None
    return plain and one.index == two.index and not getattr(two, 'redacted', False)


def _parted(part: Any, at: int) -> tuple[Any, Any]:
    """A piece of text in two. Metadata goes with the first, a signature with the last."""
    first, rest = part.replace(text=part.text[:at]), part.replace(text=part.text[at:], metadata=None)
    return (first.replace(signature=None), rest) if isinstance(part, ReasoningDelta) else (first, rest)
