"""`suffix` of a completion: the text between prompt and suffix, from models that have tokens for it. Pure.

llama.cpp's own endpoint for this cuts the texts to some hundred tokens and answers in another form, so the prompt is put
together here: prefix, suffix, and then the middle is the model's.
"""

from __future__ import annotations

from typing import Any

from cortex import errors
from cortex.neuron.engine.spec import EngineSpec
from cortex.neuron.harness.generation import prompts_of
from cortex.neuron.harness.requests import wrong

Json = dict[str, Any]


def check(body: Json, spec: EngineSpec) -> None:
    """Raises CortexError (400) for a suffix that cannot be honoured."""
    suffix = body.get("suffix")
    if suffix is None or suffix == "":
        return
    if not isinstance(suffix, str):
        raise wrong("suffix", "a string")
    if not spec.extras.get("fim"):
        raise errors.invalid_request(
            f"'suffix' is not supported: '{spec.alias}' has no tokens to fill in a middle (FIM); it only continues a prompt",
            code="unsupported_parameter",
            param="suffix",
        )
    if not all(isinstance(prompt, str) for prompt in prompts_of(body["prompt"])):
        raise wrong("suffix", "absent where the prompt is not text")


def filled(sent: Json, spec: EngineSpec) -> Json:
    """The engine's request with its suffix in the prompt."""
    fim = spec.extras.get("fim")
    if not (fim and sent.get("suffix") and "prompt" in sent):
        return sent
    before, between, after = fim
    rest = {field: value for field, value in sent.items() if field != "suffix"}
    prompts = [f"{before}{prompt}{between}{sent['suffix']}{after}" for prompt in prompts_of(sent["prompt"])]
    return rest | {"prompt": prompts if isinstance(sent["prompt"], list) else prompts[0]}
