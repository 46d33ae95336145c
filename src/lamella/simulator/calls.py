"""Which tools a prompt asks for, and with what input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lamella.simulator.draw import Draw
from lamella.simulator.fill import fill
from lamella.simulator.material import Material, last_user_at, named_together
from lamella.simulator.words import content_words, name_words, stem, stems, word_set, words
from lamella.types import Data, LamellaError, ModelRequest, ToolDefinition, did_you_mean

MAX_CALLS = 8
_VERBS = word_set('get set fetch do make run call tool function api use lookup a the by to of for in and my')
_NAMED, _COVERED, _SIMILAR = 3, 2, 1


class Call(Data, frozen=True):
    """A tool and its input."""

    name: str
    input: Any = None


def calls_for(request: ModelRequest, material: Material) -> list[Call]:
    """The calls to make now; none when the prompt asks for no tool, or all it asks for were made.

    `required` and a named tool are obeyed always, as the vendors do. Raises INVALID_ARGUMENT when the named tool is not
    offered or a tool's schema cannot be filled.
    """
    choice = request.tool_choice.mode if request.tool_choice is not None else 'auto'
    if choice == 'none' or not request.tools:
        return []
    if choice == 'tool':
        return [_call(_chosen(request), material)]
    made = _made_since_the_prompt(request)
    wanted = [call for call in _wanted(request.tools, material) if not any(call.name == name for name in made)]
    if not wanted and choice == 'required':
        wanted = [_call(_most_alike(request.tools, material), material)]
    return wanted[:1] if request.config.parallel_tool_calls is False else wanted[:MAX_CALLS]


def _chosen(request: ModelRequest) -> ToolDefinition:
    name = request.tool_choice.name if request.tool_choice is not None else None
    for tool in request.tools:
        if tool.name == name:
            return tool
    known = [tool.name for tool in request.tools]
    raise LamellaError(
        'INVALID_ARGUMENT', f'tool_choice names {name!r}, which is not in tools{did_you_mean(str(name), known)}'
    )


def _made_since_the_prompt(request: ModelRequest) -> list[str]:
    since = request.messages[last_user_at(request.messages) + 1 :]
    return [part.tool_request.name for message in since for part in message.tool_requests]


def _wanted(tools: Sequence[ToolDefinition], material: Material) -> list[Call]:
    """All tools that the prompt names; else all whose names it covers; else the one it resembles most."""
    ranks = [(_rank(tool, material), tool) for tool in tools]
    best = max((rank for rank, _ in ranks), default=0)
    if best == _SIMILAR:
        return _fanned(_most_alike(tools, material), material)
    return [call for rank, tool in ranks if rank == best and best for call in _fanned(tool, material)]


def _rank(tool: ToolDefinition, material: Material) -> int:
    if tool.name.lower() in material.text.lower():
        return _NAMED
    spoken = stems(words(material.text))
    needed = stems([word for word in name_words(tool.name) if word not in _VERBS])
    if needed and needed <= spoken:
        return _COVERED
    return _SIMILAR if _likeness(tool, material) >= 2 else 0


def _likeness(tool: ToolDefinition, material: Material) -> int:
    """How many words of its name and description the prompt has."""
    described = stems([*name_words(tool.name), *content_words(tool.description)])
    return len({stem(word) for word in content_words(material.text)} & described)


def _most_alike(tools: Sequence[ToolDefinition], material: Material) -> ToolDefinition:
    return max(tools, key=lambda tool: (_rank(tool, material), _likeness(tool, material)))


def _call(tool: ToolDefinition, material: Material) -> Call:
    return Call(tool.name, fill(tool.input_schema or {'type': 'object'}, Draw(material, terse=True)))


def _fanned(tool: ToolDefinition, material: Material) -> list[Call]:
    """One call, or one for each name of an enumeration (`in Paris and Rome`) when the tool takes one name at a time."""
    call = _call(tool, material)
    together = named_together(material.text, material.names)
    field = _only_text(tool)
    if field is None or call.input.get(field) not in together:
        return [call]
    return [call.replace(input={**call.input, field: name}) for name in together]


def _only_text(tool: ToolDefinition) -> str | None:
    """The name of the one required field when that is plain text."""
    required = tool.input_schema.get('required') or []
    if len(required) != 1:
        return None
    schema = (tool.input_schema.get('properties') or {}).get(required[0])
    return required[0] if isinstance(schema, dict) and schema.keys() <= {'type', 'description', 'title'} else None
