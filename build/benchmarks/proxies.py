"""The proxies that are compared: the gateway as it is started by its users, and nginx with one worker, tuned and plain."""

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
    """Nginx as somebody tunes it who looks at its documentation: HTTP/1.1 to the upstream, on connections that are kept."""
    location = f"""
  upstream neuron {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:%d;
    location / {{ proxy_pass http://neuron; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }}
  }}"""
    with _nginx("nginx", location, folder, core) as proxy:
        yield proxy


@contextlib.contextmanager
def nginx_plain(upstream: int, folder: Path, core: int) -> Iterator[Proxy]:
    """Nginx with `proxy_pass` and nothing else: HTTP/1.0 to the upstream, on a new connection for each request.

    Only its buffering is off here, too: a stream that is collected is none.
    """
    location = f"""
  server {{
    listen 127.0.0.1:%d;
    location / {{ proxy_pass http://127.0.0.1:{upstream}; proxy_buffering off; }}
  }}"""
    with _nginx("nginx_plain", location, folder, core) as proxy:
        yield proxy


@contextlib.contextmanager
def _nginx(name: str, servers: str, folder: Path, core: int) -> Iterator[Proxy]:
    """One worker, and a line per request in a file as Debian has it: so has the gateway."""
    port, own = free_port(), folder / name
    own.mkdir()
    config = own / "nginx.conf"
    temporary = " ".join(f"{kind}_temp_path {own}/{kind};" for kind in _TEMPORARY)
    config.write_text(f"""\
daemon off; worker_processes 1; pid {own}/nginx.pid;
events {{ worker_connections 512; }}
http {{
  access_log {own}/access.log; {temporary}
  keepalive_requests 1000000;{servers % port}
}}
""")
    command = [find_nginx(), "-e", f"{own}/error.log", "-c", str(config)]
    with processes.running(command, port=port, log=folder / f"{name}.log", cores={core}) as pid:
        yield Proxy(name, pid, port)
