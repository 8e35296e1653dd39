"""The one file that build/compile made, for the tests that `build/test binary` runs with it.

Only a file that was named is tested: one that lies in dist/ may be of any commit, and its tests take minutes.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

BINARY = Path(os.environ.get("CORTEX_BINARY", "no one file"))
wanted = pytest.mark.skipif(
    not BINARY.is_file(), reason="the one file is tested by build/test binary, or where CORTEX_BINARY names it"
)
