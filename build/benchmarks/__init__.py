"""What `build/bench` runs. Every figure is a comparison within one run: a shared machine's absolute speed says little.

relay.py        the gateway against nginx: requests/s and SSE events/s
cycles.py       a neuron's memory, files and children over many loads and unloads
binary.py       the compiled file beside its sources: start, memory, size
engine.py       the built-in engine with ggml's backend for this processor beside itself without
random_model.py its model: random weights in any format
fleet.py        a gateway in front of a thousand hosts: decisions, listings, polling
mock_fleet.py   these hosts, in one process
proxies.py      the gateway and two nginx as pinned processes before the same upstream
mock_neuron.py  that upstream: a neuron's control plane, and chat answers as fast as one core makes them
load.py         clients: wrk, and our own
client.py       our own client: raw HTTP/1.1 over uvloop, counting answers or events
processes.py    start a process on one core, wait for its port, end it
options.py      types of command-line options
errors.py       a benchmark that cannot run says why
"""
