"""A stream of the ADK to parts: pieces of text as they come, and everything else with the whole answer that follows them.

The ADK streams pieces for display (`partial=True`) and then one answer with all of it, or several for one turn. A piece may
hold a call whose arguments are not there yet, so calls, files and signatures are taken from the whole.
"""

from __future__ import annotations

from collections.abc import Iterator

from google.adk.models.llm_response import LlmResponse

from lamella.core.context import GenerateMiddlewareContext
from lamella.integrations.adk._answers import heard
from lamella.types import (
    Finished,
    ModelResponse,
    Part,
    ReasoningDelta,
    ReasoningPart,
    ResponseStarted,
    StreamPart,
    TextDelta,
    TextPart,
    unfold_content,
)


class Pieces:
    """Takes the answers of one stream in turn. `last` is the answer that ended it, when it was the only whole one."""

    def __init__(self, ctx: GenerateMiddlewareContext) -> None:
        self._ctx = ctx
        self._index = 0
        self._kind: type[Part] | None = None
        self._shown: list[tuple[type[Part], int, list[str]]] = []  # the runs of text since the last whole answer
        self._finished: Finished | None = None
        self._begun = False
        self._wholes = 0
        self.last: LlmResponse | None = None

    def take(self, answer: LlmResponse) -> Iterator[StreamPart]:
        if not self._begun:
            self._begun = True
            yield ResponseStarted(answer.model_version)
        if answer.partial:
            yield from self._piece(answer)
        else:
            yield from self._whole(answer)

    def end(self) -> Finished | None:
        """The last part, once the stream is over; `None` when no whole answer came."""
        return self._finished

    def _piece(self, answer: LlmResponse) -> Iterator[StreamPart]:
        parts = (answer.content.parts if answer.content else None) or ()
        for part in parts:
            if not part.text:
                if part.function_call or part.inline_data or part.executable_code or part.code_execution_result:
                    self._kind = None  # what comes after it is another run
                continue
            kind: type[Part] = ReasoningPart if part.thought else TextPart
            if kind is not self._kind:
                self._kind, self._index = kind, self._index + 1
                self._shown.append((kind, self._index - 1, []))
            index = self._index - 1
            self._shown[-1][2].append(part.text)
            yield ReasoningDelta(part.text, index) if kind is ReasoningPart else TextDelta(part.text, index)

    def _whole(self, answer: LlmResponse) -> Iterator[StreamPart]:
        response = heard(answer, self._ctx)
        shown, self._shown, self._kind = self._shown, [], None
        left = [(kind, index, ''.join(texts)) for kind, index, texts in shown]
        for part in response.message.content:
            if isinstance(part, (TextPart, ReasoningPart)) and left and left[0][0] is type(part):
                kind, index, run = left.pop(0)
                if len(run) > len(part.text) and run.startswith(part.text):
                    left.insert(0, (kind, index, run[len(part.text) :]))  # several parts were shown as one run
                if (delta := _rest(part, run, index)) is not None:
                    yield delta
            elif not (shown and isinstance(part, TextPart) and not part.text and not part.metadata):
                yield from self._new(part, response)
        yield from response.sources
        self._wholes += 1
        self.last = answer if self._wholes == 1 else None
        usage = None if self._finished is None else self._finished.usage
        self._finished = Finished(
            finish_reason=response.finish_reason,
            usage=usage if response.usage is None else response.usage,
            model=response.model,
            id=response.id,
            finish_message=response.finish_message,
            metadata=response.metadata or None,
            warnings=response.warnings,
        )

    def _new(self, part: Part, response: ModelResponse) -> Iterator[StreamPart]:
        """A part that nothing was shown of."""
        alone = response.replace(message=response.message.replace(content=(part,)), sources=())
        for made in unfold_content(alone):
            self._index += 1
            yield made.replace(index=self._index - 1)


def _rest(part: TextPart | ReasoningPart, shown: str, index: int) -> StreamPart | None:
    """What the whole says beyond the pieces: signatures, and text that they left out."""
    text = part.text[len(shown) :] if part.text.startswith(shown) else ''
    if isinstance(part, ReasoningPart):
        if not (text or part.signature or part.metadata):
            return None
        return ReasoningDelta(text, index, part.signature, part.redacted, part.metadata)
    return TextDelta(text, index, part.metadata) if text or part.metadata else None
