"""What google-adk and the packages it brings warn of themselves is not ours to fix; every other warning stays an error."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
THEIRS = (
    'ignore::DeprecationWarning:google.*',
    'ignore::DeprecationWarning:authlib.*',
    'ignore::FutureWarning:google.*',
    r'ignore:\[EXPERIMENTAL\]:UserWarning',
    'ignore:.* is deprecated in favor of Workflow:DeprecationWarning',
    'ignore:.*ReadOnly:UserWarning',
    'ignore::pydantic.warnings.PydanticDeprecatedSince211',
    'ignore::ResourceWarning',
    'ignore:Inheritance class AiohttpClientSession:DeprecationWarning',
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            for given in THEIRS:
                item.add_marker(pytest.mark.filterwarnings(given), append=False)
