"""A day of a small fleet: two hosts with room for one model each, three models, six names, 300 requests, real engines."""

import asyncio
import contextlib
import random
import shutil
from collections import Counter
from dataclasses import dataclass, field

import pytest
from helpers.live import live, running_neuron

from cortex.config.catalogue import Catalogue
from cortex.config.gateway import GatewayConfig
from cortex.config.loader import validate
from cortex.gateway import app as gateway_app
from cortex.neuron.models.slot import Slot
from cortex.tasks import Tasks

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(300)]

BUDGET_MB = 70  # each engine takes 41 MiB or more, and is estimated at less than 70
CONTEXTS = {"alpha": 2048, "beta": 4096, "gamma": 8192}
ALIASES = {f"{model}-{use}": model for model in CONTEXTS for use in ("chat", "title")}
REQUESTS, CLIENTS, STAYS = 300, 24, 0.8
CATALOGUE = {
    "models": [
        {"id": model, "context": context, "parallel": 4, "threads": 1, "max_queue_depth": 64}
        for model, context in CONTEXTS.items()
    ],
    "aliases": ALIASES,
}


def a_day(seed):
    """Names in the order in which they are asked for: whoever uses a model mostly goes on with it."""
    chance = random.Random(seed)
    model, names = "alpha", []
    for _ in range(REQUESTS):
        if chance.random() > STAYS:
            model = chance.choice([other for other in CONTEXTS if other != model])
        names.append(f"{model}-{chance.choice(('chat', 'title'))}")
    return names


def fewest_loads(models, hosts=2):
    """The offline optimum: the least number of loads with which the requests can be served in their order."""
    best = {(None,) * hosts: 0}
    for model in models:
        after: dict[tuple[str | None, ...], int] = {}
        for state, loads in best.items():
            if model in state:
                options = [(state, loads)]
            else:
                options = [((*state[:host], model, *state[host + 1 :]), loads + 1) for host in range(hosts)]
            for option, cost in options:
                after[option] = min(cost, after.get(option, cost))
        best = after
    return min(best.values())


@dataclass
class Seen:
    """What became of the requests."""

    wrong: list[str] = field(default_factory=list)
    how: Counter[str] = field(default_factory=Counter)


async def ask(fleet, name, seen):
    """One request, streamed or not, and what is wrong with its answer."""
    answer = await fleet.chat(name, "hi", stream=seen.how.total() % 3 == 0)
    decision = answer.headers.get("x-cortex-decision", "streamed while it waited")
    seen.how[decision.partition(" after")[0]] += 1
    whole = (
        "[DONE]" in answer.text
        if "event-stream" in answer.headers["content-type"]
        else "scripted model." in answer.text
    )
    if answer.status_code != 200 or not whole or f'"model":"{ALIASES[name]}"' not in answer.text.replace(" ", ""):
        seen.wrong.append(f"{name}: {answer.status_code} {answer.text[:300]}")


@contextlib.asynccontextmanager
async def two_hosts(folder):
    async with contextlib.AsyncExitStack() as stack:
        neurons = [
            await stack.enter_async_context(
                running_neuron(folder, limits={"memory_mb": BUDGET_MB}, state_dir=str(folder / f"state-{name}"))
            )
            for name in ("one", "two")
        ]
        config = {
            "gateway": {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0"},
            "neurons": [
                {"name": name, "endpoint": neuron.url} for name, neuron in zip(("one", "two"), neurons, strict=True)
            ],
        }
        handle = await stack.enter_async_context(
            gateway_app.running(
                validate(GatewayConfig, config, source="test"), validate(Catalogue, CATALOGUE, source="test")
            )
        )
        yield (
            await stack.enter_async_context(live(f"http://{handle.listen}")),
            f"http://{handle.metrics_listen}/metrics",
        )


def test_the_optimum_is_one():
    """By hand: two loads to begin with, and one for each model that neither host has by then."""
    assert [fewest_loads(day) for day in ("a", "ab", "abab", "abcab", "abcabc", "abcbcbca")] == [1, 2, 2, 4, 4, 4]


def test_a_day(tmp_path, scripted_model, monkeypatch):
    """Every answer is whole and from the model that was asked for; hardly more swaps than the best plan that knows the future; no busy model is unloaded."""
    for model in CONTEXTS:
        shutil.copy(scripted_model, tmp_path / f"{model}.gguf")
    busy_when_unloaded = []
    leave = Slot.leave

    def observed(slot, *arguments):
        busy_when_unloaded.append(slot.admission.in_flight + slot.admission.queue_depth if slot.admission else 0)
        leave(slot, *arguments)

    monkeypatch.setattr(Slot, "leave", observed)
    day, seen = a_day(seed=1), Seen()
    optimum = fewest_loads([ALIASES[name] for name in day])

    async def client(fleet, names):
        for name in names:
            await ask(fleet, name, seen)

    async def scenario():
        async with two_hosts(tmp_path) as (fleet, metrics):
            names, tasks = iter(day), Tasks("day")
            await asyncio.gather(*(tasks.start(f"client {n}", client(fleet, names)) for n in range(CLIENTS)))
            text = (await fleet.http.get(metrics)).text
            assert busy_when_unloaded == [0] * len(busy_when_unloaded)
            return sum(
                float(line.rsplit(" ", 1)[1])
                for line in text.splitlines()
                if line.startswith("cortex_cold_starts_total{")
            )

    loads = asyncio.run(scenario())
    print(f"{loads:g} loads, {optimum} at best; {dict(seen.how)}")
    assert seen.wrong == []
    assert seen.how.total() == REQUESTS
    assert 3 <= loads <= 1.3 * optimum
