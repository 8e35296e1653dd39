"""`cortex openapi`: a role's API without a role that runs."""

from __future__ import annotations

import json

import pytest

from cortex.cli import main
from cortex.gateway.api.openapi import description as of_gateway
from cortex.neuron.api.openapi import description as of_neuron


@pytest.mark.parametrize(("role", "document"), [("gateway", of_gateway()), ("neuron", of_neuron())])
def test_the_document_of_a_role_is_printed(
    capsys: pytest.CaptureFixture[str], role: str, document: dict[str, object]
) -> None:
    """stdout is what the role answers at /openapi.json."""
    assert main(["openapi", role]) == 0
    assert json.loads(capsys.readouterr().out) == document
    assert document["openapi"] == "3.1.0"
