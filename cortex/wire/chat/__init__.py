"""OpenAI chat completions, the one dialect that engines speak: what other dialects are translated to and from.

    history.py   build the messages of a request
    deltas.py    read a stream: bytes → what each event says
    turn.py      put a stream in order: one part (reasoning, text, tool call) open at a time, one end
    answer.py    read a whole answer into the same parts

`wire.anthropic` and `wire.responses` project these parts; neither knows the other.
"""
