"""A role's process: one loop in the main thread, started in order, stopped in the opposite one.

1. The neuron starts, then the gateway, which needs its address; then systemd is told.
2. SIGINT or SIGTERM: the gateway stops first, so that nobody asks a neuron that is going; then the neuron and its engines.
3. A second signal ends the process at once; engines die with it.
SIGHUP, and a file of the configuration that changed: it is read again (reloading.py).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from cortex import footprint, pauses, systemd
from cortex import log as logs
from cortex.cli import roles
from cortex.cli.outcome import Exit, Failure
from cortex.cli.reloading import Part, reloading, state_of
from cortex.cli.starting import failure
from cortex.config.access import why_not
from cortex.config.gateway import GatewayConfig
from cortex.config.listen import Listen
from cortex.config.neuron import NeuronConfig
from cortex.errors import CortexError
from cortex.net.tls import TlsError

log = logging.getLogger(__name__)


def run_role(args: argparse.Namespace) -> int:
    """Run until a signal. Raises Failure when the role cannot start."""
    try:
        logs.configure(args.log_level)
    except ValueError as error:
        raise Failure(f"{error} (CORTEX_LOG, CORTEX_LOG_FORMAT)", Exit.usage) from error
    settings = roles.settings(args, os.environ)
    pauses.shorten()
    log.info("%s", roles.source(args.config))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(args, settings))
        log.info("stopped")
    finally:
        for handler in logging.getLogger().handlers:  # they write in the background: why it ended is to stand last
            handler.flush()
    return Exit.ok


async def _serve(args: argparse.Namespace, settings: roles.Settings) -> None:
    async with AsyncExitStack() as stack:
        stop, read = Stop(), state_of(roles.watched_files(args, os.environ, settings))
        try:
            parts = await _start(settings, stack)
            await stack.enter_async_context(reloading(args, os.environ, read, parts))
            await stack.enter_async_context(systemd.ready())
            pauses.settle()
            footprint.give_back()
            await stop.wait()
        except asyncio.CancelledError:
            if not stop.asked:
                raise


async def _start(settings: roles.Settings, stack: AsyncExitStack) -> list[Part]:
    """Enter what was asked for; leaving `stack` stops it in the opposite order."""
    parts, bound = [], None
    if settings.neuron:
        bound, part = await _start_neuron(settings.neuron, stack)
        parts.append(part)
    if settings.gateway:
        parts.append(await _start_gateway(settings.gateway, settings, bound, stack))
    return parts


async def _start_neuron(config: NeuronConfig, stack: AsyncExitStack) -> tuple[Listen, Part]:
    from cortex.neuron import app
    from cortex.neuron.runtime_dir import RuntimeDirError

    try:
        handle = await stack.enter_async_context(app.running(config))
    except (OSError, CortexError, RuntimeDirError, TlsError) as error:
        raise failure("neuron", error, {"host and port of the neuron": config.listen}) from error
    await asyncio.to_thread(_look_at_models, config.models_dir)
    change = handle.reconfiguration

    def configured(settings: roles.Settings) -> NeuronConfig:
        return settings.neuron or config

    return handle.listen, Part(
        check=lambda new: change.check(configured(new)),
        apply=lambda new: change.apply(configured(new)),
        reject=lambda _why: None,  # a neuron has no place to show it but the log
    )


async def _start_gateway(
    config: GatewayConfig, settings: roles.Settings, neuron: Listen | None, stack: AsyncExitStack
) -> Part:
    from cortex.gateway import app
    from cortex.gateway.keys.ledger.store import StoreError

    def configured(new: roles.Settings) -> GatewayConfig:
        found = new.gateway or config
        return roles.joined(found, new.neuron, neuron) if new.neuron and neuron else found

    wanted = {"[gateway] listen": config.gateway.listen, "[gateway] metrics_listen": config.gateway.metrics_listen}
    try:
        handle = await stack.enter_async_context(app.running(configured(settings), settings.catalogue))
    except (OSError, CortexError, TlsError, StoreError) as error:
        raise failure("gateway", error, wanted) from error
    change = handle.reconfiguration
    return Part(
        check=lambda new: change.check(configured(new)),
        apply=lambda new: change.apply(configured(new), new.catalogue),
        reject=change.reject,
    )


def _look_at_models(folder: Path | None) -> None:
    """Whoever starts a service may read the models, and the service may not: that is to be said in words that help."""
    if folder is None:
        return
    try:
        next(folder.iterdir(), None)
    except PermissionError as error:
        log.error("models_dir %s cannot be read: %s", folder, why_not(folder, error))  # noqa: TRY400  no traceback
    except OSError:  # not there, or not yet: its scan says so
        return


class Stop:
    """The two signals of a process. During the start the first one cancels it; afterwards it lets `wait` return."""

    def __init__(self) -> None:
        self.asked = False
        self._event: asyncio.Event | None = None
        self._starting = asyncio.current_task()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)

    async def wait(self) -> None:
        self._event = asyncio.Event()
        await self._event.wait()

    def _on_signal(self, number: int) -> None:
        if self.asked:
            os._exit(128 + number)
        self.asked = True
        log.info("stopping: %s; a second signal ends at once", signal.Signals(number).name)
        if self._event:
            self._event.set()
        elif self._starting:
            self._starting.cancel()
