"""What is wrong with a bundle."""

from __future__ import annotations


class BundleError(Exception):
    """`member` is the part of the bundle, `problem` what is wrong with it."""

    def __init__(self, member: str, problem: str) -> None:
        super().__init__(f"{member}: {problem}")
        self.member = member
        self.problem = problem
