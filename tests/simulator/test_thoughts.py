"""What is thought, how it is counted, and what it leaves of the token limit."""

import pytest

from lamella.simulator import Answer
from lamella.simulator.answers import Reply, scripted
from lamella.simulator.brain import answer
from lamella.simulator.schedule import Moment
from lamella.simulator.thoughts import SELF, after, thought_of
from lamella.simulator.tokens import count_text
from lamella.types import (
    GenerationConfig,
    Message,
    ModelRequest,
    OutputSpec,
    ToolChoice,
    ToolDefinition,
    ToolResponse,
)

REQUEST = ModelRequest((Message.user('Bees make honey. It keeps for years. Rain fell on Monday.'),))
TOOL = ToolDefinition('count_bees', 'How many bees there are')


def limited(limit: int) -> ModelRequest:
    return REQUEST.replace(config=GenerationConfig(max_output_tokens=limit))


@pytest.mark.parametrize(
    ('request_', 'plan'),
    [
        (REQUEST, 'I pick the sentences of the prompt that say most'),
        (REQUEST.replace(output=OutputSpec('json', {'type': 'integer'})), 'I fill the wanted schema from the prompt'),
        (
            REQUEST.replace(tools=(TOOL,), tool_choice=ToolChoice('required')),
            'I call count_bees with what the prompt says',
        ),
        (
            REQUEST.replace(messages=(*REQUEST.messages, Message.tool(ToolResponse('count_bees', 3)))),
            'I quote what the tools answered',
        ),
    ],
)
def test_the_thought_says_what_the_simulator_does(request_: ModelRequest, plan: str) -> None:
    thought = thought_of(request_, Reply(answer(request_)))
    assert thought.startswith(SELF)
    assert thought.endswith(f'{plan}.')


def test_a_scripted_answer_is_not_passed_off_as_thought_up() -> None:
    reply = scripted([Answer(text='Buzz.')], REQUEST, Moment('m', 1))
    assert reply is not None
    assert thought_of(REQUEST, reply).endswith('I say what my script says.')


def test_the_thought_is_counted_as_reasoning_and_as_output() -> None:
    reply = Reply(answer(REQUEST))
    before, usage = reply.response.usage, after('I think.', REQUEST, reply).response.usage
    assert before is not None
    assert usage is not None
    assert usage.reasoning_tokens == count_text('I think.')
    assert usage.output_tokens == (before.output_tokens or 0) + count_text('I think.')
    assert usage.input_tokens == before.input_tokens
    assert usage.total_tokens == (usage.input_tokens or 0) + (usage.output_tokens or 0)


@pytest.mark.parametrize('limit', [1, 5, 15, 25, 30, 35])
def test_thought_and_answer_share_the_token_limit(limit: int) -> None:
    request = limited(limit)
    reply = Reply(answer(request))
    thought = thought_of(request, reply)
    response = after(thought, request, reply).response
    assert response.finish_reason == 'length'
    assert count_text(thought) + count_text(response.text) <= limit
    assert response.usage is not None
    assert response.usage.output_tokens == count_text(thought) + count_text(response.text)


def test_a_limit_that_the_thought_uses_up_leaves_no_answer() -> None:
    request = limited(5).replace(tools=(TOOL,), tool_choice=ToolChoice('required'))
    reply = Reply(answer(request))
    response = after(thought_of(request, reply), request, reply).response
    assert response.message.content == ()


def test_scripted_pieces_stay_pieces_unless_the_limit_cuts_them() -> None:
    request = limited(40)
    reply = scripted([Answer(text=['Buzz', ' buzz.'])], request, Moment('m', 1))
    assert reply is not None
    assert after('I think.', request, reply).pieces == ('Buzz', ' buzz.')
    assert after('I think. ' * 13, request, reply).pieces is None
