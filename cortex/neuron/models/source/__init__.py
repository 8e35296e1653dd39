"""Where models come from: folders, the Hugging Face cache, the hub.

    local.py     LocalModel, and what a file's name says (quant, parts of a split model)
    group.py     files → models: parts together, projectors beside, ids
    folder.py    every *.gguf under models_dir
    hf_cache.py  every *.gguf in the Hugging Face cache
    scanner.py   both, with a memory of headers
    resolve.py   id and quant → a local model, or what to fetch, or an error; pure
    hub.py       fetch a repository's variant into the cache: list, choose, download, verify
    download.py  one file, resumed where it broke off

Ids come from clients and are only ever compared with what a scan found: no id becomes part of a path. What the hub says
about names is checked before it does.
"""

from cortex.neuron.models.source.hub import Hub
from cortex.neuron.models.source.local import LocalModel
from cortex.neuron.models.source.resolve import NeedsFetch, Resolved, resolve
from cortex.neuron.models.source.scanner import Scanner

__all__ = ["Hub", "LocalModel", "NeedsFetch", "Resolved", "Scanner", "resolve"]
