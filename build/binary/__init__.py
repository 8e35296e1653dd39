"""build/compile: one executable file from this checkout.

    __main__.py      the order of the steps
    flavours.py      which GPU an engine library is for, where it comes from, what a builder of it needs
    environment.py   a clean virtual environment from compile.lock, and a clean copy of the sources
    facts.py         what the binary will say of itself (`cortex version`)
    nuitka.py        the compiler's flags, each with its reason
    libraries.py     shared libraries that travel with the program
    trim.py          what the compiler packed and nobody loads
    payload.py       the unpacked program → one file: launcher, compressed payload, trailer
    launcher/        the one file's start, in C: finds the unpacked program or unpacks it, and becomes it
    linkage.py       which glibc the program needs
    rebind.py        newer mathematics → those of every glibc
    sbom.py          the bill of materials
    release.py       build/release: everything that is published, or why not

Everything happens below a cache folder outside the checkout ($CORTEX_BUILD_CACHE, else ~/.cache/cortex-build); ccache
makes the second build cheap. build/selftest runs the result, build/release packs it.
"""
