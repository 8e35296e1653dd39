"""An operator's own llama-server: what it says of itself, and how it is started."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.fake_llama_server import HELP, TWO_GPUS, FakeLlamaServer

from cortex.errors import CortexError
from cortex.neuron.harness import server_binary
from cortex.neuron.harness.server_binary import ServerBinary, command, examine

OPTIONS = frozenset(("--kv-unified", "--no-webui", "--no-ui", "--fit", "--cache-ram", "--mlock", "-ot", "--numa"))
SERVER = ServerBinary(Path("/opt/llama-server"), "1", ("CUDA0: H100",), OPTIONS)


def test_a_good_one_tells_its_version_and_its_gpus(tmp_path):
    """Asked once, when the neuron starts."""
    server = examine(FakeLlamaServer(tmp_path).path)
    assert (server.problem, server.version) == (None, "11434 (0fb1b3b)")
    assert server.gpus == (
        "CUDA0: NVIDIA GeForce RTX 3060 (12288 MiB, 11978 MiB free)",
        "CUDA1: NVIDIA GeForce RTX 4090 (24564 MiB, 24052 MiB free)",
    )
    assert {"--kv-unified", "-ngl", "--mlock"} <= server.options
    assert examine(FakeLlamaServer(tmp_path, devices="Available devices:\n  (none)").path).gpus == ()


def test_what_is_wrong_with_it_is_a_sentence(tmp_path):
    """Missing, no program, another program, too old: each is named, with the key, and without its folder."""
    (folder := tmp_path / "folder").mkdir()
    (text := tmp_path / "text").write_text("no program")
    (broken := tmp_path / "broken").write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o700)
    old = FakeLlamaServer(tmp_path, help_text=HELP.replace("--flash-attn", ""))
    for path, told in (
        (tmp_path / "nowhere", "does not exist"),
        (folder, "cannot be started: Permission denied"),
        (text, "cannot be started: Permission denied"),
        (broken, "cannot be started: Exec format error"),
        (Path("/bin/echo"), "is no llama-server"),
        (old.path, "is too old: it knows no --flash-attn"),
    ):
        problem = examine(path).problem or ""
        assert told in problem
        assert problem.startswith(f"the program '{path.name}' of harness.llamacpp.server_binary ")
        assert str(tmp_path) not in problem
    socketless = FakeLlamaServer(tmp_path, help_text=HELP.replace(".sock", ""))
    assert "Unix socket" in (examine(socketless.path).problem or "")


def test_a_silent_one_is_given_up(tmp_path, monkeypatch):
    """A driver that hangs under it keeps no neuron from starting."""
    monkeypatch.setattr(server_binary, "ASK_S", 0.2)
    (silent := tmp_path / "silent").write_text("#!/bin/sh\nexec sleep 30\n")
    silent.chmod(0o700)
    assert "does not answer --version within 0.2 s" in (examine(silent).problem or "")


def given(arguments):
    """Option to value; True for one that stands alone."""
    words = [*arguments, "--"]
    return {
        word: True if after.startswith("--") else after
        for word, after in itertools.pairwise(words)
        if word.startswith("-") and word != "--"
    }


def test_the_command_line_says_what_was_decided(spec):
    """Everything of the specification, and of what it may not know only what its help lists."""
    full = replace(
        spec,
        context=8192,
        gpu_layers=-1,
        split_mode="row",
        tensor_split=(0.25, 0.75),
        main_gpu=1,
        mmproj="/p.gguf",
        chat_template="chatml",
        prompt_cache_mb=7,
    )
    program, *arguments = command(SERVER, full, None)
    assert program == "/opt/llama-server"
    told = given(arguments)
    assert (told["--model"], told["--alias"], told["--host"]) == ("/m.gguf", "org/model", "/e.sock")
    assert (told["--ctx-size"], told["--parallel"], told["--kv-unified"]) == ("8192", "4", True)
    assert (told["--n-gpu-layers"], told["--split-mode"], told["--tensor-split"]) == ("999", "row", "0.25,0.75")
    assert (told["--main-gpu"], told["--mmproj"], told["--chat-template"]) == ("1", "/p.gguf", "chatml")
    assert (told["--fit"], told["--cache-ram"], told["--no-ui"]) == ("off", "7", True)
    assert "--offline" not in told
    embedding = given(command(SERVER, replace(spec, mode="embedding", pooling="mean"), None)[1:])
    assert (embedding["--embeddings"], embedding["--pooling"], embedding["--n-gpu-layers"]) == (True, "mean", "0")


def test_a_load_may_add_how_it_computes(spec):
    """In the order in which they were given, after our own."""
    additions = ("--mlock", "-ot", "exps=CPU", "--numa", "isolate")
    assert command(SERVER, spec, additions)[-5:] == additions


@pytest.mark.parametrize(
    "additions",
    [
        ("--host", "0.0.0.0"),
        ("--model", "/etc/shadow"),
        ("--log-file", "/var/x"),
        ("--path=/etc",),
        ("--mlock", "--api-key-file", "/etc/shadow"),
        ("/etc/shadow",),
        ("--swa-full",),  # harmless, and unknown to this server
    ],
)
def test_a_load_may_not_name_files_or_addresses(additions, spec):
    """Whoever may load a model is not thereby somebody who may open files; 400 lists what can be set."""
    with pytest.raises(CortexError) as refused:
        command(SERVER, spec, additions)
    assert (refused.value.status, refused.value.param) == (400, "server_args")
    assert "--mlock, --numa, -ot" in refused.value.message


def test_the_devices_of_a_build_for_other_gpus(tmp_path):
    """A Vulkan build serves what NVML does not see."""
    listed = TWO_GPUS.replace("CUDA0", "Vulkan0").replace("CUDA1", "Vulkan1")
    assert [gpu.split(":")[0] for gpu in examine(FakeLlamaServer(tmp_path, devices=listed).path).gpus] == [
        "Vulkan0",
        "Vulkan1",
    ]
