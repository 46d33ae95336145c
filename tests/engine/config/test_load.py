"""`Lamella.from_config`: what a file makes, and every problem of a wrong one at once."""

import json
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from lamella import Lamella, Timeouts
from lamella.engine.config.load import load
from lamella.engine.config.problems import ConfigFileError
from lamella.engine.config.schema import file_schema
from lamella.engine.traces import TraceReader, TraceStore
from lamella.middleware import Fallback, Retry
from lamella.simulator import Simulator
from lamella.testing import CollectingSink
from lamella.types import ConfigError, UnknownNameError

WHOLE = """
model = 'fast'
store = 'main'
trace = '{folder}/traces.db'
max_parallel_tools = 3
check_order = 'ignore'

[plugins.openai]
api_key = '${KEY}'
base_url = '${URL:-https://api.openai.com/v1}'
http = { connect_timeout_s = 3 }

[plugins.spare]
use = 'openai'
base_url = '${URL:-https://api.openai.com/v1}'
api_key = 'spare-${KEY}'

[models.fast]
model = 'openai:gpt-5-mini'
config = { temperature = 0.2 }
provider_options.openai = { user = 'u-1' }
chain = 'fixed'

[chains]
default = ['Retry', { use = 'fallback', models = ['spare/gpt-x'] }]
fixed = [{ use = 'default_instructions', text = 'Be brief. It costs $$5.' }]

[layers.retry]
max_retries = 1
initial_delay_ms = 0

[stores]
main = 'sqlite:///{folder}/state.db'

[prices.'openai/gpt-5-mini']
input_per_mtok = 0.25
output_per_mtok = 2

[guards]
max_turns = 7
max_cost_usd = 0.5
timeout_s = 60
"""


def written(folder: Path, text: str, name: str = 'lamella.toml') -> Path:
    path = folder / name
    path.write_text(text.replace('{folder}', str(folder)), encoding='utf-8')
    return path


def problems(folder: Path, text: str, environment: Any = None) -> list[tuple[int, int, str]]:
    with pytest.raises(ConfigFileError) as caught:
        load(written(folder, text), environment or {})
    assert str(caught.value).count('Traceback') == 0
    return [(p.place.line, p.place.column, f'{".".join(map(str, p.path))}: {p.message}') for p in caught.value.problems]


async def test_a_file_makes_an_app_that_answers(tmp_path: Path) -> None:
    async with Simulator() as sim:
        environment = {'KEY': 'key-from-outside', 'URL': f'{sim.base_url}/v1'}
        sink = CollectingSink()
        async with Lamella.from_config(written(tmp_path, WHOLE), environment=environment, sinks=[sink]) as ai:
            response = await ai.generate(prompt='I love bees.')
            await ai.resolve_store(None).put('k', b'v')
        (received,) = sim.requests
    assert 'I love bees' in response.text
    assert received.headers['authorization'] == 'Bearer key-from-outside'
    assert received.model == 'gpt-5-mini'
    sent = json.loads(received.body) if isinstance(received.body, (bytes, str)) else received.body
    assert (sent['temperature'], sent['user']) == (0.2, 'u-1')
    assert sent['messages'][0] == {'role': 'system', 'content': 'Be brief. It costs $5.'}
    assert (ai.max_turns, ai.max_parallel_tools, ai.limits.max_cost_usd) == (7, 3, 0.5)
    assert ai.timeouts == Timeouts(total_s=60)
    retry, fallback = ai.stack.layers
    assert isinstance(retry, Retry)
    assert isinstance(fallback, Fallback)
    assert (retry.config.max_retries, fallback.config.models) == (1, ('spare/gpt-x',))
    assert (tmp_path / 'state.db').exists()
    kept, listening = ai.sinks
    assert isinstance(kept, TraceStore)
    assert listening is sink
    kept.close()
    with TraceReader(tmp_path / 'traces.db') as reader:
        assert reader.run('last').status == 'final'
    assert ai.chain('fixed').layers[0].name == 'default_instructions'
    with pytest.raises(UnknownNameError, match="unknown chain 'fixd': did you mean 'fixed'"):
        ai.chain('fixd')


def test_an_empty_file_is_an_app_without_anything(tmp_path: Path) -> None:
    assert len(Lamella.from_config(written(tmp_path, '')).stack) == 0


def test_what_is_given_beside_the_file_wins(tmp_path: Path) -> None:
    assert Lamella.from_config(written(tmp_path, '[guards]\nmax_turns = 2'), max_turns=9).max_turns == 9


def test_every_problem_is_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """model = 'openay/gpt'
stor = 'x'
store = 'mian'
guards = 7
[plugins.openai]
api_kee = 'x'
[plugins.opnai]
[models.fast]
model = 'openai/m'
config = { temprature = 1 }
chain = 'deflaut'
[models.slow]
[chains]
default = ['retri', { use = 'retry', max_retrys = 3, initial_delay_ms = 'soon' }, { uses = 'x' }, 4]
[layers.retry]
max_retries = -1
[layers.nobody]
[stores]
main = 'redsi://127.0.0.1'
[prices.'openai/gpt-5']
input_per_mtok = -1
"""
    found = problems(tmp_path, text)
    assert [(line, column) for line, column, _ in found] == [
        *((1, 1), (2, 1), (3, 1), (4, 1), (6, 1), (7, 1), (10, 1), (11, 1), (12, 1), (14, 12), (14, 38), (14, 54)),
        *((14, 83), (14, 99), (16, 1), (17, 1), (19, 1), (20, 1), (21, 1)),
    ]
    said = [message for _, _, message in found]
    for words in (
        "no plugin 'openay' for 'openay/gpt': did you mean 'openai'",
        "stor: unknown setting: did you mean 'store'",
        "unknown store 'mian': did you mean 'main'",
        "api_kee: unknown setting of OpenAI: did you mean 'api_key'",
        "unknown plugin 'opnai': did you mean 'openai'",
        "unknown setting 'temprature': did you mean 'temperature'",
        "unknown chain 'deflaut': did you mean 'default'",
        'models.slow.model: is missing',
        "unknown layer 'retri': did you mean 'retry'",
        "max_retrys: unknown setting of Retry: did you mean 'max_retries'",
        'initial_delay_ms: Input should be a valid number',
        "unknown layer 'nobody'",
        "unknown scheme 'redsi': did you mean 'redis'",
        'output_per_mtok: is missing',
    ):
        assert [line for line in said if words in line], words


def test_an_error_shows_an_example(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError, match=r'for example: timeout_s = 120'):
        load(written(tmp_path, '[guards]\ntimeout_s = 0'))


@pytest.mark.parametrize(
    ('text', 'place', 'problem'),
    [
        ('model = ', (1, 9), 'is no TOML: Invalid value'),
        ('a = 1\nb = = 2', (2, 5), 'is no TOML'),
        ('a = 1\na = 2', (2, 6), 'is no TOML: Cannot overwrite a value'),
        ('[chains', (1, 8), 'is no TOML'),
    ],
)
def test_a_file_that_is_no_toml_says_where(tmp_path: Path, text: str, place: tuple[int, int], problem: str) -> None:
    (found,) = problems(tmp_path, text)
    assert found[:2] == place
    assert problem in found[2]


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileError, match=r'no\.toml: 1 problem\n.*cannot be read: No such file'):
        load(tmp_path / 'no.toml')
    with pytest.raises(ConfigFileError, match='cannot be read: Is a directory'):
        load(tmp_path)
    (tmp_path / 'latin.toml').write_bytes(b'model = "\xff"')
    with pytest.raises(ConfigFileError, match='is not UTF-8: byte 9 is 0xff'):
        load(tmp_path / 'latin.toml')
    (tmp_path / 'deep.toml').write_text('a = ' + '[' * 100_000)
    with pytest.raises(ConfigFileError):
        load(tmp_path / 'deep.toml')


# ── the environment ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_variable_that_is_not_set_is_named(tmp_path: Path) -> None:
    found = problems(tmp_path, "[plugins.openai]\napi_key = 'a${NOT_SET}b${BAD NAME}'")
    assert [message for _, _, message in found] == [
        'plugins.openai.api_key: the environment variable NOT_SET is not set',
        'plugins.openai.api_key: ${BAD NAME} is no reference',
    ]


@pytest.mark.parametrize(
    ('written_as', 'environment', 'means'),
    [
        ('${A:-sqlite:///d.db}', {}, 'sqlite:///d.db'),
        ('${A:-x}', {'A': 'sqlite:///e.db'}, 'sqlite:///e.db'),
        ('${A:-sqlite:///d.db}', {'A': ''}, 'sqlite:///d.db'),
        ('sqlite:///$$${A}.db', {'A': 'x'}, 'sqlite:///$x.db'),
    ],
)
def test_references_and_their_defaults(tmp_path: Path, written_as: str, environment: Any, means: str) -> None:
    assert load(written(tmp_path, f"store = '{written_as}'"), environment).store == means


def test_what_comes_from_the_environment_is_never_shown(tmp_path: Path) -> None:
    text = """
store = '${DSN}'
model = '${KEY}'
[plugins.openai]
base_url = '${KEY}'
[plugins.x]
use = '${KEY}'
[chains]
default = ['${KEY}', { use = 'retry', max_retries = '${KEY}' }]
"""
    environment = {'KEY': 'sk-very-secret', 'DSN': 'redsi://user:hunter2@db/0'}
    with pytest.raises(ConfigFileError) as caught:
        load(written(tmp_path, text), environment)
    assert 'sk-very-secret' not in str(caught.value)
    assert 'hunter2' not in str(caught.value)
    assert '${KEY}' in str(caught.value)
    assert len(caught.value.problems) == 6


# ── layers and plugins of others ────────────────────────────────────────────────────────────────────────────────────

OTHERS = '''
from lamella.core.plugin import Plugin
from lamella.middleware import BaseMiddleware
from lamella.testing import ScriptedModel

class Loud(BaseMiddleware):
    """Shouts."""

    async def wrap_model(self, params, ctx, next_fn):
        response = await next_fn(params, ctx)
        return response.replace(metadata={**response.metadata, 'loud': True})

class Scripted(Plugin):
    name = 'scripted'

    def __init__(self, name='scripted', says='hello'):
        self.name, self.says = name, says

    def model(self, name):
        return ScriptedModel([self.says], name=f'{self.name}/{name}', repeat=True)

not_a_layer = 3
'''


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with a layer and a plugin."""
    (tmp_path / 'acme_lamella.py').write_text(OTHERS)
    info = tmp_path / 'acme_lamella-1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: acme-lamella\nVersion: 1.0\n')
    (info / 'entry_points.txt').write_text(
        '[lamella.middleware]\nloud = acme_lamella:Loud\nbroken = acme_lamella:Nothing\n'
        '[lamella.plugins]\nscripted = acme_lamella:Scripted\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures('others')
@pytest.mark.parametrize('name', ['loud', 'acme_lamella:Loud'])
async def test_layers_and_plugins_of_another_package_go_by_their_names(tmp_path: Path, name: str) -> None:
    text = f"model = 'mine/x'\n[chains]\ndefault = ['{name}']\n[plugins.mine]\nuse = 'scripted'\nsays = 'ho'"
    response = await Lamella.from_config(written(tmp_path, text)).generate(prompt='hi')
    assert (response.text, response.metadata['loud'], response.model) == ('ho', True, 'mine/x')


@pytest.mark.usefixtures('others')
@pytest.mark.parametrize(
    ('name', 'problem'),
    [
        ('lout', "unknown layer 'lout': did you mean 'loud'"),
        ('broken', "'broken' is registered as acme_lamella:Nothing and cannot be loaded"),
        ('acme_lamella:Nothing', "'acme_lamella:Nothing' cannot be loaded"),
        ('acme_lamella:not_a_layer', 'a layer is a subclass of lamella.middleware.BaseMiddleware'),
        ('no_such_module:X', "cannot be loaded: No module named 'no_such_module'"),
        (':', "':' cannot be loaded"),
    ],
)
def test_what_is_no_layer_says_so(tmp_path: Path, name: str, problem: str) -> None:
    (found,) = problems(tmp_path, f"[chains]\ndefault = ['{name}']")
    assert problem in found[2]


# ── the schema ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_schema_takes_what_the_loader_takes_and_refuses_what_it_refuses(tmp_path: Path) -> None:
    validator = Draft202012Validator(file_schema())
    Draft202012Validator.check_schema(file_schema())
    assert list(validator.iter_errors(tomllib.loads(WHOLE.replace("'Retry'", "'retry'")))) == []
    for wrong in (
        "chains = { default = [{ use = 'retry', max_retrys = 1 }] }",
        "chains = { default = ['retri'] }",
        'chains = { default = [{}] }',
        "models = { x = { modle = 'a/b' } }",
        'guards = { max_turns = 0 }',
        'surprise = 1',
        'layers = { retry = { max_retrys = 1 } }',
    ):
        assert list(validator.iter_errors(tomllib.loads(wrong))) != [], wrong
        with pytest.raises(ConfigError):
            load(written(tmp_path, wrong))


names = st.sampled_from(['use', 'model', 'x', 'default', 'retry'])
junk = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('ab:/${}', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner),
    max_leaves=6,
)
TABLES = ['model', 'chain', 'store', 'plugins', 'models', 'chains', 'layers', 'stores', 'prices', 'guards', 'spine']


@settings(max_examples=200)
@given(document=st.dictionaries(st.sampled_from(TABLES), junk, max_size=4))
def test_any_document_is_an_app_or_one_error(
    document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / 'junk.toml'
    path.write_text('\n'.join(f'{key} = {toml(value)}' for key, value in document.items() if value is not None))
    with suppress(ConfigFileError):
        assert load(path, {}).file


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return '{' + ', '.join(f'{key} = {toml(item)}' for key, item in value.items()) + '}'
    if isinstance(value, list):
        return '[' + ', '.join(map(toml, value)) + ']'
    return '0' if value is None else json.dumps(value)
