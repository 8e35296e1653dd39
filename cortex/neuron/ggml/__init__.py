"""Legacy GGML model files, of before GGUF: what a model is and how large, from files nobody has checked.

    families.py    the families, their hyperparameters and the tensors that their numbers demand; tables
    start.py       what stands before the tensors
    reader.py      read_legacy(path) -> LegacyFile, or GGMLError that says what is wrong at which byte
    vocabulary.py  the tokens inside
    workspace.py   how much of the library's fixed work buffers a model needs; pure

The loaders of 2023 check little: a file that is cut loads without a word and answers garbage, a wrong number ends the
process. So everything that they take on trust is held here, before any library sees the file: every tensor is there,
once, with the shape that the hyperparameters demand, of a type that its loader takes, inside the file.

Magics, as bytes of the file: `lmgg` (gpt2, gptj, gpt_neox, dolly-v2, mpt, replit, starcoder; unversioned), `fmgg` and
`tjgg` (llama, versions 1 and 1 to 3), `ccgg` (falcon, version 10). Sources of the layouts: the example programs of ggml
and llama.cpp of May to August 2023, ggllm.cpp.
"""

from cortex.neuron.ggml.reader import LegacyFile, read_legacy
from cortex.neuron.ggml.start import MAGICS, GGMLError
from cortex.neuron.ggml.vocabulary import LegacyVocabulary

__all__ = ["MAGICS", "GGMLError", "LegacyFile", "LegacyVocabulary", "read_legacy"]
