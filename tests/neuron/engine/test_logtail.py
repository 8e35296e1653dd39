"""The bounded end of a log."""

from cortex.neuron.engine.logtail import MAX_LINE_BYTES, MAX_LINES, LogTail


def test_lines_are_joined_from_pieces():
    """Lines come whole, however the bytes were cut, also inside a character."""
    seen: list[str] = []
    tail = LogTail(seen.append)
    for byte in "one\n\ntwö\r\nthree".encode():
        tail.feed(bytes([byte]))
    assert tail.lines == ("one", "twö")
    tail.end()
    assert seen == ["one", "twö", "three"]


def test_only_the_last_lines_are_kept():
    """A talkative engine costs no memory."""
    tail = LogTail()
    tail.feed(b"".join(b"line %d\n" % number for number in range(1000)))
    assert len(tail.lines) == MAX_LINES
    assert tail.lines[-1] == "line 999"


def test_a_long_line_is_cut():
    """A line without end is bounded, in one piece or in many, and shows that it was cut."""
    tail = LogTail()
    tail.feed(b"x" * 100_000)
    for _ in range(100):
        tail.feed(b"y" * 1000)
    tail.feed(b"\nnext\n")
    assert tail.lines == ("x" * MAX_LINE_BYTES + " …", "next")
