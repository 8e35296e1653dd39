"""A program that passes for a llama-server as far as a neuron asks, writes down how it was started, and misbehaves when told to."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_PROGRAM = '''#!{python}
"""Answers /health on the socket that --host names."""
import http.server, json, os, socketserver, sys, threading, time
from pathlib import Path

folder = Path({folder!r})
if sys.argv[1:] in (["--version"], ["--help"], ["--list-devices"]):
    print((folder / sys.argv[1].strip("-")).read_text())
    sys.exit(0)
with (folder / "starts").open("a") as starts:
    starts.write(json.dumps({{"argv": sys.argv[1:], "env": dict(os.environ), "pid": os.getpid()}}) + "\\n")

def dies():
    while not (folder / "die").exists():
        time.sleep(0.005)
    (folder / "die").unlink()
    print("CUDA error: an illegal memory access was encountered", file=sys.stderr)
    print("  current device: 0, in function ggml_backend_cuda_synchronize at ggml-cuda.cu:2966", file=sys.stderr)
    print("ggml-cuda.cu:98: CUDA error", file=sys.stderr, flush=True)
    os.abort()

if (folder / "die at load").exists():
    (folder / "die").touch()
    dies()
threading.Thread(target=dies, daemon=True).start()
while (folder / "slow").exists():
    time.sleep(0.005)

class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{{}}")

    def address_string(self):
        return "socket"

    def log_message(self, *_):
        pass

class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

Server(sys.argv[sys.argv.index("--host") + 1], Answers).serve_forever()
'''
VERSION = "version: 11434 (0fb1b3b)\nbuilt with GNU 12.2.0 for Linux x86_64"
HELP = """-m,    --model FNAME
-a, --alias STRING  --jinja  --embeddings  --pooling {none,mean}  --chat-template T  -mm, --mmproj FILE  --model-draft FNAME
--host HOST   ip address to listen, or bind to an UNIX socket if the address ends with .sock
-c, --ctx-size N  -np, --parallel N  -b, --batch-size N  -ub, --ubatch-size N  -t, --threads N  -n, --n-predict N
-ngl, --n-gpu-layers N  -sm, --split-mode {none,layer,row}  -ts, --tensor-split N0,N1  -mg, --main-gpu INDEX
-ctk, --cache-type-k TYPE  -ctv, --cache-type-v TYPE  -fa, --flash-attn [on|off|auto]  --kv-unified, -kvu  --no-webui
--mlock  --numa TYPE  -ot, --override-tensor P"""
TWO_GPUS = """Available devices:
  CUDA0: NVIDIA GeForce RTX 3060 (12288 MiB, 11978 MiB free)
  CUDA1: NVIDIA GeForce RTX 4090 (24564 MiB, 24052 MiB free)"""


class FakeLlamaServer:
    """The program at `path`, in a folder of its own."""

    def __init__(self, folder: Path, *, version: str = VERSION, help_text: str = HELP, devices: str = TWO_GPUS) -> None:
        self.folder = folder
        self.path = folder / "llama-server"
        for name, text in (("version", version), ("help", help_text), ("list-devices", devices)):
            (folder / name).write_text(text)
        self.path.write_text(_PROGRAM.format(python=sys.executable, folder=str(folder)))
        self.path.chmod(0o700)

    @property
    def starts(self) -> list[dict[str, Any]]:
        """How it was started, each time: argv, env, pid."""
        file = self.folder / "starts"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def option(self, name: str, start: int = -1) -> str | None:
        """What followed an option in one start; None when it was not there."""
        argv = self.starts[start]["argv"]
        return argv[argv.index(name) + 1] if name in argv else None

    def slow(self, *, is_slow: bool) -> None:
        """Do not listen yet, or do from now on."""
        (self.folder / "slow").touch() if is_slow else (self.folder / "slow").unlink()

    def die(self) -> None:
        """Of a CUDA error, in the process that runs."""
        (self.folder / "die").touch()

    def die_at_load(self, *, always: bool = True) -> None:
        (self.folder / "die at load").touch() if always else (self.folder / "die at load").unlink()
