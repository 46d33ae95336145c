"""Thinking in each protocol's way: how a request asks for it, where an answer shows it, and what must come back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from lamella.simulator.proofs import check_gemini, check_messages, check_responses
from lamella.types import Data, ModelRequest, Part, ReasoningPart

OWN_OF_RESPONSES = 'openai-responses'
ENCRYPTED = 'reasoning.encrypted_content'


class Asked(Data, frozen=True):
    """How much of a thought the client gets: its words, its seal."""

    shown: bool = True
    sealed: bool = True


class Thought(Data, frozen=True):
    """A thought, its seal, and the stamp of the answer that it belongs to."""

    text: str
    seal: str
    stamp: str


class Thinking(ABC):
    """One protocol's way. A client that asks for no thinking gets none."""

    @abstractmethod
    def asked(self, request: ModelRequest) -> Asked | None: ...

    @abstractmethod
    def placed(self, thought: Thought, asked: Asked, content: tuple[Part, ...]) -> tuple[Part, ...]:
        """The content of the answer with the thought in it."""

    def check(self, request: ModelRequest, model: str, seed: int) -> None:
        """Raises the vendor's INVALID_ARGUMENT for a conversation that has lost or altered what proves its thoughts."""


class ChatThinking(Thinking):
    """OpenAI itself only counts the thought (platform.openai.com/docs/guides/reasoning). Its words are sent as
    `reasoning_content` to those who ask as clients of compatible servers do: `thinking.type` (api-docs.deepseek.com),
    `enable_thinking` (help.aliyun.com, Qwen), `include_reasoning` or `chat_template_kwargs` (docs.vllm.ai), or an object
    `reasoning` (openrouter.ai/docs)."""

    def asked(self, request: ModelRequest) -> Asked | None:
        said = _words_of(_options(request, 'openai'))
        effort = request.config.reasoning_effort
        if False in said or effort == 'none':
            return None
        return Asked(shown=True in said) if said or effort is not None else None

    def placed(self, thought: Thought, asked: Asked, content: tuple[Part, ...]) -> tuple[Part, ...]:
        return (ReasoningPart(thought.text), *content) if asked.shown else content


def _words_of(options: Mapping[str, Any]) -> list[bool]:
    """What the words of compatible servers say of showing thoughts."""
    template = _object(options.get('chat_template_kwargs'))
    flags = [options.get(name) for name in ('enable_thinking', 'include_reasoning')]
    flags += [template.get(name) for name in ('enable_thinking', 'thinking')]
    if (kind := _object(options.get('thinking')).get('type')) is not None:
        flags.append(kind != 'disabled')
    if isinstance(routed := options.get('reasoning'), Mapping):
        flags.append(routed.get('enabled') is not False and routed.get('effort') != 'none')
    return [flag for flag in flags if isinstance(flag, bool)]


class ResponsesThinking(Thinking):
    """A reasoning item, with a summary and `encrypted_content` for those who ask for them
    (platform.openai.com/docs/guides/reasoning, "Reasoning summaries", "Encrypted reasoning items")."""

    def asked(self, request: ModelRequest) -> Asked | None:
        options = _options(request, 'openai')
        wanted, effort = _object(options.get('reasoning')), request.config.reasoning_effort
        summary = wanted.get('summary') or wanted.get('generate_summary')
        if effort == 'none' or (effort is None and not summary):
            return None
        return Asked(shown=bool(summary), sealed=ENCRYPTED in (options.get('include') or ()))

    def placed(self, thought: Thought, asked: Asked, content: tuple[Part, ...]) -> tuple[Part, ...]:
        own = {OWN_OF_RESPONSES: {'id': f'rs_{thought.stamp}'}}
        seal = thought.seal if asked.sealed else None
        return (ReasoningPart(thought.text if asked.shown else '', seal, metadata=own), *content)

    def check(self, request: ModelRequest, model: str, seed: int) -> None:
        check_responses(request.messages, seed, stored=_options(request, 'openai').get('store') is not False)


class AnthropicThinking(Thinking):
    """A thinking block with its signature; `display: omitted` leaves the signature alone
    (platform.claude.com/docs/en/build-with-claude/extended-thinking and /adaptive-thinking)."""

    def asked(self, request: ModelRequest) -> Asked | None:
        wanted = _object(_options(request, 'anthropic').get('thinking'))
        if wanted.get('type') not in ('enabled', 'adaptive'):
            return None
        return Asked(shown=wanted.get('display') != 'omitted')

    def placed(self, thought: Thought, asked: Asked, content: tuple[Part, ...]) -> tuple[Part, ...]:
        return (ReasoningPart(thought.text if asked.shown else '', thought.seal), *content)

    def check(self, request: ModelRequest, model: str, seed: int) -> None:
        kind = _object(_options(request, 'anthropic').get('thinking')).get('type')
        check_messages(request.messages, seed, always=kind == 'enabled')


class GeminiThinking(Thinking):
    """Thought parts with `includeThoughts`, and always a `thoughtSignature` on the part that follows
    (ai.google.dev/gemini-api/docs/thinking and /thought-signatures)."""

    def asked(self, request: ModelRequest) -> Asked | None:
        wanted = _object(_object(_options(request, 'google').get('generationConfig')).get('thinkingConfig'))
        shown = wanted.get('includeThoughts', wanted.get('include_thoughts')) is True
        budget = wanted.get('thinkingBudget', wanted.get('thinking_budget'))
        if budget == 0 or not (shown or budget or request.config.reasoning_effort):
            return None
        return Asked(shown=shown)

    def placed(self, thought: Thought, asked: Asked, content: tuple[Part, ...]) -> tuple[Part, ...]:
        head = (ReasoningPart(thought.text),) if asked.shown else ()
        signed = [part.replace(metadata={'gemini': {'thoughtSignature': thought.seal}}) for part in content[:1]]
        return (*head, *signed, *content[1:])

    def check(self, request: ModelRequest, model: str, seed: int) -> None:
        check_gemini(request.messages, model, seed)


def _options(request: ModelRequest, provider: str) -> Mapping[str, Any]:
    return request.provider_options.get(provider, {})


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
