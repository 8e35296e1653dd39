"""schemathesis's requests at a role, and what is wrong with the answers."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import requests
import schemathesis
from helpers.described import Api, Described
from helpers.fuzzing import HUNG_S, is_fault
from hypothesis import HealthCheck, Phase
from schemathesis import GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.core.failures import Failure, FailureGroup

from fuzzing.document import aimed
from fuzzing.fleet import TOKEN, Target

CHECKS = [
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]
WITH_BODY = 4  # such operations get so many times the cases of others
ROUNDS = 20
TOLD_CHARS = 300


@dataclass
class Tally:
    """What was sent, what came, and what was wrong with it."""

    cases: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    complaints: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)


class Thrower:
    def __init__(self, target: Target) -> None:
        document = target.document
        self.tally = Tally()
        self._target = target
        self._api = Api(document)
        self._schema: Any = schemathesis.openapi.from_dict(aimed(document))
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["authorization"] = (
            f"Bearer {TOKEN}"  # a neuron's for joining, and a placeholder elsewhere
        )

    def throw(self, count: int, seed: int) -> Tally:
        """Some operations have no more than a few cases: rounds go on until there were `count`."""
        operations = [found.ok() for found in self._schema.get_all_operations()]
        weights = {each.label: WITH_BODY if len(each.body) else 1 for each in operations}
        for number in range(ROUNDS):
            missing = count - self.tally.cases
            for operation in operations:
                share = 1 + missing * weights[operation.label] // (2 * sum(weights.values()))
                for mode in GenerationMode:
                    self._throw(operation, mode, min(share, count - self.tally.cases), seed + number)
                self._target.mend()
            if self.tally.cases >= count:
                break
        return self.tally

    def _throw(self, operation: Any, mode: GenerationMode, count: int, seed: int) -> None:
        if count <= 0:
            return

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def one(case: Any) -> None:
            self._send(case)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                one()
            except hypothesis.errors.Unsatisfiable:
                return  # nothing in it could be wrong

    def _send(self, case: Any) -> None:
        self.tally.cases += 1
        try:
            answer = case.call(self._target.role.url, session=self._session, timeout=HUNG_S)
        except requests.RequestException as error:
            self._complain(case, f"no answer: {error!r}")
            return
        self.tally.statuses[answer.status_code] += 1
        for wrong in self._wrong(case, answer):
            self._complain(case, f"{answer.status_code}: {wrong}")

    def _wrong(self, case: Any, answer: Any) -> Iterator[str]:
        described = self._described(case)
        if is_fault(described, answer.status_code):
            yield answer.text
        kind = ",".join(answer.headers.get("content-type", []))
        if said := self._api.complaint(described, answer.status_code, kind if answer.content else "", answer.content):
            yield said
        try:
            case.validate_response(answer, checks=CHECKS)
        except FailureGroup as group:
            yield from (f"{failure.title}: {failure.message}" for failure in group.exceptions)
        except Failure as failure:
            yield f"{failure.title}: {failure.message}"

    def _described(self, case: Any) -> Described:
        return self._api.operation(case.operation.method.upper(), case.operation.path)

    def _complain(self, case: Any, what: str) -> None:
        said = f"{case.operation.label}: {' '.join(what.split())[:TOLD_CHARS]}"
        self.tally.complaints[said] += 1
        self.tally.examples.setdefault(said, case.as_curl_command())
