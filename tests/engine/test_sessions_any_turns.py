"""Whatever turns a session takes, its history is what really happened, in both doors."""

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import Interrupt, Lamella, LamellaError, Message, deny_tool, restart_tool
from lamella.core.tools import tool_of
from lamella.stores.memory import MemoryStore
from lamella.testing import FakeClock, ScriptedModel
from lamella.types import ToolRequest, ToolRequestPart, ToolResponse

WORDS = st.sampled_from(['yes', 'no'])
# Of one run: the tools of each turn (`a` answers, `i` asks for a decision), and how it ends.
RUN = st.tuples(WORDS, st.lists(st.lists(st.sampled_from('ai'), min_size=1, max_size=3), max_size=3), WORDS | st.none())
SYSTEM = st.sampled_from([None, 'Be brief.'])


class Expected:
    """What the history must be, by the words of docs/sessions.md."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def turn(self, question: list[Message], requests: list[ToolRequest], answered: list[ToolRequest]) -> None:
        self.messages += [*question, Message.assistant(*[ToolRequestPart(request) for request in requests])]
        if answered:
            self.messages.append(Message.tool(*[ToolResponse(one.name, 'ok', one.ref) for one in answered]))


def tool(name: str) -> Any:
    async def run(ctx: Any) -> str:
        if name == 'i' and ctx.resumed is None:
            raise Interrupt('may I?')
        return 'ok'

    return tool_of(run, name)


async def take(ai: Lamella, streaming: bool, **options: Any) -> Any:
    options = {'tools': [tool('a'), tool('i')], 'session': 's', **options}
    try:
        if not streaming:
            return await ai.generate(**options)
        stream = ai.generate_stream(**options)
        async for _ in stream:
            pass
        return await stream.response
    except LamellaError as error:
        return error


@given(
    runs=st.lists(RUN, min_size=1, max_size=4),
    streaming=st.booleans(),
    approves=st.booleans(),
    system=SYSTEM,
    kept=st.booleans(),
)
@settings(max_examples=150)
def test_the_history_is_what_happened(runs: Any, streaming: bool, approves: bool, system: Any, kept: bool) -> None:
    asyncio.run(_check(runs, streaming, approves, system, kept))


async def _check(runs: Any, streaming: bool, approves: bool, system: Any, kept: bool) -> None:
    expected, number = Expected(), 0
    ai = Lamella(store=MemoryStore() if kept else None, clock=FakeClock())
    for word, turns, end in runs:
        question = [Message.user(word)]
        script: list[Any] = []
        plan: list[list[ToolRequest]] = []
        for names in turns:
            plan.append([ToolRequest(name, {}, f'r{(number := number + 1)}') for name in names])
            script.append(plan[-1])
        script.append(LamellaError('UNAVAILABLE', 'down') if end is None else end)
        ai.default_model, ai._default = ScriptedModel(script), None
        result = await take(ai, streaming, prompt=word, system=system)
        for requests in plan:
            answered = [one for one in requests if one.name == 'a']
            waiting = [one for one in requests if one.name == 'i']
            if not waiting:
                expected.turn(question, requests, answered)
                question = []
                continue
            assert await ai.session('s').history() == (
                *expected.messages, *question, *_said(requests, answered)
            )  # fmt: skip
            parts = await ai.session('s').waiting()
            decide = (lambda part: restart_tool(part)) if approves else (lambda part: deny_tool(part, 'ok'))
            result = await take(ai, streaming, resume_restart=[decide(part) for part in parts], system=system)
            expected.turn(question, requests, requests)
            if not approves:
                answers = [ToolResponse(one.name, 'ok', one.ref, is_error=one.name == 'i') for one in requests]
                expected.messages[-1] = Message.tool(*answers)
            question = []
        if end is None:
            assert isinstance(result, LamellaError)
        else:
            expected.messages += [*question, Message.assistant(end)]
        assert await ai.session('s').history() == tuple(expected.messages)


def _said(requests: list[ToolRequest], answered: list[ToolRequest]) -> list[Message]:
    one = Expected()
    one.turn([], requests, answered)
    return one.messages
