"""What this host has: read in a thread, so that a hung driver blocks nothing; a missing probe is None, not zero.

nvidia.py  GPUs through NVML (the only importer of pynvml)
host.py    memory, processor, disk, operating system; cgroup limits count
watch.py   the last reading of all of it, refreshed every few seconds
"""
