"""`watched_streams`: every layer of every stack is held to the rules, and nothing else changes."""

import pytest

from lamella import Lamella, wrap_language_model
from lamella.middleware import BaseMiddleware
from lamella.testing import ScriptedModel, watched_streams
from lamella.types import Finished, LamellaError, ModelResponse, ResponseStarted, TextDelta
from tests.engine.kit import both, no_leaks
from tests.engine.strategies import ModelOnly, StreamOnly, Transforms

pytestmark = pytest.mark.breaks_stream_rules  # the watch of these tests is their own


class Late(BaseMiddleware):
    """Talks on after its end."""

    async def wrap_stream(self, params, ctx, next_fn):
        async for part in next_fn(params, ctx):
            yield part
        yield TextDelta('late')


class Wordless(BaseMiddleware):
    """Answers with what is none."""

    async def wrap_model(self, params, ctx, next_fn):
        return (await next_fn(params, ctx)).replace(model=7)


class Headless(ScriptedModel):
    """A model whose streams have no start."""

    async def stream(self, request, ctx):
        yield TextDelta('x')
        yield Finished()


async def test_what_breaks_a_rule_is_told_with_the_layer_and_raises_nothing() -> None:
    with watched_streams() as found:
        ai = Lamella(model=ScriptedModel(['x'], repeat=True))
        with pytest.raises(LamellaError, match='after Finished'):
            await ai.generate_stream(prompt='hi', use=[StreamOnly(), Late(), ModelOnly()]).response
        assert [sentence.partition(':')[0] for sentence in found] == ['Late()', 'StreamOnly()']
    with watched_streams() as found:
        await wrap_language_model(model=ScriptedModel(['x']), middleware=[ModelOnly(), Wordless()]).ask('hi')
    assert len(found) == 2
    assert all("breaks the rule 'valid-types'" in sentence for sentence in found)
    assert found[0].startswith('Wordless(): ')
    assert found[1].startswith('ModelOnly(): ')


class WordlessHeld(Wordless):
    """Answers with what is none, at the end of a stream."""

    commit = 'finish'


class WordlessStream(BaseMiddleware):
    """Ends a stream with what is no end."""

    async def wrap_stream(self, params, ctx, next_fn):
        async for part in next_fn(params, ctx):
            yield part.replace(model=7) if type(part) is Finished else part


class WordlessHeldStream(WordlessStream):
    """Ends a stream that was held back with what is no end."""

    commit = 'finish'


@pytest.mark.parametrize('kind', [Wordless, WordlessHeld, WordlessStream, WordlessHeldStream])
@pytest.mark.parametrize('others', [[], [ModelOnly, Transforms]])
async def test_every_way_through_a_stack_is_watched(kind, others) -> None:
    use = [*[other() for other in others], kind(), *[other() for other in others]]
    ai = Lamella(model=ScriptedModel(['x'], repeat=True))
    for streamed in (False, True):
        with watched_streams() as found:
            await (ai.generate_stream(prompt='hi', use=use).response if streamed else ai.generate(prompt='hi', use=use))
        assert kind.__name__ in found[0]
        assert "breaks the rule 'valid-types'" in found[0]
        ai = Lamella(model=ScriptedModel(['x'], repeat=True))


async def test_classes_of_models_are_watched_where_they_are_named() -> None:
    for models, sentences in (((), 0), ((Headless,), 2)):
        with watched_streams(models) as found:
            ai = Lamella(model=Headless(name='head/less'))
            assert (await both(lambda ai=ai: ai, prompt='hi')).text == 'x'
        assert len(found) == sentences, found
        assert all("breaks the rule 'started-first'" in sentence for sentence in found)
    assert vars(Headless)['stream'].__name__ == 'stream'


async def test_after_the_block_all_is_as_before() -> None:
    before = dict(vars(Headless))
    with watched_streams([Headless]) as found:
        watched = Lamella(model=ScriptedModel(['x'], repeat=True), use=[Wordless()])
        await watched.generate(prompt='hi')
    assert len(found) == 1
    await watched.generate(prompt='hi')  # a stack that was made inside
    await Lamella(model=ScriptedModel(['x']), use=[Wordless()]).generate(prompt='hi')
    assert len(found) == 1
    assert {name: vars(Headless)[name] for name in ('stream',)} == {'stream': before['stream']}


async def test_a_watch_inside_of_a_watch_has_its_own_findings() -> None:
    with watched_streams() as outer:
        with watched_streams() as inner:
            await Lamella(model=ScriptedModel(['x']), use=[Wordless()]).generate(prompt='hi')
        assert (len(inner), len(outer)) == (1, 0)
        await Lamella(model=ScriptedModel(['x']), use=[Wordless()]).generate(prompt='hi')
        assert len(outer) == 1


async def test_leaving_and_failing_are_as_they_would_be() -> None:
    model = ScriptedModel([[TextDelta('a'), TextDelta('b')], [TextDelta('a'), LamellaError('UNAVAILABLE', 'down')]])
    with watched_streams() as found:
        ai = Lamella(model=model, use=[StreamOnly(), ModelOnly()])
        async with no_leaks():
            stream = ai.generate_stream(prompt='hi')
            parts = aiter(stream)
            assert type(await anext(parts)) is ResponseStarted
            await stream.aclose()
        with pytest.raises(LamellaError, match='down'):
            await ai.generate_stream(prompt='hi').response
    assert (found, model.closed) == ([], 1)


async def test_an_answer_that_is_none_at_all_is_told() -> None:
    class Forgets(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            await next_fn(params, ctx)

    with watched_streams() as found, pytest.raises(LamellaError):
        await Lamella(model=ScriptedModel(['x']), use=[Forgets()]).generate(prompt='hi')
    assert found == ["Forgets(): None breaks the rule 'whole-answer': a model call returns a ModelResponse"]
    assert ModelResponse.text_of('x').text == 'x'
