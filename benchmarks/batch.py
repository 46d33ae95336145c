"""`lamella batch` over 10,000 lines against the simulator with faults: lines a second, memory, and three kills on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.measure import Result, show
from lamella.simulator import Fault, Simulator

LINES = 10_000
CONCURRENCY = 32
_PROGRAM = """
import atexit, re, sys
sys.argv = ['lamella', *sys.argv[1:]]
peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])
atexit.register(lambda: print(peak() / 1024, file=sys.stderr))
from lamella.cli.main import main
main()
"""
_CONFIG = """
model = 'openai/m'
[plugins.openai]
api_key = 'k'
base_url = '{url}/v1'
[prices.'openai/*']
input_per_mtok = 1
output_per_mtok = 2
[chains]
default = ['cost_tracking', {{ use = 'retry', max_retries = 5, initial_delay_ms = 1 }}]
"""


def run() -> list[Result]:
    faults = [Fault('status', status=503, every=7)]
    with tempfile.TemporaryDirectory() as folder, Simulator(faults=faults, keep_requests=100_000).in_thread() as sim:
        Path(folder, 'lamella.toml').write_text(_CONFIG.format(url=sim.base_url))
        whole = _timed(folder, LINES, 'whole.jsonl')
        few = _timed(folder, 500, 'few.jsonl')
        twice, missing, paid = _killed(folder, sim)
    return [
        Result('batch, 10,000 lines', whole[0], 'lines/s'),
        Result(
            'batch, memory for 10,000 lines', whole[1], 'MB', few[1], '≤ 1.1 × that for 500', whole[1] <= 1.1 * few[1]
        ),
        Result('batch killed three times: results twice', float(twice), 'lines', None, '0', twice == 0),
        Result('batch killed three times: results missing', float(missing), 'lines', None, '0', missing == 0),
        Result('batch killed three times: answers paid for', float(paid), 'answers', float(LINES)),
    ]


def _prompts(folder: str, lines: int) -> None:
    Path(folder, 'p.jsonl').write_text(''.join(f'{{"prompt": "question {n}"}}\n' for n in range(lines)))


def _command(output: str) -> list[str]:
    return [sys.executable, '-c', _PROGRAM, 'batch', 'p.jsonl', '-o', output, '--concurrency', str(CONCURRENCY)]


def _timed(folder: str, lines: int, output: str) -> tuple[float, float]:
    _prompts(folder, lines)
    started = time.perf_counter()
    done = subprocess.run(_command(output), cwd=folder, capture_output=True, text=True, check=True)
    return lines / (time.perf_counter() - started), float(done.stderr.split()[-1])


def _killed(folder: str, sim: Simulator) -> tuple[int, int, int]:
    """Results that are there twice, that are missing, and answers that the simulator gave."""
    _prompts(folder, LINES)
    output, before = Path(folder, 'killed.jsonl'), sim_count(sim)
    for part in (0.1, 0.4, 0.8):
        running = subprocess.Popen(_command('killed.jsonl'), cwd=folder, stderr=subprocess.DEVNULL)
        while running.poll() is None and not (output.exists() and output.read_bytes().count(b'\n') >= LINES * part):
            time.sleep(0.02)
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    subprocess.run(_command('killed.jsonl'), cwd=folder, capture_output=True, check=True)
    counts = Counter(json.loads(line)['line'] for line in output.read_text().splitlines())
    return sum(n > 1 for n in counts.values()), LINES - len(counts), sim_count(sim) - before


def sim_count(sim: Simulator) -> int:
    return sum(request.status == 200 for request in sim.requests)


if __name__ == '__main__':
    show(run())
