"""Configuration: TOML files and environment variables become frozen types that cannot be wrong.

    loader.py     file + environment + command line → one validated object; every mistake named with its place and the nearest known key
    gateway.py    cortex.toml   (environment: CORTEX_…)
    neuron.py     neuron.toml   (environment: NEURON_…)
    catalogue.py  models.toml   profiles and aliases
    trust.py      tokens and certificates, in all of them
    access.py     what this user may not read, and what would let it
    difference.py which keys of two configurations differ

A nested key is written with two underscores in the environment: `CORTEX_GATEWAY__LISTEN=127.0.0.1:8080`.
"""
