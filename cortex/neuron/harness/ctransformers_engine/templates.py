"""Messages → the text of a prompt: a file's own template, the operator's, or one of the families that legacy files were trained with.

Templates come with files that nobody has checked: they run in jinja2's sandbox.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from jinja2 import TemplateError
from jinja2.ext import LoopControlExtension  # the class, not its name: the compiler follows imports
from jinja2.sandbox import ImmutableSandboxedEnvironment

from cortex import errors

Message = Mapping[str, Any]


class Family(NamedTuple):
    """A template by its name, and what ends an answer of a model that does not end it by itself."""

    template: str
    stops: tuple[str, ...]


_CHATML = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"""

_LLAMA_2 = """\
{%- set system = '<<SYS>>\\n' + messages[0].content + '\\n<</SYS>>\\n\\n' if messages[0].role == 'system' else '' -%}
{%- for message in (messages[1:] if system else messages) -%}
{%- if message.role == 'user' -%}
{{ bos_token + '[INST] ' + (system if loop.first else '') + message.content + ' [/INST]' }}
{%- else -%}
{{ ' ' + message.content + ' ' + eos_token }}
{%- endif -%}
{%- endfor -%}"""

_VICUNA = """\
{%- for message in messages -%}
{%- if message.role == 'system' -%}{{ message.content + ' ' }}
{%- elif message.role == 'user' -%}{{ 'USER: ' + message.content + ' ' }}
{%- else -%}{{ 'ASSISTANT: ' + message.content + eos_token }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}"""

_ALPACA = """\
{%- for message in messages -%}
{%- if message.role == 'system' -%}{{ message.content + '\\n\\n' }}
{%- elif message.role == 'user' -%}{{ '### Instruction:\\n' + message.content + '\\n\\n' }}
{%- else -%}{{ '### Response:\\n' + message.content + '\\n\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '### Response:\\n' }}{%- endif -%}"""

FAMILIES = {
    "chatml": Family(_CHATML, ("<|im_end|>",)),
    "llama-2": Family(_LLAMA_2, ("[INST]",)),
    "llama2": Family(_LLAMA_2, ("[INST]",)),  # llama.cpp's name for it
    "vicuna": Family(_VICUNA, ("USER:",)),
    "alpaca": Family(_ALPACA, ("### Instruction:",)),
}


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A template that compiles. `stops` end every answer, beside those of the request."""

    source: str
    stops: tuple[str, ...]
    bos: str
    eos: str

    def render(self, messages: Sequence[Message]) -> str:
        """Raises CortexError (422) when the template does not take these messages."""
        try:
            text: str = _ENVIRONMENT.from_string(self.source).render(
                messages=list(messages), add_generation_prompt=True, bos_token=self.bos, eos_token=self.eos
            )
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise errors.invalid_request(
                f"the model's chat template does not take these messages: {error}",
                code="template_render_failed",
                param="messages",
                status=422,
            ) from error
        return text


def chat_template(
    named: str | None, own: str | None, markers: Mapping[str, int], *, bos: str, eos: str
) -> ChatTemplate | None:
    """The operator's template or family, else the file's own, else ChatML where the vocabulary has its markers. Raises ValueError for one that is none."""
    source = named or own
    if source is None and "<|im_start|>" in markers:
        source = "chatml"
    if source is None:
        return None
    if source not in FAMILIES and "{" not in source:
        raise ValueError(f"there is no chat template '{source}'; known are {', '.join(FAMILIES)}, or a text in Jinja")
    family = FAMILIES.get(source) or Family(source, ())
    try:
        _ENVIRONMENT.from_string(family.template)
    except TemplateError as error:
        raise ValueError(f"the chat template is not right: {error}") from error
    return ChatTemplate(family.template, family.stops, bos, eos)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(form: str) -> str:
    return dt.datetime.now().astimezone().strftime(form)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


_ENVIRONMENT = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[LoopControlExtension], autoescape=False
)
_ENVIRONMENT.globals |= {"raise_exception": _raise, "strftime_now": _now}
_ENVIRONMENT.filters["tojson"] = _to_json
