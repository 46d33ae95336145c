"""An embedding model that answers what the test wrote, and remembers what it was asked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.embedders import to_vectors
from lamella.core.embedding import EmbeddingInfo, EmbeddingModel
from lamella.testing.vectors import word_vector
from lamella.types import EmbeddingRequest, EmbeddingResponse, Usage

Answer = EmbeddingResponse | Sequence[Sequence[float]] | BaseException | Callable[[EmbeddingRequest], Any]
_NO_LIMITS = EmbeddingInfo()


class ScriptedEmbeddingModel(EmbeddingModel):
    """Answers with `answers` in turn, and records every request in `requests`.

    An answer is an `EmbeddingResponse`, a list of vectors, an exception, or a function of the request (sync or async) that
    gives any of these. Without a script every text gets its `word_vector`, and each word counts as a token. `repeat` starts
    over when the script is at its end; otherwise one call more raises AssertionError.
    """

    def __init__(
        self,
        answers: Iterable[Answer] = (),
        *,
        name: str = 'scripted/embedding',
        repeat: bool = False,
        dimensions: int = 64,
        info: EmbeddingInfo = _NO_LIMITS,
    ) -> None:
        self.name, self.info = name, info
        self._answers, self._repeat, self._dimensions = list(answers), repeat, dimensions
        self.requests: list[EmbeddingRequest] = []
        self.closed = 0

    def __repr__(self) -> str:
        return f'ScriptedEmbeddingModel({self.name!r}, {len(self._answers)} answers)'

    @property
    def texts(self) -> list[str]:
        """All texts that it was asked for, in order."""
        return [text for request in self.requests for text in request.texts]

    async def embed(self, request: EmbeddingRequest, ctx: GenerateMiddlewareContext) -> EmbeddingResponse:
        index = len(self.requests)
        self.requests.append(request)
        if not self._answers:
            return self._by_words(request)
        if self._repeat:
            index %= len(self._answers)
        if index >= len(self._answers):
            raise AssertionError(f'{self.name}: call {index + 1}, but the script has {len(self._answers)} answers')
        answer: Any = self._answers[index]
        if callable(answer) and not isinstance(answer, BaseException):
            answer = answer(request)
            if inspect.isawaitable(answer):
                answer = await answer
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, EmbeddingResponse):
            return answer
        return EmbeddingResponse(vectors=to_vectors(answer, self.name))

    def _by_words(self, request: EmbeddingRequest) -> EmbeddingResponse:
        dimensions = request.dimensions or self._dimensions
        words = sum(len(text.split()) for text in request.texts)
        return EmbeddingResponse(
            vectors=tuple([word_vector(text, dimensions) for text in request.texts]),
            usage=Usage(input_tokens=words, total_tokens=words),
        )

    async def aclose(self) -> None:
        self.closed += 1
