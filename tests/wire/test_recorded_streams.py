"""Streams of every protocol, however the network and the server's line ends cut them: the right parts, or one clear error."""

import pytest

from lamella.types import Finished, LamellaError, StreamPart
from tests.wire.recorded_streams import STREAMS, Recorded

streams = pytest.mark.parametrize('stream', [pytest.param(stream, id=stream.name) for stream in STREAMS])
RICHEST = {'chat: parallel tool calls', 'responses: tools', 'anthropic: tools', 'gemini'}


def richest() -> list[object]:
    found = [pytest.param(stream, id=stream.name) for stream in STREAMS if stream.name in RICHEST]
    assert len(found) == len(RICHEST)
    return found


@pytest.mark.parametrize('stream', richest())
def test_a_stream_cut_at_every_byte_gives_the_same_parts(stream: Recorded) -> None:
    body = stream.body
    whole = stream.protocol.parts([body])
    assert isinstance(whole[-1], Finished)
    for at in range(1, len(body)):
        assert stream.protocol.parts([body[:at], body[at:]]) == whole, body[:at][-20:]


@streams
def test_a_stream_that_comes_byte_by_byte_gives_the_same_parts(stream: Recorded) -> None:
    body = stream.body
    assert stream.protocol.parts([body[at : at + 1] for at in range(len(body))]) == stream.protocol.parts([body])


def with_comments(body: bytes) -> bytes:
    return b': begin\n\n' + body.replace(b'\n\n', b'\n: keep-alive\n\n:\n\n')


def on_many_lines(body: bytes) -> bytes:
    """Each event's JSON on two lines of data, broken where JSON allows a line end."""
    return body.replace(b'data: {', b'data: {\ndata: ')


CHANGES = {
    'crlf': lambda body: body.replace(b'\n', b'\r\n'),
    'cr': lambda body: body.replace(b'\n', b'\r'),
    'comments': with_comments,
    'several lines of data': on_many_lines,
    'no space after the colon': lambda body: body.replace(b'data: ', b'data:').replace(b'event: ', b'event:'),
    'a mark at the beginning': lambda body: b'\xef\xbb\xbf' + body,
    'fields nobody knows': lambda body: body.replace(b'data: ', b'shape: round\nid: 7\nretry: 10\ndata: '),
    'no blank line at the end': lambda body: body[:-1],
}


@pytest.mark.parametrize('change', CHANGES)
@streams
def test_ways_to_write_the_same_events_give_the_same_parts(stream: Recorded, change: str) -> None:
    changed = CHANGES[change](stream.body)
    whole = stream.protocol.parts([stream.body])
    assert stream.protocol.parts([changed]) == whole
    assert stream.protocol.parts([changed[at : at + 1] for at in range(len(changed))]) == whole


@pytest.mark.parametrize('stream', richest())
def test_a_stream_that_breaks_off_anywhere_is_one_error_or_whole(stream: Recorded) -> None:
    """A body that ends is the end of the answer or a failure, never a shorter answer that looks complete."""
    body = stream.body
    whole = without_the_end(stream.protocol.parts([body]))
    for at in range(len(body)):
        outcome = read(stream, body[:at])
        if isinstance(outcome, LamellaError):
            assert outcome.status == 'UNAVAILABLE', body[:at][-20:]
        else:
            assert without_the_end(outcome) == whole


def read(stream: Recorded, body: bytes) -> list[StreamPart] | LamellaError:
    """The parts, or the error. Anything else that is raised fails the test."""
    try:
        return stream.protocol.parts([body])
    except LamellaError as error:
        return error


def without_the_end(parts: list[StreamPart]) -> list[StreamPart]:
    """The last events may only count tokens."""
    return [part for part in parts if not isinstance(part, Finished)]


@pytest.mark.parametrize('junk', [b'\xff\xfe', b'\xed\xa0\x80', b'\x00'])
@streams
def test_bytes_that_are_no_text_are_parts_or_one_error(stream: Recorded, junk: bytes) -> None:
    body = stream.body
    for at in range(0, len(body), max(1, len(body) // 40)):
        outcome = read(stream, body[:at] + junk + body[at:])
        assert outcome.message if isinstance(outcome, LamellaError) else outcome


@streams
def test_a_huge_event_is_read_whole(stream: Recorded) -> None:
    """A megabyte of white space, which JSON allows, in each of the events that has JSON."""
    first, *rest = stream.events
    events = [first.replace(data=first.data[:-1] + ' ' * 2**20 + '}'), *rest]
    body = Recorded('', stream.protocol, events).body
    pieces = [body[at : at + 65536] for at in range(0, len(body), 65536)]
    assert stream.protocol.parts(pieces) == stream.protocol.parts([stream.body])
