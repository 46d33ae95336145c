"""Spine's file is understood: each table becomes ours, what was mapped is told, and problems point into the file as it is."""

from pathlib import Path

import pytest

from lamella import Lamella
from lamella.engine.config.load import load
from lamella.engine.config.problems import ConfigFileError
from lamella.middleware import DefaultInstructions, Fallback, Retry

SPINE = """
[spine]
default_model = "openai:gpt-4o-mini"
system = "You are a helpful assistant."

[spine.guards]
max_steps = 8
max_depth = 3

[spine.middleware]
chain = ["Retry", "ModelFallback"]

[spine.backends]
checkpoint = "sqlite"
memory = "vector"

[spine.plugins.sqlite]
path = "runs.db"

[spine.plugins.Retry]
max_attempts = 4
base = 0.5
factor = 3
jitter = false

[spine.plugins.ModelFallback]
providers = ["anthropic:claude-x", "google:gemini-x"]
"""


def written(folder: Path, text: str) -> Path:
    (folder / 'spine.toml').write_text(text)
    return folder / 'spine.toml'


def test_its_tables_become_ours(tmp_path: Path) -> None:
    ai = Lamella.from_config(written(tmp_path, SPINE))
    retry, fallback, system = ai.stack.layers
    assert isinstance(retry, Retry)
    config = retry.config
    assert (config.max_retries, config.initial_delay_ms, config.backoff_factor, config.no_jitter) == (3, 500, 3, True)
    assert isinstance(fallback, Fallback)
    assert fallback.config.models == ('anthropic/claude-x', 'googleai/gemini-x')
    assert isinstance(system, DefaultInstructions)
    assert system.config.text == 'You are a helpful assistant.'
    assert (ai.default_model, ai.max_turns) == ('openai/gpt-4o-mini', 8)
    assert set(ai.registry.plugins) == {'openai', 'anthropic', 'googleai'}
    assert load(tmp_path / 'spine.toml').store == 'sqlite:///runs.db'


def test_it_says_what_it_mapped_and_what_it_left_out(tmp_path: Path) -> None:
    notes = '\n'.join(load(written(tmp_path, SPINE)).notes)
    for words in (
        "default_model = 'openai:gpt-4o-mini' → model = 'openai/gpt-4o-mini'",
        '[spine.guards] max_steps → [guards] max_turns',
        'max_depth: left out',
        "memory = 'vector': left out",
        "chain entry 'Retry' → layer 'retry' with max_retries, initial_delay_ms, backoff_factor, no_jitter",
        "chain entry 'ModelFallback' → layer 'fallback' with models",
        'system → the layer default_instructions',
    ):
        assert words in notes, words


@pytest.mark.parametrize(
    ('line', 'instead', 'place', 'problem'),
    [
        ('chain = ["Retry", "ModelFallback"]', 'chain = ["Retri"]', (11, 10), "unknown layer 'retri': did you mean 'retry'"),
        ('max_attempts = 4', 'max_attempt = 4', (21, 1), 'unknown setting of Retry'),
        ('max_attempts = 4', 'max_attempts = 0', (21, 1), 'greater than or equal to 0'),
        ('factor = 3', 'factor = "x"', (23, 1), 'valid number'),
        ('max_steps = 8', 'max_stepps = 8', (7, 1), "unknown setting: did you mean 'max_steps'"),
        ('max_steps = 8', 'max_steps = 0', (7, 1), 'greater than or equal to 1'),
        ('checkpoint = "sqlite"', 'checkpoint = "sqlight"', (14, 1), "unknown backend 'sqlight': did you mean 'sqlite'"),
        ('default_model = "openai:gpt-4o-mini"', 'default_model = "openay:x"', (3, 1), "unknown plugin 'openay'"),
        ('[spine.backends]', '[backends]', (13, 1), 'stands beside [spine]'),
    ],
)  # fmt: skip
def test_problems_point_into_the_file_as_it_is(
    tmp_path: Path, line: str, instead: str, place: tuple[int, int], problem: str
) -> None:
    with pytest.raises(ConfigFileError) as caught:
        load(written(tmp_path, SPINE.replace(line, instead, 1)))
    found = [(p.place.line, p.place.column) for p in caught.value.problems if problem in p.message]
    assert found == [place], str(caught.value)
