"""The app: one agent with a tool, and a plugin that begins every request with the primary model and falls back from it."""

from google.adk.agents import LlmAgent
from google.adk.apps import App

from lamella.integrations.adk import FallbackPlugin

PRIMARY, BACKUP = 'gemini-2.5-flash', 'gemini-2.5-pro'


def opening_hours(place: str) -> dict[str, str]:
    """When a place is open.

    Args:
        place: The name of the place.
    """
    return {'place': place, 'hours': '10 to 18 o’clock'}


root_agent = LlmAgent(
    name='guide',
    model=PRIMARY,
    instruction='You are a guide to the city. Answer in one sentence.',
    tools=[opening_hours],
)

app = App(
    name='adk_fallback',
    root_agent=root_agent,
    plugins=[
        FallbackPlugin(
            root_model=PRIMARY,  # always tried first
            fallback_model=BACKUP,  # who answers instead, and what the metadata says
            error_status=[429, 504],
            reissue=True,  # leave it out to be told of failures only
        )
    ],
)
