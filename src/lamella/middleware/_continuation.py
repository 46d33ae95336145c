"""Goes on from the text that a failed attempt left: the model is asked to continue it, and only what is new is passed on."""

from __future__ import annotations

from collections.abc import Sequence

from lamella.core.params import Continuing, ModelHookParams
from lamella.middleware._relay import Relay, paid_for
from lamella.types import (
    Finished,
    Folder,
    LamellaError,
    Message,
    ReasoningDelta,
    ResponseStarted,
    Restarted,
    Source,
    StreamPart,
    TextDelta,
    TextPart,
    add_usage,
    is_content,
)

_CONTINUABLE = (TextDelta, ReasoningDelta, Source)


class Continuation(Relay):
    """A relay whose later attempts continue the text of the earlier ones.

    It can go on where text was shown, with or without reasoning and sources, and nothing else: half a tool request is no
    text. Blocks of a later attempt are numbered behind those that are there; its first text joins the last one. White space
    at the end of the text is not sent back (Anthropic refuses it, platform.claude.com/docs "Prefill Claude's response")
    and is taken off the continuation where the model says it again.
    """

    __slots__ = (
        '_base',
        '_failure',
        '_first',
        '_folder',
        '_last_text',
        '_model',
        '_next',
        '_opening',
        '_other',
        '_resuming',
        '_seam',
        '_tail',
    )

    def __init__(self) -> None:
        super().__init__('raise')
        self._forget()

    def _forget(self) -> None:
        self._folder = Folder()
        self._other = self._resuming = False
        self._last_text = self._next = self._base = self._seam = 0
        self._first: int | None = None
        self._tail = ''
        self._model: str | None = None
        self._opening = ResponseStarted()
        self._failure: LamellaError | None = None

    def take(self, part: StreamPart) -> Sequence[StreamPart]:
        if type(part) is TextDelta and part.index == self._last_text and self.shown and not self._resuming:
            self._folder.add(part)  # by far the most frequent part: more of the text that is last already
            return (part,)
        if self._resuming:
            fitted = self._fitted(part)
            if fitted is None:
                return ()
            part = fitted
        ready = super().take(part)
        self.open = False  # every part is looked at
        for one in ready:
            self._note(one)
        return ready

    def _note(self, part: StreamPart) -> None:
        """Remember what the reader has now."""
        if type(part) is Restarted:
            self._forget()
            return
        self._folder.add(part)
        if isinstance(part, (ResponseStarted, Finished)):
            self._model = part.model or self._model
            return
        self._next = max(self._next, getattr(part, 'index', 0) + 1)
        if type(part) is TextDelta:
            self._last_text = part.index
        elif is_content(part) and not isinstance(part, _CONTINUABLE):
            self._other = True

    @property
    def _text(self) -> str:
        return ''.join([part.text for part in self._folder.content() if type(part) is TextPart])

    @property
    def stuck(self) -> bool:
        return self.shown and (self._other or not self._text.strip())

    def failed(self, error: LamellaError) -> None:
        super().failed(error)
        self._failure = error

    def turn(self, reason: str, model: str) -> Sequence[StreamPart]:
        if self.shown:
            text = self._text
            self._tail = text[len(text.rstrip()) :]
            self._resuming, self._base, self._seam, self._first = True, self._next, self._last_text, None
        return ()

    def ask(self, params: ModelHookParams) -> ModelHookParams:
        if not self.shown:
            return params
        messages = with_prefix(params.request.messages, self._text.rstrip())
        return params.replace(request=params.request.replace(messages=messages), continues=Continuing())

    def give_up(self, error: LamellaError) -> None:
        """Let the error say all that had arrived, and not only what its own attempt brought."""
        if self._resuming:
            error.partial = self._folder.response().replace(usage=add_usage(self.paid, paid_for(error)))
        else:
            super().give_up(error)

    def _fitted(self, part: StreamPart) -> StreamPart | None:
        """The part in its place behind what is there, or `None` when the reader needs nothing of it."""
        if isinstance(part, ResponseStarted):
            self._reopen(part)
            return None
        if isinstance(part, Finished):
            return self._closed(part)
        if isinstance(part, TextDelta):
            return self._joined(part)
        index = getattr(part, 'index', None)
        return part if index is None else part.replace(index=self._base + index)

    def _reopen(self, start: ResponseStarted) -> None:
        """A second start is not passed on. Raises the earlier failure when it is another model's: texts are never mixed."""
        self._opening = start
        if self._failure is not None and None not in (start.model, self._model) and start.model != self._model:
            self._other = True
            raise self._failure

    def _closed(self, end: Finished) -> Finished:
        metadata = {**(self._opening.metadata or {}), **(end.metadata or {})}
        return end.replace(id=end.id or self._opening.id, metadata=metadata or None)

    def _joined(self, part: TextDelta) -> TextDelta | None:
        if self._first is None:
            self._first = part.index
        if part.index != self._first:
            return part.replace(index=self._base + part.index)
        again = shared(self._tail, part.text)
        text = part.text[again:]
        self._tail = '' if text else self._tail[again:]
        return part.replace(text=text, index=self._seam) if text or part.metadata else None


def shared(a: str, b: str) -> int:
    """How many characters two texts have in common at their beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def with_prefix(messages: tuple[Message, ...], text: str) -> tuple[Message, ...]:
    """The messages with the beginning of the answer at their end, joined to one that is already there."""
    if messages and messages[-1].role == 'assistant':
        last = messages[-1]
        return (*messages[:-1], last.replace(content=(*last.content, TextPart(text))))
    return (*messages, Message.assistant(text))
