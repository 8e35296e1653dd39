"""Which template makes a prompt of messages: a file's own, the operator's, or one of the families that legacy files were trained with. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


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
    """A template, which may not even compile. `stops` end every answer, beside those of the request."""

    source: str
    stops: tuple[str, ...]


def chat_template(named: str | None, own: str | None, markers: Mapping[str, int]) -> ChatTemplate | None:
    """The operator's template or family, else the file's own, else ChatML where the vocabulary has its markers. Raises ValueError for a name that is none."""
    source = named or own
    if source is None and "<|im_start|>" in markers:
        source = "chatml"
    if source is None:
        return None
    if source not in FAMILIES and "{" not in source:
        raise ValueError(f"there is no chat template '{source}'; known are {', '.join(FAMILIES)}, or a text in Jinja")
    family = FAMILIES.get(source) or Family(source, ())
    return ChatTemplate(family.template, family.stops)
