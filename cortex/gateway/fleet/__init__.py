"""What the gateway knows of its neurons, and what it makes them do.

state.py      the fleet: one writer (the poller), frozen views for everybody else
addresses.py  where a neuron's inference goes, as this gateway reaches it
client.py     a neuron's control plane; the only importer of httpx here
clients.py    all of them by name
membership.py who belongs to the fleet: configured, or joined
joining.py    who may join, decided
breaker.py    when a neuron that fails gets no requests, as a value
breakers.py   the same acted on: cut off, probed, let in again
poller.py     one supervised task for each neuron
lifecycle.py  loads: single-flight, followed to their end
"""
