"""The control plane: one address in front of the fleet. It holds no durable truth, so several gateways agree by themselves.

app.py      composition root: parts, routes, order of start and stop
api/        ① in: inference, models, status and administration
routing/    ② pure: which neuron serves, loads or makes a request wait
fleet/      what is known of the neurons (one writer), polling, the neurons' control plane, loads
proxy/      ③ out: open, fail over before the first byte, relay, observe
metrics.py  what Prometheus sees
"""
