"""Thousands of requests by chance at both roles: `build/test fuzz`.

fleet.py     a gateway and a neuron as processes, with tiny real models whose answers are bounded
document.py  a role's OpenAPI document with names in it that exist, so that requests come further than "no such model"
thrower.py   schemathesis makes requests from it, such that fit and such that do not; every answer is judged
"""
