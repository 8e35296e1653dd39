"""The data plane: from gateway to neuron, from neuron to engine. No framework; bytes pass as they come.

address.py    where an upstream listens: host and port, or a Unix socket
tls.py        what a listener shows, and whom a connection trusts
errors.py     what can go wrong on the way, as five kinds
headers.py    what is end to end and what belongs to one connection; heads as they are written
request.py    the head of a request as a server reads it
deadline.py   a time-out that is moved with every piece and hardly ever strikes
http1.py      one connection: HTTP/1.1 over asyncio and httptools, with back-pressure
pool.py       connections kept alive, and exchanges that give them back exactly once
relay.py      an exchange's answer to a client: verbatim, whole events only
keepalive.py  bytes for the client of a stream while the upstream has not answered yet
"""
