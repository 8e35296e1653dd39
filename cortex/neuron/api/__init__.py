"""④ What the neuron answers: `control` never waits on inference or on a load (unless asked to), `inference` relays to engines."""
