"""Formats and nothing else: no asyncio, no sockets, no framework.

fleet.py    what a neuron tells a gateway (and what scripts of the first generation read)
sse.py      server-sent events: find event borders in a byte stream, encode events and comments
errors.py   a CortexError as a body in the client's dialect
"""
