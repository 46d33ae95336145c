"""The entry point."""

import subprocess
import sys


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=False, timeout=60)


def test_it_runs_the_commands() -> None:
    done = run("import sys; sys.argv = ['lamella', 'version']; from lamella.cli.main import main; main()")
    assert done.returncode == 0
    assert done.stdout.strip()


def test_without_click_the_entry_point_names_the_command_that_installs_it() -> None:
    done = run("import sys; sys.modules['click'] = None; from lamella.cli.main import main; main()")
    assert done.returncode == 1
    assert done.stderr.strip() == "the command line needs click: pip install 'lamella[cli]'"
