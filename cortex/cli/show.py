"""What a person sees: tables and progress bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout: drawn with rich on a terminal, columns parted by two spaces for everything else."""
    if not rows:
        print(f"{title}: none")
        return
    if sys.stdout.isatty():
        _draw(title, columns, rows)
        return
    widths = [max(len(line[i]) for line in (columns, *rows)) for i in range(len(columns))]
    print(f"{title}:")
    for line in (columns, *rows):
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _draw(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title, title_justify="left")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))  # Text: a model's name is not markup
    Console().print(drawn)


class Advance(Protocol):
    """Tell a bar where things are: bytes done and in all, either of them unknown."""

    def __call__(self, text: str, done: int | None, total: int | None) -> None: ...


@contextmanager
def progress() -> Iterator[Advance]:
    """A progress bar on stderr; on something that is not a terminal, one line for each new text."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)

        def advance(text: str, done: int | None, total: int | None) -> None:
            bar.update(task, description=text.replace("[", r"\["), completed=done or 0, total=total)

        yield advance


def _lines() -> Advance:
    said: list[str] = []

    def advance(text: str, done: int | None, total: int | None) -> None:  # noqa: ARG001  lines need no numbers
        if said[-1:] != [text]:
            said.append(text)
            print(text, file=sys.stderr, flush=True)

    return advance


def megabytes(mb: int | None) -> str:
    """MiB for people; unknown is a dash, never zero."""
    return "-" if mb is None else f"{mb / 1024:.1f} GiB" if mb >= 10_240 else f"{mb} MiB"
