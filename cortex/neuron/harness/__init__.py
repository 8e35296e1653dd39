"""Adapters to inference libraries: which files they serve, with which settings, and what they get wrong.

    base.py              what every harness can say, without its library
    choice.py            which harnesses there are, and which one serves a file; pure
    settings.py          a load request, a header and the host's facts → an engine's specification; pure
    requests.py          what an engine would mis-handle in a request; pure
    unsupported.py       parameters that an engine would silently ignore; pure
    generation.py        a chat or completion → what the engine is asked, and how its stream becomes the answer; pure
    answers/             that stream, mended: streamed or whole, tool calls, usage, log probabilities; pure
    llamacpp.py          the llama.cpp harness at the neuron
    llamacpp_errors.py   what its server says when it fails → what a client hears; pure
    llamacpp_server.py   its half in the engine process: the only importer of xllamacpp
    ggml_backends.py     code for newer processors and GPUs, put into that library there
    backends.py          a folder of such code: which of it this host's engines take
    backends_manifest.py the list in that folder; pure
    server_binary.py     a llama-server of the operator's instead of it: what it is, and its command line
    ctransformers.py     the ctransformers harness at the neuron, for files of before GGUF
    ctransformers_engine/  its half in the engine process: a small server around the library of 2023

The neuron never imports an inference library: a native crash ends an engine, and nothing else.
"""
