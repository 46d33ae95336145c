"""`Fallback` around whole calls: which models in which order, what each may see, and what is said of it."""

import asyncio
import gc
from random import Random
from typing import Any

import pytest

from lamella import Lamella, LamellaError, ModelRef, ModelResponse, Usage, wrap_language_model
from lamella.core.model import Model, ModelInfo
from lamella.middleware import BaseMiddleware, Fallback, ModelFallback
from lamella.middleware.resilience.fallback import MAX_COOLING, FallbackConfig, _Cooling
from lamella.testing import ScriptedModel
from lamella.types import STATUSES, TRANSIENT, ConfigError, GenerationConfig, Rejected, ToolRequest, UnknownNameError
from tests.middleware.kit import HeldClock, down, no_leaks, world

LISTED = (*TRANSIENT, 'NOT_FOUND', 'UNIMPLEMENTED')


# ── which errors, which models ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('status', LISTED)
async def test_a_listed_failure_leads_to_the_next_model(status: Any) -> None:
    app = world({'x/a': [down(status)], 'x/b': ['hello']})
    response = await app.answer(Fallback(models=['x/b']))
    assert (response.text, response.model, app.asked, app.clock.slept) == ('hello', 'x/b', 'ab', [])


@pytest.mark.parametrize('status', [status for status in STATUSES if status not in LISTED])
async def test_any_other_failure_is_raised_at_once(status: Any) -> None:
    app = world({'x/a': [down(status)], 'x/b': []})
    assert (await app.answer(Fallback(models=['x/b']))).status == status
    assert (app.asked, app.told) == ('a', [])


async def test_the_models_are_asked_in_order_and_one_that_is_listed_again_is_asked_again() -> None:
    app = world({'x/a': [down(), down(), 'at last'], 'x/b': [down()]})
    response = await app.answer(Fallback(models=['x/b', 'x/a', 'x/a']))
    assert (response.text, app.asked) == ('at last', 'abaa')


async def test_when_all_have_failed_the_last_error_itself_is_raised_with_every_attempt() -> None:
    last = LamellaError('INTERNAL', 'three')
    app = world({'x/a': [down(message='one')], 'x/b': [down('ABORTED', 'two')], 'x/c': [last]})
    error = await app.answer(Fallback(models=['x/b', 'x/c']))
    assert error is last
    assert [(tried.model, tried.message) for tried in error.attempts] == [
        ('x/a', 'one'),
        ('x/b', 'two'),
        ('x/c', 'three'),
    ]
    assert app.told == ['fallback.switch', 'fallback.switch', 'fallback.exhausted']


async def test_a_failure_that_is_not_listed_ends_the_line() -> None:
    app = world({'x/a': [down()], 'x/b': [down('UNAUTHENTICATED')], 'x/c': []})
    assert (await app.answer(Fallback(models=['x/b', 'x/c']))).status == 'UNAUTHENTICATED'
    assert app.asked == 'ab'


@pytest.mark.parametrize('bug', [TypeError('bug'), ValueError('bug')])
async def test_a_programming_error_never_leads_to_another_model(bug: Exception) -> None:
    app = world({'x/a': [bug], 'x/b': []})
    with pytest.raises(type(bug)):
        await app.ai.generate(prompt='hi', use=[Fallback(models=['x/b'], statuses=STATUSES)])


@pytest.mark.parametrize('mistake', [ConfigError('no key'), UnknownNameError('model', 'x', [])])
async def test_a_mistake_in_the_settings_is_not_papered_over_by_another_model(mistake: LamellaError) -> None:
    app = world({'x/a': [mistake], 'x/b': []})
    assert await app.answer(Fallback(models=['x/b'], statuses=STATUSES)) is mistake


class Breaker(BaseMiddleware):
    """Refuses one model."""

    async def wrap_model(self, params, ctx, next_fn):
        if params.model.name == 'x/a':
            raise Rejected('open', by=self, status='UNAVAILABLE')
        return await next_fn(params, ctx)


async def test_a_refusal_by_a_layer_inside_leads_to_the_next_model_and_cools_nothing_down() -> None:
    app, layer = world({'x/a': [], 'x/b': ['one', 'two']}), Fallback(models=['x/b'], cooldown_s=60)
    assert (await app.answer(layer, Breaker())).text == 'one'
    assert (await app.answer(layer, Breaker())).text == 'two'
    assert app.sink.named('fallback.cooling') == []


# ── what an answer says of it ───────────────────────────────────────────────────────────────────────────────────────


async def test_the_answer_of_a_fallback_says_so() -> None:
    answer = ModelResponse.text_of('hello', metadata={'own': 1})
    app = world({'x/a': [down('RESOURCE_EXHAUSTED')], 'x/b': [down('INTERNAL')], 'x/c': [answer]})
    response = await app.answer(Fallback(models=['x/b', 'x/c']))
    assert response.metadata == {
        'own': 1,
        'fallback': {
            'fallback_triggered': True,
            'original_model': 'x/a',
            'fallback_model': 'x/c',
            'fallback_attempt': 2,
            'error_code': 'RESOURCE_EXHAUSTED',
        },
    }


async def test_the_answer_of_the_first_model_says_nothing() -> None:
    app = world({'x/a': ['hello'], 'x/b': []})
    response = await app.answer(Fallback(models=['x/b']))
    assert (response.metadata, app.asked, app.told) == ({}, 'a', [])


async def test_switches_are_told_with_both_models_and_the_error() -> None:
    app = world({'x/a': [down(message='gone')], 'x/b': ['hello']})
    await app.answer(Fallback(models=['x/b']))
    (switch,) = app.sink.named('fallback.switch')
    assert (switch.facts['from_model'], switch.facts['to_model'], switch.facts['error'].message) == (
        'x/a',
        'x/b',
        'gone',
    )


async def test_what_a_failed_model_cost_is_in_the_usage_where_the_error_tells() -> None:
    paid = ModelResponse(usage=Usage(10, 3, 13))
    app = world({'x/a': [down(partial=paid)], 'x/b': [ModelResponse.text_of('hello', usage=Usage(10, 5, 15))]})
    assert (await app.answer(Fallback(models=['x/b']))).usage == Usage(20, 8, 28)


async def test_every_turn_begins_with_the_first_model_again() -> None:
    def look() -> str:
        return 'seen'

    app = world({'x/a': [down(), 'done'], 'x/b': [ToolRequest('look')]})
    assert (await app.answer(Fallback(models=['x/b']), tools=[look])).text == 'done'
    assert app.asked == 'aba'


# ── what each model is ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_fallback_may_be_a_name_a_reference_a_model_or_a_function() -> None:
    async def spoken(request: Any, ctx: Any) -> ModelResponse:
        return ModelResponse.text_of('from a function')

    model = ScriptedModel([down()], name='y/c')
    app = world({'x/a': [down()], 'x/b': [down()], 'x/d': [down()]})
    response = await app.answer(Fallback(models=['x/b', model, ModelRef('x/d'), spoken]))
    assert (response.text, response.model, app.asked[:-1]) == ('from a function', 'spoken', 'abcd')


async def test_a_reference_brings_settings_of_its_own_under_those_of_the_call() -> None:
    app = world({'x/a': [down()], 'x/b': ['hello']})
    ref = ModelRef('x/b', config={'temperature': 0.9, 'max_output_tokens': 7}, provider_options={'x': {'tier': 'low'}})
    await app.answer(Fallback(models=[ref]), config={'temperature': 0.1})
    (asked,) = app.models['x/b'].requests
    assert asked.config == GenerationConfig(temperature=0.1, max_output_tokens=7)
    assert asked.provider_options == {'x': {'tier': 'low'}}


async def test_the_settings_of_the_first_model_do_not_reach_its_fallback() -> None:
    ref = ModelRef('x/a', config={'temperature': 0.9}, provider_options={'x': {'key': 'of a'}})
    app = world({'x/a': [down()], 'y/b': ['hello']})
    await app.answer(Fallback(models=['y/b']), model=ref)
    (asked,) = app.models['y/b'].requests
    assert (asked.config, asked.provider_options) == (GenerationConfig(), {})


async def test_a_fallback_of_another_vendor_sees_its_own_options_and_not_those_of_the_others() -> None:
    app = world({'x/a': [down()], 'x/b': [down()], 'y/c': [down()], 'z/d': ['hello']})
    options = {'x': {'key': 1}, 'y': {'key': 2}, 'z': {'key': 3}, 'trace': {'id': 4}}
    await app.answer(Fallback(models=['x/b', 'y/c', 'z/d']), provider_options=options)
    seen = {name: set(model.requests[0].provider_options) for name, model in app.models.items()}
    assert seen == {
        'x/a': {'x', 'y', 'z', 'trace'},  # the first model is asked what the caller asked
        'x/b': {'x', 'trace'},
        'y/c': {'y', 'trace'},
        'z/d': {'z', 'trace'},
    }


class OtherKeys(ScriptedModel):
    """A model whose options are not under its provider's name."""

    option_keys = ('google', 'gemini')  # type: ignore[assignment]


async def test_options_are_told_apart_by_the_keys_that_a_model_reads() -> None:
    app = world({'x/a': [down(), down()]})
    options = {'google': {'safety': 1}, 'gemini': {}, 'x': {'user': 'u'}}
    google, other = OtherKeys(['hello'], name='googleai/g'), ScriptedModel(['hello'], name='y/o')
    await app.answer(Fallback(models=[google]), provider_options=options)
    assert set(google.requests[0].provider_options) == {'google', 'gemini'}
    await app.answer(Fallback(models=[other]), model=OtherKeys([down()], name='googleai/f'), provider_options=options)
    assert set(other.requests[0].provider_options) == {'x'}


async def test_models_of_one_vendor_that_read_other_keys_hide_nothing_from_each_other() -> None:
    plain = ScriptedModel(['hello'], name='googleai/g')
    app = world({'x/a': []})
    first = OtherKeys([down()], name='googleai/f')
    await app.answer(Fallback(models=[plain]), model=first, provider_options={'google': {}, 'googleai': {}})
    assert set(plain.requests[0].provider_options) == {'google', 'googleai'}


async def test_options_that_several_vendors_read_are_shown_to_each() -> None:
    class Shared(ScriptedModel):
        option_keys = ('openai',)  # type: ignore[assignment]

    second = Shared(['hello'], name='azure/g')
    app = world({'openai/a': [down()]})
    await app.answer(Fallback(models=[second]), provider_options={'openai': {'user': 'u'}})
    assert set(second.requests[0].provider_options) == {'openai'}


async def test_a_fallback_with_layers_of_its_own_reads_the_options_of_the_model_inside() -> None:
    inner = OtherKeys(['hello'], name='googleai/g')
    wrapped = wrap_language_model(model=inner, middleware=Breaker(), provider_id='mine', model_id='g')
    app = world({'x/a': [down()]})
    await app.answer(Fallback(models=[wrapped]), provider_options={'google': {'safety': 1}, 'x': {}})
    assert set(inner.requests[0].provider_options) == {'google'}


async def test_an_unknown_model_is_an_error_before_the_first_call() -> None:
    app = world({'x/a': ['never asked'], 'x/bee': []})
    error = await app.answer(Fallback(models=['x/bee', 'x/be']))
    assert isinstance(error, UnknownNameError)
    assert ("unknown model 'x/be'" in error.message, app.asked) == (True, '')


async def test_an_unknown_model_is_no_reason_for_a_fallback_outside_to_move_on() -> None:
    app = world({'x/a': ['never asked'], 'x/b': ['never asked']})
    error = await app.answer(Fallback(models=['x/b']), Fallback(models=['x/nowhere']))
    assert (type(error), app.asked) == (UnknownNameError, '')


async def test_one_instance_finds_its_models_in_each_app_that_uses_it() -> None:
    layer = Fallback(models=['x/b'])
    for text in ('one', 'two'):
        assert (await world({'x/a': [down()], 'x/b': [text]}).answer(layer)).text == text


async def test_an_app_is_not_kept_alive_by_a_layer_that_it_used() -> None:
    layer = Fallback(models=['x/b'])
    app = world({'x/a': ['one'], 'x/b': []})
    await app.answer(layer)
    assert len(layer._resolved) == 1
    del app
    gc.collect()
    assert len(layer._resolved) == 0


async def test_it_works_fixed_on_a_model_that_is_itself_a_fallback() -> None:
    inner = wrap_language_model(model='x/b', middleware=Fallback(models=['x/c']))
    app = world({'x/a': [down()], 'x/b': [down()], 'x/c': ['hello']})
    response = await app.answer(Fallback(models=[inner]))
    assert (response.text, app.asked) == ('hello', 'abc')


# ── the cool-down ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_without_a_cool_down_every_call_begins_with_the_first_model() -> None:
    app, layer = world({'x/a': [down(), 'well again'], 'x/b': ['hello']}), Fallback(models=['x/b'])
    await app.answer(layer)
    assert (await app.answer(layer)).text == 'well again'


async def test_a_model_that_failed_is_passed_over_until_it_has_cooled_down() -> None:
    app = world({'x/a': [down('RESOURCE_EXHAUSTED'), 'well again'], 'x/b': ['one', 'two', 'three']})
    layer = Fallback(models=['x/b'], cooldown_s=60)
    assert (await app.answer(layer)).text == 'one'
    await app.clock.advance(59)
    second = await app.answer(layer)
    await app.clock.advance(1)
    third = await app.answer(layer)
    assert (second.text, third.text, app.asked) == ('two', 'well again', 'abba')
    assert second.metadata['fallback'] == {
        'fallback_triggered': True,
        'original_model': 'x/a',
        'fallback_model': 'x/b',
        'fallback_attempt': 1,
        'error_code': 'RESOURCE_EXHAUSTED',
    }
    (cooling,) = app.sink.named('fallback.cooling')
    assert cooling.facts == {'model': 'x/a', 'status': 'RESOURCE_EXHAUSTED', 'remaining_s': 1.0}


async def test_a_model_that_cools_down_is_asked_when_all_others_have_failed() -> None:
    app = world({'x/a': [down(), 'well again'], 'x/b': ['one', down()]})
    layer = Fallback(models=['x/b'], cooldown_s=60)
    await app.answer(layer)
    response = await app.answer(layer)
    assert (response.text, response.metadata, app.asked) == ('well again', {}, 'abba')


async def test_when_all_models_cool_down_all_are_asked_in_their_order() -> None:
    app = world({'x/a': [down(), down()], 'x/b': [down(), 'at last']})
    layer = Fallback(models=['x/b'], cooldown_s=60)
    assert (await app.answer(layer)).status == 'UNAVAILABLE'
    assert (await app.answer(layer)).text == 'at last'
    assert app.asked == 'abab'


async def test_a_model_that_answers_is_well_again() -> None:
    app = world({'x/a': [down(), 'well', 'well'], 'x/b': [down()]})
    layer = Fallback(models=['x/b'], cooldown_s=60)
    for _ in range(3):
        await app.answer(layer)
    assert app.asked == 'abaa'


async def test_a_failure_that_is_not_listed_cools_nothing_down() -> None:
    app = world({'x/a': [down('INVALID_ARGUMENT'), 'hello'], 'x/b': []})
    layer = Fallback(models=['x/b'], cooldown_s=60)
    await app.answer(layer)
    assert (await app.answer(layer)).text == 'hello'


async def test_a_cool_down_of_zero_seconds_is_none() -> None:
    app = world({'x/a': [down(), 'hello'], 'x/b': ['one']})
    layer = Fallback(models=['x/b'], cooldown_s=0)
    await app.answer(layer)
    assert (await app.answer(layer)).text == 'hello'


def test_what_is_remembered_of_failed_models_has_a_bound() -> None:
    cooling = _Cooling()
    for n in range(3 * MAX_COOLING):
        cooling.cool(f'x/{n}', float(n), 1e9, 'UNAVAILABLE')
    assert len(cooling.until) == MAX_COOLING
    assert cooling.of(f'x/{3 * MAX_COOLING - 1}', 0.0) is not None


# ── company and cancellation ────────────────────────────────────────────────────────────────────────────────────────


async def test_two_hundred_runs_share_one_instance() -> None:
    layer = Fallback(models=['x/b', 'x/c'], cooldown_s=60)

    async def by_prompt(request: Any) -> Any:
        await asyncio.sleep(0)
        return LamellaError('UNAVAILABLE', 'down') if int(request.messages[0].text) % 2 else 'from a'

    app = world({'x/a': [by_prompt], 'x/b': [down()], 'x/c': ['from c']}, repeat=True)
    responses = await asyncio.gather(*[app.ai.generate(prompt=str(n), use=[layer]) for n in range(200)])
    for n, response in enumerate(responses):
        assert response.text == ('from c' if n % 2 else 'from a')


async def test_a_cancelled_call_asks_no_further_model() -> None:
    clock = HeldClock()

    async def stuck(request: Any) -> str:
        await clock.sleep(100)
        return 'too late'

    app = world({'x/a': [stuck], 'x/b': ['never asked']}, clock=clock)
    layer = Fallback(models=['x/b'], cooldown_s=60, statuses=STATUSES)
    async with no_leaks():
        call = asyncio.create_task(app.ai.generate(prompt='hi', use=[layer]))
        await clock.somebody_sleeps()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert (app.asked, layer._cooling.until) == ('a', {})


# ── settings ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({}, 'Fallback: models: Field required'),
        ({'models': []}, 'models: Value error, is empty: name at least one model to fall back to'),
        ({'models': 'x/b'}, "models: Value error, is the string 'x/b': write a list of models, such as ['x/b']"),
        ({'models': None}, 'models: Value error, is a NoneType: write a list of models'),
        ({'models': ['']}, "models[0] is '': give a name such as 'openai/gpt-5', a ModelRef, a Model or a function"),
        ({'models': ['x/b', ...]}, 'models[1] is Ellipsis: give a name'),
        ({'models': [ScriptedModel]}, "models[0] is <class 'lamella.testing.model.ScriptedModel'>: give a name"),
        ({'models': [ModelRef('x/b', {'temprature': 1})]}, "unknown setting 'temprature': did you mean 'temperature'?"),
        ({'models': ['x/b'], 'cooldown_s': -1}, 'cooldown_s: Input should be greater than or equal to 0 (given -1)'),
        ({'models': ['x/b'], 'on_partial': 'continue'}, "on_partial: Input should be 'raise' or 'restart'"),
        ({'models': ['x/b'], 'statuses': ['NOTFOUND']}, "unknown status 'NOTFOUND': did you mean 'NOT_FOUND'"),
        ({'model': ['x/b']}, "unknown setting 'model': did you mean 'models'?"),
    ],
)
def test_settings_that_cannot_work_are_refused_when_built(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Fallback(**options)
    assert problem in caught.value.message


def test_model_fallback_is_another_name_for_the_same_layer() -> None:
    assert ModelFallback is Fallback
    assert FallbackConfig(models=['x/b']).models == ('x/b',)


def test_the_models_may_be_in_any_kind_of_list() -> None:
    model: Model = ScriptedModel()
    for models in (['x/b', model], ('x/b', model), iter(['x/b', model])):
        assert Fallback(models=models).config.models == ('x/b', model)  # type: ignore[arg-type]


def test_an_app_may_have_it_around_every_call() -> None:
    layer = Fallback(models=['x/b'])
    app = world({'x/a': [down()], 'x/b': ['hello']}, use=[layer], random=Random(1))
    assert isinstance(app.ai, Lamella)
    assert asyncio.run(app.answer()).text == 'hello'


async def test_a_fallback_that_holds_no_schema_itself_is_asked_for_it_in_words() -> None:
    spare = ScriptedModel(['{"n": 1}'], name='y/spare', info=ModelInfo(structured_output='instructions'))
    app = world({'x/a': [down()]})
    schema = {'type': 'object', 'properties': {'n': {'type': 'integer'}}}
    response = await app.answer(Fallback(models=[spare]), output_schema=schema)
    assert response.output == {'n': 1}
    assert '"integer"' in spare.requests[0].messages[0].text
    assert len(app.models['x/a'].requests[0].messages) == 1
