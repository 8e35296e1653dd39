"""One running model: an operating-system process of this same executable, supervised by the neuron.

    process.py   the neuron's side: start, watch, stop; nothing leaks and nothing outlives the neuron
    main.py      the process's own main: what must be in place before native code runs
    spec.py      what an engine is started with, as JSON on its standard input
    logtail.py   an engine's last words, bounded
    outcome.py   how an engine ended, and what its last words mean

Native code lives here only: it may crash, abort or be killed, and all that ends is the process.
The process's main imports little: every engine pays for it in start-up time and memory.
"""
