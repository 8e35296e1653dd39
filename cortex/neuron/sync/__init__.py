"""Files of models from one neuron to another: what this one gives, and what it takes.

policy.py      who may have what
shelf.py       the files of the models here, by their sha256
receptions.py  files of models that are not here, piece by piece
"""
