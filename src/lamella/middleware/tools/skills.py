"""`Skills`: instructions for certain kinds of work, listed to the model and read when it wants one."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Annotated, Any, TypedDict, Unpack

from pydantic import BaseModel, BeforeValidator, Field

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware
from lamella.core.params import ModelHookParams
from lamella.core.tools import Tool, ToolContext, tool_of
from lamella.middleware._fields import listed
from lamella.middleware._threads import in_thread
from lamella.types import JSON, ConfigError, Message, ToolError, did_you_mean

Ctx = GenerateMiddlewareContext
_INTRODUCTION = (
    'You have skills: instructions for certain kinds of work. Before you do such work, call {tool} with the name of the skill '
    'and follow what it says.'
)


def _paths(value: Any) -> tuple[Any, ...]:
    if isinstance(value, os.PathLike):
        raise ValueError(f'is one path: write a list, such as [{os.fspath(value)!r}]')
    given = tuple(
        os.fspath(item) if isinstance(item, os.PathLike) else item for item in listed(value, 'paths', "'skills'")
    )
    wrong = [item for item in given if not isinstance(item, str) or not item]
    if wrong or not given:
        raise ValueError('give the paths of skill folders, of folders of skills, or of .skill.md files')
    return given


class SkillsConfig(BaseModel, frozen=True, extra='forbid'):
    """The settings of `Skills`."""

    skill_paths: Annotated[
        tuple[str, ...],
        BeforeValidator(_paths),
        Field(description='Folders with a SKILL.md, folders of such folders or of *.skill.md files, or such files.'),
    ]
    tool_name: Annotated[
        str, Field(pattern=r'^[A-Za-z0-9_-]{1,64}$', description='The name of the tool that reads a skill.')
    ] = 'use_skill'


class SkillsOptions(TypedDict, total=False):
    """The keywords of `Skills`."""

    skill_paths: Sequence[str | os.PathLike[str]]
    tool_name: str


class Skills(BaseMiddleware[SkillsConfig]):
    """Tells the model which skills there are (name and description of each, in a system message) and gives it the tool
    `use_skill(name, file=None)`, which returns a skill's instructions and the names of its other files, or one of those.

    A skill is a folder with a `SKILL.md`, or a `*.skill.md` file: YAML between two lines of `---` with `description` and perhaps
    `name` (else that of the folder or file), and the instructions behind it. The list is read when the layer is built, and
    every problem of every file is one ConfigError then; the instructions are read when the model asks, so that they may be
    edited. Files are read from their folder only: no links, no hidden files, no binaries, 256 KiB at most.

    Needs `pip install 'lamella[yaml]'`. Event: `skills.used(skill, file)`.
    """

    def __init__(self, config: SkillsConfig | None = None, **options: Unpack[SkillsOptions]) -> None:
        super().__init__(config, **options)
        try:
            self._files: Any = importlib.import_module('lamella.middleware._skills')
        except ModuleNotFoundError as error:
            if error.name != 'yaml':
                raise
            raise ConfigError("Skills needs PyYAML: pip install 'lamella[yaml]'") from error
        found, problems = self._files.found_in(self.config.skill_paths)
        if problems:
            raise ConfigError('Skills: ' + '; '.join(problems))
        self._skills = {skill.name: skill for skill in found}
        self._message = Message.system(self._told())
        self._tool = tool_of(self._use_skill, self.config.tool_name)

    @property
    def names(self) -> tuple[str, ...]:
        """The skills there are."""
        return tuple(self._skills)

    def tools(self, ctx: Ctx) -> Sequence[Tool]:
        return (self._tool,)

    async def transform_params(self, params: ModelHookParams, ctx: Ctx) -> ModelHookParams:
        messages = params.request.messages
        behind = next((i for i, message in enumerate(messages) if message.role != 'system'), len(messages))
        told = (*messages[:behind], self._message, *messages[behind:])
        return params.replace(request=params.request.replace(messages=told))

    def _told(self) -> str:
        lines = [f'- {name}: {skill.description}' for name, skill in self._skills.items()]
        return '\n'.join([_INTRODUCTION.format(tool=self.config.tool_name), *lines])

    async def _use_skill(
        self,
        ctx: ToolContext,
        name: Annotated[str, Field(description='The name of a skill from the list.')],
        file: Annotated[str | None, Field(description="One of the skill's other files, to be read instead.")] = None,
    ) -> JSON:
        """Read a skill before doing the work it is for: its instructions and the names of its other files."""
        skill = self._skills.get(name)
        if skill is None:
            raise ToolError(f'there is no skill {name!r}{did_you_mean(name, list(self._skills))}')
        result: JSON = await in_thread(lambda stop: self._read(skill, file))
        ctx.run.emit('skills.used', skill=name, file=file)
        return result

    def _read(self, skill: Any, file: str | None) -> JSON:
        if file is None:
            files = list(self._files.files_of(skill))
            return {'skill': skill.name, 'instructions': self._files.instructions_of(skill), 'files': files}
        if not skill.is_folder:
            raise ToolError(f'the skill {skill.name!r} has no other files')
        return {'skill': skill.name, 'file': file, 'content': self._files.text_of(skill.root, file)[0]}
