"""build/compile: one executable file from this checkout. build/backends, build/engine: what it, or an engine, is built with.

    __main__.py      the order of the steps
    flavours.py      which GPUs a build is for
    backends.py      build/backends: ggml for newer processors and for GPUs, as a folder beside the engine's library
    variants.py      which processors, and what each variant needs of one
    modules.py       a backend as a module: compiled, made to fit the library, checked against it
    toolkit.py       NVIDIA's toolkit: nvcc, cuBLAS, libraries that travel along
    sdists.py        source packages of the index
    tools.py         programs that a build calls, and where they come from
    server.py        build/engine: llama-server from source
    environment.py   a clean virtual environment from compile.lock, and a clean copy of the sources
    facts.py         what the binary will say of itself (`cortex version`)
    nuitka.py        the compiler's flags, each with its reason
    libraries.py     shared libraries that travel with the program
    trim.py          what the compiler packed and nobody loads
    payload.py       the unpacked program → one file: launcher, compressed payload, trailer
    launcher/        the one file's start, in C: finds the unpacked program or unpacks it, and becomes it
    linkage.py       which glibc and libstdc++ the program needs
    rebind.py        newer mathematics → those of every glibc
    sbom.py          the bill of materials
    portable.py      build/portable: build/compile in a root of an older system
    oldest.py        what that root is given: compilers, OpenSSL, Python
    chroot.py        a root, and commands in it
    release.py       build/release: everything that is published, or why not

Everything happens below a cache folder outside the checkout ($CORTEX_BUILD_CACHE, else ~/.cache/cortex-build); ccache
makes the second build cheap; what is compiled of ggml stays in .engine/. build/selftest runs the result, build/release packs it.
"""
