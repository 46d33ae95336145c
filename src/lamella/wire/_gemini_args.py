"""Function calls whose arguments arrive in pieces.

Vertex AI sends them when `toolConfig.functionCallingConfig.streamFunctionCallArguments` is set: a first part with the name
and `willContinue`, parts with `partialArgs` (each a JSON path, RFC 9535, and a piece of the value there), and a last part
without `willContinue`, often empty (docs.cloud.google.com/vertex-ai/generative-ai/docs/multimodal/function-calling).
"""

from __future__ import annotations

import re
from typing import Any

from lamella.types import JSON, ToolRequestPart
from lamella.wire._gemini_json import Malformed, at, each, extras_of, fields, marked, shown, text_of, without
from lamella.wire._gemini_parts import decode_part

MAX_INDEX = 10_000

_PATH = re.compile(r"""\$(?:\.[^.\[\]]+|\[\d+\]|\['[^']*'\]|\["[^"]*"\])+""")
_STEP = re.compile(r"""\.([^.\[\]]+)|\[(\d+)\]|\['([^']*)'\]|\["([^"]*)"\]""")
_VALUES = ('stringValue', 'numberValue', 'boolValue')


def is_piece(call: JSON) -> bool:
    """Whether this `functionCall` is a piece of one: it says that more follows, or carries part of the arguments."""
    return bool(call.get('willContinue')) or 'partialArgs' in call


class CallInPieces:
    """One function call that is not yet complete."""

    def __init__(self, part: JSON) -> None:
        """`part` is the first piece: it carries the name, and the thought signature if there is one."""
        self._args: JSON = {}
        self._open: set[str] = set()
        self._first = part
        self.add(at('functionCall', fields, part['functionCall']))

    def add(self, call: JSON) -> None:
        each('functionCall.partialArgs', self._piece, call.get('partialArgs'))

    def finished(self) -> ToolRequestPart:
        part = decode_part(self._first)
        if not isinstance(part, ToolRequestPart):
            raise Malformed('is missing in the first piece of a function call', 'functionCall')
        rest = extras_of(part.metadata)
        inner = without(rest.get('functionCall', {}), 'willContinue', 'partialArgs')
        rest = {**without(rest, 'functionCall'), **({'functionCall': inner} if inner else {})}
        given = part.tool_request.input or {}
        return ToolRequestPart(part.tool_request.replace(input={**given, **self._args}), marked(rest))

    def _piece(self, value: Any) -> None:
        piece = fields(value)
        path = text_of(piece, 'jsonPath')
        if not _PATH.fullmatch(path):
            raise Malformed(f'is {shown(path)}: a path looks like $.items[0].name', 'jsonPath')
        steps = [
            int(number) if number else name or quoted or doubly for name, number, quoted, doubly in _STEP.findall(path)
        ]
        found = next((piece[name] for name in _VALUES if name in piece), None)
        _put(self._args, steps, found, more=path in self._open)
        (self._open.add if piece.get('willContinue') else self._open.discard)(path)


def _put(holder: Any, steps: list[Any], value: Any, *, more: bool) -> None:
    """Set the value at the path, making what is missing on the way; `more` appends to the text that is there."""
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        _check(holder, step)
        before = holder[step] if isinstance(holder, list) else holder.get(step)
        if following is None:
            joined = more and isinstance(before, str) and isinstance(value, str)
            holder[step] = before + value if joined else value
        elif not isinstance(before, (dict, list)):
            holder[step] = [] if isinstance(following, int) else {}
        holder = holder[step]


def _check(holder: Any, step: str | int) -> None:
    if isinstance(holder, list) != isinstance(step, int):
        raise Malformed(f'has the step {step!r} where a {type(holder).__name__} is', 'jsonPath')
    if isinstance(step, int):
        if step > MAX_INDEX:
            raise Malformed(f'has the index {step}: {MAX_INDEX} is the largest', 'jsonPath')
        holder.extend([None] * (step + 1 - len(holder)))
