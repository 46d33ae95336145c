"""`DefaultSettings`: settings for every call that does not say otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypedDict, Unpack

from pydantic import BaseModel, BeforeValidator, Field

from lamella.core.config import build_config
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware
from lamella.core.models import to_config
from lamella.core.params import ModelHookParams
from lamella.middleware._provider_options import ProviderOptions, merged
from lamella.types import ConfigError, GenerationConfig, ModelRequest, ToolChoice

Ctx = GenerateMiddlewareContext
_MODES: dict[str, Literal['auto', 'none', 'required']] = {'auto': 'auto', 'none': 'none', 'required': 'required'}


def _config(value: Any) -> GenerationConfig:
    try:
        return to_config(value)
    except ConfigError as error:
        raise ValueError(error.message) from error


def _tool_choice(value: Any) -> Any:
    if value is None or isinstance(value, ToolChoice):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError(f"is {value!r}: give 'auto', 'none', 'required', the name of a tool or a ToolChoice")
    if value in _MODES:
        return ToolChoice(_MODES[value])
    if near := get_close_matches(value, _MODES, n=1, cutoff=0.8):
        raise ValueError(
            f"is {value!r}: did you mean {near[0]!r}? A tool of that name is ToolChoice('tool', {value!r})"
        )
    return ToolChoice('tool', value)


class DefaultSettingsConfig(BaseModel, frozen=True, extra='forbid', arbitrary_types_allowed=True):
    """The settings of `DefaultSettings`."""

    config: Annotated[
        GenerationConfig,
        BeforeValidator(_config),
        Field(description='Generation settings, such as temperature; a dict or a GenerationConfig.'),
    ] = GenerationConfig()
    provider_options: Annotated[
        ProviderOptions, Field(description="Options by provider; merged with the call's own at every depth.")
    ] = {}
    tool_choice: Annotated[
        ToolChoice | None,
        BeforeValidator(_tool_choice),
        Field(description="'auto', 'none', 'required', a tool's name or a ToolChoice, for calls that have tools."),
    ] = None


class DefaultSettingsOptions(TypedDict, total=False):
    """The keywords of `DefaultSettings`."""

    config: GenerationConfig | Mapping[str, Any] | DefaultSettingsConfig
    provider_options: Mapping[str, Mapping[str, Any]]
    tool_choice: ToolChoice | str | None


class DefaultSettings(BaseMiddleware[DefaultSettingsConfig]):
    """Fills in what a request leaves open, as `defaultSettingsMiddleware` of the Vercel AI SDK does
    (ai-sdk.dev/docs/reference/ai-sdk-core/default-settings-middleware).

    What the call sets wins, field by field. `provider_options` are merged at every depth; lists and other values of the call
    replace. `tool_choice` holds for requests with tools (a named one: with that tool), on every turn, as a call's own does.
    """

    def __init__(
        self, given: DefaultSettingsConfig | None = None, /, **options: Unpack[DefaultSettingsOptions]
    ) -> None:
        whole = options.get('config')  # as with every layer, config= may be the finished settings too
        if given is None and isinstance(whole, DefaultSettingsConfig):
            given = whole
            del options['config']
        self.config = build_config(type(self).__name__, self._config_class, given, options)

    async def transform_params(self, params: ModelHookParams, ctx: Ctx) -> ModelHookParams:
        defaults, request = self.config, params.request
        return params.replace(
            request=request.replace(
                config=request.config.over(defaults.config),
                provider_options=merged(defaults.provider_options, request.provider_options),
                tool_choice=self._choice(request),
            )
        )

    def _choice(self, request: ModelRequest) -> ToolChoice | None:
        choice = self.config.tool_choice
        if request.tool_choice is not None or choice is None or not request.tools:
            return request.tool_choice
        if choice.mode == 'tool' and all(tool.name != choice.name for tool in request.tools):
            return None
        return choice
