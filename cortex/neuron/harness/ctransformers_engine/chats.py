"""A chat's messages → the text of its prompt, in which no user's words are taken for markers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from cortex import errors
from cortex.errors import CortexError
from cortex.neuron.harness.ctransformers_engine.asked import Json, messages_of
from cortex.neuron.harness.ctransformers_engine.model import Vocabulary
from cortex.neuron.harness.ctransformers_engine.prompt import Prompter, guard_for
from cortex.neuron.harness.ctransformers_engine.sandbox import Sandbox
from cortex.neuron.harness.ctransformers_engine.templates import ChatTemplate


class Rendered(NamedTuple):
    """A prompt's text. `guard`: the character that breaks what must be no marker."""

    text: str
    guard: str


class Chats:
    """Renders chats. Safe from any thread; raises CortexError when there is no template, or it does not take the messages."""

    def __init__(
        self, template: ChatTemplate | None, sandbox: Sandbox, vocabulary: Vocabulary, prompter: Prompter
    ) -> None:
        """Raises ValueError for a template that does not compile."""
        self.template = template
        self._sandbox = sandbox
        self._prompter = prompter
        self._bos, self._eos = vocabulary.marker(vocabulary.bos), vocabulary.marker(vocabulary.eos)
        if template:
            try:
                sandbox.check(template.source)
            except ValueError as error:
                raise ValueError(f"the chat template is not right: {error}") from error

    def rendered(self, body: Json) -> Rendered:
        """A conversation whose last words are the assistant's is not answered, but continued."""
        messages = messages_of(body)
        guard = guard_for(text for message in messages for text in message.values() if isinstance(text, str))
        return Rendered(self._text([self._guarded(message, guard) for message in messages], body), guard)

    def shown(self, body: Json) -> str:
        """The prompt's text, to be looked at."""
        return self._text(messages_of(body), body)

    def _guarded(self, message: Json, guard: str) -> dict[str, Any]:
        return {
            name: self._prompter.guarded(value, guard) if isinstance(value, str) and name != "role" else value
            for name, value in message.items()
        }

    def _text(self, messages: list[dict[str, Any]], body: Json) -> str:
        begun = messages[-1]["content"] if messages[-1]["role"] == "assistant" else None
        if begun is None:
            return self._by_template(messages, body, opens=True)
        if not begun.strip():
            return self._by_template(messages[:-1], body, opens=True)
        whole = self._by_template(messages, body, opens=False)
        for said in (begun, begun.strip()):  # many templates trim
            before, found, _ = whole.rpartition(said)
            if found:
                return before + found
        raise _refused("it does not show the assistant's last message, so that could be continued")

    def _by_template(self, messages: Sequence[Json], body: Json, *, opens: bool) -> str:
        if self.template is None:
            raise errors.invalid_request(
                "this model's file has no chat template; load it with chat_template, for example chatml, llama-2, vicuna or alpaca",
                code="no_chat_template",
                param="messages",
            )
        own = {"add_generation_prompt": opens, "bos_token": self._bos, "eos_token": self._eos}
        try:
            return self._sandbox.render(
                self.template.source, messages, {**(body.get("chat_template_kwargs") or {}), **own}
            )
        except ValueError as error:
            raise _refused(str(error)) from error


def _refused(reason: str) -> CortexError:
    return errors.invalid_request(
        f"the model's chat template does not take these messages: {reason}",
        code="template_render_failed",
        param="messages",
        status=422,
    )
