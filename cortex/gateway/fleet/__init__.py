"""What the gateway knows of its neurons, and what it makes them do.

state.py      the fleet: one writer (the poller), frozen views for everybody else
nodes.py      a view as routing sees it
signal.py     telling whoever waits that something has changed
addresses.py  where a neuron's inference goes, as this gateway reaches it
client.py     a neuron's control plane
clients.py    all of them by name
membership.py who belongs to the fleet: configured, or joined
joining.py    who may join, decided
breaker.py    when a neuron that fails gets no requests, as a value
breakers.py   the same acted on: cut off, probed, let in again
poller.py     one supervised task for each neuron
router.py     decisions over the fleet as it is now, with what only this gateway knows
lifecycle.py  loads for requests: single-flight
flight.py     one model's way into memory, decision after decision
lessons.py    what its failures have taught (pure)
patience.py   how long it may take
room.py       making room: victims leave, and memory is seen to be free
loads.py      what neurons are asked to do: load, follow, unload
sync.py       copies of models' files from neuron to neuron
sources.py    from whom a copy takes them
files.py      a neuron's files, asked for and sent piece by piece
upkeep.py     what nobody asks for: idle models leave, resident ones come back
"""
