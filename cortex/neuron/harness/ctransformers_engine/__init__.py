"""The engine of the ctransformers harness: a small server around the GGML of 2023, in a process of its own.

    server.py       the engine process: preflight, load, listen; the routes of llama.cpp's server
    worker.py       a thread for the library's calls, and one for the rendering of chats
    asked.py        a request's body → what is to be generated; pure
    engine.py       a body → the pieces of its answers
    answers.py      what was generated → OpenAI's bodies and chunks; pure
    generate.py     the loop: prefix reuse, context, one token after another
    sampling.py     parameters and logits → a token; numpy, pure
    text.py         tokens' bytes → text, whole characters only, ended by stop strings; pure
    prompt.py       text and markers → token ids; markers are never read from what a user wrote
    chats.py        messages → text, in which no user's words are markers
    templates.py    which template it is; pure
    rendering.py    a template in Jinja at work
    sandbox.py      the process in which it is, bounded by the kernel
    model.py        the loaded model: vocabulary, tokenizer and library together
    tokenizers.py   greedy, unigram and BPE tokenizers of the legacy families, written anew
    preflight.py    what would end the process is refused before the library sees the file
    library.py      the C functions of ctransformers: the only place that calls them
    cuda.py         its build for GPUs: the driver is asked first, and what it needs is loaded

The library is called through its C interface alone. Its Python side overflows a buffer on text that is not ASCII, drops
the non-ASCII end of a streamed answer, and imports a hub client; its tokenizers of the "ggml" families crash on long
words and print the prompt. None of that is used.
"""
