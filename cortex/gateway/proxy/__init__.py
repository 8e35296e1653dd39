"""From a routed request to its answer.

call.py      what is read of a request: the model and whether it is a stream
journey.py   one call's way: the replica it uses, those it tried, what they said
dispatch.py  open, fail over before the first byte, relay, end well whatever happens
observe.py   the first token, usage and speed, seen on the side
sinks.py     answers on their way into another dialect
tokens.py    questions about a vocabulary: to a loaded replica, or to whoever has the file
"""
