"""`python -m cortex.neuron.engine`: an engine process, which reads its specification from standard input."""

import sys

from cortex.neuron.engine.main import run

if __name__ == "__main__":
    sys.exit(run())
