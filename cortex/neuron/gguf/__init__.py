"""The header of a GGUF file: what a model is and how large, without its weights, from files nobody has checked.

    header.py   read_header(path) -> Header, or GGUFError that says what is wrong at which byte
    cursor.py   bounded reads: never trusts a length, never allocates by one
    tables.py   tensor types (block sizes) and file types (names) of ggml
    vocabulary.py   write_vocabulary(source, target): a model's vocabulary and template as a file of their own

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little endian.
"""

from cortex.neuron.gguf.cursor import GGUFError
from cortex.neuron.gguf.header import Header, Split, read_header
from cortex.neuron.gguf.vocabulary import write_vocabulary

__all__ = ["GGUFError", "Header", "Split", "read_header", "write_vocabulary"]
