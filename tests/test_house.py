"""The rules of the repository that neither ruff, mypy nor import-linter can hold."""

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / 'src' / 'lamella'
PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['project']

MAX_LINES = 400
# A file may be taller only when it is named here, with the reason.
TALLER: dict[str, str] = {}

MAX_BASE_PACKAGES = 8
MAX_BASE_BYTES = 12_000_000
BASE_IMPORTS = {'msgspec', 'pydantic', 'pydantic_core', 'typing_extensions'}

# Floors that exist only with their own extra may import its packages wherever they need them.
OWN_EXTRA = ('cli/', 'gateway/', 'integrations/', 'simulator/', 'studio/')
# Import name -> distribution, where they differ.
DISTRIBUTIONS = {
    'google.adk': 'google-adk',
    'google.auth': 'google-auth',
    'google.genai': 'google-genai',
    'mcp': 'mcp',
    'opentelemetry': 'opentelemetry-api',
    'genai_prices': 'genai-prices',
    'yaml': 'pyyaml',
}

# Paths of somebody's machine. A path in an address (https://host/home/x) or inside a longer word is none.
LOCAL_PATH = re.compile(r'(?<![\w.:/~-])(?:/(?:home|Users|root|work|mnt)/[\w.-]+|[A-Z]:\\Users\\\w+)')
BINARY = {'.png', '.jpg', '.gif', '.ico', '.woff2', '.gz', '.zip', '.whl', '.pdf'}


def sources() -> list[Path]:
    return sorted(SRC.rglob('*.py'))


def tracked() -> list[Path]:
    """Every file that is or could be committed."""
    command = ['git', 'ls-files', '--cached', '--others', '--exclude-standard', '-z']
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip('not a git checkout')
    return [ROOT / name for name in listed.stdout.decode().split('\0') if name and (ROOT / name).is_file()]


def relative(path: Path) -> str:
    return path.relative_to(SRC).as_posix()


def layer_files(src: Path) -> list[Path]:
    """The catalog: middleware/<group>/<layer>.py."""
    return sorted(path for path in (src / 'middleware').glob('*/*.py') if not path.name.startswith('_'))


def third_party_imports(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names: Iterable[str] = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = (
                [f'{node.module}.{alias.name}' for alias in node.names] if node.module == 'google' else [node.module]
            )
        else:
            continue
        for name in names:
            parts = name.split('.')
            if parts[0] != 'lamella' and parts[0] not in sys.stdlib_module_names:
                found.add('.'.join(parts[:2]) if parts[0] == 'google' else parts[0])
    return found


def optional_imports(src: Path) -> dict[str, set[str]]:
    """Optional package -> the files that import it, relative to the package."""
    users = defaultdict(set)
    for path in sorted(src.rglob('*.py')):
        for name in third_party_imports(ast.parse(path.read_text(encoding='utf-8'))) - BASE_IMPORTS:
            users[name].add(path.relative_to(src).as_posix())
    return users


def crowded(users: dict[str, set[str]]) -> dict[str, list[str]]:
    """The optional packages that more than one module imports, floors with an extra of their own aside."""
    inside = {name: sorted(path for path in paths if not path.startswith(OWN_EXTRA)) for name, paths in users.items()}
    return {name: paths for name, paths in inside.items() if len(paths) > 1}


def missing_companions(src: Path, root: Path) -> list[str]:
    missing = []
    for path in layer_files(src):
        test = root / 'tests' / 'middleware' / path.parent.name / f'test_{path.stem}.py'
        page = root / 'docs' / 'layers' / f'{path.stem}.md'
        missing += [str(wanted.relative_to(root)) for wanted in (test, page) if not wanted.exists()]
    return missing


def closure(distribution: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """The distribution and everything it needs, by the installed metadata."""
    seen: set[str] = set()
    waiting = [distribution]
    while waiting:
        name = re.sub(r'[-_.]+', '-', waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        for requirement in metadata.requires(name) or []:
            wanted, _, marker = requirement.partition(';')
            if 'extra ==' not in marker and 'python_version <' not in marker and 'platform' not in marker:
                waiting.append(re.match(r'[\w.-]+', wanted)[0])
    return seen


def test_no_source_file_is_too_tall() -> None:
    heights = {relative(path): len(path.read_text(encoding='utf-8').splitlines()) for path in sources()}
    assert {name: height for name, height in heights.items() if height > MAX_LINES and name not in TALLER} == {}


def test_no_exception_for_a_tall_file_outlives_its_need() -> None:
    assert [name for name in TALLER if len((SRC / name).read_text(encoding='utf-8').splitlines()) <= MAX_LINES] == []


def test_every_module_says_in_one_sentence_what_lives_there() -> None:
    silent = []
    for path in sources():
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
        first = docstring.split('\n\n')[0].strip()
        if not first.endswith('.'):
            silent.append(relative(path))
    assert silent == []


def test_every_layer_has_its_test_and_its_page() -> None:
    assert missing_companions(SRC, ROOT) == []


def test_every_layer_page_has_its_layer() -> None:
    layers = {path.stem for path in layer_files(SRC)}
    assert [page.name for page in (ROOT / 'docs' / 'layers').glob('*.md') if page.stem not in layers | {'index'}] == []


def test_an_optional_package_is_imported_in_one_module() -> None:
    assert crowded(optional_imports(SRC)) == {}


def test_every_optional_package_is_in_an_extra() -> None:
    user_extras = {
        name: needs
        for name, needs in PROJECT['optional-dependencies'].items()
        if name not in {'adk-test', 'test', 'dev'}
    }
    offered = {re.match(r'[\w.-]+', need)[0].lower() for needs in user_extras.values() for need in needs}
    needed = {DISTRIBUTIONS.get(name, name.replace('_', '-')) for name in optional_imports(SRC)}
    # lamella.testing runs inside the user's pytest and has no extra of its own.
    assert sorted(needed - offered - {'pytest'}) == []


def test_the_base_install_is_small() -> None:
    packages = closure('lamella')
    assert len(packages) <= MAX_BASE_PACKAGES, sorted(packages)


def test_the_base_install_is_light() -> None:
    size = 0
    for name in closure('lamella') - {'lamella'}:
        files = metadata.files(name) or []
        size += sum(file.locate().stat().st_size for file in files if file.suffix != '.pyc' and file.locate().exists())
    size += sum(path.stat().st_size for path in SRC.rglob('*') if path.is_file() and path.suffix != '.pyc')
    assert size <= MAX_BASE_BYTES


def test_importing_lamella_loads_base_packages_only() -> None:
    program = 'import sys, lamella; print(*sorted({name.partition(".")[0] for name in sys.modules}))'
    loaded = subprocess.run([sys.executable, '-c', program], capture_output=True, check=True, text=True).stdout.split()
    optional = {name.partition('.')[0] for name in optional_imports(SRC)}
    assert optional & set(loaded) == set()


def test_tests_mirror_the_source_without_packages() -> None:
    """An `__init__.py` would let tests/types or tests/typing stand in front of the standard library's."""
    assert [str(path.relative_to(ROOT)) for path in (ROOT / 'tests').glob('*/**/__init__.py')] == []


def test_every_change_fragment_has_a_type_and_says_something() -> None:
    pattern = re.compile(r'^(\+[\w-]+|\d+)\.(added|changed|fixed|removed|security)\.md$')
    fragments = [path for path in (ROOT / 'changes').iterdir() if path.name != 'README.md']
    wrong = [
        path.name for path in fragments if not pattern.match(path.name) or not path.read_text(encoding='utf-8').strip()
    ]
    assert wrong == []


def test_the_repository_names_no_path_of_one_machine() -> None:
    found = []
    for path in tracked():
        if path.suffix in BINARY:
            continue
        for number, line in enumerate(path.read_text(encoding='utf-8', errors='replace').splitlines(), 1):
            if LOCAL_PATH.search(line):
                found.append(f'{path.relative_to(ROOT)}:{number}')
    assert found == []


# The checks above hold nothing if they cannot fail.


@pytest.mark.parametrize('path', ['/ho' + 'me/ann/x', 'see /Us' + 'ers/ann.', '"/ro' + 'ot/.cache"', '/wo' + 'rk/main'])
def test_a_local_path_is_found(path: str) -> None:
    assert LOCAL_PATH.search(path)


@pytest.mark.parametrize('text', ['https://host/ho' + 'me/x', 'src/wo' + 'rk/x', '--tmpfs /home', '~/ro' + 'ot/x'])
def test_other_slashes_are_left_alone(text: str) -> None:
    assert not LOCAL_PATH.search(text)


def test_a_second_importer_of_an_optional_package_is_found(tmp_path: Path) -> None:
    for name in ('plugins/_http.py', 'engine/app.py', 'simulator/server.py'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('import os\nimport aiohttp.web\n')
    assert crowded(optional_imports(tmp_path)) == {'aiohttp': ['engine/app.py', 'plugins/_http.py']}


def test_a_layer_without_companions_is_found(tmp_path: Path) -> None:
    group = tmp_path / 'src' / 'middleware' / 'resilience'
    group.mkdir(parents=True)
    for name in ('__init__.py', 'retry.py'):
        (group / name).touch()
    wanted = ['tests/middleware/resilience/test_retry.py', 'docs/layers/retry.md']
    assert missing_companions(tmp_path / 'src', tmp_path) == wanted


def test_google_packages_are_told_apart() -> None:
    tree = ast.parse('import google.auth\nfrom google import genai\nfrom lamella.types import Message\n')
    assert third_party_imports(tree) == {'google.auth', 'google.genai'}


def test_the_package_is_importable_from_this_checkout() -> None:
    spec = importlib.util.find_spec('lamella')
    assert spec is not None
    assert Path(str(spec.origin)).parent == SRC
