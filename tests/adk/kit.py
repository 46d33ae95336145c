"""Agents of the ADK around models that say what they are told to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.apps import App
from google.adk.models.base_llm import BaseLlm
from google.adk.models.google_llm import Gemini
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.runners import InMemoryRunner
from google.genai import types
from google.genai.errors import ClientError, ServerError
from pydantic import PrivateAttr

UNARY = RunConfig()
SSE = RunConfig(streaming_mode=StreamingMode.SSE)
MODES = [UNARY, SSE]
MODE_NAMES = ['unary', 'sse']


def text_answer(text: str, **fields: Any) -> LlmResponse:
    """An answer that is only text."""
    fields.setdefault('finish_reason', types.FinishReason.STOP)
    return LlmResponse(content=types.Content(role='model', parts=[types.Part(text=text)]), **fields)


def piece(text: str, *, thought: bool | None = None) -> LlmResponse:
    """A piece of a streamed answer."""
    return LlmResponse(
        content=types.Content(role='model', parts=[types.Part(text=text, thought=thought)]), partial=True
    )


def call_answer(name: str, args: dict[str, Any] | None = None, *, id: str | None = None) -> LlmResponse:
    """An answer that asks for one tool call."""
    call = types.FunctionCall(name=name, args=args or {}, id=id)
    return LlmResponse(
        content=types.Content(role='model', parts=[types.Part(function_call=call)]),
        finish_reason=types.FinishReason.STOP,
    )


def api_error(code: int, status: str = '', **details: Any) -> Exception:
    """What google-genai raises for an answer with this status."""
    kind = ClientError if code < 500 else ServerError
    body = {'error': {'code': code, 'status': status, 'message': f'the provider said {code}', **details}}
    made: Exception = kind(code, body)
    return made


def rate_limited() -> Exception:
    return api_error(429, 'RESOURCE_EXHAUSTED')


class FakeLlm(BaseLlm):
    """Says its script in turn: texts, answers, lists of answers (a stream), errors; the last again and again.

    `by_model` are scripts for other names that it is asked for. `asked` has each request's model, and `requests` the requests.
    """

    _scripts: dict[str | None, list[Any]] = PrivateAttr()
    _asked: list[tuple[str | None, bool]] = PrivateAttr(default_factory=list)
    _requests: list[Any] = PrivateAttr(default_factory=list)

    def __init__(self, model: str, script: Sequence[Any] = ('hello',), **by_model: Sequence[Any]) -> None:
        super().__init__(model=model)
        self._scripts = {None: list(script), **{name: list(said) for name, said in by_model.items()}}

    @property
    def capabilities(self) -> Any:
        return Gemini(model='gemini-2.5-flash').capabilities

    @property
    def asked(self) -> list[str | None]:
        return [name for name, _ in self._asked]

    @property
    def streamed(self) -> list[bool]:
        return [stream for _, stream in self._asked]

    @property
    def requests(self) -> list[Any]:
        return self._requests

    async def generate_content_async(self, llm_request: Any, stream: bool = False) -> AsyncGenerator[LlmResponse, None]:
        self._asked.append((llm_request.model, stream))
        self._requests.append(llm_request.model_copy(update={'contents': list(llm_request.contents)}))
        script = self._scripts.get(llm_request.model, self._scripts[None])
        said = script.pop(0) if len(script) > 1 else script[0]
        for answer in said if isinstance(said, list) else [said]:
            if isinstance(answer, BaseException):
                raise answer
            yield text_answer(answer) if isinstance(answer, str) else answer.model_copy()


class Watcher(BasePlugin):
    """A plugin that does nothing but keep what it is shown."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.answers: list[Any] = []
        self.errors: list[Exception] = []
        self.models: list[str | None] = []
        self.tools: list[str] = []
        self.results: list[Any] = []

    async def before_model_callback(self, *, callback_context: Any, llm_request: Any) -> None:
        self.models.append(llm_request.model)

    async def after_model_callback(self, *, callback_context: Any, llm_response: Any) -> None:
        self.answers.append(llm_response.model_copy())

    async def on_model_error_callback(self, *, callback_context: Any, llm_request: Any, error: Exception) -> None:
        self.errors.append(error)

    async def before_tool_callback(self, *, tool: Any, tool_args: Any, tool_context: Any) -> None:
        self.tools.append(tool.name)

    async def after_tool_callback(self, *, tool: Any, tool_args: Any, tool_context: Any, result: Any) -> None:
        self.results.append(result)


def runner_of(agent: Any, *plugins: BasePlugin) -> InMemoryRunner:
    return InMemoryRunner(app=App(name='trial', root_agent=agent, plugins=list(plugins)))


class Talk:
    """One session with a runner."""

    def __init__(self, runner: InMemoryRunner, mode: RunConfig = UNARY) -> None:
        self.runner, self.mode = runner, mode
        self.session: Any = None

    async def say(self, message: str | types.Content, **options: Any) -> list[Any]:
        """The events of one invocation."""
        service = self.runner.session_service
        if self.session is None:
            self.session = await service.create_session(app_name='trial', user_id='ann')
        content = message if isinstance(message, types.Content) else user(message)
        run = self.runner.run_async(
            user_id='ann', session_id=self.session.id, new_message=content, run_config=self.mode, **options
        )
        return [event async for event in run]


def user(text: str) -> types.Content:
    return types.Content(role='user', parts=[types.Part(text=text)])


async def events_of(agent: Any, *plugins: BasePlugin, mode: RunConfig = UNARY, message: str = 'hi') -> list[Any]:
    """The events of one invocation of this agent in an app with these plugins."""
    return await Talk(runner_of(agent, *plugins), mode).say(message)


def texts(events: Sequence[Any]) -> list[str]:
    """The texts of whole answers, thoughts left out."""
    return [
        ''.join(part.text for part in event.content.parts if part.text and not part.thought)
        for event in events
        if event.content and not event.partial and any(part.text for part in event.content.parts)
    ]


def pieces_of(events: Sequence[Any]) -> list[str]:
    return [
        part.text for event in events if event.partial and event.content for part in event.content.parts if part.text
    ]


def note_of(event: Any) -> dict[str, Any]:
    """The five keys of a fallback."""
    keys = ('fallback_triggered', 'original_model', 'fallback_model', 'fallback_attempt', 'error_code')
    found = event.custom_metadata or {}
    return {key: found[key] for key in keys if key in found}
