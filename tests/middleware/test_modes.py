"""`generate == fold(stream)` for the catalog's layers, over random failures in random stacks."""

import asyncio
import io
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import ModelResponse, Usage
from lamella.middleware import (
    BaseMiddleware,
    Cache,
    ConcurrencyLimit,
    ConsoleLogger,
    CostTracking,
    Fallback,
    Idempotency,
    RateLimit,
    Retry,
    TenantBudget,
    ToolApproval,
    ToolOutputTruncation,
    ToolRetry,
    ToolTimeout,
)
from lamella.types import (
    Finished,
    LamellaError,
    Raw,
    ReasoningDelta,
    ResponseStarted,
    TextDelta,
    ToolRequest,
    ToolRequested,
)
from tests.middleware.kit import folds_to, same_answer, shown, world

USAGE = Usage(3, 4, 7)
contents = st.lists(
    st.sampled_from(
        [TextDelta('one '), TextDelta('two ', 1), ReasoningDelta('hm', 2), Raw('kept', 3, True), Raw('ping')]
    ),
    max_size=3,
)
starts = st.sampled_from([(), (ResponseStarted('m-1', 'id-1', {'s': 1}),), (ResponseStarted(),)])
statuses = st.sampled_from(['UNAVAILABLE', 'UNAVAILABLE', 'INTERNAL', 'INVALID_ARGUMENT'])
waits = st.sampled_from([None, None, 2.0, 120.0])
endings = st.sampled_from(
    [Finished('stop', USAGE), Finished('length', None, 'm-2', 'id-2', metadata={'e': 1}), Finished()]
)
tool = ToolRequested(ToolRequest('look', {}, 'r-1'), 4)


@st.composite
def answers(draw: Any) -> Any:
    """One attempt: it fails after some parts, perhaps, or ends; it may ask for a tool."""
    parts = [*draw(starts), *draw(contents)]
    if draw(st.booleans()):
        status, wait = draw(statuses), draw(waits)
        return lambda request: [*parts, LamellaError(status, 'failed', retry_after_s=wait)]
    asks = [tool] if draw(st.integers(0, 3)) == 0 else []
    return [*parts, *asks, Finished('tool_calls') if asks else draw(endings)]


def layers(visible: bool) -> st.SearchStrategy[BaseMiddleware[Any]]:
    """Layers that start over, visibly or held back: then both modes must do the same, whatever fails and when."""
    how = {'on_partial': 'restart'} if visible else {'commit': 'finish'}
    return st.one_of(
        st.builds(lambda n, exact: Retry(max_retries=n, no_jitter=exact, **how), st.integers(0, 2), st.booleans()),
        st.builds(
            lambda models, cool: Fallback(models=models, cooldown_s=cool, **how),
            st.lists(st.sampled_from(['v/a', 'v/b']), min_size=1, max_size=2),
            st.sampled_from([None, 60.0]),
        ),
        st.sampled_from([ToolApproval(), ToolApproval(allowed_tools=['look'])]),
        st.builds(lambda: ConsoleLogger(stream=io.StringIO(), show_input=True)),
        st.builds(lambda n, wait: RateLimit(max_calls=n, per_s=10, wait=wait), st.integers(0, 3), st.booleans()),
        st.builds(lambda how: ConcurrencyLimit(max_concurrent=1, adaptive=how), st.sampled_from([None, 'gradient'])),
        st.builds(lambda: Idempotency(tools=['look'])),
        st.sampled_from([ToolRetry(tools=['look']), ToolTimeout(timeout_s=60), ToolOutputTruncation(max_chars=100)]),
        st.builds(lambda: CostTracking(input_per_mtok=1, output_per_mtok=2)),
        st.builds(lambda: Cache(tool_requests=True)),
        st.builds(lambda most: TenantBudget(max_tokens=most, key=None), st.sampled_from([2000, 10**9])),
    )


stacks = st.booleans().flatmap(lambda visible: st.lists(layers(visible), max_size=4))
scripts = st.lists(answers(), min_size=12, max_size=12)


def look() -> str:
    return 'seen'


def fresh(use: list[BaseMiddleware[Any]]) -> list[BaseMiddleware[Any]]:
    """The same layers with nothing remembered (a cool-down outlives a run)."""
    return [type(layer)(layer.config) for layer in use]


@settings(max_examples=300)
@given(scripts, scripts, stacks)
def test_whole_and_streamed_calls_agree(a: list[Any], b: list[Any], use: list[BaseMiddleware[Any]]) -> None:
    async def run() -> None:
        one, two = (world({'v/a': a, 'v/b': b}, repeat=True) for _ in range(2))
        whole = await one.answer(*fresh(use), tools=[look], max_turns=3)
        stream = two.ai.generate_stream(prompt='hi', use=fresh(use), tools=[look], max_turns=3)
        parts, failed = [], None
        try:
            async for part in stream:
                parts.append(part)
        except LamellaError as error:
            failed = error
        assert (two.asked, two.clock.slept, two.told) == (one.asked, one.clock.slept, one.told)
        if isinstance(whole, LamellaError):
            assert failed is not None
            assert (failed.status, failed.message, failed.attempts) == (whole.status, whole.message, whole.attempts)
            return
        assert failed is None
        same_answer(await stream.response, whole)
        folds_to(parts, whole)
        if len(whole.turns) == 1:
            assert shown(parts) == ''.join(sorted_text(parts, whole))

    asyncio.run(run())


def sorted_text(parts: list[Any], response: ModelResponse) -> list[str]:
    """The text as the reader saw it: pieces of several blocks may come in turns."""
    last = max((i for i, part in enumerate(parts) if type(part) is ResponseStarted), default=0)
    said = [part.text for part in parts[last:] if type(part) is TextDelta]
    assert sorted(''.join(said)) == sorted(response.text)
    return said


@settings(max_examples=150)
@given(scripts, st.integers(1, 4))
def test_a_continued_text_is_all_that_was_said_and_nothing_twice(attempts: list[Any], retries: int) -> None:
    async def run() -> None:
        app = world({'v/a': attempts}, repeat=True)
        layer = Retry(max_retries=retries, no_jitter=True, on_partial='continue')
        stream = app.ai.generate_stream(prompt='hi', use=[layer], max_turns=1)
        parts, failed = [], None
        try:
            async for part in stream:
                parts.append(part)
        except LamellaError as error:
            failed = error
        starts_seen = [part for part in parts if type(part) is ResponseStarted]
        assert len(starts_seen) <= 1
        if failed is None:
            response = await stream.response
            folds_to(parts, response)
            assert sorted(response.text) == sorted(shown(parts))
        elif parts:
            assert failed.partial is not None
            assert sorted(failed.partial.text) == sorted(shown(parts))

    asyncio.run(run())
