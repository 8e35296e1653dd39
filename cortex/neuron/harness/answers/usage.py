"""The usage of an answer with several choices: the engine tells it for each alone."""

from __future__ import annotations

from cortex.neuron.harness.answers.events import Json


class UsageSum:
    """Every choice's tokens, and every prompt's once. `per_prompt`: choices of one prompt, which follow one another."""

    def __init__(self, choices: int, per_prompt: int) -> None:
        self._missing = choices
        self._per_prompt = per_prompt
        self._completion = 0
        self._prompts: dict[int, tuple[int, int]] = {}  # prompt → its tokens, and how many of them were cached

    def add(self, usage: Json, index: int) -> Json | None:
        """The sum, once the last choice has told its usage. Shape: OpenAI's `usage`."""
        prompt, tokens = index // self._per_prompt, usage["prompt_tokens"]
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        # a second choice of a prompt finds all of it in the first one's slot, which nobody was spared
        self._prompts[prompt] = (tokens, min(cached, self._prompts.get(prompt, (0, cached))[1]))
        self._completion += usage["completion_tokens"]
        self._missing -= 1
        return None if self._missing else self._sum(usage)

    def _sum(self, last: Json) -> Json:
        prompt = sum(tokens for tokens, _ in self._prompts.values())
        details = (last.get("prompt_tokens_details") or {}) | {
            "cached_tokens": sum(cached for _, cached in self._prompts.values())
        }
        return last | {
            "completion_tokens": self._completion,
            "prompt_tokens": prompt,
            "total_tokens": prompt + self._completion,
            "prompt_tokens_details": details,
        }
