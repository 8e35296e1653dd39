"""models.source: what a scan of folders and of the Hugging Face cache finds, and what it is called."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.gguf_bytes import LLAMA, gguf, pairs, write_tiny

from cortex.neuron.models.source import LocalModel, Scanner
from cortex.neuron.models.source.hf_cache import default_cache
from cortex.neuron.models.source.local import part_name, quant_in_name

REV_1, REV_2 = "1" * 40, "2" * 40


@pytest.fixture(name="root")
def _root(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture(name="cache")
def _cache(tmp_path: Path) -> Path:
    return tmp_path / "hub"


Scan = Callable[[], tuple[dict[str, LocalModel], tuple[str, ...]]]


@pytest.fixture(name="scan")
def _scan(root: Path, cache: Path) -> Scan:
    scanner = Scanner(models_dir=root, hf_cache=cache)

    def scan() -> tuple[dict[str, LocalModel], tuple[str, ...]]:
        models, problems = scanner.scan()
        return {model.id: model for model in models}, problems

    return scan


def write_cached(cache: Path, repo: str, revision: str, name: str, **facts: object) -> Path:
    """A file as the library caches it: a blob, and a link from a snapshot."""
    folder = cache / ("models--" + repo.replace("/", "--"))
    blob = write_tiny(folder / "blobs" / f"{revision}-{name.replace('/', '-')}", **facts)
    link = folder / "snapshots" / revision / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
    return link


# ---- names


@pytest.mark.parametrize(
    ("name", "quant"),
    [
        ("SmolLM2-135M-Instruct.Q4_1", "Q4_1"),
        ("Qwen3-0.6B-Q4_K_M", "Q4_K_M"),
        ("Qwen3-0.6B-UD-Q4_K_XL", "UD-Q4_K_XL"),
        ("qwen3-0.6b-q8_0", "Q8_0"),
        ("Llama-3-8B-IQ4_XS", "IQ4_XS"),
        ("x-IQ3_XXS", "IQ3_XXS"),
        ("gpt-oss-20b-MXFP4", "MXFP4"),
        ("x-Q4_0_4_4", "Q4_0_4_4"),
        ("gemma-bf16", "BF16"),
        ("model-f16", "F16"),
        ("Qwen3-0.6B", None),
        ("scripted", None),
        ("mmproj-F16-v2", "F16"),
    ],
)
def test_the_quant_is_read_from_the_name(name, quant):
    """Every usual way of writing a quantisation is found, and names that only look like one are not."""
    assert quant_in_name(name) == quant


def test_parts_are_read_from_the_name():
    """llama.cpp's `-00001-of-00003` is a part; anything else is a whole file."""
    assert part_name("big-Q4_K_M-00002-of-00003") == ("big-Q4_K_M", 2, 3)
    assert part_name("big-2-of-3") == ("big-2-of-3", 1, 1)


# ---- folders


def test_the_tests_models_are_found(models_dir, cache):
    """A folder with two files gives two models with what their headers say."""
    models, problems = Scanner(models_dir=models_dir, hf_cache=cache).scan()
    assert problems == ()
    demo, scripted = sorted(models, key=lambda model: model.id)
    assert (demo.id, demo.quant, demo.size_bytes) == ("SmolLM2-135M-Instruct.Q4_1", "Q4_1", 98_362_432)
    assert (scripted.id, scripted.quant, scripted.origin) == ("scripted", "F16", "models_dir")
    assert demo.header.block_count == 30


def test_an_id_is_the_path_without_the_suffix(root, scan):
    """Files outside of org/repo trees are called by their path; other files are not looked at."""
    write_tiny(root / "flat.gguf")
    write_tiny(root / "one" / "deep.GGUF")
    write_tiny(root / "a" / "b" / "c" / "deeper.gguf")
    write_tiny(root / ".hidden" / "x.gguf")
    write_tiny(root / "._flat.gguf")
    (root / "readme.txt").write_text("no model")
    models, problems = scan()
    assert (sorted(models), problems) == (["a/b/c/deeper", "flat", "one/deep"], ())


def test_a_repository_with_one_variant_is_called_by_its_name(root, scan):
    """`org/repo/file.gguf` is `org/repo`, in a folder of its quant as well."""
    write_tiny(root / "org" / "repo-GGUF" / "repo-Q4_K_M.gguf")
    write_tiny(root / "org" / "large" / "Q8_0" / "large-Q8_0.gguf")
    models, _ = scan()
    assert sorted(models) == ["org/large", "org/repo-GGUF"]
    assert models["org/repo-GGUF"].repo == "org/repo-GGUF"


def test_each_of_several_variants_is_called_by_its_quant(root, scan):
    """`org/repo:QUANT` tells the variants of a repository apart; a second file of one quant keeps its path."""
    for name in ("a-Q4_K_M", "a-Q8_0", "b-Q8_0"):
        write_tiny(root / "org" / "repo" / f"{name}.gguf")
    assert sorted(scan()[0]) == ["org/repo/b-Q8_0", "org/repo:Q4_K_M", "org/repo:Q8_0"]


def test_the_quant_comes_from_the_header_when_the_name_has_none(root, scan):
    """A file type in the metadata is as good as a name."""
    write_tiny(root / "plain.gguf", general__file_type=15)
    assert scan()[0]["plain"].quant == "Q4_K_M"


def test_the_parts_of_a_split_model_are_one_model(root, scan):
    """Parts are listed once, in order, with the bytes of all."""
    for number in (3, 1, 2):
        write_tiny(root / f"big-Q4_0-0000{number}-of-00003.gguf", split__no=number - 1, split__count=3)
    models, problems = scan()
    assert problems == ()
    model = models["big-Q4_0"]
    assert [path.name[9:14] for path in model.files] == ["00001", "00002", "00003"]
    assert model.size_bytes == sum(path.stat().st_size for path in model.files)
    assert (model.header.tensor_count, model.header.tensor_bytes) == (3, 3 * 256)


def test_a_missing_part_is_named(root, scan):
    """A model without one of its parts is a problem that says which, and no model."""
    write_tiny(root / "big-00001-of-00003.gguf")
    write_tiny(root / "big-00003-of-00003.gguf")
    models, problems = scan()
    assert models == {}
    assert problems == ("big-00001-of-00003.gguf: 1 of its 3 parts are missing (part 2)",)


def test_a_renamed_part_is_named(root, scan):
    """A part whose name hides that it is one would fail in the engine: it is a problem here."""
    write_tiny(root / "renamed.gguf", split__no=0, split__count=3)
    assert scan() == ({}, ("renamed.gguf: it is part 1 of 3, and its name says otherwise",))


def test_a_bad_file_is_a_problem_beside_good_ones(root, scan):
    """What cannot be read is named with its reason, and the rest is served."""
    write_tiny(root / "good.gguf")
    (root / "bad.gguf").write_bytes(b"<html>not found</html>")
    os.mkfifo(root / "fifo.gguf")
    (root / "dangling.gguf").symlink_to(root / "nothing")
    models, problems = scan()
    assert list(models) == ["good"]
    assert [problem.split(":")[0] for problem in problems] == ["bad.gguf", "dangling.gguf", "fifo.gguf"]


@pytest.mark.parametrize("place", ["", "folder-\udce9/", "org/repo/"])
def test_a_name_that_is_not_utf8_is_a_problem_beside_good_ones(root, scan, place):
    """Such a name can be in no answer: the file is not listed, and everything else is."""
    write_tiny(root / "good.gguf")
    write_tiny(root / f"{place}caf\udce9.gguf")
    models, (problem,) = scan()
    assert list(models) == ["good"]
    assert "caf\ufffd.gguf: its name is not UTF-8" in problem
    assert problem.encode()


def test_a_name_of_the_cache_that_is_not_utf8_is_a_problem(cache, scan):
    """There as well."""
    write_cached(cache, "org/repo", "c0ffee", "caf\udce9.gguf")
    models, (problem,) = scan()
    assert models == {}
    assert "not UTF-8" in problem


def test_adapters_are_no_models(root, scan):
    """A LoRA adapter and an importance matrix are neither listed nor complained about."""
    write_tiny(root / "lora.gguf", general__type="adapter")
    write_tiny(root / "imatrix.gguf", general__type="imatrix")
    assert scan() == ({}, ())


def test_a_file_without_tensors_is_a_problem(root, scan):
    """A vocabulary alone is no model."""
    (root / "vocabulary.gguf").write_bytes(gguf(pairs(LLAMA)))
    assert scan() == ({}, ("vocabulary.gguf: it has no tensors",))


def test_links_to_files_are_followed_and_links_to_folders_are_not(root, scan, tmp_path):
    """A linked file is a model; a linked folder is named, and a loop ends nothing."""
    outside = write_tiny(tmp_path / "elsewhere" / "model.gguf")
    (root / "linked.gguf").symlink_to(outside)
    (root / "folder").symlink_to(outside.parent)
    (root / "loop").symlink_to(root)
    models, problems = scan()
    assert list(models) == ["linked"]
    assert problems == tuple(
        f"{name}: it is a link to a folder, and only links to files are followed" for name in ("folder", "loop")
    )


def test_a_models_dir_that_is_missing_is_a_problem(cache, tmp_path):
    """A typo in models_dir is said and crashes nothing."""
    models, problems = Scanner(models_dir=tmp_path / "typo", hf_cache=cache).scan()
    assert models == ()
    assert "typo is no folder" in problems[0]


# ---- projectors


def test_a_projector_goes_with_the_model_beside_it(root, scan):
    """In a repository's folder the projector belongs to every variant; of two, F16 is taken."""
    for quant in ("Q4_0", "Q8_0"):
        write_tiny(root / "org" / "vision" / f"vision-{quant}.gguf")
    for quant in ("BF16", "F16"):
        write_tiny(root / "org" / "vision" / f"mmproj-{quant}.gguf", general__architecture="clip")
    models, problems = scan()
    assert problems == ()
    assert {path.name for model in models.values() if (path := model.mmproj)} == {"mmproj-F16.gguf"}
    assert sorted(models) == ["org/vision:Q4_0", "org/vision:Q8_0"]


def test_among_strangers_a_projector_needs_the_models_name(root, scan):
    """In a folder of several models a projector goes with the one that it is named after, and is a problem otherwise."""
    write_tiny(root / "gemma-3-4b-it-Q4_0.gguf")
    write_tiny(root / "other-Q4_0.gguf")
    write_tiny(root / "mmproj-gemma-3-4b-it-f16.gguf", general__architecture="clip")
    models, problems = scan()
    assert problems == ()
    assert models["gemma-3-4b-it-Q4_0"].mmproj == root / "mmproj-gemma-3-4b-it-f16.gguf"
    assert models["other-Q4_0"].mmproj is None
    (root / "mmproj-gemma-3-4b-it-f16.gguf").rename(root / "mmproj-f16.gguf")
    models, problems = scan()
    assert [model.mmproj for model in models.values()] == [None, None]
    assert problems[0].startswith("mmproj-f16.gguf: which of the 2 models")


# ---- the Hugging Face cache


def test_the_cache_is_scanned_newest_snapshot_first(cache, scan):
    """Models of the cache are called by their repository; of a file in two snapshots, `main`'s is served."""
    write_cached(cache, "org/repo", REV_1, "repo-Q4_0.gguf")
    newer = write_cached(cache, "org/repo", REV_2, "repo-Q4_0.gguf")
    write_cached(cache, "org/repo", REV_1, "Q8_0/repo-Q8_0.gguf")
    refs = cache / "models--org--repo" / "refs"
    refs.mkdir()
    (refs / "main").write_text(REV_2)
    models, problems = scan()
    assert (sorted(models), problems) == (["org/repo:Q4_0", "org/repo:Q8_0"], ())
    assert models["org/repo:Q4_0"].path == newer
    assert models["org/repo:Q4_0"].origin == "hf_cache"


def test_what_is_being_downloaded_is_not_there_yet(cache, scan):
    """Incomplete blobs and links whose blob is gone are no models, and no problems."""
    link = write_cached(cache, "org/repo", REV_1, "repo-Q4_0.gguf")
    link.resolve().rename(link.resolve().with_suffix(".incomplete"))
    assert scan() == ({}, ())


def test_of_folder_and_cache_the_folder_wins(root, cache, scan):
    """A variant in both is one model, from models_dir; variants of both are told apart."""
    mine = write_tiny(root / "org" / "repo" / "repo-Q4_0.gguf")
    write_cached(cache, "org/repo", REV_1, "repo-Q4_0.gguf")
    models, problems = scan()
    assert (list(models), problems) == (["org/repo"], ())
    assert models["org/repo"].path == mine
    write_cached(cache, "org/repo", REV_1, "repo-Q8_0.gguf")
    assert {id_: model.origin for id_, model in scan()[0].items()} == {
        "org/repo:Q4_0": "models_dir",
        "org/repo:Q8_0": "hf_cache",
    }


@pytest.mark.parametrize(
    ("environment", "cache"),
    [
        ({"HF_HUB_CACHE": "/a/b", "HF_HOME": "/c"}, "/a/b"),
        ({"HF_HOME": "/c"}, "/c/hub"),
        ({"XDG_CACHE_HOME": "/d"}, "/d/huggingface/hub"),
        ({"HOME": "/e"}, "/e/.cache/huggingface/hub"),
    ],
)
def test_the_cache_is_where_the_library_has_it(monkeypatch, environment, cache):
    """HF_HUB_CACHE wins over HF_HOME, and that over the user's cache folder."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert default_cache() == Path(cache)


# ---- again


def test_a_rescan_reads_no_header_of_an_unchanged_file(root, scan):
    """A file with the same time and size is not read again; a changed one is."""
    path = write_tiny(root / "x.gguf", general__name="first")
    before = path.stat()
    assert scan()[0]["x"].header.name == "first"
    path.write_bytes(path.read_bytes().replace(b"first", b"other"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert scan()[0]["x"].header.name == "first"
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert scan()[0]["x"].header.name == "other"


def test_a_file_that_is_gone_is_forgotten(root, scan):
    """A model leaves the list with its file."""
    path = write_tiny(root / "x.gguf")
    assert list(scan()[0]) == ["x"]
    path.unlink()
    assert scan() == ({}, ())
