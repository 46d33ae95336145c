"""The sample app, run as the program that its README names, and found as the ADK finds it."""

import os
import subprocess
import sys
from pathlib import Path

from google.adk.cli.utils.agent_loader import AgentLoader

EXAMPLES = Path(__file__).parents[2] / 'examples'


def test_the_sample_keeps_its_promises() -> None:
    env = {key: value for key, value in os.environ.items() if not key.startswith(('GOOGLE_', 'GEMINI_'))}
    command = [sys.executable, '-W', 'ignore', str(EXAMPLES / 'adk_fallback' / 'main.py')]
    ran = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("'fallback_triggered': True, 'original_model': 'gemini-2.5-flash'") == 2
    assert ran.stdout.count('gemini-2.5-pro ') == 2


def test_the_adk_finds_the_app() -> None:
    found = AgentLoader(str(EXAMPLES)).load_agent('adk_fallback')
    assert found.name == 'adk_fallback'
    assert [plugin.name for plugin in found.plugins] == ['fallback_plugin']
