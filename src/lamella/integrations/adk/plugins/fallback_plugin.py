"""`FallbackPlugin`: every request begins with the intended model, and what fails says so in the answer's metadata."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias

from google.adk.agents.invocation_context import LlmCallsLimitExceededError
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins.base_plugin import BasePlugin

from lamella.integrations.adk._codes import code_key, code_keys, code_text, error_code
from lamella.integrations.adk._registry import llm_of, serves
from lamella.integrations.adk.lamella_llm import LamellaLlm
from lamella.integrations.adk.plugins._calls import Memory, ModelCall, invocation_of
from lamella.types import ConfigError
from lamella.wire.errors import redacted

logger = logging.getLogger(__name__)
AnyModel: TypeAlias = str | BaseLlm | None


class FallbackPlugin(BasePlugin):
    """Resets every request to `root_model`, and notes in `custom_metadata` what failed with one of `error_status`.

    The note is `fallback_triggered`, `original_model`, `fallback_model`, `fallback_attempt` and `error_code`, beside what is
    there already. It is made where a `fallback_model` is set, for answers with an `error_code` and for errors that are raised,
    as rate limits are in the ADK: these become an answer with `error_code` and the note, unless `raised='raise'`. Codes match as
    numbers, numeric strings and canonical names. `fallback_attempt` counts the failures of one agent in one invocation.

    Both models may be given by the agent's name (`{'root': 'gemini-2.5-pro', 'helper': None}`); `None`, and an agent that is not
    named, keeps the agent's own. A single `root_model` is that of the root agent and of those that inherit its model: a sub-agent
    or a workflow's node with a model of its own keeps it. An agent behind an `AgentTool` is the root of a run of its own. Models
    are names; the fallback may be a model of the ADK too.

    The plugin asks no model itself, unless `reissue=True`: then the fallback model answers in the failed one's place, once for
    each call, and never after partial content has gone out. Give it to `App(plugins=[…])` before plugins that replace answers.

    At most `max_contexts` contexts are remembered. Raises ConfigError for settings that cannot work.
    """

    def __init__(
        self,
        name: str = 'fallback_plugin',
        root_model: str | Mapping[str, str | None] | None = None,
        fallback_model: str | BaseLlm | Mapping[str, AnyModel] | None = None,
        error_status: Sequence[int | str] = (429, 504),
        *,
        reissue: bool = False,
        raised: str = 'answer',
        max_contexts: int = 4096,
    ) -> None:
        super().__init__(name)
        self.root_model, self.fallback_model = root_model, fallback_model
        self._codes = code_keys(error_status)
        self.error_status = list(error_status)
        self.reissue, self.raised = reissue, raised
        limit: Any = max_contexts
        problems = [
            *_model_problems('root_model', root_model, (str,)),
            *_model_problems('fallback_model', fallback_model, (str, BaseLlm)),
        ]
        if raised not in ('answer', 'raise'):
            problems.append(f"raised is {raised!r}: 'answer' (an answer with the note), or 'raise'")
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            problems.append(f'max_contexts is {max_contexts!r}: give a number of at least 1')
        if problems:
            raise ConfigError('; '.join(problems))
        self._memory = Memory(max_contexts)
        self._made: dict[str, BaseLlm] = {}

    async def before_model_callback(self, *, callback_context: Any, llm_request: Any) -> LlmResponse | None:
        root = self._root_for(callback_context)
        if root is not None:
            llm_request.model = root
        self._memory.begin(callback_context, llm_request)
        return None

    async def after_model_callback(self, *, callback_context: Any, llm_response: Any) -> LlmResponse | None:
        """Changes the answer in place and returns nothing, so that the plugins after this one are asked too."""
        call = self._memory.call(callback_context)
        if llm_response.partial:
            if call is not None and _has_content(llm_response):
                call.spoke = True
            return None
        code = llm_response.error_code
        fallback = self._fallback_for(callback_context)
        if not code or fallback is None or not self._matches(code) or _is_noted(llm_response):
            return None
        note = self._note(call, callback_context, fallback, code_text(code))
        if (answer := await self._reissued(call, callback_context, fallback)) is not None:
            for field in LlmResponse.model_fields:
                setattr(llm_response, field, getattr(answer, field))
        _add(llm_response, note)
        return None

    async def on_model_error_callback(
        self, *, callback_context: Any, llm_request: Any, error: Exception
    ) -> LlmResponse | None:
        call = self._memory.call(callback_context)
        code = error_code(error)
        fallback = self._fallback_for(callback_context)
        if code is None or fallback is None or not self._matches(code):
            return None
        note = self._note(call, callback_context, fallback, code)
        answer = await self._reissued(call or ModelCall(llm_request, llm_request.model), callback_context, fallback)
        if answer is None and self.raised == 'raise':
            return None
        if answer is None:
            answer = LlmResponse(error_code=code, error_message=redacted(str(error)))
        _add(answer, note)
        return answer

    async def after_run_callback(self, *, invocation_context: Any) -> None:
        self._memory.forget(invocation_context.invocation_id)

    async def on_run_error_callback(self, *, invocation_context: Any, error: Exception) -> None:
        self._memory.forget(invocation_context.invocation_id)

    def _matches(self, code: object) -> bool:
        return code_key(code) in self._codes

    def _root_for(self, callback_context: Any) -> str | None:
        given = self.root_model
        if isinstance(given, Mapping):
            return given.get(_agent_name(callback_context))
        return None if given is None or _has_own_model(callback_context) else given

    def _fallback_for(self, callback_context: Any) -> AnyModel:
        given: Any = self.fallback_model
        found: AnyModel = given.get(_agent_name(callback_context)) if isinstance(given, Mapping) else given
        return found

    def _note(
        self, call: ModelCall | None, callback_context: Any, fallback: str | BaseLlm, code: str
    ) -> dict[str, Any]:
        return {
            'fallback_triggered': True,
            'original_model': call.original if call is not None else self._root_for(callback_context),
            'fallback_model': _name(fallback),
            'fallback_attempt': self._memory.count(callback_context),
            'error_code': code,
        }

    async def _reissued(
        self, call: ModelCall | None, callback_context: Any, fallback: str | BaseLlm
    ) -> LlmResponse | None:
        """The fallback's whole answer, or its failure; `None` when it was not asked, or failed without a code."""
        if not self.reissue or call is None or call.spoke:
            return None
        invocation = invocation_of(callback_context)
        try:
            invocation.increment_llm_call_count()
        except LlmCallsLimitExceededError:
            return None
        try:
            llm = await self._llm(invocation, fallback)
            return await _asked(llm, call.request, _name(fallback))
        except Exception as error:
            logger.warning('%s: the fallback model %s failed: %s', self.name, _name(fallback), redacted(repr(error)))
            code = error_code(error)
            return None if code is None else LlmResponse(error_code=code, error_message=redacted(str(error)))

    async def _llm(self, invocation: Any, fallback: str | BaseLlm) -> BaseLlm:
        """The agent's own model where it can be asked for the other name, with its address and credentials; else a new one."""
        if isinstance(fallback, BaseLlm):
            return fallback
        own: BaseLlm = invocation.agent.canonical_model
        if serves(own.inner if isinstance(own, LamellaLlm) else own, fallback):
            return own
        if fallback not in self._made:
            self._made[fallback] = llm_of(fallback)
        return self._made[fallback]


async def _asked(llm: BaseLlm, request: Any, name: str) -> LlmResponse | None:
    """A whole answer to a copy of the request: models change what they are given."""
    config = request.config.model_copy() if request.config is not None else None
    copy = request.model_copy(update={'model': name, 'contents': list(request.contents), 'config': config})
    answer: LlmResponse | None = None
    async with aclosing(llm.generate_content_async(copy, stream=False)) as answers:
        async for whole in answers:
            answer = whole
    return answer


def _add(answer: Any, note: Mapping[str, Any]) -> None:
    answer.custom_metadata = {**(answer.custom_metadata or {}), **note}


def _is_noted(answer: Any) -> bool:
    """Whether this answer was made here, of an error: the ADK shows it to `after_model_callback` too."""
    return (answer.custom_metadata or {}).get('fallback_triggered') is True


def _has_content(answer: Any) -> bool:
    return bool(answer.content and answer.content.parts)


def _agent_name(callback_context: Any) -> str:
    return str(getattr(callback_context, 'agent_name', ''))


def _has_own_model(callback_context: Any) -> bool:
    """Whether this is a sub-agent, or a node of a workflow, that does not inherit the model of those above it."""
    agent = getattr(invocation_of(callback_context), 'agent', None)
    path = getattr(callback_context, 'node_path', None)
    is_nested = getattr(agent, 'parent_agent', None) is not None or (isinstance(path, str) and '/' in path)
    return is_nested and bool(getattr(agent, 'model', None)) and hasattr(type(agent), 'canonical_model')


def _name(model: str | BaseLlm) -> str:
    return model.model if isinstance(model, BaseLlm) else model


def _model_problems(field: str, given: Any, kinds: tuple[type[Any], ...]) -> list[str]:
    named: list[tuple[Any, Any]] = list(given.items()) if isinstance(given, Mapping) else [(None, given)]
    return [
        f"{field}{'' if agent is None else f'[{agent!r}]'} is {model!r}: give a model's name, such as 'gemini-2.5-flash'"
        for agent, model in named
        if model is not None and not (isinstance(model, kinds) and _name(model).strip())
    ]
