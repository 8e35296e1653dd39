"""Entry point for Python (`python cortex.py`) and for Nuitka."""

import sys

from cortex.cli import main

if __name__ == "__main__":
    sys.exit(main())
