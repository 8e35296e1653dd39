"""What build/compile knew. Empty in the sources: it writes this module anew into its own copy of them.

flavour    "cpu", "cuda" or a family of GPUs, build/binary/flavours.py
backends   what of ggml is packed beside the engine's library, in words: "zen4 icelake cuda-13.0"; None: nothing
git_sha    the commit, "-dirty" behind it when files differed from it
built_at   ISO 8601, UTC
"""

BUILD_INFO: dict[str, str | None] = {}
