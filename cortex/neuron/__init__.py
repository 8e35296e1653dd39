"""The per-host daemon: owns the truth about its host, and runs models as supervised processes.

    app.py       composition root: parts, routes, order of start and stop
    api/         ④ discovery, health, models, jobs, version, metrics, inference
    hardware/    what the host has: GPUs through NVML, memory, processor; a missing probe is None, not zero
    models/      registry and slot (one owner each), jobs, admission, sources on disk and in hubs, memory estimate
    gguf/        the header of a model file; hostile files are expected
    ggml/        the same for files of before GGUF; modelfile.py tells the formats apart
    harness/     ⑤ adapters to inference libraries: which files they serve, with which settings, and what they get wrong
    engine/      ⑥ one running model: start, watch and stop its process; the process's own main

The neuron never imports an inference library: only engine processes do, so that native code can only end itself.
"""
