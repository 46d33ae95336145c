"""What one run knows of the personal data in it: the messages as the model gets them, and the answers as everybody else does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Set
from typing import Any, Literal

from lamella.core.params import ModelHookParams, ToolHookParams, digest_of
from lamella.core.tools import Tool, ToolContext
from lamella.middleware._changed_parts import Changes
from lamella.middleware._clean_errors import cleaned, told
from lamella.middleware._pii_text import AsItIs, Chain, Masker, MaskStream, TextStream
from lamella.middleware._pii_tokens import RestoringStream, Vault
from lamella.middleware._walk import CannotLook, Walk
from lamella.types import JSON, ControlFlow, Interrupt, Message, ModelRequest, Rejected, ToolError, ToolRequest

Place = Literal['input', 'output', 'tool_input', 'tool_output', 'events']
PLACES: tuple[Place, ...] = ('input', 'output', 'tool_input', 'tool_output', 'events')


class Redacting:
    """Made once for each run. `vault` is there where tokens are wanted."""

    def __init__(self, name: str, masker: Masker, places: Set[str], restore: Set[str], vault: Vault | None) -> None:
        self.name, self.places, self.vault = name, places, vault
        self._masker = masker
        self._restore = restore if vault is not None else frozenset[str]()
        self._sent: dict[int, tuple[Message, Message]] = {}
        self._counts: dict[int, Counter[str]] = {}
        self._heard: dict[int, tuple[Message, Message]] = {}
        self.tell = Walk(masker.masked, self._other, self._heard)
        self.mask = Walk(masker.masked)

    def _other(self, value: Any) -> Any:
        """An object that is no data, for listeners: its own text when that tells something."""
        if isinstance(value, BaseException):
            return told(value, self.mask)
        said = repr(value)
        return value if self._masker.masked(said) == said else self._masker.masked(said)

    def clean(self, error: BaseException, walk: Walk | None = None) -> BaseException:
        """An error that leaves, with nothing in it. One that cannot be looked through is replaced."""
        try:
            return cleaned(error, walk or self.mask)
        except Exception as problem:
            return refusal(problem, self.name)

    def request(self, request: ModelRequest) -> tuple[ModelRequest, Counter[str]]:
        """The request as the model gets it, and what was found in it."""
        total: Counter[str] = Counter()
        messages = tuple([self._message(message, total) for message in request.messages])
        if all(one is other for one, other in zip(messages, request.messages, strict=True)):
            return request, total
        return request.replace(messages=messages), total

    def _message(self, message: Message, total: Counter[str]) -> Message:
        if ('tool_output' if message.role == 'tool' else 'input') not in self.places:
            return message
        key = id(message)
        if key not in self._sent:
            found: Counter[str] = Counter()
            self._sent[key] = message, Walk(self._hidden(found))(message)
            self._counts[key] = found
        total += self._counts[key]
        return self._sent[key][1]

    def _hidden(self, found: Counter[str] | None) -> Callable[[str], str]:
        """What a text becomes on its way to the model: masked, or with tokens."""
        if self.vault is None:
            return lambda text: self._masker.masked(text, found)
        vault = self.vault
        return lambda text: vault.tokenised(text, found)

    def changes(self, found: Counter[str], notes: JSON, json: bool) -> Changes:
        """What becomes of the answer to one model call. What is masked is counted in `found`."""
        masker, restores = self._masker, self._restore
        masks, masks_input = 'output' in self.places, 'tool_input' in self.places

        def stream(is_masked: bool, restored: bool, json: bool, found: Counter[str] | None) -> TextStream:
            mask = MaskStream(masker, found, json) if is_masked else None
            turn = RestoringStream(self.vault, json) if restored and self.vault is not None else None
            if mask is not None and turn is not None:
                return Chain(mask, turn)
            return mask or turn or AsItIs()

        def tool_input(value: Any) -> Any:
            if masks_input:
                value = Walk(lambda text: masker.masked(text, found))(value)
            return self.restored(value) if 'tool_input' in restores else value

        def end(metadata: JSON) -> JSON:
            metadata = self.mask(metadata) if masks else metadata
            if found:
                notes['output'] = dict(found)
                metadata = {key: value for key, value in metadata.items() if key != 'logprobs'}
            return {**metadata, self.name: notes} if notes else metadata

        return Changes(
            text=lambda: stream(masks, 'output' in restores, json, found),
            reasoning=lambda: stream(masks, False, False, found),
            tool_input_text=lambda: stream(masks_input, 'tool_input' in restores, True, None),
            tool_input=tool_input,
            other=Walk(lambda text: masker.masked(text, found)) if masks else lambda value: value,
            aside=self.mask if masks else lambda value: value,
            end=end,
        )

    def restored(self, value: Any) -> Any:
        """A value with the originals in place of this run's tokens."""
        return value if self.vault is None or not self.vault else Walk(self.vault.restored)(value)

    def tool_given(self, value: Any) -> Any:
        """What the tool itself works with."""
        return self.restored(value) if 'tool_input' in self._restore else value

    def tool(self, params: ToolHookParams, found: Counter[str]) -> tuple[ToolHookParams, HidingTool]:
        """The call as the layers inside are given it. The tool itself works with the originals in place of tokens, and hides
        what it finds in its output before anybody else sees it."""
        request, approval = params.tool_request, params.approval
        hides = 'tool_input' in self.places and (self.vault is not None or approval is None)
        shown = Walk(self._hidden(None))(request.input) if hides else request.input
        tool = HidingTool(params.tool, self, found)
        if shown is request.input:
            return params.replace(tool=tool), tool
        changed: ToolRequest = request.replace(input=shown)
        if approval is not None and approval.covers(request):  # what was approved is what will be done
            approval = approval.replace(digest=digest_of(changed))
        part = params.tool_request_part.replace(tool_request=changed)
        return params.replace(tool_request_part=part, tool=tool, approval=approval), tool

    def hidden_output(self, value: Any, found: Counter[str]) -> Any:
        """What a tool answered, as the layers inside see it."""
        return Walk(self._hidden(found))(value) if 'tool_output' in self.places else value

    def hidden_failure(self, error: BaseException) -> BaseException:
        """What a tool failed with, as the layers inside see it: what the model will read has tokens."""
        if 'tool_output' not in self.places:
            return error
        read = isinstance(error, (ToolError, Interrupt))
        return self.clean(error, Walk(self._hidden(None)) if read else None)

    def output(self, value: Any, seen: Any, found: Counter[str]) -> Any:
        """What a tool answered, as the layers outside see it. `seen` has been looked through already."""
        if 'tool_output' not in self.places or (self.vault is None and value is seen):
            return value
        return self.mask_of_tool(value, found) if self.vault is None else self.restored(value)

    def failure(self, error: BaseException) -> BaseException:
        """What a tool failed with, as the layers outside see it."""
        if 'tool_output' not in self.places:
            return error
        read = self.vault is not None and isinstance(error, (ToolError, Interrupt))
        return self.clean(error, Walk(self.restored) if read else None)

    def mask_of_tool(self, value: Any, found: Counter[str]) -> Any:
        return Walk(lambda text: self._masker.masked(text, found))(value)


class HidingTool(Tool):
    """The same tool; only what it is given and what it gives is changed, next to the tool itself."""

    __slots__ = ('_found', '_inner', '_redacting', 'gave')

    def __init__(self, inner: Tool, redacting: Redacting, found: Counter[str]) -> None:
        for name in Tool.__slots__:
            setattr(self, name, getattr(inner, name))
        self._inner, self._redacting, self._found = inner, redacting, found
        self.gave: Any = None

    async def execute(self, value: Any, ctx: ToolContext) -> Any:
        redacting, failure, output = self._redacting, None, None
        try:
            output = await self._inner.execute(redacting.tool_given(value), ctx)
        except (Exception, ControlFlow) as error:
            failure = redacting.hidden_failure(error)
        if failure is not None:
            raise failure
        try:
            self.gave = redacting.hidden_output(output, self._found)
        except Exception as error:
            raise refusal(error, redacting.name) from None
        return self.gave


def is_json(params: ModelHookParams) -> bool:
    """Whether the answer is asked for as JSON."""
    return params.request.output is not None and params.request.output.format == 'json'


def refusal(error: Exception, by: Any) -> Rejected:
    """What cannot be looked through is not passed on. Says why, and nothing of what is in it."""
    why = str(error) if isinstance(error, CannotLook) else f'{type(error).__name__} while looking through it'
    return Rejected(f'it cannot be known what is in it: {why}', by=by, status='FAILED_PRECONDITION')
