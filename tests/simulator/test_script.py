"""Scripts in TOML."""

from pathlib import Path

import pytest

from lamella.simulator import Answer, Fault, load_script
from lamella.simulator.script import Script, script_of
from lamella.types import ConfigError

GOOD = """
[[faults]]
kind = "status"
model = "gpt-*"
status = 429
retry_after_s = 2
times = 2

[[faults]]
kind = "cut"
after_parts = 3
every = 5

[[answers]]
match = "weather"
tool = "get_weather"
input = {city = "Paris"}
text = "It is sunny."

[[answers]]
text = ["one ", "two"]
"""

BAD = """
[[fault]]
kind = "cut"

[[faults]]
kind = "status"
status = 600
retry_after = 2

[[faults]]
model = "x"

[[faults]]
kind = "cut"
per_token_s = 1

[[answers]]
match = "x"
txt = "hello"

[[answers]]
text = 3
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding='utf-8')
    return path


def test_a_script_is_read(tmp_path: Path) -> None:
    assert load_script(write(tmp_path / 'faults.toml', GOOD)) == Script(
        (
            Fault('status', model='gpt-*', status=429, retry_after_s=2, times=2),
            Fault('cut', after_parts=3, every=5),
        ),
        (
            Answer(match='weather', tool='get_weather', input={'city': 'Paris'}, text='It is sunny.'),
            Answer(text=['one ', 'two']),
        ),
    )


def test_every_problem_is_told_at_once_with_its_place_and_the_right_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_script(write(tmp_path / 'faults.toml', BAD))
    said = str(caught.value)
    assert 'faults.toml has 8 problems' in said
    for line in (
        "unknown key 'fault': did you mean 'faults'?",
        'faults[0].status is 600',
        "faults[0]: unknown key 'retry_after': did you mean 'retry_after_s'",
        'faults[1]: kind is missing',
        "faults[2].per_token_s has no meaning for kind 'cut'",
        "answers[0]: unknown key 'txt': did you mean 'text'",
        'answers[0]: say what to answer',
        'answers[1].text is 3',
    ):
        assert line in said


@pytest.mark.parametrize('text', ['[[faults]', 'faults = [', '\x00'])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r'x\.toml cannot be read as TOML'):
        load_script(write(tmp_path / 'x.toml', text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'missing\.toml cannot be read'):
        load_script(tmp_path / 'missing.toml')


def test_a_single_table_where_a_list_belongs_is_explained() -> None:
    with pytest.raises(ConfigError, match=r'write one \[\[faults\]\] table for each'):
        script_of({'faults': {'kind': 'cut'}}, 'x')
