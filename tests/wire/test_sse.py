"""Server-sent events: the standard's rules, whatever the cuts."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lamella.types import LamellaError
from lamella.wire.sse import Event, SSEDecoder, encode_comment, encode_event


def decoded(*chunks: bytes, finish: bool = False) -> list[Event]:
    decoder = SSEDecoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return [*events, *decoder.finish()] if finish else events


def bytewise(body: bytes) -> list[bytes]:
    return [body[i : i + 1] for i in range(len(body))]


def data_of(*chunks: bytes) -> list[str]:
    return [event.data for event in decoded(*chunks)]


def slow_reference(body: bytes) -> list[Event]:
    """The algorithm of the standard, line by line, for a whole body."""
    text = body.decode('utf-8', 'replace').removeprefix('\ufeff').replace('\r\n', '\n').replace('\r', '\n')
    events: list[Event] = []
    data, name, last_id, retry = '', '', None, None
    for line in text.split('\n')[:-1]:
        field, _, value = line.partition(':')
        value = value[1:] if value[:1] == ' ' else value
        if not line:
            if data:
                events.append(Event(name or 'message', data[:-1], last_id, retry))
                retry = None
            data, name = '', ''
        elif field == 'event':
            name = value
        elif field == 'data':
            data += value + '\n'
        elif field == 'id' and '\0' not in value:
            last_id = value
        elif field == 'retry' and value and all(c in '0123456789' for c in value) and len(value) < 16:
            retry = int(value)
    return events


EXAMPLES = {
    'two events': (b'data: a\n\ndata: b\n\n', ['a', 'b']),
    'several lines of data are joined by a line feed': (b'data: a\ndata: b\n\n', ['a\nb']),
    'data without a value, from the standard': (b'data\n\ndata\ndata\n\ndata:', ['', '\n']),
    'one space after the colon is dropped, no more': (b'data:a\n\ndata:  b\n\n', ['a', ' b']),
    'a comment is nothing': (b': hi\n\ndata: a\n: in between\ndata: b\n\n', ['a\nb']),
    'unknown fields are nothing': (b'foo: x\ndata: a\nbar\n\n', ['a']),
    'an event without data is nothing': (b'event: ping\n\ndata: a\n\n', ['a']),
    'the end of the body drops what has no blank line': (b'data: a\n\ndata: b\n', ['a']),
    'blank lines in a row': (b'\n\n\ndata: a\n\n\n\ndata: b\n\n\n', ['a', 'b']),
    'a byte order mark at the start': (b'\xef\xbb\xbfdata: a\n\n', ['a']),
    'a byte order mark later is no field': (b'data: a\n\n\xef\xbb\xbfdata: b\n\n', ['a']),
    'CRLF': (b'data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n', ['a\nb', 'c']),
    'CR': (b'data: a\rdata: b\r\rdata: c\r\r', ['a\nb', 'c']),
    'line ends mixed': (b'data: a\r\n\ndata: b\n\rdata: c\r\r\n', ['a', 'b', 'c']),
    'text beyond ASCII': ('data: déjà 😀\n\n'.encode(), ['déjà 😀']),
    'bytes that are no UTF-8': (b'data: a\xff\xe2\x82\n\n', ['a��']),
    'JSON with spaces, as Gemini sends it': (b'data: {"a": 1}\r\n\r\n', ['{"a": 1}']),
    'nothing': (b'', []),
}


@pytest.mark.parametrize(('body', 'expected'), EXAMPLES.values(), ids=EXAMPLES.keys())
def test_the_standard_is_followed_whole_and_byte_by_byte(body: bytes, expected: list[str]) -> None:
    assert data_of(body) == expected
    assert data_of(*bytewise(body)) == expected


def test_a_carriage_return_ends_its_line_at_once() -> None:
    decoder = SSEDecoder()
    assert [event.data for event in decoder.feed(b'data: a\r\r')] == ['a']
    assert [event.data for event in decoder.feed(b'\ndata: b\r\n\r')] == ['b']


def test_the_event_name_is_message_unless_given() -> None:
    body = b'event: ping\ndata: 1\n\ndata: 2\n\nevent:\ndata: 3\n\n'
    assert [event.event for event in decoded(body)] == ['ping', 'message', 'message']


def test_an_id_holds_for_later_events_until_it_is_replaced() -> None:
    body = b'id: 7\ndata: a\n\ndata: b\n\nid\ndata: c\n\nid: x\0y\ndata: d\n\n'
    assert [event.id for event in decoded(body)] == ['7', '7', '', '']


@pytest.mark.parametrize(
    ('value', 'expected'),
    [('10', 10), ('-1', None), ('1.5', None), ('', None), ('٣', None), ('9' * 5000, None)],
)
def test_retry_is_a_number_of_ascii_digits(value: str, expected: int | None) -> None:
    assert [event.retry for event in decoded(f'retry: {value}\ndata: a\n\ndata: b\n\n'.encode())] == [expected, None]


fields = st.sampled_from(
    [
        b'data: a',
        b'data:',
        b'data',
        b'data:  {"x":1}',
        b'event: e',
        b'id: 1',
        b'id',
        b': c',
        b'retry: 5',
        b'',
        b'',
        b'x',
    ]
)
ends = st.sampled_from([b'\n', b'\r\n', b'\r'])


@given(lines=st.lists(st.tuples(fields | st.binary(max_size=6), ends), max_size=30))
@example([(b'\xef\xbb', b'\n')])
def test_events_are_those_of_the_standard_however_the_bytes_are_cut(lines: list[tuple[bytes, bytes]]) -> None:
    body = b''.join(line + end for line, end in lines)
    expected = slow_reference(body)
    assert decoded(body) == expected
    assert decoded(*bytewise(body)) == expected


@given(body=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=8))
def test_any_bytes_give_the_same_events_however_they_are_cut(body: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(body), *[min(cut, len(body)) for cut in cuts]})
    pieces = [body[a:b] for a, b in pairwise(edges)]
    assert decoded(*pieces, finish=True) == decoded(body, finish=True)


def test_finish_gives_the_event_whose_lines_are_whole() -> None:
    assert [event.data for event in decoded(b'data: a\n\ndata: [DONE]\n', finish=True)] == ['a', '[DONE]']
    assert [event.data for event in decoded(b'data: a\r\n\r\ndata: b\r', finish=True)] == ['a', 'b']


def test_finish_drops_a_line_that_may_have_been_cut() -> None:
    assert decoded(b'data: {"text": "he', finish=True) == []
    assert [event.data for event in decoded(b'data: a\ndata: b', finish=True)] == ['a']


def test_an_event_beyond_the_bound_is_a_clear_error_in_one_piece_and_in_many() -> None:
    body = b'data: ' + b'x' * 200 + b'\n\n'
    for chunks in ([body], bytewise(body)):
        decoder = SSEDecoder(max_event_bytes=100)
        with pytest.raises(LamellaError, match='more than 100 bytes: raise max_event_bytes') as caught:
            [decoder.feed(chunk) for chunk in chunks]
        assert caught.value.status == 'OUT_OF_RANGE'


def test_many_small_events_may_exceed_the_bound_together() -> None:
    decoder = SSEDecoder(max_event_bytes=100)
    assert len(decoder.feed(b'data: 0123456789\n\n' * 100)) == 100


def test_a_huge_event_of_many_lines_and_many_pieces_arrives_whole() -> None:
    line = b'data: ' + b'x' * 94 + b'\n'
    body = line * 20_000 + b'\n'
    events = decoded(*[body[i : i + 1000] for i in range(0, len(body), 1000)])
    assert len(events) == 1
    assert len(events[0].data) == 20_000 * 95 - 1


@given(
    data=st.text(st.characters(exclude_categories=['Cs'])),
    event=st.none() | st.text(st.characters(exclude_categories=['Cs'], exclude_characters='\n\r\0'), min_size=1),
    retry=st.none() | st.integers(0, 10**14),
)
def test_what_is_encoded_is_read_back(data: str, event: str | None, retry: int | None) -> None:
    [found] = decoded(encode_event(data, event, id='7', retry=retry))
    one_line_end = data.replace('\r\n', '\n').replace('\r', '\n')
    assert found == Event(event or 'message', one_line_end, '7', retry)


def test_bytes_are_taken_as_they_are() -> None:
    assert encode_event(b'{"a":1}') == b'data: {"a":1}\n\n'
    assert encode_event(b'a\nb', 'e') == b'event: e\ndata: a\ndata: b\n\n'


@pytest.mark.parametrize('bad', ['a\nb', 'a\rb', 'a\0b'])
def test_a_name_of_two_lines_is_refused(bad: str) -> None:
    with pytest.raises(LamellaError, match='one line') as caught:
        encode_event('x', bad)
    assert caught.value.status == 'INVALID_ARGUMENT'


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(LamellaError, match='lone surrogate at 1'):
        encode_event('a\ud800')


def test_a_comment_is_read_as_nothing() -> None:
    assert decoded(encode_comment('keep-alive'), encode_event('a')) == [Event('message', 'a')]
