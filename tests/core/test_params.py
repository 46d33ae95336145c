"""What hooks are given: frozen, and changed by copying."""

import pytest

from lamella import Message, Tool
from lamella.core.params import GenerateHookParams, ModelHookParams, RunHookParams, ToolHookParams
from lamella.testing import ScriptedModel
from lamella.types import ModelRequest, ToolRequest, ToolRequestPart

REQUEST, MODEL = ModelRequest((Message.user('x'),)), ScriptedModel()


@pytest.mark.parametrize(
    'params',
    [
        ModelHookParams(REQUEST, MODEL), GenerateHookParams(REQUEST, MODEL), RunHookParams(REQUEST, MODEL, 5),
        ToolHookParams(ToolRequestPart(ToolRequest('t')), Tool('t', run=print)),
    ],
    ids=lambda params: type(params).__name__,
)  # fmt: skip
def test_params_cannot_be_changed_in_place_and_refuse_unknown_fields(params) -> None:
    name = params.__struct_fields__[0]
    with pytest.raises(AttributeError):
        setattr(params, name, None)
    with pytest.raises(TypeError, match='no_such_field'):
        params.replace(no_such_field=1)
    copy = params.replace(**{name: getattr(params, name)})
    assert copy is not params


def test_the_short_ways_lead_to_the_same() -> None:
    request = ToolRequest('t', {'a': 1}, 'r')
    assert ToolHookParams(ToolRequestPart(request), Tool('t', run=print)).tool_request is request
    assert RunHookParams(REQUEST, MODEL, 5).messages is REQUEST.messages
