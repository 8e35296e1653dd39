"""What this host has: read in threads, so that a hung driver blocks nothing; a missing probe is None, not zero.

nvidia.py          GPUs through NVML, across driver reloads and lost cards
nvidia_figures.py  what NVML says of one GPU
others.py          GPUs of other makers: seen and named
processor.py       what the processor can do
library.py         the engine's library on disk
support.py         what this build's engines need of processor and GPUs; pure
host.py            memory, processor, NUMA, disk, operating system
cgroup.py          what the process's control groups leave of them
probe.py           a reading in a thread, one at a time
watch.py           the last reading of all of it, refreshed every few seconds
"""
