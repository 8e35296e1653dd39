"""What a model's files are called in a folder of models, wherever they are now."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.gguf_bytes import write_tiny

from cortex.neuron.models.source import Scanner, layout
from cortex.neuron.models.source.scanner import scan_folder

SNAPSHOT = "models--org--repo/snapshots/" + "c0ffee" * 6
CACHED = {
    "repo-Q4_K_M.gguf": "org/repo/repo-Q4_K_M.gguf",
    "BF16/repo-BF16-00001-of-00002.gguf": "org/repo/BF16/repo-BF16-00001-of-00002.gguf",
    "BF16/repo-BF16-00002-of-00002.gguf": "org/repo/BF16/repo-BF16-00002-of-00002.gguf",
    "some/where/repo-Q8_0.gguf": "org/repo/repo-Q8_0.gguf",
    "mmproj-F16.gguf": "org/repo/mmproj-F16.gguf",
}


def test_a_model_of_the_hubs_cache_keeps_its_name_in_a_folder(tmp_path: Path) -> None:
    """Copied to these places, its files are the same models to whoever scans the folder."""
    for name in CACHED:
        kind = "clip" if name.startswith("mmproj") else "llama"
        write_tiny(tmp_path / "cache" / SNAPSHOT / name, general__architecture=kind)
    models = Scanner(models_dir=None, hf_cache=tmp_path / "cache").scan().models
    assert len(models) == 3
    for model in models:
        for name, path in layout.names(model, None).items():
            assert CACHED[path.relative_to(tmp_path / "cache" / SNAPSHOT).as_posix()] == name
            place = tmp_path / "folder" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    found = scan_folder(tmp_path / "folder").models
    assert {(model.id, model.mmproj is not None) for model in found} == {(model.id, True) for model in models}


def test_a_model_of_a_folder_has_its_path_as_its_name(tmp_path: Path) -> None:
    """Also where that is a link to another place."""
    write_tiny(tmp_path / "elsewhere.gguf")
    (tmp_path / "models/mine").mkdir(parents=True)
    (tmp_path / "models/mine/x.gguf").symlink_to(tmp_path / "elsewhere.gguf")
    (model,) = scan_folder(tmp_path / "models").models
    assert layout.names(model, tmp_path / "models") == {"mine/x.gguf": tmp_path / "models/mine/x.gguf"}


def test_a_projector_of_the_cache_goes_with_a_model_of_the_folder(tmp_path: Path) -> None:
    """A model that was copied here, and the projector of its repository that was fetched: both have a name in another folder."""
    models_dir, cache = tmp_path / "models", tmp_path / "cache"
    write_tiny(models_dir / "org/repo/repo-Q4_K_M.gguf")
    write_tiny(cache / SNAPSHOT / "mmproj-F16.gguf", general__architecture="clip")
    (model,) = Scanner(models_dir=models_dir, hf_cache=cache).scan().models
    assert model.mmproj
    assert list(layout.names(model, models_dir)) == ["org/repo/repo-Q4_K_M.gguf", "org/repo/mmproj-F16.gguf"]


@pytest.mark.parametrize("name", ["x.gguf", "org/repo/Q4 K M/x.GGUF", "a/b/c/d/e/f/g/old.bin"])
def test_a_plain_name_is_taken(name: str) -> None:
    """Folders and a model's file, whatever they are called."""
    assert str(layout.checked(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "x", "x.sh", "../x.gguf", "a/../x.gguf", "/x.gguf", "a//x.gguf", "x.gguf/", ".x.gguf", ".a/x.gguf"),
        *("a\0/x.gguf", "a\\..\\x.gguf", "a\n.gguf", "a/b/c/d/e/f/g/h/x.gguf", "é" * 128 + "/x.gguf"),
    ],
)
def test_any_other_name_is_refused(name: str) -> None:
    """What leads elsewhere, hides, or fits no file system."""
    with pytest.raises(ValueError, match="is no name"):
        layout.checked(name)
