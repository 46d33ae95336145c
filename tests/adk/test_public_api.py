"""The public names of this package, compared with public_api.txt beside this file (tests/public_api.txt cannot have them).

`python -P tests/adk/test_public_api.py --write`, in the environment of `make adk`, writes the file anew.
"""

import sys
from pathlib import Path

if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).parents[2]))

from lamella.core.model import Model
from lamella.integrations import adk
from tests.test_public_api import describe, exported

FILE = Path(__file__).with_name('public_api.txt')


def public_api() -> str:
    homes = {id(Model): 'lamella.core.Model'}
    homes |= {id(getattr(adk, name)): f'{adk.__name__}.{name}' for name in exported(adk)}
    lines = [line for name in exported(adk) for line in describe(f'{adk.__name__}.{name}', getattr(adk, name), homes)]
    return '\n'.join([*[line for line in lines if '.model_post_init(' not in line], ''])  # pydantic's own


def test_the_public_names_and_signatures_are_the_listed_ones() -> None:
    assert public_api() == FILE.read_text(encoding='utf-8')


if __name__ == '__main__':
    FILE.write_text(public_api(), encoding='utf-8')
