"""The parts of the codec for OpenAI's Responses API."""
