"""What one vendor is given, no other vendor gets: keys, headers, options, proofs of thoughts. The simulators' records say so."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from lamella import Lamella
from lamella.core.models import ModelRef
from lamella.core.plugin import Plugin
from lamella.middleware import Fallback, Retry
from lamella.plugins.anthropic import Anthropic
from lamella.plugins.google_genai import GoogleAI
from lamella.plugins.openai import OpenAI
from lamella.simulator import Fault, Simulator
from lamella.types import GenerateResponse, LamellaError, Message, ReasoningPart

PLACES = ('Paris', 'Rome', 'Oslo', 'Lima')


@dataclass(frozen=True)
class Vendor:
    """A vendor, how its plugin is made, its own options, and the setting that makes its models think."""

    name: str
    plugin: Callable[[str, str, dict[str, str]], Plugin]
    key: str
    options: dict[str, Any]
    thinking: dict[str, Any]

    @property
    def model(self) -> str:
        return f'{self.name}/{self.name}-model'

    @property
    def secret(self) -> str:
        return f'key-of-{self.name}'


SUMMARY = {'reasoning': {'effort': 'low', 'summary': 'auto'}}
SEALED = {**SUMMARY, 'store': False, 'include': ['reasoning.encrypted_content']}
VENDORS = [
    Vendor(
        'openai',
        lambda url, key, headers: OpenAI(key, f'{url}/v1', headers=headers),
        'openai',
        {'logit_bias': {'50256': -99}, 'user': 'user-of-openai'},
        {'extra_body': {'include_reasoning': True}},
    ),
    Vendor(
        'responses',
        lambda url, key, headers: OpenAI(key, f'{url}/v1', name='responses', api='responses', headers=headers),
        'responses',
        {'safety_identifier': 'user-of-responses', 'prompt_cache_key': 'cache-of-responses'},
        SEALED,
    ),
    Vendor(
        'anthropic',
        lambda url, key, headers: Anthropic(key, url, headers=headers),
        'anthropic',
        {'metadata': {'user_id': 'user-of-anthropic'}, 'betas': ['beta-of-anthropic']},
        {'thinking': {'type': 'enabled', 'budget_tokens': 1024}},
    ),
    Vendor(
        'googleai',
        lambda url, key, headers: GoogleAI(key, url, headers=headers),
        'google',
        {'labels': {'who': 'user-of-googleai'}},
        {'thinkingConfig': {'includeThoughts': True, 'thinkingBudget': 512}},
    ),
]
PAIRS = [(first, second) for first in VENDORS for second in VENDORS if first is not second]
pairs = pytest.mark.parametrize(('first', 'second'), PAIRS, ids=[f'{a.name}-to-{b.name}' for a, b in PAIRS])


@dataclass
class House:
    """An app with two vendors, each with a simulator of its own."""

    ai: Lamella
    sims: dict[str, Simulator]


@pytest.fixture
async def house(first: Vendor, second: Vendor) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        sims = {vendor.name: await stack.enter_async_context(Simulator()) for vendor in (first, second)}
        plugins = [
            vendor.plugin(sims[vendor.name].base_url, vendor.secret, {'x-team': f'team-of-{vendor.name}'})
            for vendor in (first, second)
        ]
        ai = await stack.enter_async_context(Lamella(plugins=plugins))
        yield House(ai, sims)


def received(sim: Simulator) -> str:
    """Everything that this vendor was told."""
    return json.dumps([[request.path, request.headers, request.body] for request in sim.requests])


def belongings(vendor: Vendor) -> list[str]:
    return [vendor.secret, f'team-of-{vendor.name}', f'user-of-{vendor.name}']


def options_of(first: Vendor, second: Vendor) -> dict[str, Any]:
    """Both vendors' options at once."""
    return {first.key: first.options, second.key: second.options}


@pairs
@pytest.mark.parametrize('stream', [False, True])
async def test_a_fallback_gets_nothing_of_the_first_vendors(
    house: House, first: Vendor, second: Vendor, stream: bool
) -> None:
    house.sims[first.name].use(faults=[Fault('status', status=503)])
    asked: dict[str, Any] = {
        'model': first.model,
        'prompt': 'I love bees.',
        'use': [Fallback(models=[second.model]), Retry(max_retries=1, initial_delay_ms=0)],
        'provider_options': options_of(first, second),
    }
    if stream:
        text = ''.join([piece async for piece in house.ai.generate_stream(**asked).text_stream])
    else:
        text = (await house.ai.generate(**asked)).text
    assert 'I love bees.' in text
    told, kept = received(house.sims[second.name]), received(house.sims[first.name])
    assert [request.status for request in house.sims[first.name].requests] == [503, 503]
    assert len(house.sims[second.name].requests) == 1
    assert second.secret in told
    for belonging in belongings(first):
        assert belonging in kept
        assert belonging not in told or (first.key == second.key and 'user' in belonging)
    for belonging in belongings(second):
        assert belonging not in kept


@pairs
async def test_a_model_of_the_list_has_its_own_settings_and_no_others(
    house: House, first: Vendor, second: Vendor
) -> None:
    house.sims[first.name].use(faults=[Fault('status', status=503)])
    spare = ModelRef(
        second.model, {'temperature': 0.25}, {second.key: {'extra_body': {'metadata': {'from': 'the-ref'}}}}
    )
    await house.ai.generate(
        model=first.model, prompt='hi', config={'max_output_tokens': 77}, use=[Fallback(models=[spare])]
    )
    told, kept = received(house.sims[second.name]), received(house.sims[first.name])
    assert '0.25' in told
    assert 'the-ref' in told
    assert '77' in told
    assert 'the-ref' not in kept
    assert '0.25' not in kept


@pairs
async def test_errors_of_a_line_of_vendors_hold_no_key(house: House, first: Vendor, second: Vendor) -> None:
    for vendor in (first, second):
        message = f'Incorrect API key provided: {vendor.secret}.'
        house.sims[vendor.name].use(faults=[Fault('status', status=503, message=message)])
    with pytest.raises(LamellaError) as caught:
        await house.ai.generate(model=first.model, prompt='hi', use=[Fallback(models=[second.model])])
    shown = repr([caught.value, caught.value.attempts, caught.value.details, caught.value.__cause__])
    assert [attempt.model for attempt in caught.value.attempts] == [first.model, second.model]
    assert not [vendor.secret for vendor in (first, second) if vendor.secret in shown]


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f'sunny in {city}'


async def turn(house: House, vendor: Vendor, place: str, messages: Any, stream: bool = False, **more: Any) -> Any:
    """One question that takes a tool to answer, asked with thinking."""
    asked: dict[str, Any] = {
        'model': vendor.model,
        'messages': [*messages, Message.user(f'What is the weather in {place}?')],
        'tools': [get_weather],
        'provider_options': {vendor.key: vendor.thinking},
        **more,
    }
    if not stream:
        return await house.ai.generate(**asked)
    return await house.ai.generate_stream(**asked).response


def thoughts(response: GenerateResponse) -> list[ReasoningPart]:
    return [part for turned in response.turns for part in turned.message.content if isinstance(part, ReasoningPart)]


@pytest.mark.parametrize('stream', [False, True])
@pytest.mark.parametrize(('first', 'second'), [(vendor, vendor) for vendor in VENDORS], ids=[v.name for v in VENDORS])
async def test_a_conversation_with_thoughts_and_tools_goes_on_for_four_turns(
    first: Vendor, second: Vendor, stream: bool
) -> None:
    """The simulators refuse what each vendor refuses: a lost signature, an altered one, a call without its reasoning."""
    async with Simulator() as sim, Lamella(plugins=[first.plugin(sim.base_url, 'k', {})]) as ai:
        messages: Any = ()
        for place in PLACES:
            response = await turn(House(ai, {}), first, place, messages, stream)
            assert f'sunny in {place}' in response.text
            assert all(part.text for part in thoughts(response))
            assert len(thoughts(response)) == 2
            messages = response.messages
        assert [request.status for request in sim.requests] == [200] * 8


@pairs
async def test_a_conversation_with_thoughts_and_tools_goes_on_at_another_vendor(
    house: House, first: Vendor, second: Vendor
) -> None:
    """Two turns here, two there, where the proofs of the first would be refused: none of them arrives."""
    messages: Any = ()
    for place in PLACES[:2]:
        messages = (await turn(house, first, place, messages)).messages
    house.sims[first.name].use(faults=[Fault('status', status=503)])
    for place in PLACES[2:]:
        both = {first.key: first.thinking, second.key: second.thinking}
        layers = [Fallback(models=[ModelRef(second.model, provider_options={second.key: second.thinking})])]
        response = await turn(house, first, place, messages, use=layers, provider_options=both)
        assert f'sunny in {place}' in response.text
        messages = response.messages
    assert [request.status for request in house.sims[second.name].requests] == [200] * 4
    told = received(house.sims[second.name])
    for place in PLACES:
        assert f'What is the weather in {place}?' in told
        assert f'sunny in {place}' in told
    given = proofs(house.sims[first.name])
    assert bool(given) is (first.name != 'openai')
    assert not [proof for proof in given if proof in told]


def proofs(sim: Simulator) -> set[str]:
    """The seals that this vendor put on its thoughts, as it got them back."""
    found: set[str] = set()

    def look(value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                if key in ('signature', 'thoughtSignature', 'encrypted_content') and isinstance(item, str):
                    found.add(item)
                look(item)
        elif isinstance(value, list):
            for item in value:
                look(item)

    for request in sim.requests:
        look(request.body)
    return found
