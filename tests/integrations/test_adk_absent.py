"""What somebody meets who has no google-adk; everything else about it is in tests/adk (make adk)."""

import importlib
import importlib.util

import pytest

has_adk = importlib.util.find_spec('google') is not None and importlib.util.find_spec('google.adk') is not None


@pytest.mark.skipif(has_adk, reason='google-adk is here')
def test_the_absent_package_names_the_command() -> None:
    with pytest.raises(ImportError, match=r"pip install 'lamella\[adk\]'"):
        importlib.import_module('lamella.integrations.adk')
