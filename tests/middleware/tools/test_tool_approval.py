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
from lamella.stores.memory import MemoryStore
from lamella.types import ConfigError, Interrupt, LamellaError, ToolRequest, ToolRequestPart, ToolResponse
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


# ── a policy ────────────────────────────────────────────────────────────────────────────────────────────────────────


def said(verdict: Any) -> Any:
    return lambda name, input, context: verdict


async def later(name: str, input: Any, context: Any) -> str:
    await asyncio.sleep(0)
    return 'allow' if input == {'path': 'a'} else 'ask'


@pytest.mark.parametrize(
    ('verdict', 'done', 'asked'),
    [
        ('allow', ['wrote a'], []),
        ('ask', [], ['write_file']),
        ('deny', [], []),
        (('allow', 'fine'), ['wrote a'], []),
        (('deny', 'too late in the day'), [], []),
        (('ask', 'is it safe?'), [], ['write_file']),
        (None, [], ['write_file']),
        (True, [], ['write_file']),
        (False, [], ['write_file']),
        ('Allow', [], ['write_file']),
        ('', [], ['write_file']),
        (('allow', 7), [], ['write_file']),
        (('allow', 'x', 'y'), [], ['write_file']),
        (['allow', 'x'], [], ['write_file']),
    ],
)
async def test_a_policy_decides_and_whatever_else_it_says_means_ask(
    verdict: Any, done: list[str], asked: list[str]
) -> None:
    app, disk = world({'x/a': [WRITE, 'done']}), Disk()
    response = await ask(app, disk, ToolApproval(policy=said(verdict)))
    assert (disk.done, waiting(response)) == (done, asked)


async def test_a_denial_tells_the_model_why() -> None:
    for verdict, reason in (('deny', 'write_file is not allowed'), (('deny', 'not on Fridays'), 'not on Fridays')):
        app = world({'x/a': [WRITE, 'as you wish']})
        response = await ask(app, Disk(), ToolApproval(policy=said(verdict)))
        assert response.text == 'as you wish'
        assert response.messages[2].tool_responses[0].tool_response == ToolResponse(
            'write_file', reason, 'call-1', True
        )
        (denied,) = app.sink.named('tool_approval.denied')
        assert denied.facts['tool'] == 'write_file'


async def test_a_reason_to_ask_is_shown_to_whoever_decides() -> None:
    response = await ask(world({'x/a': [WRITE]}), Disk(), ToolApproval(policy=said(('ask', 'is it safe?'))))
    assert response.interrupts[0].metadata['interrupt']['message'] == 'is it safe?'


async def test_a_policy_sees_name_input_and_the_callers_values_and_may_be_async() -> None:
    seen: list[Any] = []

    def policy(name: str, input: Any, context: Any) -> str:
        seen.append((name, input, dict(context)))
        return 'allow'

    await ask(world({'x/a': [WRITE, 'done']}), Disk(), ToolApproval(policy=policy), context={'user': 'ann'})
    assert seen == [('write_file', {'path': 'a'}, {'user': 'ann'})]
    app, disk = world({'x/a': [[WRITE, WRITE.replace(input={'path': 'b'}, ref='call-3')]]}), Disk()
    response = await ask(app, disk, ToolApproval(policy=later))
    assert (disk.done, len(response.interrupts)) == (['wrote a'], 1)


async def test_a_policy_that_fails_allows_nothing_and_is_told() -> None:
    def broken(name: str, input: Any, context: Any) -> str:
        raise RuntimeError('no')

    async def broken_later(name: str, input: Any, context: Any) -> str:
        raise RuntimeError('no')

    for policy in (broken, broken_later):
        app, disk = world({'x/a': [WRITE]}), Disk()
        response = await ask(app, disk, ToolApproval(policy=policy))
        assert (disk.done, waiting(response)) == ([], ['write_file'])
        assert app.sink.named('tool_approval.policy_failed')[0].facts['tool'] == 'write_file'
        assert 'its policy failed' in response.interrupts[0].metadata['interrupt']['message']


async def test_what_is_on_the_list_is_not_asked_of_the_policy() -> None:
    app, disk = world({'x/a': [[READ, WRITE], 'done']}), Disk()
    await ask(app, disk, ToolApproval(allowed_tools=['read_*'], policy=said('deny')))
    assert disk.done == ['read a']


async def test_a_policy_is_not_asked_again_about_a_call_that_was_approved() -> None:
    verdicts = ['ask', 'deny', 'deny']
    app, disk = world({'x/a': [WRITE, 'done']}), Disk()
    layer = ToolApproval(policy=lambda name, input, context: verdicts.pop(0))
    response = await ask(app, disk, layer)
    await ask(app, disk, layer, messages=response.messages, resume_restart=approved(response))
    assert (disk.done, verdicts) == (['wrote a'], ['deny', 'deny'])


async def test_a_cancelled_policy_is_a_cancelled_call() -> None:
    entered = asyncio.Event()

    async def slow(name: str, input: Any, context: Any) -> str:
        entered.set()
        await asyncio.Event().wait()
        return 'allow'

    app, disk = world({'x/a': [WRITE]}), Disk()
    task = asyncio.create_task(ask(app, disk, ToolApproval(policy=slow)))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert disk.done == []


# ── once in a session ───────────────────────────────────────────────────────────────────────────────────────────────

OTHER = WRITE.replace(input={'path': 'b'}, ref='call-3')


async def in_session(
    app: World, disk: Disk, layer: ToolApproval, session: str = 's', **options: Any
) -> GenerateResponse:
    options = options if 'resume_restart' in options else {'prompt': 'go', **options}
    return await app.ai.generate(tools=disk.tools(), use=[layer], session=session, **options)


@pytest.mark.parametrize(
    ('once', 'same', 'other'),
    [(False, True, True), (True, False, True), ('input', False, True), ('tool', False, False)],
)
async def test_once_approved_a_call_is_not_asked_about_again_in_its_session(once: Any, same: bool, other: bool) -> None:
    layer, disk = ToolApproval(once_per_session=once), Disk()
    again = WRITE.replace(ref='call-2')
    for request, asks in ((again, same), (OTHER, other)):
        app = world({'x/a': [WRITE, 'done', request, 'done']})
        response = await in_session(app, disk, layer)
        await in_session(app, disk, layer, resume_restart=approved(response))
        disk.done.clear()
        response = await in_session(app, disk, layer)
        assert (waiting(response) != []) is asks
        assert (disk.done == []) is asks
        assert bool(app.sink.named('tool_approval.remembered')) is not asks


async def test_another_session_asks_for_itself_and_a_deleted_one_forgets() -> None:
    layer, disk = ToolApproval(once_per_session='tool'), Disk()
    app = world({'x/a': [WRITE, 'done', WRITE, WRITE]})
    response = await in_session(app, disk, layer)
    await in_session(app, disk, layer, resume_restart=approved(response))
    assert waiting(await in_session(app, disk, layer, session='t')) == ['write_file']
    await app.ai.session('s').delete()
    assert waiting(await in_session(app, disk, layer)) == ['write_file']


async def test_without_a_session_every_call_is_asked_about() -> None:
    layer, disk = ToolApproval(once_per_session='tool'), Disk()
    app = world({'x/a': [WRITE, 'done', OTHER]})
    response = await ask(app, disk, layer)
    await ask(app, disk, layer, messages=response.messages, resume_restart=approved(response))
    assert waiting(await ask(app, disk, layer)) == ['write_file']


async def test_a_denial_is_not_remembered_and_a_policy_that_denies_wins_over_memory() -> None:
    verdicts = ['ask', 'ask', 'deny']
    layer = ToolApproval(once_per_session='tool', policy=lambda name, input, context: verdicts.pop(0))
    disk = Disk()
    app = world({'x/a': [WRITE, 'no', WRITE, 'done', WRITE, 'denied']})
    response = await in_session(app, disk, layer)
    await in_session(app, disk, layer, resume_restart=[deny_tool(part) for part in response.interrupts])
    response = await in_session(app, disk, layer)
    assert waiting(response) == ['write_file']
    await in_session(app, disk, layer, resume_restart=approved(response))
    response = await in_session(app, disk, layer)
    assert (response.text, disk.done) == ('denied', ['wrote a'])


async def test_what_a_tool_writes_into_the_state_is_no_memory_of_an_approval() -> None:
    layer = ToolApproval(once_per_session='tool', allowed_tools=['read_file'])

    async def read_file(path: str, ctx: Any) -> str:
        for name in ('tool_approval:tool:write_file', 'notes', 'approved'):
            await ctx.session.state.put(name, 'ann')
        return 'text'

    disk = Disk()
    app = world({'x/a': [READ, WRITE]})
    options: dict[str, Any] = {'tools': [read_file, disk.tools()[1]], 'use': [layer], 'session': 's'}
    assert waiting(await app.ai.generate(prompt='go', **options)) == ['write_file']
    assert disk.done == []


async def test_with_the_sessions_store_away_it_asks() -> None:
    class Away(MemoryStore):
        is_away = False

        async def get(self, key: str) -> Any:
            if self.is_away and key.endswith(':head'):
                raise LamellaError('UNAVAILABLE', 'away')
            return await super().get(key)

    store = Away()

    def break_it(request: Any) -> Any:
        store.is_away = True
        return WRITE.replace(ref='call-9')

    layer, disk = ToolApproval(once_per_session='tool'), Disk()
    app = world({'x/a': [WRITE, 'done', break_it]}, store=store)
    response = await in_session(app, disk, layer)
    await in_session(app, disk, layer, resume_restart=approved(response))
    disk.done.clear()
    with pytest.raises(LamellaError, match='away'):  # the turn cannot be kept either
        await in_session(app, disk, layer)
    assert disk.done == []
    assert app.sink.named('store.away')[0].facts['by'] == 'tool_approval'


# ── kept calls ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_durable_calls_are_kept_and_say_so() -> None:
    app, disk = world({'x/a': [WRITE, 'done']}, store='memory://'), Disk()
    app.ai.tool('write_file')(disk.tools()[1])
    layer = ToolApproval(durable=True)
    response = await app.ai.generate(prompt='go', tools=['write_file'], use=[layer])
    note = response.interrupts[0].metadata['interrupt']
    (record,) = await app.ai.approvals.list()
    assert (record.id, record.tool) == (note['id'], 'write_file')
    await app.ai.approvals.approve(record.id, by='ann')
    assert (await app.ai.approvals.resume(record.id, use=[layer])).text == 'done'
    assert disk.done == ['wrote a']


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({'policy': 'allow'}, 'policy: Value error, is a str: give a function of (name, input, context)'),
        ({'policy': {'write_file': 'ask'}}, 'is a dict: give a function'),
        ({'once_per_session': 'session'}, "once_per_session: Input should be False, True, 'tool' or 'input'"),
        ({'once_per_session': None}, 'once_per_session'),
        ({'durable': 'yes'}, 'durable: Input should be a valid boolean'),
    ],
)
def test_other_settings_that_cannot_work_are_refused_when_built(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ToolApproval(**options)
    assert problem in caught.value.message
