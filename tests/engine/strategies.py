"""Random scripts for models and random stacks of layers, for the property tests of the engine."""

import asyncio
import copy
from itertools import count
from typing import Any

from hypothesis import strategies as st

from lamella import Interrupt, LamellaError, StopRun, ToolError
from lamella.middleware import BaseMiddleware, Continuing
from lamella.types import (
    File,
    Finished,
    MediaPart,
    Message,
    ModelResponse,
    Raw,
    ReasoningDelta,
    ResponseStarted,
    Restarted,
    Source,
    TextDelta,
    TextPart,
    ToolInputDelta,
    ToolRequest,
    ToolRequested,
    Usage,
)

texts = st.text(st.characters(codec='utf-8', exclude_categories=['Cs']), max_size=6)
index = st.integers(0, 3)
metadata = st.none() | st.dictionaries(st.sampled_from(['a', 'b']), st.integers(0, 3), max_size=2)
usage = st.none() | st.builds(
    Usage, st.none() | st.integers(0, 9), st.none() | st.integers(0, 9), st.none() | st.integers(0, 9)
)
requests = st.builds(
    ToolRequest,
    st.sampled_from(['echo', 'fails', 'waits', 'nothing_like_it']),
    st.sampled_from([{'text': 'x'}, {'text': 'y'}, {'text': 7}, {}, 'no object', None]),
    st.integers(0, 999).map('ref-{}'.format),
)

contents = st.one_of(
    st.builds(TextDelta, texts, index, metadata),
    st.builds(TextDelta, texts, index, metadata),
    st.builds(ReasoningDelta, texts, index, st.none() | texts, st.booleans(), metadata),
    st.builds(ToolRequested, requests, index, metadata),
    st.builds(ToolInputDelta, texts, index),
    st.builds(Source, st.just('http://x'), st.none() | texts, index=index),
    st.builds(File, st.builds(MediaPart, st.none(), st.binary(max_size=3)), index),
    st.builds(Raw, st.integers(0, 3), index, st.booleans(), metadata),
)
starts = st.builds(ResponseStarted, st.none() | st.just('vendor/one'), st.none() | st.just('id-1'), metadata)
ends = st.builds(
    Finished,
    st.sampled_from(['stop', 'length', 'tool_calls', 'blocked', 'other']),
    usage,
    st.none() | st.just('vendor/two'),
    st.none() | st.just('id-2'),
    st.none() | texts,
    metadata,
    st.lists(texts, max_size=2).map(tuple),
)
errors = st.sampled_from(
    [LamellaError('UNAVAILABLE', 'down', retry_after_s=2), LamellaError('INVALID_ARGUMENT', 'no'), ValueError('bug')]
)


@st.composite
def answers(draw: Any, failing: bool = True) -> list[Any]:
    """One scripted stream: perhaps a start, parts, and an end or an error."""
    parts: list[Any] = [draw(starts)] if draw(st.booleans()) else []
    parts += draw(st.lists(contents, max_size=6))
    last = errors if failing and draw(st.integers(0, 5)) == 0 else ends
    return [*parts, draw(last)]


scripts = st.lists(answers(), min_size=1, max_size=4)


async def echo(text: str) -> str:
    return text * 2


def fails(text: str) -> str:
    raise ToolError(f'not {text}')


async def waits(text: str) -> str:
    raise Interrupt('may I?', {'about': text})


TOOLS = [echo, fails, waits]


def fresh(script: list[list[Any]]) -> list[list[Any]]:
    """The same script with errors of its own: an error remembers what it went through."""
    return [[copy.copy(part) if isinstance(part, Exception) else part for part in answer] for answer in script]


def louder(response: ModelResponse) -> ModelResponse:
    content = tuple(
        part.replace(text=part.text.upper() + '!') if type(part) is TextPart else part
        for part in response.message.content
    )
    return response.replace(message=response.message.replace(content=content))


class ModelOnly(BaseMiddleware):
    """Looks on."""

    async def wrap_model(self, params, ctx, next_fn):
        return await next_fn(params, ctx)


class StreamOnly(BaseMiddleware):
    """Looks on, part by part."""

    async def wrap_stream(self, params, ctx, next_fn):
        async for part in next_fn(params, ctx):
            yield part


class Both(BaseMiddleware):
    """Looks on, whole and part by part."""

    async def wrap_model(self, params, ctx, next_fn):
        return await next_fn(params, ctx)

    async def wrap_stream(self, params, ctx, next_fn):
        async for part in next_fn(params, ctx):
            yield part


class Transforms(BaseMiddleware):
    """Changes the request."""

    async def transform_params(self, params, ctx):
        message = Message.system('be brief')
        return params.replace(request=params.request.replace(messages=(message, *params.request.messages)))


class TransformsAndWraps(Transforms):
    """Changes the request and looks on."""

    async def wrap_model(self, params, ctx, next_fn):
        return await next_fn(params, ctx)


class Louder(BaseMiddleware):
    """Changes the text of the whole answer."""

    async def wrap_model(self, params, ctx, next_fn):
        return louder(await next_fn(params, ctx))


class StreamUpper(BaseMiddleware):
    """Changes every piece of text."""

    async def wrap_stream(self, params, ctx, next_fn):
        async for part in next_fn(params, ctx):
            yield part.replace(text=part.text.upper()) if type(part) is TextDelta else part


class Noted(BaseMiddleware):
    """Adds to the metadata alone."""

    async def wrap_model(self, params, ctx, next_fn):
        response = await next_fn(params, ctx)
        return response.replace(metadata={**response.metadata, 'noted': True})


class NotesReplaced(BaseMiddleware):
    """Gives other metadata, model and usage, and the same content."""

    async def wrap_model(self, params, ctx, next_fn):
        response = await next_fn(params, ctx)
        return response.replace(metadata={'mine': 1}, model='mine/model', usage=Usage(1, 1, 2), warnings=('mine',))


class Rebuilt(BaseMiddleware):
    """Gives an equal answer that is another object."""

    async def wrap_model(self, params, ctx, next_fn):
        return (await next_fn(params, ctx)).replace()


class Canned(BaseMiddleware):
    """Answers itself."""

    async def wrap_model(self, params, ctx, next_fn):
        return ModelResponse.text_of('canned', model='canned/model', usage=Usage(0, 1, 1), metadata={'hit': True})


class StreamCanned(BaseMiddleware):
    """Answers itself, in parts."""

    async def wrap_stream(self, params, ctx, next_fn):
        yield ResponseStarted('canned/model')
        yield TextDelta('can')
        yield TextDelta('ned')
        yield Finished('stop', Usage(0, 2, 2), 'canned/model')


class Twice(BaseMiddleware):
    """Asks twice and gives the second answer."""

    async def wrap_model(self, params, ctx, next_fn):
        await next_fn(params, ctx)
        return await next_fn(params.replace(attempt=2), ctx)


class TwiceGivesFirst(BaseMiddleware):
    """Asks twice and gives the first answer."""

    async def wrap_model(self, params, ctx, next_fn):
        first = await next_fn(params, ctx)
        await next_fn(params.replace(attempt=2), ctx)
        return first


class NaiveRetry(BaseMiddleware):
    """What everybody writes first."""

    async def wrap_model(self, params, ctx, next_fn):
        for _ in range(3):
            try:
                return await next_fn(params, ctx)
            except Exception:
                continue
        return await next_fn(params, ctx)


class Rescue(BaseMiddleware):
    """Answers itself after a failure."""

    async def wrap_model(self, params, ctx, next_fn):
        try:
            return await next_fn(params, ctx)
        except Exception as error:
            return ModelResponse.text_of(f'sorry: {type(error).__name__}')


class HeldModel(ModelOnly):
    """Holds the stream back."""

    commit = 'finish'


class HeldStream(StreamUpper):
    """Holds the changed stream back."""

    commit = 'finish'


class HeldRetry(NaiveRetry):
    """Retries with the stream held back."""

    commit = 'finish'


class GenerateOnly(BaseMiddleware):
    """Looks on at each turn."""

    async def wrap_generate(self, params, ctx, next_fn):
        return await next_fn(params, ctx)


class GenerateLouder(BaseMiddleware):
    """Changes the text of each turn."""

    async def wrap_generate(self, params, ctx, next_fn):
        return louder(await next_fn(params, ctx))


class GenerateNoted(BaseMiddleware):
    """Adds to the metadata of each turn."""

    async def wrap_generate(self, params, ctx, next_fn):
        response = await next_fn(params, ctx)
        return response.replace(metadata={**response.metadata, 'turn': params.iteration})


class GenerateRetry(BaseMiddleware):
    """Takes a failed turn again."""

    async def wrap_generate(self, params, ctx, next_fn):
        try:
            return await next_fn(params, ctx)
        except Exception:
            return await next_fn(params, ctx)


class GenerateCanned(BaseMiddleware):
    """Answers in place of a turn."""

    async def wrap_generate(self, params, ctx, next_fn):
        return ModelResponse.text_of('a turn of its own', usage=Usage(2, 2, 4))


class RunOnly(BaseMiddleware):
    """Looks on at the run."""

    async def wrap_run(self, params, ctx, next_fn):
        return await next_fn(params, ctx)


class RunNoted(BaseMiddleware):
    """Adds to the metadata of the run."""

    async def wrap_run(self, params, ctx, next_fn):
        response = await next_fn(params, ctx)
        return response.replace(metadata={**response.metadata, 'run': True})


class RunCanned(BaseMiddleware):
    """Answers in place of the run."""

    async def wrap_run(self, params, ctx, next_fn):
        return ModelResponse.text_of('a run of its own')


class ToolOnly(BaseMiddleware):
    """Looks on at tools."""

    async def wrap_tool(self, params, ctx, next_fn):
        return await next_fn(params, ctx)


class ToolShorter(BaseMiddleware):
    """Changes what tools answered."""

    async def wrap_tool(self, params, ctx, next_fn):
        response = await next_fn(params, ctx)
        return response.replace(output=f'{response.output}'[:1])


class TurnToolsShorter(BaseMiddleware):
    """Changes what tools answered, around the turn."""

    async def wrap_generate(self, params, ctx, next_fn):
        response = await next_fn(params, ctx)
        short = tuple(p.replace(tool_response=p.tool_response.replace(output='…')) for p in response.tool_responses)
        return response.replace(tool_responses=short)


class RunLouder(BaseMiddleware):
    """Changes the text of the run."""

    async def wrap_run(self, params, ctx, next_fn):
        return louder(await next_fn(params, ctx))


class RunTwice(BaseMiddleware):
    """Runs twice and gives the second."""

    async def wrap_run(self, params, ctx, next_fn):
        await next_fn(params, ctx)
        return await next_fn(params, ctx)


class TurnTwice(BaseMiddleware):
    """Takes each turn twice and gives the first."""

    async def wrap_generate(self, params, ctx, next_fn):
        first = await next_fn(params, ctx)
        await next_fn(params, ctx)
        return first


class Tasked(BaseMiddleware):
    """Asks from a task of its own."""

    async def wrap_model(self, params, ctx, next_fn):
        return await asyncio.create_task(next_fn(params, ctx))


class Gathered(BaseMiddleware):
    """Asks twice at once and gives the first answer."""

    async def wrap_model(self, params, ctx, next_fn):
        calls = next_fn(params, ctx), next_fn(params, ctx)
        first, _ = await asyncio.gather(*calls, return_exceptions=True)
        if isinstance(first, BaseException):
            raise first
        return first


class TaskedTurn(BaseMiddleware):
    """Takes each turn in a task of its own."""

    async def wrap_generate(self, params, ctx, next_fn):
        return await asyncio.create_task(next_fn(params, ctx))


class TaskedRun(BaseMiddleware):
    """Runs in a task of its own."""

    async def wrap_run(self, params, ctx, next_fn):
        return await asyncio.create_task(next_fn(params, ctx))


class HeldTurn(GenerateLouder):
    """Holds each turn back."""

    commit = 'finish'


class HeldRun(RunNoted):
    """Holds the run back."""

    commit = 'finish'


class NoSources(BaseMiddleware):
    """Leaves sources out."""

    async def wrap_stream(self, params, ctx, next_fn):
        async for part in next_fn(params, ctx):
            if type(part) is not Source:
                yield part


class Prefixed(BaseMiddleware):
    """Says something first, in a block of its own."""

    blocks = count(100)

    def __init__(self):
        super().__init__()
        self.block = next(self.blocks)

    async def wrap_stream(self, params, ctx, next_fn):
        opening = ResponseStarted('prefix/model', 'id-0'), TextDelta('Well, ', self.block)
        for part in opening:
            yield part
        async for part in next_fn(params.replace(continues=Continuing()), ctx):
            if type(part) is not ResponseStarted:
                yield part
            if type(part) is Restarted:
                for again in opening:
                    yield again


class StopsAfter(BaseMiddleware):
    """Ends the run after a model's answer, and keeps the answer."""

    async def wrap_model(self, params, ctx, next_fn):
        response = await next_fn(params, ctx)
        raise StopRun('max_cost', 'enough', response=response)


class StopsSecondTurn(BaseMiddleware):
    """Ends the run before its second turn."""

    async def wrap_generate(self, params, ctx, next_fn):
        if params.iteration:
            raise StopRun('guardrail', 'once is enough')
        return await next_fn(params, ctx)


class Nothing(BaseMiddleware):
    """Has no hooks."""


HARMLESS = [
    ModelOnly, StreamOnly, Both, Transforms, TransformsAndWraps, Louder, StreamUpper, Noted, NotesReplaced, Rebuilt,
    Canned, StreamCanned, HeldModel, HeldStream, GenerateOnly, GenerateLouder, GenerateNoted, GenerateCanned,
    RunOnly, RunNoted, RunCanned, RunLouder, ToolOnly, ToolShorter, TurnToolsShorter, Tasked, TaskedTurn, TaskedRun,
    HeldTurn, HeldRun, NoSources, Prefixed, StopsAfter, StopsSecondTurn, Nothing,
]  # fmt: skip
REPEATING = [Twice, TwiceGivesFirst, NaiveRetry, Rescue, HeldRetry, Gathered]
RARE = {Canned, StreamCanned, GenerateCanned, RunCanned, StopsAfter, StopsSecondTurn}

looking = st.sampled_from([kind for kind in HARMLESS if kind not in RARE])
anything = st.sampled_from([*HARMLESS, *REPEATING])
stacks = st.lists(looking | looking | anything, max_size=6).map(lambda kinds: [kind() for kind in kinds])


class StreamRetry(BaseMiddleware):
    """What everybody writes first, for streams."""

    async def wrap_stream(self, params, ctx, next_fn):
        for _ in range(3):
            try:
                async for part in next_fn(params, ctx):
                    yield part
                return
            except Exception:
                continue
        raise LamellaError('ABORTED', 'four times')


class HeldStreamRetry(StreamRetry):
    """The same, held back."""

    commit = 'finish'


class RunRetry(BaseMiddleware):
    """Runs again after a failure."""

    async def wrap_run(self, params, ctx, next_fn):
        try:
            return await next_fn(params, ctx)
        except Exception:
            return await next_fn(params, ctx)


class HeldTurnRetry(GenerateRetry):
    """Takes a failed turn again, held back."""

    commit = 'finish'


class HeldRunRetry(RunRetry):
    """Runs again, held back."""

    commit = 'finish'


class TaskedRetry(BaseMiddleware):
    """Retries from tasks of its own."""

    async def wrap_model(self, params, ctx, next_fn):
        try:
            return await asyncio.create_task(next_fn(params, ctx))
        except Exception:
            return await next_fn(params, ctx)


class FallsOver(BaseMiddleware):
    """Retries in one hook and looks on in the other."""

    async def wrap_model(self, params, ctx, next_fn):
        try:
            return await next_fn(params, ctx)
        except Exception:
            return await next_fn(params, ctx)

    async def wrap_stream(self, params, ctx, next_fn):
        try:
            async for part in next_fn(params, ctx):
                yield part
        except Exception:
            async for part in next_fn(params, ctx):
                yield part


RETRYING = [
    NaiveRetry, HeldRetry, StreamRetry, HeldStreamRetry, GenerateRetry, HeldTurnRetry, RunRetry, HeldRunRetry, TaskedRetry,
    FallsOver, Twice, TwiceGivesFirst, Rescue, Gathered, StreamOnly, ModelOnly, Both, HeldModel, HeldStream, Transforms,
    TaskedTurn, TaskedRun, GenerateOnly, RunOnly, RunTwice, TurnTwice,
]  # fmt: skip
retrying = st.lists(st.sampled_from(RETRYING), min_size=1, max_size=5).map(lambda kinds: [kind() for kind in kinds])
