"""`Relay` and `Continuation` by hand: parts in, parts out, for the corners that no model alone brings about."""

import pytest

from lamella import Message, ModelResponse, Usage
from lamella.core.params import ModelHookParams
from lamella.middleware import Fallback, Retry
from lamella.middleware._continuation import Continuation, shared
from lamella.middleware._relay import Relay
from lamella.testing import ScriptedModel
from lamella.types import (
    Finished,
    LamellaError,
    ModelRequest,
    Raw,
    ReasoningDelta,
    ResponseStarted,
    Restarted,
    TextDelta,
    fold,
)
from tests.middleware.kit import cut, world

START, TEXT, END, VOID = ResponseStarted('m'), TextDelta('x'), Finished(), Restarted('inner')
PARAMS = ModelHookParams(ModelRequest((Message.user('hi'),)), ScriptedModel())
DOWN = LamellaError('UNAVAILABLE', 'down')


def given(relay: Relay, *parts: object) -> list[object]:
    return [ready for part in parts for ready in relay.take(part)]  # type: ignore[arg-type]


@pytest.fixture(
    params=[lambda: Relay('raise'), lambda: Relay('restart'), Continuation], ids=['raise', 'restart', 'continue']
)
def relay(request: pytest.FixtureRequest) -> Relay:
    made: Relay = request.param()
    return made


def test_an_inner_restart_before_any_content_is_kept_from_the_reader(relay: Relay) -> None:
    assert given(relay, START, Raw('of the void attempt'), VOID, START, TEXT) == [START, TEXT]


def test_an_inner_restart_after_content_is_passed_on_and_everything_begins_anew(relay: Relay) -> None:
    assert given(relay, START, TEXT, VOID) == [START, TEXT, VOID]
    assert (relay.shown, relay.open, relay.stuck) == (False, False, False)
    assert given(relay, START) == []
    assert given(relay, TEXT) == [START, TEXT]


def test_what_is_held_of_a_failed_attempt_is_forgotten(relay: Relay) -> None:
    assert given(relay, START, Raw(1)) == []
    relay.failed(DOWN)
    assert given(relay, START, TEXT) == [START, TEXT]


def test_a_stream_without_an_end_gives_up_what_it_held(relay: Relay) -> None:
    assert given(relay, START) == []
    assert list(relay.rest()) == [START]
    assert list(relay.rest()) == []


def test_an_attempt_that_fails_after_its_end_was_shown_has_shown_something(relay: Relay) -> None:
    assert given(relay, END) == [END]
    assert relay.shown


def test_too_much_held_counts_as_shown() -> None:
    relay = Relay('raise')
    passed = given(relay, START, *[Raw(n) for n in range(100)])
    assert (len(passed), relay.stuck) == (101, True)


def test_the_end_takes_the_notes_and_the_cost_of_what_failed(relay: Relay) -> None:
    relay.failed(LamellaError('UNAVAILABLE', 'down', partial=ModelResponse(usage=Usage(1, 1, 2))))
    relay.notes = {'retry': 1}
    (_, end) = given(relay, START, Finished('stop', Usage(2, 2, 4), metadata={'own': 0}))
    assert (end.usage, end.metadata) == (Usage(3, 3, 6), {'own': 0, 'retry': 1})


def test_an_end_with_nothing_to_add_is_passed_on_itself() -> None:
    assert given(Relay('raise'), END)[0] is END


def test_a_visible_restart_is_said_once_and_only_when_something_was_shown() -> None:
    relay = Relay('restart')
    assert relay.turn('why', 'm') == ()
    given(relay, START, TEXT)
    assert relay.turn('why', 'm') == (Restarted('why', 'm'),)
    assert relay.turn('why', 'm') == ()


# ── going on ────────────────────────────────────────────────────────────────────────────────────────────────────────


def continued(*first: object) -> Continuation:
    """A relay whose first attempt said this and failed."""
    relay = Continuation()
    given(relay, START, *first)
    assert not relay.stuck
    relay.failed(DOWN)
    assert relay.turn('why', 'm') == ()
    return relay


def test_a_later_start_gives_its_facts_to_the_end() -> None:
    relay = continued(TEXT)
    parts = given(relay, ResponseStarted('m', 'id-2', {'start': 2}), TextDelta('y'), Finished(metadata={'end': 3}))
    assert parts == [TextDelta('y'), Finished(id='id-2', metadata={'start': 2, 'end': 3})]


def test_the_ends_own_facts_win() -> None:
    relay = continued(TEXT)
    assert given(relay, ResponseStarted('m', 'id-2'), Finished(id='id-3')) == [Finished(id='id-3')]


def test_only_the_first_text_of_a_continuation_is_joined() -> None:
    relay = continued(TextDelta('a', 0), TextDelta('b', 2))
    parts = given(relay, START, TextDelta('c', 5), TextDelta('d', 6), TextDelta('e', 5))
    assert parts == [TextDelta('c', 2), TextDelta('d', 9), TextDelta('e', 2)]


def test_every_continuation_finds_its_own_first_text() -> None:
    relay = continued(TextDelta('a', 0))
    given(relay, START, TextDelta('b', 5))
    relay.failed(DOWN)
    relay.turn('why', 'm')
    assert given(relay, START, TextDelta('c', 1)) == [TextDelta('c', 0)]


def test_other_blocks_are_numbered_behind_all_that_are_there() -> None:
    relay = continued(ReasoningDelta('r', 3), TextDelta('a', 0))
    parts = [START, TextDelta('a', 0), *given(relay, START, ReasoningDelta('s', 0), ReasoningDelta('t', 1), END)]
    assert [part.index for part in parts if isinstance(part, ReasoningDelta)] == [4, 5]


def test_white_space_that_is_said_again_is_swallowed_with_its_part_but_not_its_metadata() -> None:
    relay = continued(TextDelta('a \n'))
    assert given(relay, START, TextDelta(' ')) == []
    assert given(relay, TextDelta('\n', metadata={'note': 1})) == [TextDelta('', metadata={'note': 1})]
    assert given(relay, TextDelta('\nb')) == [TextDelta('\nb')]


def test_after_an_inner_restart_in_a_continuation_nothing_is_joined_any_more() -> None:
    relay = continued(TextDelta('a', 4))
    assert given(relay, START, VOID) == [VOID]
    assert given(relay, ResponseStarted('n'), TextDelta('b', 0)) == [ResponseStarted('n'), TextDelta('b', 0)]
    assert relay.ask(PARAMS).request.messages[-1] == Message.assistant('b')


def test_what_is_asked_goes_on_from_the_text_and_says_so() -> None:
    relay = continued(TextDelta('a '), TextDelta('b ', 1))
    asked = relay.ask(PARAMS)
    assert asked.continues is not None
    assert asked.request.messages[-1] == Message.assistant('a b')
    assert Continuation().ask(PARAMS) is PARAMS


def test_all_parts_of_a_continued_answer_fold_to_one() -> None:
    relay = Continuation()
    parts = given(relay, START, ReasoningDelta('r', 0), TextDelta('Hel', 1))
    relay.failed(DOWN)
    relay.turn('why', 'm')
    parts += given(relay, START, TextDelta('lo', 0), Finished('stop', Usage(1, 2, 3)))
    response = fold(parts)  # type: ignore[arg-type]
    assert (response.text, response.reasoning, len(response.message.content)) == ('Hello', 'r', 2)


@pytest.mark.parametrize(
    ('a', 'b', 'same'), [('', '', 0), ('ab', 'ab', 2), ('ab', 'abc', 2), ('abc', 'ab', 2), ('a', 'b', 0)]
)
def test_what_two_texts_share_at_their_beginning(a: str, b: str, same: int) -> None:
    assert shared(a, b) == same


@pytest.mark.parametrize(
    'layer', [Retry(max_retries=1, no_jitter=True), Fallback(models=['v/b'])], ids=['retry', 'fallback']
)
async def test_the_error_that_is_raised_tells_what_the_attempts_before_it_cost(layer) -> None:
    paid = ModelResponse(usage=Usage(3, 1, 4))
    first = lambda request: LamellaError('UNAVAILABLE', 'down', partial=paid)  # noqa: E731
    scripts = {'v/a': [first, cut('some text')], 'v/b': [cut('some text')]}
    whole = await world(scripts).answer(layer)
    _, streamed = await world(scripts).read(layer)
    for error in (whole, streamed):
        assert error.partial.usage == Usage(3, 1, 4)
        assert error.partial.text == 'some text'
