"""What type checkers promise users about the words (floor 0). mypy reads this file; nothing runs it.

A `type: ignore` with its code states that the line is an error; when it stops being one, mypy says so.
"""

from typing import assert_type

from lamella.types import LamellaError, Message, ModelRequest, ModelResponse, TextPart, Usage

message = Message.user('hi', TextPart('there'))
assert_type(message, Message)
assert_type(message.replace(metadata={'a': 1}), Message)
assert_type(message.text, str)

request = ModelRequest(messages=(message,))
assert_type(request.replace(messages=()), ModelRequest)

response = ModelResponse.text_of('hello')
assert_type(response, ModelResponse)
assert_type(response.usage, Usage | None)

message.role = 'system'  # type: ignore[misc]
Message('nobody')  # type: ignore[arg-type]
ModelRequest(message='hi')  # type: ignore[call-arg]
LamellaError('BROKEN', 'no such status')  # type: ignore[arg-type]
