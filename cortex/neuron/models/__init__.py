"""The models of this host.

registry.py   id → slot; what is on disk; the only way to load and unload
slot.py       one model's life: absent → fetching → loading → loaded → draining → absent; failed, recovering
jobs.py       loads as jobs that anybody may watch
admission.py  how many requests a model takes at once, how many wait, and for how long
fit.py        does it fit into memory? pure
estimate.py   memory of a model from its header; pure
source/       folders, the Hugging Face cache, the hub
"""
