"""A GGUF whose weights hold a script: a llama-architecture model of 5 MB that says fixed texts through the real engine.

Engine, chat template, tool parser and API can so be checked to the last byte on any CPU, without luck.

Attention and feed-forward weights are zero, so the next token depends on the last token alone (a bigram table in
token_embd and output). Every step of a script is a token of its own. The chat template picks the script by putting one
control token `<|s:NAME|>` at the end of the prompt:

    last message has role 'tool'   "The tool answered, and the task is done."
    tools has get_weather, Bash, bash, exec_command or shell, and no marker is in the text
                                   <tool_call>{"name": …, "arguments": {…}}</tool_call>
    user text has [[loop]]         " tick tock" for ever (max_tokens, disconnect, stop strings)
                  [[dice]]         8 throws, each one of 8 equally likely tokens (seed, temperature, logprobs = ln 1/8)
                  [[emoji]]        emoji and accents cut inside UTF-8 sequences
                  [[json]]         {"answer": 42}
                  [[think]]        <think>I ponder.</think>Pondered result.
                  [[stop]]         "alpha beta STOP gamma" (the stop string spans two tokens)
                  [[text]]         the greeting, also when tools are given
    anything else, or no template  "Hello from the scripted model."

What is to fill in a middle (FIM tokens) is {"answer": 42}.
"""

from __future__ import annotations

import json
import os
import pydoc_data.topics
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

Chunk = str | bytes
Floats = npt.NDArray[np.float32]

WIDTH = 256  # embedding length: states of the table, then noise
NOISE = 64  # dimensions that tell texts apart in embeddings; the output matrix does not look there
CERTAIN = 4.0  # weight of the script's next token
THROWS = 8


def _tool_call(name: str, *arguments: str) -> list[Chunk]:
    head, *rest = arguments
    opening = ["<tool_call>", "\n", '{"name": "' + name + '"', ', "arguments": ' + head]
    return [*opening, *rest, "}", "\n", "</tool_call>"]


# fmt: off
SCRIPTS: dict[str, list[Chunk]] = {
    "hello": ["Hello", " from", " the", " scripted", " model", "."],
    "after": ["The", " tool", " answered", ",", " and", " the", " task", " is", " done", "."],
    "emoji": ["Caf", b"\xc3", b"\xa9", " ", b"\xf0\x9f", b"\x98\x80", " and ", b"\xe6\x97", b"\xa5\xe6", b"\x9c\xac", " then ",
              b"\xf0", b"\x9f\x91", b"\xa9\xe2\x80\x8d", b"\xf0\x9f\x92\xbb", " end"],
    "json": ['{"', "answer", '": ', "42", "}"],
    "think": ["<think>", "I", " ponder", ".", "</think>", "Pondered", " result", "."],
    "stop": ["alpha", " beta", " ST", "OP", " gamma"],
    "tool_get_weather": _tool_call("get_weather", '{"city": "', "Paris", '"}'),
    "tool_Bash": _tool_call("Bash", '{"command": "echo scripted', '-tool-ok"}'),
    "tool_bash": _tool_call("bash", '{"command": "echo scripted', '-tool-ok"}'),
    "tool_exec_command": _tool_call("exec_command", '{"cmd": "echo scripted', '-tool-ok"}'),
    "tool_shell": _tool_call("shell", '{"command": ["echo", "scripted', '-tool-ok"]}'),
}
# fmt: on
LOOP: list[Chunk] = [" tick", " tock"]
FACES = [" one", " two", " three", " four", " five", " six", " seven", " eight"]
TOOLS = [name[5:] for name in SCRIPTS if name.startswith("tool_")]

TEMPLATE = """{%- if tools %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
{{- "# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\nYou are provided with function signatures within <tools></tools> XML tags:\\n<tools>" }}
{%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}
{{- "\\n</tools>\\n\\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\\n<tool_call>\\n{\\"name\\": <function-name>, \\"arguments\\": <args-json-object>}\\n</tool_call><|im_end|>\\n" }}
{%- elif messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{%- endif %}
{%- set ns = namespace(pick='hello', last='') %}
{%- for message in messages %}
{%- set ns.last = message.role %}
{%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- if message.role == 'user' %}
{%- set ns.pick = 'hello' %}
{%- for m in ['loop', 'dice', 'emoji', 'json', 'think', 'stop', 'text'] %}
{%- if '[[' + m + ']]' in message.content %}{%- set ns.pick = m %}{%- endif %}
{%- endfor %}
{%- endif %}
{%- elif message.role == 'assistant' %}
{{- '<|im_start|>assistant' }}
{%- if message.content %}{{- '\\n' + message.content }}{%- endif %}
{%- if message.tool_calls %}
{%- for tool_call in message.tool_calls %}
{%- if tool_call.function is defined %}{%- set tool_call = tool_call.function %}{%- endif %}
{{- '\\n<tool_call>\\n{"name": "' }}{{- tool_call.name }}{{- '", "arguments": ' }}{{- tool_call.arguments | tojson }}{{- '}\\n</tool_call>' }}
{%- endfor %}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- elif message.role == 'tool' %}
{%- if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
{{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{%- if ns.last == 'tool' %}{%- set ns.pick = 'after' %}
{%- elif tools and ns.pick == 'hello' %}
{%- for tool in tools %}
{%- set f = tool.function if tool.function is defined else tool %}
{%- if f.name in TOOLNAMES and ns.pick == 'hello' %}{%- set ns.pick = 'tool_' + f.name %}{%- endif %}
{%- endfor %}
{%- endif %}
{%- if ns.pick == 'text' %}{%- set ns.pick = 'hello' %}{%- endif %}
{{- '<|im_start|>assistant\\n<|s:' + ns.pick + '|>' }}
{%- endif %}""".replace("TOOLNAMES", repr(TOOLS))


def script_text(name: str) -> str:
    """What the model says for a script of SCRIPTS."""
    return b"".join(_as_bytes(chunk) for chunk in SCRIPTS[name]).decode()


def write_scripted_model(path: Path, *, context: int = 131072) -> None:
    """Write the model to `path`, trained for `context` tokens as its metadata says; about one second."""
    tokens, merges = _learned_vocabulary()
    table = _Table(tokens)
    _fill(table)
    _write(path, table, merges, context)


def _learned_vocabulary() -> tuple[list[str], list[str]]:
    """Byte-level BPE learned from English text that every Python brings: tokens by id, and merges."""
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel
    tokenizer.pre_tokenizer = byte_level(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=4096, initial_alphabet=sorted(byte_level.alphabet()), show_progress=False)
    texts = [*sorted(pydoc_data.topics.topics.values()), Path(os.__file__).read_text()]
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return sorted(model["vocab"], key=model["vocab"].get), merges


def _as_bytes(chunk: Chunk) -> bytes:
    return chunk if isinstance(chunk, bytes) else chunk.encode()


def _printable_bytes() -> dict[int, str]:
    """GPT-2's table: every byte as a printable character."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + n) for n, byte in enumerate(others)}


_PRINTABLE = _printable_bytes()


def _spelled(chunk: Chunk) -> str:
    return "".join(_PRINTABLE[byte] for byte in _as_bytes(chunk))


@dataclass
class _Table:
    """The vocabulary, and which token follows which. A state is a dimension; a token without one has state 0."""

    tokens: list[str]
    types: list[gguf.TokenType] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    state_of: dict[int, int] = field(default_factory=dict)
    states: int = 1
    edges: list[tuple[int, int]] = field(default_factory=list)  # (state, next token)

    def __post_init__(self) -> None:
        self.types = [gguf.TokenType.NORMAL] * len(self.tokens)
        self.index = {text: number for number, text in enumerate(self.tokens)}

    def add(self, text: str, kind: gguf.TokenType) -> int:
        if text in self.index:
            raise ValueError(f"the vocabulary has a token {text!r} already")
        self.index[text] = len(self.tokens)
        self.tokens.append(text)
        self.types.append(kind)
        return self.index[text]

    def control(self, text: str) -> int:
        return self.add(text, gguf.TokenType.CONTROL)

    def state(self, token: int) -> int:
        if token not in self.state_of:
            self.state_of[token] = self.states
            self.states += 1
        return self.state_of[token]

    def place(self, chunks: list[Chunk]) -> list[int]:
        """Give every chunk a token of its own; one whose text a script has used already is fused with its neighbour."""
        placed: list[bytes] = []
        queue = [_as_bytes(chunk) for chunk in chunks]
        while queue:
            chunk = queue.pop(0)
            if _spelled(chunk) not in self.used:
                self.used.add(_spelled(chunk))
                placed.append(chunk)
            elif queue:
                queue[0] = chunk + queue[0]
            else:
                self.used.discard(_spelled(placed[-1]))
                queue = [placed.pop() + chunk]
        return [self._token(_spelled(chunk)) for chunk in placed]

    def _token(self, text: str) -> int:
        return self.index[text] if text in self.index else self.add(text, gguf.TokenType.NORMAL)

    def pad(self, multiple: int) -> None:
        while len(self.tokens) % multiple:
            self.add(f"<|pad{len(self.tokens)}|>", gguf.TokenType.UNUSED)


def _fill(table: _Table) -> None:
    for special in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        table.control(special)
    end = table.index["<|im_end|>"]
    starts = {name: _add_script(table, name, chunks, end) for name, chunks in SCRIPTS.items()}
    _add_loop(table)
    _add_dice(table, end)
    *_, middle = [table.control(f"<|fim_{part}|>") for part in ("prefix", "suffix", "middle")]
    table.edges.append((table.state(middle), starts["json"]))
    table.edges.append((0, starts["hello"]))  # after any other token
    table.pad(32)


def _add_script(table: _Table, name: str, chunks: list[Chunk], end: int) -> int:
    begin = table.control(f"<|s:{name}|>")
    steps = table.place(chunks)
    table.edges += [(table.state(a), b) for a, b in zip([begin, *steps], [*steps, end], strict=True)]
    return steps[0]


def _add_loop(table: _Table) -> None:
    begin = table.control("<|s:loop|>")
    steps = table.place(LOOP)
    table.edges.append((table.state(begin), steps[0]))
    table.edges += [(table.state(step), steps[(n + 1) % len(steps)]) for n, step in enumerate(steps)]


def _add_dice(table: _Table, end: int) -> None:
    """The faces of a throw share one state; faces of different throws are different tokens (" one", " one,", " one;" …)."""
    state = table.state(table.control("<|s:dice|>"))
    for throw in range(THROWS):
        mark = "," * (throw % 2) + ";" * (throw // 2)
        faces = [table.place([face + mark])[0] for face in FACES]
        table.edges += [(state, face) for face in faces]
        state = table.state(faces[0])
        table.state_of.update(dict.fromkeys(faces, state))
    table.edges.append((state, end))


def _embeddings(table: _Table) -> Floats:
    rows = len(table.tokens)
    matrix = np.zeros((rows, WIDTH), np.float32)
    matrix[:, 0] = 1
    matrix[:, WIDTH - NOISE :] = np.random.default_rng(7).normal(0, 0.05, (rows, NOISE))
    for token, state in table.state_of.items():
        matrix[token] = 0
        matrix[token, state] = 1
    return matrix


def _output(table: _Table) -> Floats:
    matrix = np.zeros((len(table.tokens), WIDTH), np.float32)
    # where a grammar forbids the script's next token (JSON schema, tool call), close what is open and end the turn
    matrix[table.index["<|im_end|>"], : table.states] = 2.4
    for text, weight in (('"', 2.2), ("}", 2.0), ("]", 1.8), ("0", 1.5)):
        matrix[table.index[_spelled(text)], : table.states] = weight
    for state, token in table.edges:
        matrix[token, state] = CERTAIN
    return matrix


def _write(path: Path, table: _Table, merges: list[str], context: int) -> None:
    if table.states + NOISE > WIDTH:
        raise ValueError(f"{table.states} states and {NOISE} dimensions of noise do not fit {WIDTH}")
    writer = gguf.GGUFWriter(str(path), "llama")
    _describe(writer, len(table.tokens), context)
    _describe_tokenizer(writer, table, merges)
    _add_tensors(writer, table)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: gguf.GGUFWriter, vocabulary: int, context: int) -> None:
    writer.add_name("scripted")
    writer.add_description("says fixed texts; weights hold a bigram table")
    writer.add_context_length(context)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(4)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(WIDTH // 4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(vocabulary)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)


def _describe_tokenizer(writer: gguf.GGUFWriter, table: _Table, merges: list[str]) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(table.tokens)
    writer.add_token_types(table.types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(table.index["<|endoftext|>"])
    writer.add_eos_token_id(table.index["<|im_end|>"])
    writer.add_pad_token_id(table.index["<|endoftext|>"])
    writer.add_add_bos_token(False)  # noqa: FBT003  the library's own signature
    writer.add_chat_template(TEMPLATE)


def _add_tensors(writer: gguf.GGUFWriter, table: _Table) -> None:
    writer.add_tensor("token_embd.weight", _embeddings(table).astype(np.float16))
    writer.add_tensor("output.weight", _output(table).astype(np.float16))
    for norm in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{norm}.weight", np.ones(WIDTH, np.float32))
    kv = WIDTH // 4
    shapes = {
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (kv, WIDTH),
        "attn_v": (kv, WIDTH),
        "attn_output": (WIDTH, WIDTH),
        "ffn_gate": (32, WIDTH),
        "ffn_up": (32, WIDTH),
        "ffn_down": (WIDTH, 32),
    }
    for name, shape in shapes.items():
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros(shape, np.float16))
