"""`Sandbox`: tools run in a process of their own, behind walls and within limits."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Annotated, Any, Literal, TypedDict, Unpack

from pydantic import BaseModel, BeforeValidator, Field

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware, NextRun, NextTool
from lamella.core.order import Order
from lamella.core.params import RunHookParams, ToolHookParams
from lamella.core.timeouts import Cutoff
from lamella.core.tools import Tool
from lamella.middleware._fields import listed
from lamella.middleware._sandbox_home import own_directory
from lamella.middleware._sandbox_plan import (
    ALWAYS,
    BACKENDS,
    WALLS,
    Backend,
    Limits,
    Room,
    Wall,
    environment_of,
    has_private_root,
    plan_of,
    task_of,
)
from lamella.middleware._sandbox_run import Ended, run
from lamella.middleware._sandbox_walls import Found, found, known_to_work
from lamella.middleware._threads import in_thread
from lamella.middleware._tool_names import ToolNamesOrAll, ToolSet
from lamella.types import (
    STATUSES,
    ConfigError,
    GenerateResponse,
    LamellaError,
    Rejected,
    ToolError,
    ToolResponse,
    did_you_mean,
)

Ctx = GenerateMiddlewareContext
OnError = Literal['tell', 'raise']
Seconds = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Number = Annotated[int, Field(strict=True, ge=1)]


def _walls(value: Any) -> tuple[Any, ...]:
    given = listed(value, 'walls', "'network'")
    wrong = [f'unknown wall {item!r}{did_you_mean(str(item), WALLS)}' for item in given if item not in WALLS]
    if wrong:
        raise ValueError('; '.join(wrong))
    return tuple(sorted(set(given)))


def _places(value: Any) -> tuple[Any, ...]:
    given = tuple(os.fspath(item) for item in listed(value, 'paths', "'data'"))
    missing = [item for item in given if not os.path.exists(item)]
    if missing:
        raise ValueError(f'{missing[0]!r} does not exist')
    if any(os.path.realpath(item) == '/' for item in given):
        raise ValueError("'/' is everything: leave the wall 'filesystem' out instead")
    return tuple(os.path.abspath(item) for item in given)


Places = Annotated[tuple[str, ...], BeforeValidator(_places)]


class SandboxConfig(BaseModel, frozen=True, extra='forbid'):
    """The settings of `Sandbox`."""

    tools: Annotated[
        ToolNamesOrAll, Field(description='The tools that run in the sandbox, * for any characters; None for all.')
    ] = None
    timeout_s: Annotated[Seconds, Field(description='A call that takes longer is ended, with all its processes.')] = (
        30.0
    )
    max_cpu_s: Annotated[Number, Field(description='Seconds of processor time of each process.')] = 10
    max_memory_mb: Annotated[
        Number, Field(ge=64, description='Memory of one process, and of all of them together.')
    ] = 512
    max_processes: Annotated[Number, Field(description='Processes and threads at once, the tool itself included.')] = 16
    max_file_mb: Annotated[Number, Field(description='The largest file, and all files in /tmp together.')] = 64
    max_output_bytes: Annotated[Number, Field(description='The longest answer, and the most that may be printed.')] = (
        1_000_000
    )
    walls: Annotated[
        tuple[Wall, ...],
        BeforeValidator(_walls),
        Field(description='What the tool is kept from; it does not run when one of them cannot be put up.'),
    ] = WALLS
    backend: Annotated[
        Literal['auto', 'namespaces', 'bubblewrap', 'landlock'], Field(description='What puts up the walls.')
    ] = 'auto'
    readable: Annotated[Places, Field(description='More files and directories that the tool may read.')] = ()
    writable: Annotated[Places, Field(description='Files and directories that the tool may change.')] = ()
    environment: Annotated[
        Mapping[str, str], Field(description='Environment variables to give; none of the app are given.')
    ] = {}
    on_error: Annotated[
        OnError, Field(description='What an exception of the tool is: told to the model, or raised.')
    ] = 'tell'


class SandboxOptions(TypedDict, total=False):
    """The keywords of `Sandbox`."""

    tools: Sequence[str] | None
    timeout_s: float
    max_cpu_s: int
    max_memory_mb: int
    max_processes: int
    max_file_mb: int
    max_output_bytes: int
    walls: Sequence[Wall]
    backend: Literal['auto', 'namespaces', 'bubblewrap', 'landlock']
    readable: Sequence[str | os.PathLike[str]]
    writable: Sequence[str | os.PathLike[str]]
    environment: Mapping[str, str]
    on_error: OnError


class Sandbox(BaseMiddleware[SandboxConfig]):
    """Runs tools in a fresh process each, on POSIX systems, with limits that it cannot raise and nothing of the app's
    environment; and, on Linux, behind walls:

    - `filesystem`: a private root with the system's programs, this Python, its packages and the tool's own package, all
      read-only, and a small /tmp that goes with the call.
    - `network`: none, not even this machine.
    - `processes`: it sees and reaches no other process, and all that it started ends with it.
    - `system_calls`: those that tools have no business with are refused.

    All four are asked for by default. A tool does not run when one of them cannot be put up here: Rejected says why, and
    what to do. `walls=[]` is limits alone, which is no isolation.

    The tool's function must be importable (at the top of a module) and take no `ctx`; anything else is a ConfigError at its
    first call. Time, memory, processor time, output, a crash: each is an error that the model reads. Cancelling the run ends
    the tool's processes first. Events: `sandbox.started(tool, walls, by)`, `sandbox.ended(tool, how, why, printed)`; and
    `metadata['sandbox']` of the tool's response, `{'walls', 'by'}`, and of the run's, with `calls`.
    """

    order = Order(wraps={'pii_redaction': 'it hands the tool itself to another process, and that layer wraps the tool'})

    def __init__(self, config: SandboxConfig | None = None, **options: Unpack[SandboxOptions]) -> None:
        super().__init__(config, **options)
        if os.name != 'posix':
            raise ConfigError(f'Sandbox needs the process limits of a POSIX system, and this is {os.name}')
        given = self.config
        mb = 1 << 20
        limits = Limits(given.max_cpu_s, given.max_memory_mb * mb, given.max_processes, given.max_file_mb * mb)
        self._room = Room(given.walls, limits, given.readable, given.writable, given.environment)
        self._tools = ToolSet(given.tools)
        self._well_spelled: tuple[str, ...] = ()  # the tools that were looked through last
        self._backends: tuple[Backend, ...] = BACKENDS if given.backend == 'auto' else (given.backend,)

    def walls(self) -> tuple[str, ...]:
        """What a tool is kept behind on this machine. Raises Rejected when that is less than was asked for.

        What has not worked yet is tried out, which takes some 50 ms.
        """
        self._checked(found(self.config.walls, self._backends))
        return tuple(sorted((*ALWAYS, *self.config.walls)))

    async def wrap_run(self, params: RunHookParams, ctx: Ctx, next_fn: NextRun) -> GenerateResponse:
        self._check_spelling(tuple([tool.name for tool in params.request.tools]))
        response = await next_fn(params, ctx)
        notes = ctx.state(self).get('notes')
        if notes is None:
            return response
        return response.replace(metadata={**response.metadata, 'sandbox': notes})

    def _check_spelling(self, present: tuple[str, ...]) -> None:
        if present == self._well_spelled:
            return
        if wrong := self._tools.misspelled(present):
            told = [f'there is no tool {name!r}: did you mean {near!r}?' for name, near in wrong]
            raise ConfigError(f'Sandbox.tools: {"; ".join(told)}')
        self._well_spelled = present

    async def wrap_tool(self, params: ToolHookParams, ctx: Ctx, next_fn: NextTool) -> ToolResponse:
        tool = params.tool
        if tool.name not in self._tools:
            return await next_fn(params, ctx)

        async def inside(checked: Any) -> Any:
            return await self._run(tool, checked, ctx)

        response = await next_fn(params.replace(tool=tool.with_run(inside)), ctx)
        notes = {key: value for key, value in ctx.state(self).get('notes', {}).items() if key != 'calls'}
        return response.replace(metadata={**(response.metadata or {}), 'sandbox': notes}) if notes else response

    async def _run(self, tool: Tool, checked: Any, ctx: Ctx) -> Any:
        task = task_of(tool, checked)
        by = await self._backend()
        self._note(ctx, by, tool)
        async with Cutoff(ctx.clock, self.config.timeout_s, lambda: self._late(tool, ctx)), self._home(by) as home:
            plan = plan_of(self._room, by, tool, home)
            plan.own = '' if has_private_root(self.config.walls, by) else home
            try:
                ended = await run(plan, task, environment_of(self._room, home), self.config.max_output_bytes)
            except OSError as error:
                raise Rejected(f'no process can be started: {error}', by=self, status='UNAVAILABLE') from error
        ctx.emit('sandbox.ended', tool=tool.name, how=ended.how, why=ended.why, printed=ended.printed)
        if ended.how == 'done':
            return ended.value
        raise self._error(tool, ended)

    async def _backend(self) -> Backend | None:
        known = known_to_work(self.config.walls, self._backends)
        if known is None:
            known = await in_thread(lambda stop: found(self.config.walls, self._backends))
        return self._checked(known).backend

    def _checked(self, result: Found) -> Found:
        if result.problem is None:
            return result
        raise Rejected(
            f'the walls {", ".join(self.config.walls)} cannot be put up here, so the tool does not run. {result.problem}. '
            'Allow user namespaces, install bubblewrap, or ask for fewer with walls=[…]',
            by=self,
            status='FAILED_PRECONDITION',
        )

    def _note(self, ctx: Ctx, by: Backend | None, tool: Tool) -> None:
        walls = sorted((*ALWAYS, *self.config.walls))
        notes = ctx.state(self).setdefault('notes', {'walls': walls, 'by': by, 'calls': 0})
        notes['calls'] += 1
        ctx.emit('sandbox.started', tool=tool.name, walls=walls, by=by)

    def _late(self, tool: Tool, ctx: Ctx) -> ToolError:
        ctx.emit('sandbox.ended', tool=tool.name, how='timeout', why='', printed='')
        message = f'{tool.name} took longer than timeout_s={self.config.timeout_s:g} and was ended (sandbox)'
        return ToolError(message, details=self._details('timeout'))

    def _home(self, by: Backend | None) -> AbstractAsyncContextManager[str]:
        return nullcontext('/tmp') if has_private_root(self.config.walls, by) else own_directory()

    def _error(self, tool: Tool, ended: Ended) -> LamellaError:
        if ended.how == 'walls':
            return Rejected(f'the walls could not be put up: {ended.why}', by=self, status='FAILED_PRECONDITION')
        if ended.how == 'error' and ended.said['kind'] != 'tool':
            return self._raised(tool, ended.said)
        details = {} if ended.how == 'error' else self._details(ended.how)
        return ToolError(_words(tool.name, ended, self.config), details=details)

    def _details(self, how: str) -> dict[str, Any]:
        """What was ended or has crashed may have done its work, or not."""
        return {'by': self.name, 'how': how, 'outcome': 'unknown'}

    def _raised(self, tool: Tool, said: Mapping[str, Any]) -> LamellaError:
        hint = ''
        if said['kind'] == 'import':
            hint = ". The sandbox shows installed packages and the tool's own package; readable=[…] shows more"
        message = f'{tool.name} raised {said["type"]}: {said["message"]}{hint}'
        if self.config.on_error == 'tell':
            return ToolError(message)
        status: Any = said['status'] if said['status'] in STATUSES else 'UNKNOWN'
        return LamellaError(status, message)


def _words(tool: str, ended: Ended, limits: SandboxConfig) -> str:
    """What the model reads."""
    return {
        'error': f'{ended.said.get("message", "")}',
        'memory': f'{tool} was ended: it used more memory than max_memory_mb={limits.max_memory_mb}',
        'cpu': f'{tool} was ended: it used more processor time than max_cpu_s={limits.max_cpu_s}',
        'processes': f'{tool} was ended: it had more processes than max_processes={limits.max_processes}',
        'output': f'{tool} was ended: it wrote more than max_output_bytes={limits.max_output_bytes:,}',
        'killed': f'{tool} was killed, most likely for its use of memory or processor time',
        'crash': f'{tool} crashed: {ended.why}',
        'answer': f'{tool} gave an answer that cannot be read',
    }[ended.how] + ('' if ended.how == 'error' else ' (sandbox)')
