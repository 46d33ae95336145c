"""`python -m benchmarks [name …] [--json]`: run the benchmarks and print a table, or JSON lines."""

from __future__ import annotations

import importlib
import sys

from benchmarks.measure import Result, show

NAMES = (
    'layers',
    'generate',
    'stream',
    'turns',
    'imports',
    'instructions',
    'codecs',
    'http_client',
    'catalog',
    'stores',
    'expiry',
    'pii',
    'approvals',
    'batch',
    'adk',
    'cli',
    'attachment',
    'outage',
    'injection',
    'sandbox',
)


def main(arguments: list[str]) -> int:
    wanted = [name for name in arguments if not name.startswith('-')] or list(NAMES)
    if unknown := [name for name in wanted if name not in NAMES]:
        print(f'unknown benchmark {unknown[0]!r}: choose from {", ".join(NAMES)}')
        return 2
    results: list[Result] = []
    for name in wanted:
        print(f'… {name}', file=sys.stderr)
        results += importlib.import_module(f'benchmarks.{name}').run()
    if '--json' in arguments:
        show(results)
    else:
        print(table(results))
    return 0


def table(results: list[Result]) -> str:
    """The figures as Markdown, so that they can be pasted where they are claimed."""
    lines = ['| what | figure | floor | ratio | promise | kept |', '|---|---:|---:|---:|---|---|']
    for result in results:
        floor = '' if result.floor is None else f'{result.floor:,.3g}'
        ratio = '' if result.ratio is None else f'{result.ratio:.2f}'
        kept = '' if result.kept is None else 'yes' if result.kept else 'NO'
        value = f'{result.value:,.0f}' if result.value >= 1000 else f'{result.value:.3g}'
        lines.append(f'| {result.name} | {value} {result.unit} | {floor} | {ratio} | {result.promise} | {kept} |')
    return '\n'.join(lines)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
