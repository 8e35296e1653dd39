"""The engine without its HTTP: a prompt's ids → the pieces of its answers. One request at a time, in the caller's thread."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cortex.neuron.engine.spec import EngineSpec
from cortex.neuron.harness.ctransformers_engine.answers import Counts, Piece, TokenLogprob
from cortex.neuron.harness.ctransformers_engine.asked import Asked, Json, asked, budget, prompts_of
from cortex.neuron.harness.ctransformers_engine.chats import Chats, Rendered
from cortex.neuron.harness.ctransformers_engine.generate import Cancelled, Generator, Prefilled
from cortex.neuron.harness.ctransformers_engine.library import Library
from cortex.neuron.harness.ctransformers_engine.model import Model
from cortex.neuron.harness.ctransformers_engine.prompt import Prompter
from cortex.neuron.harness.ctransformers_engine.sampling import Choice, Sampler
from cortex.neuron.harness.ctransformers_engine.sandbox import Sandbox
from cortex.neuron.harness.ctransformers_engine.templates import chat_template
from cortex.neuron.harness.ctransformers_engine.text import AnswerText
from cortex.neuron.harness.ctransformers_engine.tokenizers import LibraryTokenizer

SPLIT_CHARACTERS = 1 << 20  # of a prompt, whatever the context: a matter of some seconds and 200 MB


class Engine:
    """A loaded model that answers."""

    def __init__(self, spec: EngineSpec, model: Model, library: Library, sandbox: Sandbox) -> None:
        words = model.vocabulary
        encoder = model.encoder or LibraryTokenizer(
            library.tokenize, shielded=model.kind == "gguf", nul=_index(words.pieces, b"\0")
        )
        self.spec = spec
        self.vocabulary = words
        self.vocab_size = library.vocab_size
        self.prompter = Prompter(words, encoder)
        template = chat_template(spec.chat_template, model.own_template, words.markers)
        self.chats = Chats(template, sandbox, words, self.prompter)
        self._generator = Generator(library, context=spec.context, batch=spec.batch, ends=words.ends)
        self._generator.warm_up()

    def answer(self, body: Json, counts: Counts, cancelled: Cancelled, chat: Rendered | None = None) -> Iterator[Piece]:
        """Every piece of every answer, one answer after the other; `chat` is what `chats` made of a chat's body.

        Raises CortexError before the first piece, Abandoned at any time.
        """
        wanted = asked(body, vocab_size=self.vocab_size, chat=chat is not None)
        prompts = [self._fitting(chat)] if chat else self._completion_prompts(body)
        stops = wanted.stops + (self.chats.template.stops if chat and self.chats.template else ())
        for place, prompt in enumerate(prompts):
            for number in range(wanted.count):
                index = place * wanted.count + number
                yield from self._one(prompt, wanted, stops, counts, cancelled, index=index, first=number == 0)

    def _completion_prompts(self, body: Json) -> list[list[int]]:
        beginning = self.vocabulary.eos if self.vocabulary.bos is None else self.vocabulary.bos
        prompts = prompts_of(body["prompt"], self.vocab_size)
        return [self._fitting(each) or [beginning] for each in prompts]  # an empty prompt begins a text

    def _fitting(self, prompt: Rendered | str | list[int]) -> list[int]:
        """A prompt's tokens. Raises CortexError when they fill the context; what cannot but do so is not even split."""
        if not isinstance(prompt, list):
            text = prompt if isinstance(prompt, str) else prompt.text
            if len(text) > SPLIT_CHARACTERS:
                budget(None, self.prompter.least(text), self.spec)
            prompt = self.prompter.plain(text) if isinstance(prompt, str) else self.prompter.rendered(*prompt)
        budget(None, len(prompt), self.spec)
        return prompt

    def _one(
        self,
        prompt: Sequence[int],
        wanted: Asked,
        stops: Sequence[str],
        counts: Counts,
        cancelled: Cancelled,
        *,
        index: int,
        first: bool,
    ) -> Iterator[Piece]:
        growing = _Growing(
            self.vocabulary.pieces, AnswerText(stops), index, logprobs=wanted.sampling.logprobs is not None
        )
        sampler = Sampler(wanted.sampling, prompt, index)
        finish = "length"
        for step in self._generator.run(
            prompt, sampler, budget=budget(wanted.max_tokens, len(prompt), self.spec), cancelled=cancelled
        ):
            if isinstance(step, Prefilled):
                _count_prompt(counts, step, first=first)
                continue
            counts.completion += 1
            if step is None:
                finish = "stop"
                break
            if piece := growing.push(step):
                yield piece
            if growing.text.stopped:
                finish = "stop"
                break
        yield growing.end(finish)


def _count_prompt(counts: Counts, step: Prefilled, *, first: bool) -> None:
    """A second answer finds the prompt in the context, which nobody was spared."""
    if first:
        counts.prompt += step.prompt
        counts.cached += step.cached
        counts.prefilled = time.monotonic()


def _index(pieces: Sequence[bytes], wanted: bytes) -> int | None:
    return next((number for number, piece in enumerate(pieces) if piece == wanted), None)


@dataclass(slots=True)
class _Growing:
    """One answer: text that is told, and log probabilities of the tokens that it came from."""

    pieces: Sequence[bytes]
    text: AnswerText
    index: int
    logprobs: bool
    _waiting: list[TokenLogprob] = field(default_factory=list)

    def push(self, choice: Choice) -> Piece | None:
        offset = self.text.decoded
        raw = self.pieces[choice.token]
        told = self.text.push(raw)
        if choice.logprob is not None:
            top = tuple((token, self.pieces[token], logprob) for token, logprob in choice.top)
            self._waiting.append(TokenLogprob(choice.token, raw, choice.logprob, top, offset))
        return Piece(self.index, told, self._ripe()) if told else None

    def end(self, finish: str) -> Piece:
        rest = self.text.end()
        return Piece(self.index, rest, self._ripe(), finish)

    def _ripe(self) -> tuple[TokenLogprob, ...] | None:
        """Of tokens whose text has been told, at least in part."""
        if not self.logprobs:
            return None
        count = sum(
            1 for token in self._waiting if token.offset < self.text.told or self.text.told == self.text.decoded
        )
        ripe, self._waiting = tuple(self._waiting[:count]), self._waiting[count:]
        return ripe
