"""One file that carries a model: weights, projector, template, its lines for models.toml, and the SHA-256 of each.

A bundle is a plain tar archive (POSIX pax, uncompressed: weights do not compress), so that anybody can open one. Its first
member says what follows, and there is exactly one sequence of bytes for what it says: names that lead elsewhere, links,
sizes that lie, members too many or twice, and anything behind the end are all the same mistake, and none is acted upon.

manifest.py  what is in a bundle; pure
archive.py   the bytes around the members; pure
errors.py    what is wrong with a bundle
gather.py    a model on disk → what its bundle will be
write.py     a bundle, continued where the last try broke off
read.py      a bundle, byte by byte against its manifest
install.py   a bundle → files in a models_dir
fragment.py  lines for models.toml; pure
"""
