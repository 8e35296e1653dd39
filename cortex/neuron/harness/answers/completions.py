"""Legacy completions: what the engine ignores (`echo`) or tells in a chat's shape (`logprobs`)."""

from __future__ import annotations

from cortex.neuron.harness.answers.events import Json


class Echo:
    """Each choice's text begins with its prompt."""

    def __init__(self, prompts: list[str], per_prompt: int) -> None:
        self._missing = {
            prompt * per_prompt + choice: text for prompt, text in enumerate(prompts) for choice in range(per_prompt)
        }

    def __call__(self, choice: Json) -> Json:
        if prompt := self._missing.pop(choice["index"], ""):
            choice["text"] = prompt + choice["text"]
        return choice


class LegacyLogprobs:
    """`{"tokens", "token_logprobs", "top_logprobs": [{token: logprob}], "text_offset"}`, lists side by side.

    `count` alternatives of each token, besides the token itself. Offsets count characters of the choice's text.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._offsets: dict[int, int] = {}

    def __call__(self, choice: Json) -> Json:
        tokens = (choice.get("logprobs") or {}).get("content")
        choice["logprobs"] = self._legacy(tokens, choice["index"]) if tokens else None
        return choice

    def _legacy(self, tokens: list[Json], index: int) -> Json:
        return {
            "tokens": [token["token"] for token in tokens],
            "token_logprobs": [token["logprob"] for token in tokens],
            "top_logprobs": [self._top(token) for token in tokens],
            "text_offset": [self._offset(token, index) for token in tokens],
        }

    def _top(self, token: Json) -> dict[str, float]:
        alternatives = token.get("top_logprobs", [])[: self._count]
        return {each["token"]: each["logprob"] for each in reversed([*alternatives, token])}

    def _offset(self, token: Json, index: int) -> int:
        begin = self._offsets.get(index, 0)
        self._offsets[index] = begin + len(token["token"])
        return begin
