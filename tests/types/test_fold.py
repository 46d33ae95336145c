"""From parts to a response and back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.types import (
    DataPart,
    File,
    Finished,
    Folder,
    LamellaError,
    MediaPart,
    Message,
    ModelResponse,
    Raw,
    ReasoningDelta,
    ReasoningPart,
    ResponseStarted,
    Restarted,
    Source,
    TextDelta,
    TextPart,
    ToolInputDelta,
    ToolRequest,
    ToolRequested,
    ToolRequestPart,
    ToolResponded,
    ToolResponse,
    ToolResponsePart,
    Usage,
    finished_of,
    fold,
    is_content,
    unfold,
)
from tests.engine.strategies import answers

metadata = st.none() | st.dictionaries(st.sampled_from('ab'), st.integers(0, 3))
words = st.text(max_size=5)
parts = st.one_of(
    st.builds(TextPart, words, metadata),
    st.builds(ReasoningPart, words, st.none() | words, st.booleans(), metadata),
    st.builds(ToolRequestPart, st.builds(ToolRequest, st.just('t'), st.integers(), st.none() | words), metadata),
    st.builds(MediaPart, url=words, metadata=metadata),
    st.builds(DataPart, st.integers(), metadata),
)
responses = st.builds(
    ModelResponse,
    message=st.lists(parts, max_size=6).map(lambda content: Message('assistant', tuple(content))),
    finish_reason=st.sampled_from(['stop', 'length', 'tool_calls', 'blocked', 'other', 'unknown']),
    finish_message=st.none() | words,
    usage=st.none() | st.builds(Usage, st.none() | st.integers(0, 9), st.none() | st.integers(0, 9)),
    model=st.none() | words,
    id=st.none() | words,
    sources=st.lists(st.builds(Source, words), max_size=2).map(tuple),
    metadata=st.dictionaries(st.sampled_from('ab'), st.integers(0, 3)),
    warnings=st.lists(words, max_size=2).map(tuple),
    tool_responses=st.lists(
        st.builds(ToolResponsePart, st.builds(ToolResponse, st.just('t')), metadata), max_size=2
    ).map(tuple),
)


@given(responses)
def test_a_response_unfolds_to_parts_that_fold_to_it(response) -> None:
    assert fold(unfold(response)) == response


@given(answers(failing=False))
def test_folding_what_was_folded_changes_nothing(script) -> None:
    once = fold(script)
    assert fold(unfold(once)) == once


@given(answers(failing=False), st.integers(0, 8))
def test_what_was_taken_back_leaves_no_trace(script, cut) -> None:
    begun = [part for part in script[:cut] if type(part) is not Finished]
    assert fold([*begun, Restarted('again'), *script]) == fold(script)
    assert fold([*begun, ResponseStarted(), *script]) == fold([ResponseStarted(), *script])


def test_pieces_of_one_block_are_joined_and_blocks_keep_their_order() -> None:
    response = fold([
        ReasoningDelta('h', 0), ReasoningDelta('m', 0, 'sig'), ReasoningDelta('', 0, 'nature'),
        TextDelta('a', 2), TextDelta('x', 1, {'k': 1}), TextDelta('b', 2), TextDelta('y', 1, {'l': 2}),
        ToolRequested(ToolRequest('t'), 3), File(MediaPart(url='u'), 4), Raw({'r': 1}, 5, True), Finished('stop'),
    ])  # fmt: skip
    assert response.message.content == (
        ReasoningPart('hm', 'signature'), TextPart('ab'), TextPart('xy', {'k': 1, 'l': 2}),
        ToolRequestPart(ToolRequest('t')), MediaPart(url='u'), DataPart({'r': 1}),
    )  # fmt: skip


def test_requests_files_and_raw_blocks_without_numbers_stay_several() -> None:
    response = fold([
        ToolRequested(ToolRequest('a')), ToolRequested(ToolRequest('b')), File(MediaPart(url='1')), File(MediaPart(url='2')),
        Raw(1, keep=True), Raw(2, keep=True), Finished('stop'),
    ])  # fmt: skip
    assert len(response.message.content) == 6


def test_text_and_reasoning_of_one_number_are_two_blocks() -> None:
    assert fold([ReasoningDelta('hm'), TextDelta('a'), Finished()]).message.content == (
        ReasoningPart('hm'),
        TextPart('a'),
    )


def test_a_redacted_piece_makes_the_whole_redacted() -> None:
    (part,) = fold([ReasoningDelta('', 0, None, True), ReasoningDelta('x'), Finished()]).message.content
    assert part.redacted


def test_events_that_are_not_kept_and_pieces_for_display_are_no_content_of_the_answer() -> None:
    assert fold([Raw('ping'), ToolInputDelta('{"a'), Finished('stop')]).message.content == ()


def test_without_an_end_the_reason_is_unknown() -> None:
    response = fold([TextDelta('half')])
    assert (response.text, response.finish_reason, response.usage) == ('half', 'unknown', None)
    assert fold([]).message.content == ()


def test_facts_of_the_end_win_over_those_of_the_start() -> None:
    response = fold([ResponseStarted('a', '1', {'x': 1, 'y': 1}), Finished('stop', model='b', metadata={'y': 2})])
    assert (response.model, response.id, response.metadata) == ('b', '1', {'x': 1, 'y': 2})


def test_over_several_turns_it_is_the_last_ones_with_the_usage_of_all() -> None:
    response = fold([
        ResponseStarted('a'), TextDelta('one'), ToolRequested(ToolRequest('t')), ToolResponded(ToolResponse('t', 1)),
        Finished('tool_calls', Usage(1, 2)), ResponseStarted('b'), TextDelta('two'), Finished('stop', Usage(10, None)),
    ])  # fmt: skip
    assert (response.text, response.model, response.usage) == ('two', 'b', Usage(11, 2))
    assert response.tool_responses == ()


def test_an_attempt_that_was_paid_for_and_taken_back_is_not_counted_without_its_end() -> None:
    response = fold(
        [ResponseStarted(), TextDelta('a'), Restarted(), ResponseStarted(), TextDelta('b'), Finished('stop', Usage(1))]
    )
    assert response.usage == Usage(1)


def test_a_folder_can_be_asked_at_any_time() -> None:
    folder = Folder()
    assert not folder.has_content
    folder.add(ResponseStarted())
    assert not folder.has_content
    folder.add(TextDelta('a'))
    assert folder.has_content
    assert folder.response().text == 'a'
    folder.add(TextDelta('b'))
    assert folder.response().text == 'ab'
    folder.add(Restarted())
    assert not folder.has_content
    folder.add(TextDelta('c'))
    assert folder.response().text == 'c'


@pytest.mark.parametrize('thing', ['text', None, {'type': 'text_delta'}, ModelResponse(), TextPart('x')], ids=repr)
def test_what_is_no_part_is_refused(thing) -> None:
    with pytest.raises(LamellaError, match=type(thing).__name__) as caught:
        fold([thing])
    assert caught.value.status == 'FAILED_PRECONDITION'


@pytest.mark.parametrize(
    ('part', 'wanted'),
    [
        (TextDelta('x'), True), (ReasoningDelta('x'), True), (ToolInputDelta('x'), True), (Source('x'), True),
        (ToolRequested(ToolRequest('t')), True), (File(MediaPart(url='u')), True), (Raw(1, keep=True), True),
        (Raw(1), False), (ResponseStarted(), False), (Finished(), False), (Restarted(), False),
    ],
    ids=repr,
)  # fmt: skip
def test_content_is_what_a_reader_has_seen_of_the_answer(part: Any, wanted: bool) -> None:
    assert is_content(part) is wanted
    folder = Folder()
    folder.add(part)
    assert folder.has_content is wanted


def test_the_end_of_a_response_has_its_facts() -> None:
    response = ModelResponse(
        finish_reason='length', usage=Usage(1), model='m', id='i', metadata={'a': 1}, warnings=('w',)
    )
    assert finished_of(response, 'max_tokens') == Finished(
        'length', Usage(1), 'm', 'i', None, {'a': 1}, ('w',), 'max_tokens'
    )
