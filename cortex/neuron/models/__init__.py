"""The models of this host.

registry.py    id → slot; what is on disk; the only way to load and unload
slot.py        one model's life: absent → fetching → loading → loaded → draining → absent; failed, recovering
deaths.py      engines that keep dying are started later and later
jobs.py        loads as jobs that anybody may watch
admission.py   how many requests a model takes at once, how many wait, and for how long
loading.py     a load's steps, carried out
planning.py    what a load would do here: harness, devices, settings, whether it fits
harnesses.py   who serves a model, and whether its engines can run here
companions.py  a model's projector and draft model, by their names
fit.py         does it fit into memory? pure
need.py        what one engine's settings need of it
placing.py     which GPUs a load gets, and which part of the model each takes; pure
estimate.py    memory of a model from its header; pure
source/        folders, the Hugging Face cache, the hub
"""
