"""The scripted embedding model: answers what the test wrote, and remembers what it was asked."""

from typing import Any

import pytest

from lamella.core.context import GenerateMiddlewareContext
from lamella.testing import ScriptedEmbeddingModel, word_vector
from lamella.types import EmbeddingRequest, EmbeddingResponse, LamellaError, Usage

CTX = GenerateMiddlewareContext(None)  # type: ignore[arg-type]
REQUEST = EmbeddingRequest(('one text', 'two'))


async def test_without_a_script_texts_get_vectors_by_their_words() -> None:
    model = ScriptedEmbeddingModel(dimensions=8)
    response = await model.embed(REQUEST, CTX)
    assert response.vectors == (word_vector('one text', 8), word_vector('two', 8))
    assert response.usage == Usage(input_tokens=3, total_tokens=3)
    assert len((await model.embed(REQUEST.replace(dimensions=5), CTX)).vector) == 5
    assert model.texts == ['one text', 'two'] * 2


async def later(request: EmbeddingRequest) -> Any:
    return [[float(len(text))] for text in request.texts]


@pytest.mark.parametrize(
    ('answer', 'vectors'),
    [
        ([[1], [2]], ((1.0,), (2.0,))),
        (EmbeddingResponse(vectors=((3.0,),)), ((3.0,),)),
        (lambda request: [[0], [0]], ((0.0,), (0.0,))),
        (later, ((8.0,), (3.0,))),
    ],
)
async def test_an_answer_is_vectors_a_response_or_a_function_of_the_request(answer: Any, vectors: Any) -> None:
    assert (await ScriptedEmbeddingModel([answer]).embed(REQUEST, CTX)).vectors == vectors


async def test_an_exception_is_raised_and_the_end_of_the_script_is_told() -> None:
    model = ScriptedEmbeddingModel([LamellaError('INTERNAL', 'x')])
    with pytest.raises(LamellaError, match='x'):
        await model.embed(REQUEST, CTX)
    with pytest.raises(AssertionError, match='call 2, but the script has 1 answers'):
        await model.embed(REQUEST, CTX)


async def test_a_repeated_script_starts_over() -> None:
    model = ScriptedEmbeddingModel([[[1]], [[2]]], repeat=True)
    said = [(await model.embed(REQUEST, CTX)).vectors[0][0] for _ in range(3)]
    assert said == [1.0, 2.0, 1.0]
