"""Bundles on the disk: written, continued, read against their manifest, and refused by name for whatever is wrong."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.gguf_bytes import tiny

from cortex.config.catalogue import Profile
from cortex.errors import CortexError
from cortex.neuron.bundle import archive, manifest
from cortex.neuron.bundle.errors import BundleError
from cortex.neuron.bundle.gather import Contents, gather
from cortex.neuron.bundle.install import install
from cortex.neuron.bundle.manifest import Manifest, Member
from cortex.neuron.bundle.read import Reader
from cortex.neuron.bundle.write import partial_of, write
from cortex.neuron.models.source import Scanner, room
from cortex.neuron.models.source.scanner import scan_folder

REPO = "org/repo-GGUF"
FILES = {
    f"{REPO}/BF16/repo-BF16-00001-of-00002.gguf": tiny(3000, general__name="1"),
    f"{REPO}/BF16/repo-BF16-00002-of-00002.gguf": tiny(70000, general__name="2"),
    f"{REPO}/mmproj-F16.gguf": tiny(10, general__architecture="clip"),
}
PARTS = [manifest.FOLDER + name for name in FILES]


def nothing(_done: int, _total: int) -> None:
    """A progress that nobody looks at."""


@pytest.fixture(name="contents")
def _contents(tmp_path: Path) -> Contents:
    """A model of two parts with a projector, and its profile."""
    for name, data in FILES.items():
        place = tmp_path / "here" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    (model,) = scan_folder(tmp_path / "here").models
    profile = Profile.model_validate({"id": REPO, "context": 4096, "pinned_on": ["beast"]})
    return gather(model, tmp_path / "here", profile, nothing)


@pytest.fixture(name="bundle")
def _bundle(contents: Contents, tmp_path: Path) -> Path:
    file = tmp_path / "model.tar"
    assert write(file, contents, nothing) == 0
    return file


def read(data: bytes) -> dict[str, bytes]:
    return {member.name: b"".join(pieces) for member, pieces in Reader(io.BytesIO(data)).members()}


def refusal(data: bytes) -> str:
    with pytest.raises(BundleError) as refused:
        read(data)
    return str(refused.value)


# ---- what is in one


def test_anybody_can_open_a_bundle(bundle, contents):
    """It is a plain tar archive: its manifest first, every member with the sha256 that the manifest names."""
    with tarfile.open(bundle) as opened:
        names = opened.getnames()
        found = {name: opened.extractfile(name).read() for name in names}  # type: ignore[union-attr]
    assert names == [manifest.NAME, "models.toml", "chat_template.jinja", *PARTS]
    told = json.loads(found[manifest.NAME])
    for member in told["members"]:
        assert hashlib.sha256(found[member["name"]]).hexdigest() == member["sha256"]
    assert bundle.stat().st_size == contents.size
    assert read(bundle.read_bytes()) == {name: found[name] for name in names[1:]}


def test_the_same_model_makes_the_same_bytes(bundle, contents, tmp_path):
    """A bundle depends on nothing but the model: no time, no user, no path."""
    write(tmp_path / "again.tar", contents, nothing)
    assert (tmp_path / "again.tar").read_bytes() == bundle.read_bytes()


def test_the_profile_goes_along_without_what_is_of_one_host(bundle):
    """Its lines are TOML for another fleet's models.toml."""
    assert read(bundle.read_bytes())["models.toml"].decode() == (
        f'[[models]]\nid = "{REPO}"\nquant = "BF16"\ncontext = 4096\n'
    )


# ---- continued


@pytest.mark.parametrize("left", [0.0, 0.001, 0.5, 0.95, 1.0])
def test_an_interrupted_bundle_is_continued(bundle, contents, tmp_path, left):
    """What a broken try left is used, all but half a header; the result is the same."""
    file, whole = tmp_path / "again.tar", bundle.read_bytes()
    partial_of(file).write_bytes(whole[: int(len(whole) * left)])
    kept, was = write(file, contents, nothing), int(len(whole) * left)
    assert was - 2048 < kept <= was
    assert file.read_bytes() == whole
    assert not partial_of(file).exists()


@pytest.mark.parametrize("spoil", ["zeros", "another", "longer", "flipped"])
def test_what_is_wrong_in_what_was_left_is_written_anew(bundle, contents, tmp_path, spoil):
    """A tail that a power cut left empty, a partial file of another model, a changed byte: none of them gets into the bundle."""
    file, whole = tmp_path / "again.tar", bundle.read_bytes()
    half = len(whole) // 2
    left = {
        "zeros": whole[:half] + bytes(9000),
        "another": b"x" * half,
        "longer": whole + b"more",
        "flipped": whole[: half - 100] + bytes([whole[half - 100] ^ 1]) + whole[half - 99 :],
    }[spoil]
    partial_of(file).write_bytes(left)
    write(file, contents, nothing)
    assert file.read_bytes() == whole


def test_a_file_that_changes_while_it_is_read_makes_no_bundle(contents, tmp_path):
    """Its name is told, and no bundle is there."""
    (tmp_path / "here" / next(iter(FILES))).write_bytes(tiny(3000, general__name="changed"))
    with pytest.raises(BundleError, match=r"00001-of-00002.gguf: the file has changed"):
        write(tmp_path / "model.tar", contents, nothing)
    assert not (tmp_path / "model.tar").exists()


def test_a_full_disk_is_told_before_a_byte_is_written(contents, tmp_path, monkeypatch):
    """507 with the numbers; nothing was written."""
    monkeypatch.setattr(room, "SPARE_BYTES", 1 << 60)
    with pytest.raises(CortexError) as full:
        write(tmp_path / "model.tar", contents, nothing)
    assert (full.value.status, full.value.code) == (507, "insufficient_storage")
    assert partial_of(tmp_path / "model.tar").stat().st_size == 0


# ---- refused


def test_a_flipped_byte_is_found_wherever_it_is(bundle):
    """Every block of a bundle is vouched for; the refusal names a member."""
    whole = bundle.read_bytes()
    for at in range(0, len(whole), 997):
        said = refusal(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert said.startswith((manifest.NAME, "models.toml: ", "chat_template.jinja: ", *PARTS)), said


def test_a_bundle_that_was_cut_is_refused_wherever_it_ends(bundle):
    """An interrupted copy is no bundle; the refusal says within what it ends."""
    whole = bundle.read_bytes()
    for end in (*range(0, len(whole), 1009), len(whole) - 1, len(whole) - 512, len(whole) - 1024):
        assert "interrupted" in (said := refusal(whole[:end])) or "no bundle" in said, (end, said)


def _tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    return (
        b"".join(info.tobuf(tarfile.PAX_FORMAT) + data + archive.padding(len(data)) for info, data in members)
        + archive.END
    )


def _file(name: str, data: bytes, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


MODEL = tiny(50)
WEIGHTS = "models/evil.gguf"


def _told(name: str = WEIGHTS, **more: object) -> bytes:
    """A manifest for one file, of which anything may be wrong."""
    member = {"name": name, "role": "weights", "size": len(MODEL), "sha256": hashlib.sha256(MODEL).hexdigest()} | more
    said = {"format": "cortex-bundle", "version": 1, "model_id": "evil", "members": [member]}
    said |= {"quant": None, "architecture": None}
    said["sha256"] = hashlib.sha256(json.dumps(said, indent=1, sort_keys=True).encode() + b"\n").hexdigest()
    return json.dumps(said, indent=1, sort_keys=True).encode() + b"\n"


def _evil(*members: tuple[tarfile.TarInfo, bytes], told: bytes | None = None) -> bytes:
    return _tar(_file(manifest.NAME, told or _told()), *members)


GOOD = _file(WEIGHTS, MODEL)
LINK = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd", "size": 0}
# fmt: off
HOSTILE: dict[str, tuple[bytes, str]] = {
    "no archive at all": (b"GGUF" + bytes(4000), "this is no bundle"),
    "nothing": (b"", "this is no bundle"),
    "another archive": (_tar(GOOD), "this is no bundle"),
    "a manifest that is a link": (_tar(_file(manifest.NAME, b"", **LINK)), "this is no bundle"),
    "a manifest that is huge": (_file(manifest.NAME, b"", size=1 << 30)[0].tobuf(), "its header was altered"),
    "a manifest that is no JSON": (_evil(GOOD, told=b"{"), "it is no JSON object"),
    "a manifest that is a list": (_evil(GOOD, told=b"[1]"), "it is no JSON object"),
    "a manifest of deep nesting": (_evil(GOOD, told=b"[" * 100_000), "it is no JSON object"),
    "a manifest of another format": (_evil(GOOD, told=_told().replace(b"cortex-bundle", b"cortex-bungle")), "format: "),
    "a manifest with a key of its own": (_evil(GOOD, told=_told(evil=1)), "members.0.evil"),
    "a manifest that was edited": (_evil(GOOD, told=_told().replace(b'"evil"', b'"evvl"')), "it was altered"),
    "a manifest in another form": (_evil(GOOD, told=json.dumps(json.loads(_told())).encode()), "it was altered"),
    "a name that leads out": (_evil(_file("models/../../x.gguf", MODEL), told=_told("models/../../x.gguf")), "no name below a models_dir"),
    "an absolute name": (_evil(_file("/x.gguf", MODEL), told=_told("/x.gguf")), "is not below models/"),
    "an absolute name below": (_evil(_file("models//x.gguf", MODEL), told=_told("models//x.gguf")), "no name below a models_dir"),
    "a hidden name": (_evil(_file("models/.ssh/x.gguf", MODEL), told=_told("models/.ssh/x.gguf")), "no name below a models_dir"),
    "a name of another kind": (_evil(_file("models/x.sh", MODEL), told=_told("models/x.sh")), "must end in .gguf"),
    "a name with a line break": (_evil(_file("models/a\nb.gguf", MODEL), told=_told("models/a\nb.gguf")), "no name below a models_dir"),
    "a name with a backslash": (_evil(_file("models/a\\b.gguf", MODEL), told=_told("models/a\\b.gguf")), "no name below a models_dir"),
    "a negative size": (_evil(GOOD, told=_told(size=-1)), "members.0.size"),
    "a text that is huge": (_evil(GOOD, told=_told("models.toml", role="catalogue", size=1 << 40)), "is no catalogue of at most"),
    "another file in its place": (_evil(_file("models/good.gguf", MODEL)), f"{WEIGHTS}: 'models/good.gguf' is in its place"),
    "a symbolic link": (_evil(_file(WEIGHTS, b"", **LINK)), f"{WEIGHTS}: a symbolic link '{WEIGHTS}' is in its place"),
    "a hard link": (_evil(_file(WEIGHTS, b"", **(LINK | {"type": tarfile.LNKTYPE}))), "a link"),
    "a device": (_evil(_file(WEIGHTS, b"", type=tarfile.CHRTYPE)), "a device"),
    "a folder": (_evil(_file(WEIGHTS, b"", type=tarfile.DIRTYPE)), "a folder"),
    "a pipe": (_evil(_file(WEIGHTS, b"", type=tarfile.FIFOTYPE)), "a pipe"),
    "a size that lies": (_evil(_file(WEIGHTS, MODEL[:-32])), f"its header says {len(MODEL) - 32} bytes instead of {len(MODEL)}"),
    "a mode that is not ours": (_evil(_file(WEIGHTS, MODEL, mode=0o4777)), "its header was altered"),
    "an extended header": (_evil(_file(WEIGHTS, MODEL, pax_headers={"path": "/etc/x"})), "an extended header"),
    "another content": (_evil(_file(WEIGHTS, MODEL[:-1] + b"x")), f"{WEIGHTS}: it was altered: its sha256"),
    "a member twice": (_evil(GOOD, GOOD), "something follows it that the manifest does not name"),
    "a link behind the end": (_evil(GOOD, _file("models/x.gguf", b"", **LINK)), "something follows it"),
    "garbage behind the end": (_evil(GOOD) + b"x", "something follows it"),
    "zeros behind the end": (_evil(GOOD) + bytes(512), "something follows it"),
    "no member": (_evil(), "it is missing"),
}
# fmt: on


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_bundle_is_refused_by_name_and_leaves_nothing(tmp_path, hostile):
    """What is wrong is told with the member's name; nothing of it gets a place, and nothing outside is touched."""
    data, says = hostile
    with pytest.raises(BundleError) as refused:
        install(io.BytesIO(data), tmp_path / "models", nothing)
    assert says in str(refused.value)
    left = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert all(path.startswith("models/.incoming/") for path in left), left


def test_a_member_may_not_be_there_under_two_names():
    """One place, one content: neither names nor contents twice, also where only capitals differ."""
    member = Member(name=WEIGHTS, role="weights", size=1, sha256="0" * 64)
    with pytest.raises(ValueError, match="is there twice"):
        Manifest(model_id="x", members=(member, member.model_copy(update={"name": WEIGHTS.replace("evil", "EVIL")})))


# ---- installed


def test_a_model_is_installed_as_it_was(bundle, tmp_path):
    """Weights and projector are where a neuron finds them under their name; template and lines lie beside them."""
    there = tmp_path / "there"
    installed = install(io.BytesIO(bundle.read_bytes()), there, nothing)
    assert {name: (there / name).read_bytes() for name in FILES} == FILES
    (model,) = Scanner(models_dir=there, hf_cache=tmp_path / "none").scan().models
    assert (installed.model_id, installed.resumed) == (model.id, 0)
    assert model.mmproj == there / REPO / "mmproj-F16.gguf"
    assert installed.beside["catalogue"].read_text() == installed.catalogue
    assert installed.beside["template"].read_text() == "{{ messages }}"
    assert not (there / ".incoming").exists()


def test_an_interrupted_import_is_continued(bundle, tmp_path):
    """A bundle that ends too soon is refused, what came is kept out of sight, and the whole one continues there."""
    there, whole = tmp_path / "there", bundle.read_bytes()
    with pytest.raises(BundleError, match="interrupted"):
        install(io.BytesIO(whole[: len(whole) // 2]), there, nothing)
    assert scan_folder(there) == ((), ())
    came = sum(path.stat().st_size for path in (there / ".incoming").glob("*.incomplete"))
    installed = install(io.BytesIO(whole), there, nothing)
    assert 0 < came == installed.resumed < len(whole)
    assert {name: (there / name).read_bytes() for name in FILES} == FILES


def test_a_model_that_is_there_is_left_as_it_is(bundle, tmp_path):
    """A second import changes nothing."""
    there = tmp_path / "there"
    install(io.BytesIO(bundle.read_bytes()), there, nothing)
    before = {name: (there / name).stat().st_mtime_ns for name in FILES}
    assert install(io.BytesIO(bundle.read_bytes()), there, nothing).resumed == sum(map(len, FILES.values()))
    assert {name: (there / name).stat().st_mtime_ns for name in FILES} == before


def _shorter(place: Path) -> None:
    place.write_bytes(b"short")


def _other(place: Path) -> None:
    place.write_bytes(bytes(len(FILES[next(iter(FILES))])))


@pytest.mark.parametrize("put", [_shorter, _other])
def test_another_file_of_that_name_is_never_overwritten(bundle, tmp_path, put: Callable[[Path], None]):
    """It is named, and it stays."""
    place = tmp_path / "there" / next(iter(FILES))
    place.parent.mkdir(parents=True)
    put(place)
    was = place.read_bytes()
    with pytest.raises(CortexError, match="there is another") as refused:
        install(io.BytesIO(bundle.read_bytes()), tmp_path / "there", nothing)
    assert (refused.value.code, place.read_bytes()) == ("file_conflict", was)


def test_a_folder_that_is_a_link_leads_nowhere(bundle, tmp_path):
    """Nothing is written through a link out of the models_dir."""
    (tmp_path / "there").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "there/org").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CortexError, match="leads out of models_dir"):
        install(io.BytesIO(bundle.read_bytes()), tmp_path / "there", nothing)
    assert list((tmp_path / "elsewhere").iterdir()) == []
