"""Records of acts that must not be done twice: what is kept of each, and what an error tells of its outcome."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Literal, get_type_hints

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUndefinedAnnotation

from lamella.core.tools import Tool
from lamella.types import ConfigError, Data, LamellaError, MediaPart, ToolError, ToolResponse

State = Literal['running', 'done', 'failed', 'unknown']
MAX_WHY = 500


class Act(Data, frozen=True):
    """What is known of one act. `at` is the wall clock of the process that wrote it, `by` the run that did it; `output` the
    result of one that is done, `why` what is to be said of one that failed, is unknown, or whose result was not kept."""

    state: State
    at: float
    by: str
    output: Any = None
    why: str = ''

    def encoded(self) -> bytes:
        """Raises TypeError for an output that is no JSON value (or a medium)."""
        fields = {'state': self.state, 'at': self.at, 'by': self.by, 'output': _plain(self.output), 'why': self.why}
        return json.dumps(fields, default=_unfit, separators=(',', ':')).encode()

    @classmethod
    def decoded(cls, data: bytes) -> Act:
        """Bytes that no `encoded` wrote are an act of which nothing is known."""
        try:
            fields = json.loads(data)
            return cls(fields['state'], fields['at'], fields['by'], _rich(fields['output']), fields['why'])
        except (ValueError, KeyError, TypeError) as error:
            return cls('unknown', 0.0, '', why=f'its record cannot be read ({type(error).__name__})')


def _plain(output: Any) -> Any:
    if not isinstance(output, MediaPart):
        return {'json': output}
    data = base64.b64encode(output.data).decode() if output.data is not None else None
    return {'media': [output.url, data, output.content_type, output.name, output.metadata]}


def _rich(output: dict[str, Any]) -> Any:
    if 'media' not in output:
        return output['json']
    url, data, *rest = output['media']
    return MediaPart(url, base64.b64decode(data) if data is not None else None, *rest)


def _unfit(value: Any) -> Any:
    raise TypeError(f'its result has a {type(value).__name__} in it, which is not JSON')


def finished_act(response: ToolResponse, at: float, by: str, max_bytes: int) -> tuple[Act, bytes]:
    """The record of an act that came to its end. A result that cannot be kept is replaced by the reason."""
    if response.is_error:
        act = Act('failed', at, by, why=str(response.output)[:MAX_WHY])
        return act, act.encoded()
    try:
        act = Act('done', at, by, response.output)
        data = act.encoded()
        why = (
            f'its result of {len(data)} bytes is longer than max_result_bytes={max_bytes}'
            if len(data) > max_bytes
            else ''
        )
    except (TypeError, ValueError, RecursionError) as error:
        act, data, why = Act('done', at, by), b'', str(error)[:MAX_WHY]
    if why:
        act = Act('done', at, by, why=why)
        data = act.encoded()
    return act, data


def broken_act(error: BaseException, at: float, by: str) -> Act:
    """The record of an act that ended with an error: failed, when the tool itself says so; unknown, when it was cut off."""
    if not _is_failure(error):
        return Act('unknown', at, by, why=f'it was cut off ({type(error).__name__})')
    why = str(error)[:MAX_WHY] if isinstance(error, ToolError) else f'it raised {type(error).__name__}'
    return Act('failed', at, by, why=why)


def _is_failure(error: BaseException) -> bool:
    if not isinstance(error, Exception) or isinstance(error, (TimeoutError, ConfigError)):
        return False
    if isinstance(error, LamellaError):
        return error.status not in ('DEADLINE_EXCEEDED', 'CANCELLED') and error.details.get('outcome') != 'unknown'
    return True


def digest(*parts: Any) -> str:
    """SHA-256 of JSON values; the order of keys does not matter, 1 and 1.0 are the same, and nothing else looks alike.

    Raises ConfigError for what is no JSON value or nested too deeply to be read.
    """
    try:
        said = repr(_ordered(parts))
    except (RecursionError, TypeError) as error:
        raise ConfigError(f'the input cannot be compared: {type(error).__name__}: {error}') from error
    return sha256(said.encode('utf-8', 'backslashreplace')).hexdigest()


def _ordered(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, (list, tuple)):
        return [_ordered(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _ordered(value[key]) for key in sorted(value)}
    raise TypeError(f'{type(value).__name__} is not JSON')


def check_recordable(tool: Tool) -> None:
    """Raises ConfigError, before the tool runs, when its declared result can never be kept."""
    try:
        problem = _problem(tool.run)
    except TypeError:  # a callable that cannot be hashed
        return
    if problem:
        raise ConfigError(
            f'tool {tool.name!r} is declared to return {problem}, which is not JSON: its result could not be kept'
        )


@functools.lru_cache(maxsize=512)
def _problem(run: Callable[..., Any]) -> str:
    try:
        hint = get_type_hints(run).get('return', Any)
    except (NameError, TypeError, AttributeError):
        return ''
    try:
        TypeAdapter(hint).json_schema(mode='serialization')
    except (PydanticInvalidForJsonSchema, PydanticSchemaGenerationError):
        return getattr(hint, '__name__', str(hint))
    except PydanticUndefinedAnnotation:
        return ''
    return ''
