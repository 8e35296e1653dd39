"""The two proxies that are compared: the gateway as it is started by its users, and nginx with one worker."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import processes
from benchmarks.errors import CannotRun
from benchmarks.ports import free_port


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy."""

    name: str
    pid: int
    port: int


_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@contextlib.contextmanager
def mock_neuron(folder: Path, core: int) -> Iterator[int]:
    """The upstream of both; yields its port."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.mock_neuron", str(port)]
    with processes.running(command, port=port, log=folder / "mock.log", cores={core}):
        yield port


@contextlib.contextmanager
def gateway(upstream: int, folder: Path, core: int) -> Iterator[Proxy]:
    """`cortex --role gateway` with its defaults, its log going to a file."""
    port = free_port()
    config = folder / "cortex.toml"
    config.write_text(f"""\
[gateway]
listen = "127.0.0.1:{port}"
metrics_listen = "127.0.0.1:{free_port()}"
drain_secs = 1
[[neurons]]
name = "mock"
endpoint = "http://127.0.0.1:{upstream}"
""")
    command = [sys.executable, "-m", "cortex", "--role", "gateway", "--config", str(config)]
    with processes.running(command, port=port, log=folder / "gateway.log", cores={core}) as pid:
        yield Proxy("cortex", pid, port)


def find_nginx() -> str:
    """Its path: Debian's is in a folder that only root searches. Raises CannotRun."""
    if path := shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"):
        return path
    raise CannotRun("nginx is what the gateway is compared with, and it is not installed: apt-get install nginx-light")


@contextlib.contextmanager
def nginx(upstream: int, folder: Path, core: int) -> Iterator[Proxy]:
    """nginx, one worker, upstream connections kept alive, and a line per request in a file as Debian has it: so has the gateway."""
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(_nginx_config(upstream, port, folder))
    command = [find_nginx(), "-e", f"{folder}/nginx-error.log", "-c", str(config)]
    with processes.running(command, port=port, log=folder / "nginx.log", cores={core}) as pid:
        yield Proxy("nginx", pid, port)


def _nginx_config(upstream: int, port: int, folder: Path) -> str:
    temporary = " ".join(f"{name}_temp_path {folder}/{name};" for name in _TEMPORARY)
    return f"""\
daemon off; worker_processes 1; pid {folder}/nginx.pid;
events {{ worker_connections 512; }}
http {{
  access_log {folder}/nginx-access.log; {temporary}
  keepalive_requests 1000000;
  upstream neuron {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://neuron; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }}
  }}
}}
"""
