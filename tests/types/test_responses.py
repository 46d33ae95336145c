"""Responses."""

from lamella.types import (
    GenerateResponse,
    Message,
    ModelResponse,
    ReasoningPart,
    ToolRequest,
    ToolRequestPart,
    Usage,
)


def test_a_text_is_a_response_in_one_word() -> None:
    response = ModelResponse.text_of('hi', model='m', usage=Usage(1))
    assert (response.text, response.model, response.usage, response.finish_reason) == ('hi', 'm', Usage(1), 'stop')
    assert GenerateResponse.text_of('hi').text == 'hi'


def test_reasoning_and_requests_are_picked_out_of_the_message() -> None:
    call = ToolRequestPart(ToolRequest('t'))
    response = ModelResponse(message=Message.assistant(ReasoningPart('h'), 'a', call, ReasoningPart('m')))
    assert (response.text, response.reasoning, response.tool_requests) == ('a', 'hm', (call,))


def test_an_empty_response_is_an_assistants() -> None:
    assert ModelResponse().message == Message('assistant')
    assert GenerateResponse().stop_reason == 'final'


def test_responses_do_not_share_their_metadata() -> None:
    first, second = ModelResponse(), ModelResponse()
    first.metadata['a'] = 1
    assert second.metadata == {}
