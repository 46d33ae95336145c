"""The shape of `lamella.toml`: the same models check it and make the JSON Schema that editors read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lamella.engine.config.places import Path

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Money = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=1)]
Table = dict[str, Any]


class _Strict(BaseModel):
    model_config = ConfigDict(extra='forbid', frozen=True)


class PluginTable(BaseModel):
    """One provider. Everything beside `use` is given to the plugin's class: keys, addresses, headers, `http`."""

    model_config = ConfigDict(extra='allow', frozen=True)

    use: str | None = Field(
        None, description='Which plugin: a built-in name, a registered one, or `module:Class`; else that of the table.'
    )


class ModelTable(_Strict):
    """One model under a name of its own."""

    model: str = Field(description='`provider/model`; `provider:model` is taken too.')
    config: Table = Field({}, description='Settings of the generation that hold where the call sets none.')
    provider_options: dict[str, Table] = Field({}, description="The providers' own options, by provider.")
    chain: str | None = Field(None, description='A chain of this file that is fixed on the model, innermost.')


class GuardTable(_Strict):
    """What ends a run that takes too much."""

    max_turns: Whole | None = Field(default=None, description='Model calls of one run.')
    timeout_s: Seconds | None = Field(default=None, description='Seconds for one run.')
    max_cost_usd: Money | None = Field(default=None, description='Dollars for one run.')
    max_tokens: Whole | None = Field(default=None, description='Tokens of one run, input and output.')


class PriceTable(_Strict):
    """What a model costs, in dollars for a million tokens."""

    input_per_mtok: Annotated[float, Field(ge=0)]
    output_per_mtok: Annotated[float, Field(ge=0)]
    cached_per_mtok: Annotated[float, Field(ge=0)] | None = None
    cache_write_per_mtok: Annotated[float, Field(ge=0)] | None = None
    reasoning_per_mtok: Annotated[float, Field(ge=0)] | None = None


class File(_Strict):
    """A whole `lamella.toml`."""

    model: str | None = Field(None, description='The model of calls that name none.')
    chain: str | None = Field(None, description='The chain around every call of the app; `default` when there is one.')
    store: str | None = Field(None, description='Where layers remember: a URL, or a name of `[stores]`.')
    trace: str | None = Field(None, description='A file in which every run is kept, for `lamella trace`.')
    max_parallel_tools: Whole | None = Field(None, description='Tools of one turn that run at once.')
    check_order: Literal['warn', 'error', 'ignore'] = Field('warn', description='What to do about a doubtful order.')
    plugins: dict[str, PluginTable] = Field({}, description='Providers of models.')
    models: dict[str, ModelTable] = Field({}, description='Models under names of your own.')
    chains: dict[str, list[Any]] = Field({}, description='Lists of layers, the first outermost.')
    layers: dict[str, Table] = Field({}, description='Settings of a layer wherever a chain names it.')
    stores: dict[str, str] = Field({}, description='Stores by name.')
    prices: dict[str, PriceTable] = Field({}, description='Prices of your own, by model.')
    guards: GuardTable = Field(default_factory=GuardTable, description='What ends a run that takes too much.')


EXAMPLES: dict[Path, str] = {
    ('model',): "model = 'openai/gpt-5'",
    ('chain',): "chain = 'default'",
    ('store',): "store = 'sqlite:///state.db'",
    ('trace',): "trace = 'traces.db'",
    ('max_parallel_tools',): 'max_parallel_tools = 8',
    ('check_order',): "check_order = 'warn'",
    ('plugins',): "[plugins.openai]\napi_key = '${OPENAI_API_KEY}'",
    ('plugins', '*'): "[plugins.openai]\napi_key = '${OPENAI_API_KEY}'",
    ('plugins', '*', 'use'): "use = 'openai'",
    ('models', '*'): "[models.fast]\nmodel = 'openai/gpt-5-mini'",
    ('models', '*', 'model'): "model = 'openai/gpt-5-mini'",
    ('models', '*', 'config'): 'config = { temperature = 0.2 }',
    ('models', '*', 'chain'): "chain = 'default'",
    ('chains',): "[chains]\ndefault = ['retry', { use = 'fallback', models = ['openai/gpt-5-mini'] }]",
    ('chains', '*'): "default = ['retry', { use = 'fallback', models = ['openai/gpt-5-mini'] }]",
    ('chains', '*', '*'): "{ use = 'retry', max_retries = 3 }",
    ('layers', '*'): '[layers.retry]\nmax_retries = 5',
    ('stores', '*'): "main = 'redis://127.0.0.1:6379/0'",
    ('prices', '*'): "[prices.'openai/gpt-5']\ninput_per_mtok = 1.25\noutput_per_mtok = 10",
    ('prices', '*', 'input_per_mtok'): 'input_per_mtok = 1.25',
    ('prices', '*', 'output_per_mtok'): 'output_per_mtok = 10',
    ('guards', 'max_turns'): 'max_turns = 20',
    ('guards', 'timeout_s'): 'timeout_s = 120',
    ('guards', 'max_cost_usd'): 'max_cost_usd = 0.5',
    ('guards', 'max_tokens'): 'max_tokens = 100000',
}
_TABLES: dict[Path, type[BaseModel]] = {
    (): File,
    ('models', '*'): ModelTable,
    ('guards',): GuardTable,
    ('prices', '*'): PriceTable,
}


class FileHints:
    """What goes where in a `lamella.toml`."""

    def example(self, path: Path) -> str:
        return next((line for pattern, line in EXAMPLES.items() if _fits(pattern, path)), '').replace('\n', '\n    ')

    def known(self, path: Path) -> Sequence[str]:
        return next((tuple(table.model_fields) for pattern, table in _TABLES.items() if _fits(pattern, path)), ())


def _fits(pattern: Path, path: Path) -> bool:
    return len(pattern) == len(path) and all(a in (b, '*') for a, b in zip(pattern, path, strict=True))
