"""`kill -9` at every point of the approval flow: an approved tool has run at most once, and the record says whether it did.

`python -m benchmarks.approvals` kills at every point of every mode in every store, and at pairs of points.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def crashed(url: str, mode: str, double: int, every: int) -> dict[str, object]:
    """Crash points of one mode, in processes that share nothing but the store."""
    program = [sys.executable, '-m', 'tests.engine.approvals.crashes', url]
    command = [*program, '--mode', mode, '--double', str(double), '--every', str(every)]
    env = os.environ | {'PYTHONPATH': os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, object] = json.loads(ran.stdout)
    print(f'\n{found["store"]}, {mode}: {found["points"]} crash points and {double} pairs, broken: {found["broken"]}')
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ('mode', 'double', 'every'), [('plain', 20, 1), ('session', 0, 1), ('stream', 0, 3), ('arguments', 0, 2)]
)
def test_no_crash_breaks_a_promise(tmp_path: Path, mode: str, double: int, every: int) -> None:
    found = crashed(f'sqlite:///{tmp_path}/state.db', mode, double, every)
    assert found['broken'] == {}
    assert found['points'] > 50 / every


@pytest.mark.slow
def test_no_crash_breaks_a_promise_in_any_store_that_processes_share(shared_store_url: str) -> None:
    if shared_store_url.startswith('sqlite'):
        return
    found = crashed(shared_store_url, 'plain', 0, 3)
    assert found['broken'] == {}
    assert found['points'] > 20
