"""Layers around a tool of the ADK, in the place where the tool itself is run.

A plugin's callbacks stand before and after a tool and not around it, and one that answers in the tool's place keeps all other
plugins from being asked. So the layers go around `tool.run_async`: inside of every callback and of the ADK's own confirmation,
and on the ways that go past the model's request (a call that is resumed after a confirmation, a tool as a node of a workflow).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

from google.adk.tools.base_tool import BaseTool

from lamella.core.tools import Tool
from lamella.types import ToolRequest, ToolResponse

Run = Callable[..., Awaitable[Any]]
_MARK = '_lamella_run'


def install(tool: Any, kind: type[Any]) -> None:
    """Let this tool be run inside the layers of every plugin of that kind that its call belongs to.

    Once for each tool: which plugins, a call's own context says, so that apps may share a tool.
    """
    if vars(tool).get(_MARK) is not None:
        return
    plain: Run = tool.run_async

    @wraps(plain)
    async def run_async(*, args: dict[str, Any], tool_context: Any) -> Any:
        plugins = [plugin for plugin in plugins_of(tool_context) if isinstance(plugin, kind)]
        return await _inside(plugins, plain, tool, args, tool_context)

    setattr(tool, _MARK, plain)
    tool.run_async = run_async


async def _inside(plugins: Sequence[Any], run: Run, tool: Any, args: dict[str, Any], tool_context: Any) -> Any:
    """The first plugin's layers are outermost."""
    if not plugins:
        return await run(args=args, tool_context=tool_context)

    async def rest(*, args: dict[str, Any], tool_context: Any) -> Any:
        return await _inside(plugins[1:], run, tool, args, tool_context)

    return await plugins[0].around_tool(rest, tool, args, tool_context)


def plugins_of(context: Any) -> Iterator[Any]:
    """The plugins of the run that a callback's context belongs to."""
    yield from context.get_invocation_context().plugin_manager.plugins


class ToolCall(Tool):
    """One execution of an ADK tool, as layers see it: its name, description and schema. What it gives may be no JSON."""

    __slots__ = ('_given', '_run', '_tool_context')

    def __init__(self, tool: BaseTool, run: Run, tool_context: Any) -> None:
        super().__init__(tool.name, tool.description or '', _known_schema(tool), self._single_run)
        self._run, self._tool_context = run, tool_context
        self._given: list[tuple[ToolResponse, Any]] = []

    async def _single_run(self, value: Any) -> Any:
        return await self._run(args=value, tool_context=self._tool_context)

    async def answer(self, request: ToolRequest) -> ToolResponse:
        """Run it. Raises what the tool raises."""
        given = await self._single_run(request.input)
        self._given.append((ToolResponse(request.name, given, request.ref), given))
        return self._given[-1][0]

    def said(self, response: ToolResponse) -> Any:
        """What the ADK is told: what the tool gave, unless a layer changed it."""
        if response.is_error:
            return {'error': response.output}
        return next((given for made, given in self._given if response is made), response.output)


_SCHEMAS: WeakKeyDictionary[BaseTool, dict[str, Any]] = WeakKeyDictionary()


def _known_schema(tool: BaseTool) -> dict[str, Any]:
    try:
        known = _SCHEMAS.get(tool)
    except TypeError:  # a tool that compares by its values is none to remember
        return _schema(tool)
    if known is None:
        known = _SCHEMAS[tool] = _schema(tool)
    return known


def _schema(tool: BaseTool) -> dict[str, Any]:
    try:
        declaration = tool._get_declaration()
    except Exception:  # a tool that cannot be described can be run all the same
        declaration = None
    given: Any = None if declaration is None else declaration.parameters_json_schema
    if given is None and declaration is not None and declaration.parameters is not None:
        given = declaration.parameters.json_schema.model_dump(mode='json', exclude_none=True)
    return dict(given) if isinstance(given, dict) else {'type': 'object', 'properties': {}}
