"""Where models come from: folders, the Hugging Face cache, the hub.

    local.py     LocalModel, and what a file's name says (quant, parts of a split model)
    group.py     files → models: parts together, projectors beside; pure
    ids.py       which model is called what; pure
    folder.py    every *.gguf and *.bin under models_dir
    hf_cache.py  every *.gguf and *.bin in the Hugging Face cache
    scanner.py   both, with a memory of headers
    resolve.py   id and quant → a local model, or what to fetch, or an error; pure
    variants.py  which variant a quant means; pure
    hub.py       fetch a repository's variant into the cache, or say at once why not
    listing.py   what a hub says that a repository holds, checked; pure
    store.py     where fetched files go: the cache, or a folder
    transfer.py  the files of one fetch, to their places
    download.py  one file, continued where it broke off, verified
    locks.py     one at a time brings a file
    incoming.py  where what is incomplete lies in a folder
    room.py      whether the disk has room for it
    layout.py    what a model's files are called in a folder; pure

Ids come from clients and are only ever compared with what a scan found: no id becomes part of a path. What the hub says
about names is checked before it does.
"""

from cortex.neuron.models.source.hub import Hub
from cortex.neuron.models.source.local import LocalModel
from cortex.neuron.models.source.resolve import NeedsFetch, Resolved, resolve
from cortex.neuron.models.source.scanner import Scanner

__all__ = ["Hub", "LocalModel", "NeedsFetch", "Resolved", "Scanner", "resolve"]
