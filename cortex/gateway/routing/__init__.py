"""Decisions about a request, as functions over frozen snapshots: no I/O, no clock, no logging.

types.py      the fleet as routing sees it
snapshot.py   all of it at one moment, indexed by model
decisions.py  what can be decided
route.py      serve, wait, place, queue or reject
feasible.py   where a model could run at all
need.py       how much memory it will take
modality.py   what a model can be asked for at all
fit.py        devices and victims with which it fits
eviction.py   who may leave for whom
placement.py  the neurons to ask, best first
turns.py      whose turn it is where models cannot be in memory together
upkeep.py     what is to be done while nobody asks
plan.py       all of it in words, for people
"""
