"""Structured output in words, for models that have none of their own."""

from lamella import Message
from lamella.core.model import ModelInfo
from lamella.core.wording import ask_in_words, with_instruction
from lamella.testing import ScriptedModel
from lamella.types import ModelRequest, OutputSpec

HI = (Message.user('hi'),)
PLAIN = ScriptedModel(info=ModelInfo())


def test_a_model_with_its_own_way_and_a_text_answer_need_no_words() -> None:
    for request, model in [
        (ModelRequest(HI), PLAIN),
        (ModelRequest(HI, output=OutputSpec('text')), PLAIN),
        (ModelRequest(HI, output=OutputSpec('json')), ScriptedModel()),
    ]:
        assert ask_in_words(request, model) is request


def test_the_wish_is_a_system_message_of_its_own_or_at_the_end_of_the_first() -> None:
    assert with_instruction(HI, 'be good') == (Message.system('be good'), *HI)
    system = Message.system('You are kind.', metadata={'k': 1})
    first, rest = with_instruction((system, *HI), 'be good')
    assert (first.text, first.metadata, rest) == ('You are kind.\n\nbe good', {'k': 1}, HI[0])
    assert with_instruction((), 'be good') == (Message.system('be good'),)


def test_the_schema_is_spelled_out_where_there_is_one() -> None:
    schema = {'type': 'object', 'properties': {'größe': {'type': 'integer'}}}
    asked = ask_in_words(ModelRequest(HI, output=OutputSpec('json', schema)), PLAIN)
    assert '"größe"' in asked.messages[0].text
    assert 'Schema' not in ask_in_words(ModelRequest(HI, output=OutputSpec('json')), PLAIN).messages[0].text
