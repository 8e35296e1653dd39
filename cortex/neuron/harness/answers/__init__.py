"""llama.cpp's event stream → the answer that a client asked for, streamed or whole. Pure: bytes in, bytes out.

    events.py       events → chunks; an engine's error ends them
    steps.py        small corrections of one choice of a chunk: roles, log probabilities
    tool_choice.py  a call that must be made: a schema for the engine, and its JSON → tool calls
    completions.py  legacy completions: echo, and log probabilities in their own shape
    usage.py        one sum for all choices
    stream.py       chunks → events for a client
    whole.py        chunks → one JSON answer

Every generation is a stream at the engine, whatever its client asked for: only a stream's own writes tell llama.cpp at
once that its client has left, and `return_progress` makes it write during a prefill, too.
"""
