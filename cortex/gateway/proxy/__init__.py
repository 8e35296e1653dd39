"""From a routed request to its answer.

call.py      what is read of a request: the model and whether it is a stream
journey.py   one call's way: the replica it uses, those it tried, what they said
dispatch.py  load what is not loaded, open, relay, end well whatever happens
opening.py   the replica that answers; fail over before the first byte
observe.py   the first token, usage and speed, seen on the side
sinks.py     answers on their way into another dialect
tokens.py    questions about a vocabulary: to a loaded replica, or to whoever has the file
"""
