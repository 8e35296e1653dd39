"""What an engine is started with. No pydantic here: it would cost every engine 20 MB and a third of a second."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Mode = Literal["chat", "embedding", "rerank"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """Everything is decided here: the harness in the engine process only carries it out. Paths are absolute.

    alias              the model's id, as answers name it
    socket_path        Unix socket to listen on; ends in .sock and has at most 107 bytes
    context            tokens, shared by all slots
    parallel           slots
    batch              tokens computed at once in a prefill; a client that leaves stops the engine after at most this many
    max_output_tokens  bound of a generation whose request names none
    output_cap         bound of every generation, when the operator set one
    prompt_cache_mb    host memory for prompts that left their slot, MiB
    http_threads       requests the engine's server can hold at once
    gpu_layers         layers on GPUs: 0 none, -1 all
    cpu_backend        file to put in place of the library's own code for processors; None: that
    gpu_backend        file that adds code for GPUs to the library; None: the library's own, if it has any
    gpu_libraries      files that `gpu_backend` needs, in the order in which they are to be loaded
    env                added to the process's environment (CUDA_VISIBLE_DEVICES)
    command            another program that serves instead of the harness's library; empty: none
    parent_pid         the neuron; filled in by EngineProcess.start
    extras             what only one harness knows
    """

    harness: str
    alias: str
    model_path: str
    socket_path: str
    mode: Mode = "chat"
    context: int = 4096
    parallel: int = 4
    batch: int = 512
    threads: int = 1
    max_output_tokens: int = 4096
    output_cap: int | None = None
    prompt_cache_mb: int = 0
    http_threads: int = 8
    gpu_layers: int = 0
    mmproj: str | None = None
    draft: str | None = None
    kv_type: str = "f16"
    flash_attention: str = "auto"
    pooling: str | None = None
    chat_template: str | None = None
    split_mode: str | None = None
    tensor_split: tuple[float, ...] | None = None
    main_gpu: int | None = None
    cpu_backend: str | None = None
    gpu_backend: str | None = None
    gpu_libraries: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    parent_pid: int = 0
    extras: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """One line."""
        return json.dumps(dataclasses.asdict(self)).encode() + b"\n"

    @classmethod
    def from_json(cls, line: bytes) -> EngineSpec:
        """Raises ValueError or TypeError for what `to_json` did not write."""
        fields = json.loads(line)
        if fields.get("tensor_split") is not None:
            fields["tensor_split"] = tuple(fields["tensor_split"])
        return cls(**fields | {name: tuple(fields.get(name, ())) for name in ("command", "gpu_libraries")})
