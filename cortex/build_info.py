"""What build/compile knew. Empty in the sources: it writes this module anew into its own copy of them.

flavour    "cpu", "cuda" or a family of GPUs, build/binary/flavours.py
git_sha    the commit, "-dirty" behind it when files differed from it
built_at   ISO 8601, UTC
"""

BUILD_INFO: dict[str, str | None] = {}
