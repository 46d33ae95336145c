"""Faults: what goes wrong, and for which requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from lamella.simulator.checks import Check, one_of, seconds, share, text, unknown_keys, whole, wrong_values
from lamella.types import ConfigError, Data, set_fields

FaultKind = Literal['status', 'stall_first', 'stall_middle', 'cut', 'malformed', 'reset', 'refuse', 'slow']
KINDS: tuple[str, ...] = get_args(FaultKind)

CHECKS: dict[str, Check] = {
    'kind': one_of(KINDS),
    'model': text,
    'status': whole(400, 599),
    'message': text,
    'retry_after_s': seconds,
    'for_s': seconds,
    'after_parts': whole(0),
    'per_token_s': seconds,
    'times': whole(1),
    'after': whole(0),
    'every': whole(1),
    'from_s': seconds,
    'until_s': seconds,
    'probability': share,
}
_WHEN = ('kind', 'model', 'times', 'after', 'every', 'from_s', 'until_s', 'probability')
_USES: dict[str, tuple[str, ...]] = {
    'status': (*_WHEN, 'status', 'message', 'retry_after_s'),
    'stall_first': (*_WHEN, 'for_s'),
    'stall_middle': (*_WHEN, 'for_s', 'after_parts'),
    'cut': (*_WHEN, 'after_parts'),
    'malformed': (*_WHEN, 'after_parts'),
    'reset': (*_WHEN, 'after_parts'),
    'refuse': ('kind', 'model', 'after', 'from_s', 'until_s', 'for_s'),
    'slow': (*_WHEN, 'per_token_s'),
}
_NEEDS = {'status': 'status', 'slow': 'per_token_s'}


class _Kind(Data, frozen=True):
    kind: FaultKind


class Fault(_Kind, frozen=True, kw_only=True):
    """One thing that goes wrong.

    | kind | what a client meets | its own fields |
    |---|---|---|
    | `status` | an HTTP error with the vendor's error body | `status`, `message`, `retry_after_s` |
    | `stall_first` | nothing at all, not even headers | `for_s` |
    | `stall_middle` | the answer stops after some parts, and goes on | `after_parts`, `for_s` |
    | `cut` | the connection is closed in the middle of the answer, without its end | `after_parts` |
    | `malformed` | a part, or the body, breaks off in the middle of its JSON | `after_parts` |
    | `reset` | the connection is reset (TCP RST), at once or after some parts | `after_parts` |
    | `slow` | every token takes its time | `per_token_s` |
    | `refuse` | the port is closed (for every model: a port has no models) | `for_s` |

    Without `for_s` a stall lasts until `Simulator.release()` or until the client leaves, and a closed port stays closed
    until `Simulator.reopen()`. `after_parts` counts the parts of a stream (one when left out; `reset` acts before the
    first byte when left out); an answer that is no stream breaks in the middle of its body.

    Which requests: those of a `model` that fits (`fnmatch`), after its first `after` requests, of these every `every`th,
    of these the first `times`, between `from_s` and `until_s` after the start, each with the `probability`. All that is
    given must hold. Requests are counted for each model's name. Of several faults that apply, the first acts; `slow` acts
    beside the others. A `refuse` closes the port when `from_s` is over, or right after the model's request number
    `after`; without both, at the start.

    Raises ConfigError with every problem in it.
    """

    model: str = '*'
    status: int | None = None
    message: str | None = None
    retry_after_s: float | None = None
    for_s: float | None = None
    after_parts: int | None = None
    per_token_s: float | None = None
    times: int | None = None
    after: int = 0
    every: int | None = None
    from_s: float | None = None
    until_s: float | None = None
    probability: float | None = None

    def __post_init__(self) -> None:
        if problems := fault_problems({'kind': self.kind, **set_fields(self)}, f'Fault({self.kind!r})'):
            raise ConfigError('; '.join(problems))


def fault_problems(table: Mapping[str, Any], where: str) -> list[str]:
    """Everything that is wrong with the fields of a fault."""
    problems = unknown_keys(where, table, tuple(CHECKS)) + wrong_values(where, table, CHECKS)
    kind = table.get('kind')
    if kind not in KINDS:
        return (
            problems
            if 'kind' in table
            else [f'{where}: kind is missing; use one of {", ".join(map(repr, KINDS))}', *problems]
        )
    problems += [
        f'{where}.{key} has no meaning for kind {kind!r}: take it out (kind {kind!r} knows {", ".join(_USES[kind][1:])})'
        for key in table
        if key in CHECKS and key not in _USES[kind]
    ]
    needed = _NEEDS.get(str(kind))
    if needed is not None and table.get(needed) is None:
        problems.append(f'{where}: kind {kind!r} needs {needed}')
    return problems + _wrong_together(table, where)


def _wrong_together(table: Mapping[str, Any], where: str) -> list[str]:
    problems = []
    start, end = table.get('from_s'), table.get('until_s')
    if isinstance(start, (int, float)) and isinstance(end, (int, float)) and end <= start:
        problems.append(f'{where}.until_s is {end!r}: it must be later than from_s ({start!r})')
    if table.get('kind') != 'refuse':
        return problems
    if table.get('after') and (start is not None or end is not None):
        problems.append(f'{where}: use either after (with for_s) or from_s and until_s, not both')
    if end is not None and table.get('for_s') is not None:
        problems.append(f'{where}: use either for_s or until_s, not both')
    return problems
