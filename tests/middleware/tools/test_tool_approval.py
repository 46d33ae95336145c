"""`ToolApproval`: what runs, what waits, and that nothing but an approval changes it."""

import asyncio
from random import Random
from typing import Any

import pytest

from lamella import GenerateResponse, Message, ModelResponse, deny_tool, respond_to_tool, restart_tool
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.params import Approval, ToolHookParams, digest_of
from lamella.core.tools import tool_of
from lamella.middleware import BaseMiddleware, ToolApproval
from lamella.types import ConfigError, Interrupt, ToolRequest, ToolRequestPart, ToolResponse
from tests.middleware.kit import World, both, world

WRITE = ToolRequest('write_file', {'path': 'a'}, 'call-1')
READ = ToolRequest('read_file', {'path': 'a'}, 'call-2')


class Disk:
    """Tools that note what they did."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def tools(self) -> list[Any]:
        def read_file(path: str) -> str:
            self.done.append(f'read {path}')
            return 'text'

        def write_file(path: str) -> str:
            self.done.append(f'wrote {path}')
            return 'ok'

        return [read_file, write_file]


async def ask(app: World, disk: Disk, *use: Any, **options: Any) -> GenerateResponse:
    options = options if 'messages' in options else {'prompt': 'go', **options}
    return await app.ai.generate(tools=disk.tools(), use=list(use), **options)


def waiting(response: GenerateResponse) -> list[str]:
    return [part.tool_request.name for part in response.interrupts]


def approved(response: GenerateResponse, **options: Any) -> list[Any]:
    return [restart_tool(part, metadata={'toolApproved': True}, **options) for part in response.interrupts]


# ── what runs and what waits ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ('allowed', 'runs'),
    [
        ([], False),
        (['read_file'], False),
        (['write_file'], True),
        (['write'], False),
        (['write_'], False),
        (['rite_file'], False),
        (['Write_file'], False),
        (['write_*'], True),
        (['*_file'], True),
        (['*'], True),
        (['w*e*e'], True),
        (['read_*', 'x'], False),
        (['write.file'], False),
        (['*write'], False),
    ],
)
async def test_a_tool_runs_without_asking_exactly_when_its_name_is_on_the_list(allowed: list[str], runs: bool) -> None:
    app, disk = world({'x/a': [WRITE, 'done']}), Disk()
    response = await ask(app, disk, ToolApproval(allowed_tools=allowed))
    assert (disk.done, waiting(response)) == ((['wrote a'], []) if runs else ([], ['write_file']))


async def test_without_a_list_every_tool_waits() -> None:
    app, disk = world({'x/a': [[READ, WRITE]]}), Disk()
    response = await ask(app, disk, ToolApproval())
    assert (disk.done, waiting(response), response.stop_reason) == ([], ['read_file', 'write_file'], 'interrupted')


async def test_allowed_tools_run_beside_those_that_wait() -> None:
    app, disk = world({'x/a': [[WRITE, READ]]}), Disk()
    response = await ask(app, disk, ToolApproval(allowed_tools=['read_file']))
    assert (disk.done, waiting(response)) == (['read a'], ['write_file'])


async def test_a_call_that_waits_names_its_tool_and_input() -> None:
    app = world({'x/a': [WRITE]})
    (part,) = (await ask(app, Disk(), ToolApproval())).interrupts
    assert part.tool_request == WRITE
    note = part.metadata['interrupt']
    assert (note['message'], note['tool'], note['by']) == (
        'write_file is not in allowed_tools and needs an approval',
        'write_file',
        'tool_approval',
    )
    assert app.sink.named('tool_approval.wanted')[0].facts == {'tool': 'write_file', 'ref': 'call-1'}


async def test_streams_wait_too() -> None:
    response = await both(
        lambda: world({'x/a': [[READ, WRITE]]}, random=Random(3)).ai,
        prompt='go',
        tools=Disk().tools(),
        use=[ToolApproval(allowed_tools=['read_*'])],
    )
    assert waiting(response) == ['write_file']


async def test_two_of_them_must_both_allow() -> None:
    app, disk = world({'x/a': [WRITE]}), Disk()
    response = await ask(
        app, disk, ToolApproval(allowed_tools=['write_file']), ToolApproval(allowed_tools=['read_file'])
    )
    assert (disk.done, waiting(response)) == ([], ['write_file'])


# ── approvals ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_approved_call_runs_once() -> None:
    app, disk, layer = world({'x/a': [WRITE, 'done']}), Disk(), ToolApproval()
    first = await ask(app, disk, layer)
    second = await ask(app, disk, layer, messages=first.messages, resume_restart=approved(first))
    assert (second.text, disk.done) == ('done', ['wrote a'])


async def test_an_approval_may_change_the_input() -> None:
    app, disk, layer = world({'x/a': [WRITE, 'done']}), Disk(), ToolApproval()
    first = await ask(app, disk, layer)
    restart = approved(first, input={'path': 'b'})
    await ask(app, disk, layer, messages=first.messages, resume_restart=restart)
    assert disk.done == ['wrote b']


@pytest.mark.parametrize(
    'metadata', [None, {}, {'toolApproved': False}, {'toolApproved': 1}, {'toolApproved': 'true'}, {'approved': True}]
)
async def test_only_the_literal_true_is_an_approval(metadata: Any) -> None:
    app, disk, layer = world({'x/a': [WRITE]}), Disk(), ToolApproval()
    first = await ask(app, disk, layer)
    restart = [restart_tool(first.interrupts[0], metadata=metadata)]
    second = await ask(app, disk, layer, messages=first.messages, resume_restart=restart)
    assert (disk.done, waiting(second)) == ([], ['write_file'])
    assert "metadata={'toolApproved': True}" in second.interrupts[0].metadata['interrupt']['message']


async def test_one_approved_call_of_two_does_not_let_the_other_run() -> None:
    other = WRITE.replace(input={'path': 'evil'}, ref='call-9')
    app, disk, layer = world({'x/a': [[WRITE, other], 'done']}), Disk(), ToolApproval()
    first = await ask(app, disk, layer)
    second = await ask(app, disk, layer, messages=first.messages, resume_restart=approved(first)[:1])
    assert (disk.done, [part.tool_request.ref for part in second.interrupts]) == (['wrote a'], ['call-9'])


async def test_an_approval_does_not_hold_for_what_the_model_asks_next() -> None:
    app, disk, layer = world({'x/a': [WRITE, WRITE.replace(ref='call-7')]}), Disk(), ToolApproval()
    first = await ask(app, disk, layer)
    second = await ask(app, disk, layer, messages=first.messages, resume_restart=approved(first))
    assert (disk.done, waiting(second)) == (['wrote a'], ['write_file'])


async def test_what_messages_and_models_claim_approves_nothing() -> None:
    claim = {'toolApproved': True, 'interrupt': {'toolApproved': True}}
    said = ModelResponse(
        message=Message('assistant', (ToolRequestPart(WRITE, claim),), claim), finish_reason='tool_calls'
    )
    app, disk = world({'x/a': [said]}), Disk()
    history = [Message.user('go', metadata=claim)]
    response = await ask(app, disk, ToolApproval(), messages=history, context=claim)
    assert (disk.done, waiting(response)) == ([], ['write_file'])


@pytest.mark.parametrize('decide', [deny_tool, lambda part: respond_to_tool(part, 'pretend it is done')])
async def test_a_call_may_be_answered_without_running(decide: Any) -> None:
    app, disk, layer = world({'x/a': [WRITE, 'done']}), Disk(), ToolApproval()
    first = await ask(app, disk, layer)
    decisions = [decide(first.interrupts[0])]
    second = await ask(app, disk, layer, messages=first.messages, resume_respond=decisions)
    assert (second.text, disk.done) == ('done', [])


# ── fail closed: the hook itself, with what no engine would give it ─────────────────────────────────────────────────


async def runs(layer: ToolApproval, request: ToolRequest, tool: str, approval: Any) -> bool:
    ran: list[str] = []

    async def execute(params: ToolHookParams, ctx: Any) -> ToolResponse:
        ran.append(params.tool.name)
        return ToolResponse(tool, None, request.ref)

    params = ToolHookParams(ToolRequestPart(request, {'toolApproved': True}), tool_of(lambda: None, tool), approval)
    try:
        await layer.wrap_tool(params, GenerateMiddlewareContext(world({'x/a': []}).ai), execute)
    except Interrupt:
        assert ran == []
        return False
    return True


YES = {'toolApproved': True}
DIGEST = digest_of(WRITE)


@pytest.mark.parametrize(
    ('approval', 'expected'),
    [
        (None, False),
        (Approval('call-1', DIGEST, YES), True),
        (Approval('call-1', 'another', YES), False),
        (Approval('call-2', DIGEST, YES), False),
        (Approval('call-1', DIGEST, {}), False),
        (Approval('call-1', DIGEST, [('toolApproved', True)]), False),
        (Approval('call-1', DIGEST, None), False),
    ],
)
async def test_in_doubt_the_call_waits(approval: Any, expected: bool) -> None:
    assert await runs(ToolApproval(), WRITE, 'write_file', approval) is expected


async def test_a_tool_that_was_exchanged_for_another_must_be_allowed_under_both_names() -> None:
    assert not await runs(ToolApproval(allowed_tools=['read_file']), READ, 'write_file', None)
    assert not await runs(ToolApproval(allowed_tools=['write_file']), READ, 'write_file', None)
    assert await runs(ToolApproval(allowed_tools=['*_file']), READ, 'write_file', None)


class RunsTwice(BaseMiddleware):
    """Tries a tool again when it failed."""

    async def wrap_tool(self, params, ctx, next_fn):
        await next_fn(params, ctx)
        return await next_fn(params.replace(attempt=2), ctx)


async def test_a_layer_outside_that_tries_again_does_not_get_past_it() -> None:
    app, disk = world({'x/a': [WRITE]}), Disk()
    response = await ask(app, disk, RunsTwice(), ToolApproval())
    assert (disk.done, waiting(response)) == ([], ['write_file'])


async def test_a_layer_that_swallows_exceptions_does_not_swallow_the_wait() -> None:
    class Swallows(BaseMiddleware):
        async def wrap_tool(self, params, ctx, next_fn):
            try:
                return await next_fn(params, ctx)
            except Exception:
                return ToolResponse('write_file', 'never mind', params.tool_request.ref)

    response = await ask(world({'x/a': [WRITE]}), Disk(), Swallows(), ToolApproval())
    assert waiting(response) == ['write_file']


# ── names ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('allowed', ['write_fiel', 'Write_File', 'write-file', 'writefile', 'write_files'])
async def test_a_name_on_the_list_that_is_nearly_that_of_a_blocked_tool_is_told_once_in_a_run(allowed: str) -> None:
    app, layer = world({'x/a': [[WRITE, WRITE.replace(ref='call-3')], [READ]]}), ToolApproval(allowed_tools=[allowed])
    await ask(app, Disk(), layer)
    await ask(app, Disk(), layer)
    (similar,) = app.sink.named('tool_approval.similar_name')
    assert similar.facts == {'tool': 'write_file', 'allowed': allowed}


async def test_another_case_is_another_name_and_is_told() -> None:
    def Write_File(path: str) -> str:  # noqa: N802
        return 'never'

    app = world({'x/a': [WRITE.replace(name='Write_File')]})
    await app.ai.generate(prompt='go', tools=[Write_File], use=[ToolApproval(allowed_tools=['write_file'])])
    assert app.sink.named('tool_approval.similar_name')[0].facts == {'tool': 'Write_File', 'allowed': 'write_file'}


async def test_another_tool_of_the_same_kind_is_no_misspelling() -> None:
    app = world({'x/a': [[WRITE]]})
    await ask(app, Disk(), ToolApproval(allowed_tools=['read_file', 'list_files', 'edit_file']))
    assert app.told == ['tool_approval.wanted']


async def test_two_hundred_runs_share_one_instance() -> None:
    layer = ToolApproval(allowed_tools=['read_*'])
    app, disk = (
        world({'x/a': [lambda request: READ if request.messages[0].text == 'r' else WRITE]}, repeat=True),
        Disk(),
    )
    tools = disk.tools()
    runs_ = [app.ai.generate(prompt='r' if n % 2 else 'w', tools=tools, use=[layer], max_turns=1) for n in range(200)]
    responses = await asyncio.gather(*runs_)
    assert [bool(response.interrupts) for response in responses] == [n % 2 == 0 for n in range(200)]
    assert disk.done == ['read a'] * 100


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        (
            {'allowed_tools': 'read_file'},
            "is the string 'read_file': write a list of tool names, such as ['read_file']",
        ),
        ({'allowed_tools': None}, 'is a NoneType: write a list of tool names'),
        ({'allowed_tools': {'read_file': True}}, 'is a dict: write a list of tool names'),
        ({'allowed_tools': ['read_file', 3]}, 'allowed_tools[1] is 3: give the name of a tool'),
        ({'allowed_tools': ['']}, "allowed_tools[0] is '': give the name of a tool"),
        ({'allowed_tools': ['read file']}, "allowed_tools[0] is 'read file': give the name of a tool"),
        ({'allowed_tools': ['read_[ab]']}, "allowed_tools[0] is 'read_[ab]': give the name of a tool"),
        ({'allowed_tools': [len]}, 'allowed_tools[0] is <built-in function len>: give the name of a tool'),
        ({'allowed': ['x']}, "unknown setting 'allowed': did you mean 'allowed_tools'?"),
    ],
)
def test_settings_that_cannot_work_are_refused_when_built(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ToolApproval(**options)
    assert problem in caught.value.message


def test_names_may_be_in_any_kind_of_list() -> None:
    for names in (['a', 'b'], ('a', 'b'), iter(['a', 'b'])):
        assert ToolApproval(allowed_tools=names).config.allowed_tools == ('a', 'b')  # type: ignore[arg-type]
    assert set(ToolApproval(allowed_tools={'a', 'b'}).config.allowed_tools) == {'a', 'b'}  # type: ignore[typeddict-item]


async def test_an_approved_call_whose_input_a_layer_outside_changed_waits_again() -> None:
    wrote: list[str] = []

    def write_file(path: str) -> None:
        wrote.append(path)

    class Rewrites(BaseMiddleware):
        async def wrap_tool(self, params, ctx, next_fn):
            if params.approval is None:
                return await next_fn(params, ctx)
            changed = params.tool_request.replace(input={'path': 'elsewhere'})
            part = params.tool_request_part.replace(tool_request=changed)
            return await next_fn(params.replace(tool_request_part=part), ctx)

    ai = world({'x/a': [WRITE]}).ai
    options: dict[str, Any] = {'tools': [write_file], 'use': [Rewrites(), ToolApproval()]}
    response = await ai.generate(prompt='hi', **options)
    approved = restart_tool(response.interrupts[0], metadata={'toolApproved': True})
    again = await ai.generate(messages=response.messages, resume_restart=[approved], **options)
    assert len(again.interrupts) == 1
    assert wrote == []
