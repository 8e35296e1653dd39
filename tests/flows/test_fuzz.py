"""Requests by chance at both roles with real models behind: every answer is as `/openapi.json` says, in time.

`build/test fuzz` throws thousands; here a seed repeats some.
"""

import asyncio
import logging

import pytest
from helpers.described_fleet import described_fleet, scripted_folder
from helpers.fuzzing import cases, complaint

pytestmark = pytest.mark.model
CASES = 200
SEED = 20261123


@pytest.mark.parametrize("place", [0, 1], ids=["gateway", "neuron"])
def test_nothing_but_answers_and_clear_errors(scripted_model, tmp_path, monkeypatch, caplog, place):
    """No internal error, no traceback, no hang, and no body of another shape than described, whatever is sent."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    async def scenario():
        wrong = []
        async with described_fleet(scripted_folder(scripted_model, tmp_path / "models")) as roles:
            role = roles[place]
            for number, case in enumerate(cases(role, SEED, CASES)):
                if said := await complaint(role, case):
                    wrong.append(f"{number}: {case}\n    {said}")
        assert wrong == [], "\n".join(wrong)

    asyncio.run(scenario())
    assert [record.message for record in caplog.records if record.exc_info and record.levelno >= logging.ERROR] == []
