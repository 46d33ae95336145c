"""`PIIRedaction`: what the model, the reader, the tools and the caller see."""

import asyncio
import json
import re
from typing import Any

import pytest
from pydantic import BaseModel

from lamella import Lamella, ToolError, deny_tool, restart_tool, wrap_language_model
from lamella.core.embedding import EmbeddingModel
from lamella.middleware import BaseMiddleware, PIIRedaction, Retry, ToolApproval
from lamella.testing import CollectingSink, ScriptedModel
from lamella.types import (
    ConfigError,
    EmbeddingResponse,
    Finished,
    Interrupt,
    LamellaError,
    MediaPart,
    Message,
    ModelResponse,
    ReasoningPart,
    Rejected,
    Source,
    StopRun,
    TextPart,
    ToolRequest,
    ToolRequestPart,
    ToolResponse,
    ToolResponsePart,
)
from tests.middleware.kit import both, no_leaks

ANNA, BOB, CARD = 'anna@example.com', 'bob@example.org', '4111 1111 1111 1111'
TOKEN = re.compile(r'<[A-Z_]+_\d+_[a-z2-7]{8}>')


def app(*answers: Any, use: Any = None, **options: Any) -> tuple[Lamella, ScriptedModel, CollectingSink]:
    model, sink = ScriptedModel(list(answers)), CollectingSink()
    layers = [PIIRedaction()] if use is None else use
    return Lamella(model=model, sinks=[sink], use=layers, **options), model, sink


def asked(model: ScriptedModel, at: int = -1) -> str:
    return ' | '.join(message.text for message in model.requests[at].messages)


async def test_the_model_sees_masks_and_the_caller_keeps_his_words() -> None:
    ai, model, sink = app(f'I wrote to {BOB}.')
    response = await ai.generate(prompt=f'Mail {ANNA} from {CARD}', system=f'You serve {BOB}.')
    assert asked(model) == 'You serve [EMAIL]. | Mail [EMAIL] from [CARD]'
    assert response.text == 'I wrote to [EMAIL].'
    assert response.messages[1].text == f'Mail {ANNA} from {CARD}'
    assert response.metadata['pii_redaction'] == {'input': {'email': 2, 'card': 1}, 'output': {'email': 1}}
    told = [event.facts for event in sink.named('pii_redaction.found')]
    assert told == [
        {'where': 'input', 'entities': {'email': 2, 'card': 1}},
        {'where': 'output', 'entities': {'email': 1}},
    ]


async def test_an_answer_with_nothing_in_it_is_not_noted() -> None:
    ai, _, sink = app('fine')
    response = await ai.generate(prompt='how are you?')
    assert response.metadata == {}
    assert sink.named('pii_redaction.found') == []


async def test_with_tokens_the_reader_gets_the_originals_back_and_the_model_never_has_them() -> None:
    def answer(request: Any) -> str:
        return f'I wrote to {TOKEN.findall(request.messages[-1].text)[0]} and to {BOB}.'

    ai, model, _ = app(answer, use=[PIIRedaction(mode='tokenize')])
    response = await ai.generate(prompt=f'Mail {ANNA}')
    assert TOKEN.sub('T', asked(model)) == 'Mail T'
    assert response.text == f'I wrote to {ANNA} and to [EMAIL].'  # what the model brings by itself is masked
    assert response.messages[-1].text == response.text


async def test_tokens_of_another_run_stay_tokens() -> None:
    seen: list[str] = []

    def answer(request: Any) -> str:
        seen.extend(TOKEN.findall(request.messages[-1].text))
        return f'{seen[0]}'

    ai, _, _ = app(answer, answer, use=[PIIRedaction(mode='tokenize')])
    assert (await ai.generate(prompt=ANNA)).text == ANNA
    assert (await ai.generate(prompt=BOB)).text == seen[0]
    assert seen[0] != seen[1]


def look(email: str) -> dict[str, Any]:
    """Look somebody up."""
    return {'email': email, 'card': 4111111111111111, 'note': f'knows {BOB}', BOB: None}


def ask_for(tool: str = 'look', **given: Any) -> Any:
    """A model that calls the tool with the last word of the prompt."""

    def answer(request: Any) -> ToolRequest:
        return ToolRequest(tool, {'email': request.messages[-1].text.split()[-1], **given}, 'r-1')

    return answer


@pytest.mark.parametrize('mode', ['mask', 'tokenize'])
async def test_tools_and_what_they_answer(mode: Any) -> None:
    got: list[str] = []

    def find(email: str) -> dict[str, Any]:
        got.append(email)
        return look(email)

    def told(request: Any) -> str:
        return json.dumps(request.messages[-1].tool_responses[0].tool_response.output)

    ai, model, _ = app(ask_for('find'), told, use=[PIIRedaction(mode=mode)])
    response = await ai.generate(prompt=f'find {ANNA}', tools=[find])
    seen = json.dumps(model.requests[-1].messages[-1].tool_responses[0].tool_response.output)
    assert not any(secret in seen for secret in (ANNA, BOB, '4111'))
    output = response.turns[0].tool_responses[0].tool_response.output
    if mode == 'mask':
        assert got == ['[EMAIL]']
        assert output == {'email': '[EMAIL]', 'card': '[CARD]', 'note': 'knows [EMAIL]', '[EMAIL]': None}
        assert json.loads(response.text) == output
    else:
        assert got == [ANNA]
        assert output == {'email': ANNA, 'card': '4111111111111111', 'note': f'knows {BOB}', BOB: None}
        assert json.loads(response.text) == output


@pytest.mark.parametrize('mode', ['mask', 'tokenize'])
async def test_layers_inside_never_see_what_the_tool_sees(mode: Any) -> None:
    seen: list[Any] = []

    class Spy(BaseMiddleware):
        async def wrap_tool(self, params: Any, ctx: Any, next_fn: Any) -> ToolResponse:
            response = await next_fn(params, ctx)
            seen.append((params.tool_request.input, response.output))
            return response

        async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> ModelResponse:
            response = await next_fn(params, ctx)
            seen.append((params.request.messages, response.message))
            return response

    ai, _, _ = app(ask_for(), 'done', use=[PIIRedaction(mode=mode), Spy()])
    await ai.generate(prompt=f'find {ANNA}', tools=[look])
    assert len(seen) == 3
    assert not any(secret in repr(seen) for secret in (ANNA, BOB, '4111'))


async def test_an_approval_outside_or_inside_holds_for_what_is_done() -> None:
    for stack in ([PIIRedaction(mode='tokenize'), ToolApproval()], [ToolApproval(), PIIRedaction(mode='tokenize')]):
        got: list[str] = []

        def send(email: str) -> str:
            got.append(email)  # noqa: B023
            return f'sent to {email}'

        ai, _, _ = app(ask_for('send'), 'done', use=stack)
        waiting = await ai.generate(prompt=f'to {ANNA}', tools=[send])
        assert waiting.interrupts[0].tool_request.input == {'email': ANNA}  # whoever approves sees what will be done
        approved = restart_tool(waiting.interrupts[0], metadata={'toolApproved': True})
        response = await ai.generate(messages=waiting.messages, resume_restart=[approved], tools=[send])
        assert (got, response.text) == ([ANNA], 'done')


async def test_what_a_person_put_into_an_approved_call_is_done_as_it_is() -> None:
    got: list[str] = []

    def send(email: str) -> str:
        got.append(email)
        return 'sent'

    ai, _, _ = app(ToolRequest('send', {'email': 'x'}, 'r-1'), 'done', use=[ToolApproval(), PIIRedaction()])
    waiting = await ai.generate(prompt='send', tools=[send])
    edited = restart_tool(waiting.interrupts[0], input={'email': ANNA}, metadata={'toolApproved': True})
    await ai.generate(messages=waiting.messages, resume_restart=[edited], tools=[send])
    assert got == [ANNA]


async def test_a_denied_call_is_answered_without_the_tool() -> None:
    ai, model, _ = app(ask_for(), 'ok', use=[ToolApproval(), PIIRedaction()])
    waiting = await ai.generate(prompt='find x', tools=[look])
    denied = deny_tool(waiting.interrupts[0], f'ask {ANNA} first')
    await ai.generate(messages=waiting.messages, resume_respond=[denied], tools=[look])
    assert model.requests[-1].messages[-1].tool_responses[0].tool_response.output == 'ask [EMAIL] first'


@pytest.mark.parametrize('mode', ['mask', 'tokenize'])
async def test_what_a_tool_fails_with(mode: Any) -> None:
    def fail(email: str) -> str:
        raise ToolError(f'no account for {ANNA}')

    def crash(email: str) -> str:
        raise ValueError(f'no account for {ANNA}')

    ai, model, sink = app(ask_for('fail'), 'sorry', ask_for('crash'), use=[PIIRedaction(mode=mode)])
    response = await ai.generate(prompt='x y', tools=[fail])
    read = model.requests[-1].messages[-1].tool_responses[0].tool_response.output
    assert TOKEN.sub('[EMAIL]', read) == 'no account for [EMAIL]'
    outside = response.turns[0].tool_responses[0].tool_response.output
    assert outside == ('no account for [EMAIL]' if mode == 'mask' else f'no account for {ANNA}')
    with pytest.raises(ValueError, match=r'no account for \[EMAIL\]'):
        await ai.generate(prompt='x y', tools=[crash])
    assert ANNA not in repr(sink.events)


@pytest.mark.parametrize('mode', ['mask', 'tokenize'])
async def test_a_tool_that_asks_somebody(mode: Any) -> None:
    def ask(email: str) -> str:
        raise Interrupt(f'may I write to {ANNA}?', {'to': ANNA})

    ai, _, sink = app(ask_for('ask'), use=[PIIRedaction(mode=mode)])
    response = await ai.generate(prompt='x y', tools=[ask])
    note = response.interrupts[0].metadata['interrupt']
    assert note['to'] == ('[EMAIL]' if mode == 'mask' else ANNA)
    assert ANNA not in repr(sink.events)


async def test_a_layer_inside_that_answers_for_the_tool_is_masked_too() -> None:
    class Answers(BaseMiddleware):
        async def wrap_tool(self, params: Any, ctx: Any, next_fn: Any) -> ToolResponse:
            return ToolResponse('look', f'{ANNA}', 'r-1')

    ai, _, _ = app(ask_for(), 'done', use=[PIIRedaction(), Answers()])
    response = await ai.generate(prompt='x y', tools=[look])
    assert response.turns[0].tool_responses[0].tool_response.output == '[EMAIL]'


class Contact(BaseModel):
    email: str
    card: Any = None


async def test_structured_output_stays_what_was_asked_for() -> None:
    for text in (f'{{"email": "{ANNA}", "card": 4111111111111111}}', f'```json\n{{"email": "{ANNA}"}}\n```'):
        response = await both(lambda text=text: app(text)[0], prompt='who?', output_schema=Contact)
        assert response.output.email == '[EMAIL]'
        assert response.output.card in (None, '[CARD]')


async def test_structured_output_gets_the_originals_back() -> None:
    def answer(request: Any) -> str:
        return json.dumps({'email': TOKEN.findall(request.messages[-1].text)[0]})

    quoted = PIIRedaction(mode='tokenize', patterns={'quoted': r'"[a-z]{1,9}"'}, entities=['email'])
    response = await both(lambda: app(answer, use=[quoted])[0], prompt='call me "bob"', output_schema=Contact)
    assert response.output.email == '"bob"'


async def test_all_that_a_request_and_an_answer_are_made_of() -> None:
    history = [
        Message.user(TextPart(ANNA), MediaPart(url=f'https://x.org/{ANNA}')),
        Message.assistant(
            ReasoningPart(f'about {ANNA}', 'signed'), ToolRequestPart(ToolRequest('look', {'email': ANNA}, 'r-0'))
        ),
        Message('tool', (ToolResponsePart(ToolResponse('look', {'email': ANNA}, 'r-0')),)),
    ]
    answer = ModelResponse(
        message=Message.assistant(
            ReasoningPart(f'hm {ANNA}', 'signed'), ReasoningPart('plain', 'signed'), TextPart('ok', {'cited': ANNA})
        ),
        finish_message=ANNA,
        sources=(Source(f'https://x.org/?q={ANNA}', text=ANNA),),
        metadata={'logprobs': [{'token': 'anna'}], 'openai': {'who': ANNA}, 'n': 1},
        warnings=(f'{ANNA} was cut',),
    )
    ai, model, _ = app(answer)
    response = await ai.generate(messages=history, prompt='go')
    assert ANNA not in repr(model.requests)
    assert ANNA not in repr(response.turns)
    assert model.requests[0].messages[1].content[0] == ReasoningPart('about [EMAIL]')
    assert response.message.content[:2] == (ReasoningPart('hm [EMAIL]'), ReasoningPart('plain', 'signed'))
    assert response.metadata['n'] == 1
    assert 'logprobs' not in response.metadata  # they spell the answer, piece by piece


@pytest.mark.parametrize(
    ('apply_to', 'request_has', 'answer_has'),
    [(['input'], False, True), (['output'], True, False), (['tool_output'], True, True), (['events'], True, True)],
)
async def test_it_works_where_it_is_told_to(apply_to: Any, request_has: bool, answer_has: bool) -> None:
    ai, model, sink = app(BOB, use=[PIIRedaction(apply_to=apply_to)])
    response = await ai.generate(prompt=ANNA)
    assert (ANNA in asked(model), BOB in response.text) == (request_has, answer_has)
    assert (ANNA in repr(sink.events)) is (apply_to != ['events'])


async def test_tool_output_may_be_left_to_the_model() -> None:
    ai, model, _ = app(ask_for(), 'done', use=[PIIRedaction(apply_to=['input', 'output'])])
    await ai.generate(prompt=f'find {ANNA}', tools=[look])
    assert BOB in repr(model.requests[-1].messages[-1])
    assert ANNA not in repr(model.requests[-1].messages[0])


async def test_tokens_may_stay_in_the_answer_or_in_the_tools_input() -> None:
    got: list[str] = []

    def keep(email: str) -> str:
        got.append(email)
        return email

    def again(request: Any) -> str:
        return TOKEN.findall(request.messages[0].text)[0]

    ai, _, _ = app(ask_for('keep'), again, use=[PIIRedaction(mode='tokenize', restore=['output'])])
    assert (await ai.generate(prompt=f'to {ANNA}', tools=[keep])).text == ANNA
    assert TOKEN.fullmatch(got[0])
    ai, _, _ = app(ask_for('keep'), again, use=[PIIRedaction(mode='tokenize', restore=['tool_input'])])
    assert TOKEN.fullmatch((await ai.generate(prompt=f'to {ANNA}', tools=[keep])).text)
    assert got[1] == ANNA


async def test_allowed_texts_and_own_patterns() -> None:
    layer = PIIRedaction(
        entities=['email'], patterns={'employee': re.compile(r'e\d{6}', re.IGNORECASE)}, allow=['Help@example.com']
    )
    ai, model, _ = app('ok', use=[layer])
    await ai.generate(prompt=f'{ANNA} help@example.com E123456 {CARD}')
    assert asked(model) == f'[EMAIL] help@example.com [EMPLOYEE] {CARD}'
    assert layer.longest['employee'] == 7


async def test_a_message_is_looked_through_once_in_a_run() -> None:
    layer = PIIRedaction()
    looked: list[str] = []
    masked = layer._masker.masked
    layer._masker.masked = lambda text, *rest: (looked.append(text), masked(text, *rest))[1]  # type: ignore[method-assign,func-returns-value]
    requests = [ToolRequest('look', {'email': 'x'}, f'r-{n}') for n in range(5)]
    model = ScriptedModel([*requests, 'done'])
    await Lamella(model=model).generate(prompt='the prompt', use=[layer], tools=[look])
    assert looked.count('the prompt') == 1


async def test_texts_for_vectors_are_masked_in_both_modes() -> None:
    seen: list[Any] = []

    class Embedder(EmbeddingModel):
        name = 'x/embed'

        async def embed(self, request: Any, ctx: Any) -> EmbeddingResponse:
            seen.append(request.texts)
            return EmbeddingResponse(vectors=tuple((1.0,) for _ in request.texts))

    for mode in ('mask', 'tokenize'):
        await Lamella().embed([f'about {ANNA}', 'plain'], model=Embedder(), use=[PIIRedaction(mode=mode)])
    assert seen == [('about [EMAIL]', 'plain')] * 2


async def test_fixed_on_a_model_it_holds_for_every_call_of_it() -> None:
    inner = ScriptedModel([BOB])
    fixed = wrap_language_model(model=inner, middleware=PIIRedaction())
    response = await Lamella(model=fixed).generate(prompt=ANNA)
    assert (asked(inner), response.text) == ('[EMAIL]', '[EMAIL]')


async def test_two_of_them_do_no_harm() -> None:
    ai, model, _ = app(BOB, use=[PIIRedaction(), PIIRedaction()])
    assert (await ai.generate(prompt=ANNA)).text == '[EMAIL]'
    assert asked(model) == '[EMAIL]'


async def test_calls_at_the_same_time_keep_their_tokens_apart() -> None:
    async def answer(request: Any) -> str:
        await asyncio.sleep(0)
        return TOKEN.findall(request.messages[-1].text)[0]

    model = ScriptedModel([answer] * 40)
    ai = Lamella(model=model, use=[PIIRedaction(mode='tokenize')])
    async with no_leaks():
        prompts = [f'user{n}@example.com' for n in range(40)]
        responses = await asyncio.gather(*[ai.generate(prompt=prompt) for prompt in prompts])
    assert [response.text for response in responses] == prompts


async def test_an_error_leaves_with_nothing_in_it() -> None:
    def fails(request: Any) -> LamellaError:
        partial = ModelResponse.text_of(f'so far {BOB}')
        return LamellaError('INVALID_ARGUMENT', f'bad value {BOB!r}', details={'value': BOB}, partial=partial)

    ai, _, sink = app(fails)
    with pytest.raises(LamellaError) as caught:
        await ai.generate(prompt=ANNA)
    error = caught.value
    assert (error.message, error.details) == ("bad value '[EMAIL]'", {'value': '[EMAIL]'})
    assert error.partial is not None
    assert error.partial.text == 'so far [EMAIL]'
    assert BOB not in repr(error.attempts)
    assert BOB not in repr([(e.name, e.facts, getattr(e.facts.get('error'), '__dict__', '')) for e in sink.events])


async def test_a_retry_outside_sees_clean_errors_and_tries_again() -> None:
    ai, model, _ = app(
        LamellaError('UNAVAILABLE', f'{BOB} is away'),
        'ok',
        use=[Retry(no_jitter=True, initial_delay_ms=0), PIIRedaction()],
    )
    assert (await ai.generate(prompt=ANNA)).text == 'ok'
    assert [asked(model, at) for at in (0, 1)] == ['[EMAIL]'] * 2


async def test_a_run_that_is_stopped_inside_ends_with_a_clean_answer() -> None:
    class Stops(BaseMiddleware):
        async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> ModelResponse:
            raise StopRun('max_cost', f'for {BOB}', response=ModelResponse.text_of(BOB))

    response = await both(lambda: app(use=[PIIRedaction(), Stops()])[0], prompt='x')
    assert (response.text, response.stop_message) == ('[EMAIL]', 'for [EMAIL]')


async def test_what_cannot_be_looked_through_is_refused() -> None:
    deep: Any = 'x'
    for _ in range(100):
        deep = [deep]
    file = MediaPart(data=b'\xff\xfe\xfd', content_type='text/plain')
    ai, model, _ = app([ToolRequest('look', deep, 'r')], ask_for('deeply'))
    with pytest.raises(Rejected, match=r'no UTF-8, so that it cannot be looked through \(refused by pii_redaction\)'):
        await ai.generate(prompt=[file])
    assert model.requests == []
    with pytest.raises(Rejected, match='nested more than 64 levels'):
        await ai.generate(prompt='x', tools=[look])

    def deeply(email: str) -> Any:
        return deep

    with pytest.raises(Rejected, match='nested more than 64 levels'):
        await ai.generate(prompt='x y', tools=[deeply])


async def test_a_recogniser_that_breaks_refuses_and_shows_nothing() -> None:
    for mode in ('mask', 'tokenize'):
        layer = PIIRedaction(mode=mode)

        class Broken:
            entities, longest = ('x',), 1

            def find(self, text: str, start: int, final: bool) -> Any:
                raise RuntimeError(text)

        layer._masker.recognisers.finders = (Broken(),)
        ai, model, sink = app(BOB, use=[layer])
        with pytest.raises(Rejected) as caught:
            await ai.generate(prompt=ANNA)
        assert model.requests == []
        assert ANNA not in str(caught.value) + repr(caught.value.__cause__) + repr(sink.events)
        assert 'withheld' in repr(sink.events)


WRONG = {
    'unknown entity': ({'entities': ['emial']}, "unknown entity 'emial': did you mean 'email'"),
    'a string': ({'entities': 'email'}, "is the string 'email': write a list"),
    'no entities': ({'entities': []}, 'is empty'),
    'unknown mode': ({'mode': 'hide'}, "'mask' or 'tokenize'"),
    'bad regex': ({'patterns': {'employee': r'E\d{6'}}, None),
    'not closed': (
        {'patterns': {'employee': '(E'}},
        "'employee': the pattern '(E' is no regular expression: missing )",
    ),
    'endless': ({'patterns': {'employee': r'E\d+'}}, "'employee': the pattern 'E\\\\\\\\d+' has no longest match"),
    'anchored': ({'patterns': {'employee': r'^E\d{6}'}}, 'uses an anchor'),
    'catastrophic': ({'patterns': {'x': r'(a{1,9}){1,9}b'}}, 'may try'),
    'bad name': ({'patterns': {'Employee No': 'E'}}, "'Employee No' is no name"),
    'taken name': ({'patterns': {'email': 'E'}}, "'email' is the name of an entity that there is already"),
    'no text': ({'patterns': {'x': 3}}, "'x' is a int"),
    'no mapping': ({'patterns': ['E']}, 'is a list: give names'),
    'unknown place': ({'apply_to': ['inputs']}, "unknown place 'inputs': did you mean 'input'"),
    'unknown restore': ({'restore': ['events']}, "unknown place 'events'"),
    'unknown country': ({'phone_regions': ['UK']}, "unknown country 'UK'"),
    'empty allow': ({'allow': ['']}, 'give texts'),
}


@pytest.mark.parametrize(('options', 'why'), WRONG.values(), ids=WRONG.keys())
def test_wrong_settings_are_told_when_it_is_built(options: Any, why: str | None) -> None:
    if why is None:
        PIIRedaction(**options)  # Python reads E\d{6 as the characters that it consists of
        return
    with pytest.raises(ConfigError) as caught:
        PIIRedaction(**options)
    assert why.replace('\\\\\\\\', '\\\\') in str(caught.value)


def test_every_problem_is_in_one_error() -> None:
    with pytest.raises(ConfigError) as caught:
        PIIRedaction(entities=['x'], mode='y', patterns={'z': 'a+'})  # type: ignore[arg-type]
    assert all(field in str(caught.value) for field in ('entities', 'mode', 'patterns'))


def test_without_the_package_for_phones_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('lamella.middleware._pii_phones.find_spec', lambda name: None)
    for options in ({}, {'entities': ['phone']}):
        with pytest.raises(ConfigError, match=re.escape("pip install 'lamella[pii]'")):
            PIIRedaction(**options)  # type: ignore[arg-type]
    PIIRedaction(entities=['email'], phone_regions=['anything'])


def test_the_package_for_phones_is_loaded_when_phones_are_wanted() -> None:
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415

    program = (
        'import sys; from lamella.middleware import PIIRedaction; PIIRedaction(entities=["email"]); '
        'a = "phonenumbers" in sys.modules; PIIRedaction(entities=["phone"]); print(a, "phonenumbers" in sys.modules)'
    )
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ['False', 'True']


async def test_cancellation_passes() -> None:
    started = asyncio.Event()

    async def hangs(request: Any) -> str:
        started.set()
        await asyncio.Event().wait()
        return 'never'

    ai, _, _ = app(hangs)
    async with no_leaks():
        task = asyncio.create_task(ai.generate(prompt=ANNA))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_finish_reason_and_usage_stay() -> None:
    ai, _, _ = app([Finished('length')])
    assert (await ai.generate(prompt='x')).finish_reason == 'length'
