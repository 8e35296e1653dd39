"""Decisions about a request, as functions over frozen snapshots: no I/O, no clock, no logging.

types.py      the fleet as routing sees it, and what can be decided
route.py      serve, wait, place or reject
placement.py  where a model that is loaded nowhere may go, best first
"""
