"""build/backends: what it decides, what it checks, and what it says when it cannot. No backend is compiled here."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from binary import __main__ as compiling
from binary import backends, modules, rebind, sbom, sdists, toolkit, tools, trim, variants
from binary.environment import Workshop
from binary.flavours import FLAVOURS, Refused
from binary.tools import Missing
from binary.variants import Variant

from cortex.neuron.hardware.support import covers
from cortex.neuron.harness import backends_manifest

ROOT = Path(__file__).resolve().parent.parent.parent
SAID_BY_CMAKE = """\
-- x86 detected
-- Adding CPU backend variant ggml-cpu-x64:  \n\
-- Adding CPU backend variant ggml-cpu-haswell: -msse4.2;-mavx2 GGML_SSE42;GGML_AVX2
-- Adding CPU backend variant ggml-cpu-skylakex: -mavx2;-mavx512f GGML_AVX2;GGML_AVX512
-- Adding CPU backend variant ggml-cpu-cascadelake: -mavx512f;-mavx512vnni GGML_AVX512;GGML_AVX512_VNNI
-- Adding CPU backend variant ggml-cpu-icelake: -mavx512vbmi;-mavx512vnni GGML_AVX512_VBMI
-- Adding CPU backend variant ggml-cpu-zen4: -msse4.2;-mavx512vbmi;-mavx512vnni;-mavx512bf16 GGML_AVX512_BF16
-- Adding CPU backend variant ggml-cpu-alderlake: -mavxvnni GGML_AVX_VNNI
-- Adding CPU backend variant ggml-cpu-sapphirerapids: -mavx512bf16;-mamx-tile;-mamx-int8 GGML_AMX_INT8
-- Configuring done
"""
needs_gcc = pytest.mark.skipif(
    not all(map(shutil.which, ("gcc", "nm", "readelf", "strip"))), reason="gcc and binutils are not installed"
)


def compiled(made, source, *flags):
    subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-o", made, "-", *flags], input=source, text=True, check=True)
    return made


# ---- sources


def test_the_sources_are_those_of_the_lock_file():
    """Version and checksums of one package, and of no other."""
    lock = f"gguf==1.0 \\\n    --hash=sha256:{'a' * 64}\nxllamacpp==2.0 \\\n    --hash=sha256:{'b' * 64} \\\n    --hash=sha256:{'c' * 64}\nzstd==3.0\n"
    assert sdists.pinned("xllamacpp", lock) == ("2.0", frozenset(("b" * 64, "c" * 64)))
    assert sdists.pinned("zstd", lock) == ("3.0", frozenset())
    with pytest.raises(Refused, match="names no version of llama"):
        sdists.pinned("llama", lock)


def test_the_pinned_engine_is_known_by_its_checksum():
    """The lock file of this very tree has both."""
    version, hashes = sdists.pinned(backends.ENGINE, backends.LOCK.read_text())
    assert version.startswith("20")
    assert hashes


def test_an_archive_that_is_not_the_pinned_one_is_refused(tmp_path):
    """Altered on its way, or another build of the same version."""
    archive = tmp_path / "sources.tar.gz"
    archive.write_bytes(b"sources")
    sdists.verify(archive, [hashlib.sha256(b"sources").hexdigest()])
    with pytest.raises(Refused, match=r"sources\.tar\.gz is not what the lock file fixed"):
        sdists.verify(archive, ["0" * 64])


# ---- processors


def test_variants_come_best_first_with_what_they_need():
    """As CMake tells it of the sources; those without anything new are no variants for us."""
    found = variants.offered(SAID_BY_CMAKE)
    assert [each.name for each in found] == list(variants.WANTED)
    needs = {each.name: each.needs for each in found}
    assert needs["zen4"] == ["sse4_2", "avx512vbmi", "avx512_vnni", "avx512_bf16"]
    assert needs["alderlake"] == ["avx_vnni"]
    assert needs["sapphirerapids"] == ["avx512_bf16", "amx_tile", "amx_int8"]


def test_sources_that_lost_a_variant_are_noticed():
    """A newer llama.cpp may have renamed it: silence would make a slower program."""
    with pytest.raises(Refused, match="have no variant zen4"):
        variants.offered(SAID_BY_CMAKE.replace("ggml-cpu-zen4", "ggml-cpu-zen9"))


@needs_gcc
def test_what_the_compiler_does_not_know_is_left_out():
    """An older compiler makes fewer variants, and no error; so does one that is not there."""
    known, unknown = Variant("old", ("-msse4.2",)), Variant("future", ("-msse4.2", "-mavx2048"))
    systems = variants.COMPILERS[0]
    assert systems.can_make(known, os.environ | {"CXX": "gcc"})
    assert not systems.can_make(unknown, os.environ | {"CXX": "gcc"})
    assert not systems.can_make(known, os.environ | {"CXX": "gcc-of-nowhere"})


@needs_gcc
def test_what_the_system_s_compiler_does_not_know_is_left_to_clang(tmp_path):
    """Where there is one; without a second OpenMP beside the engine's."""
    systems, clang = variants.COMPILERS
    (tmp_path / "clang++").symlink_to(shutil.which("gcc"))
    known = Variant("old", ("-msse4.2",))
    assert clang.can_make(known, {"PATH": str(tmp_path)})
    assert not systems.can_make(known, {"PATH": str(tmp_path)})
    assert not clang.can_make(known, {"PATH": ""})
    assert clang.environment({"CXX": "gcc", "HOME": "/"}) == {"CC": "clang", "CXX": "clang++", "HOME": "/"}
    assert "-DGGML_OPENMP=OFF" in clang.options


# ---- what the neuron reads


def test_the_neuron_reads_what_is_written():
    """backends.json, as the run-time side understands it."""
    gpus = {
        "file": "libggml-cuda.so",
        "version": "13.0",
        "architectures": ["90-real"],
        "libraries": ["libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13"],
    }
    told = backends.manifest("2026.10.1", variants.offered(SAID_BY_CMAKE), gpus)
    read = backends_manifest.parse(json.dumps(told).encode())
    assert read.xllamacpp == "2026.10.1"
    assert [each.variant for each in read.cpu] == list(variants.WANTED)
    assert read.cpu[1].needs == ("sse4_2", "avx512vbmi", "avx512_vnni", "avx512_bf16")
    assert read.cuda is not None
    assert list(read.cuda.libraries) == gpus["libraries"]
    assert (
        backends.said_of(told) == "sapphirerapids zen4 icelake cascadelake skylakex alderlake cuda-13.0"
    )  # `cortex version`
    assert backends.manifest("2026.10.1", [], None) == {"xllamacpp": "2026.10.1", "cpu": [], "cuda": None}


@pytest.mark.parametrize("flavour", [each for each in FLAVOURS.values() if each.is_cuda], ids=lambda each: each.name)
def test_the_neuron_knows_the_architectures_of_every_flavour(flavour):
    """In CMake's words: a GPU of the family is covered by its flavour."""
    capability = {"ampere": "8.6", "ada": "8.9", "hopper": "9.0", "blackwell": "12.0", "cuda": "10.0"}[flavour.name]
    assert any(covers(each, capability) for each in flavour.architectures.split(";"))


# ---- modules


@needs_gcc
def test_a_module_that_does_not_fit_the_library_is_refused(tmp_path):
    """What it asks of ggml must be there; what comes from other libraries, or may lack, is not looked for."""
    source = (
        "int ggml_there(void); __attribute__((weak)) int ggml_maybe(void); int puts(const char *);"
        'int ggml_backend_init(void) { puts(""); return ggml_there() + (ggml_maybe ? 1 : 0); }'
    )
    module = compiled(tmp_path / "libggml-cpu-x.so", source)
    fitting = compiled(tmp_path / "new.so", "int ggml_there(void) { return 1; }")
    modules.check(module, fitting)
    with pytest.raises(Refused, match=r"libggml-cpu-x\.so does not fit old\.so, which has no ggml_there"):
        modules.check(module, compiled(tmp_path / "old.so", "int ggml_was_there(void) { return 1; }"))


@needs_gcc
@pytest.mark.skipif(shutil.which("patchelf") is None, reason="patchelf is not installed")
def test_a_module_is_freed_of_its_build(tmp_path):
    """No libggml-base of its own, no symbol table; what else it needs stays."""
    compiled(tmp_path / "libggml-base.so.0", "int ggml_there(void) { return 1; }", "-Wl,-soname,libggml-base.so.0")
    source = "#include <math.h>\nint ggml_there(void); double asked(double x) { return pow(x, ggml_there()); }"
    built = compiled(tmp_path / "built.so", source, f"-L{tmp_path}", "-l:libggml-base.so.0", "-lm")
    assert "libggml-base.so.0" in toolkit.needed(built)
    modules.fit(built, tmp_path / "module.so")
    assert "libm.so.6" in toolkit.needed(tmp_path / "module.so")
    assert "libggml-base.so.0" not in toolkit.needed(tmp_path / "module.so")
    assert b".symtab" in built.read_bytes()
    assert b".symtab" not in (tmp_path / "module.so").read_bytes()


# ---- NVIDIA


@pytest.fixture
def nvidia(tmp_path, monkeypatch):
    """A toolkit that is nvcc alone in a folder of its own, called by a script on the PATH, as some packages have it."""
    root = tmp_path / "cuda-13.0"
    for folder in (tmp_path / "bin", root / "bin", root / "lib64"):
        folder.mkdir(parents=True)
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.write_text(
        '#!/bin/sh\ncase $1 in --version) echo "Cuda compilation tools, release 13.0, V13.0.88";;'
        f' *) echo "#\\$ _HERE_={root}/bin" >&2;; esac\n'
    )
    nvcc.chmod(0o755)
    monkeypatch.setenv("CUDACXX", str(nvcc))
    monkeypatch.setattr(toolkit, "SYSTEM", ())
    monkeypatch.setattr(toolkit, "WORK", tmp_path / "work")
    return root


def test_a_toolkit_is_where_nvcc_says(nvidia):
    """Also where the nvcc on the PATH only calls another; a toolkit with cuBLAS needs none of the package index."""
    (nvidia / "lib64" / "libcublas.so").touch()
    found = toolkit.find()
    assert (found.root, found.release, found.index) == (nvidia, "13.0", None)
    assert not found.has_driver_stub
    (nvidia / "lib64" / "stubs").mkdir()
    (nvidia / "lib64" / "stubs" / "libcuda.so").touch()
    assert found.has_driver_stub


@pytest.mark.usefixtures("nvidia")
def test_cublas_of_the_package_index_is_told_to_the_compilers(tmp_path):
    """Libraries, headers, and the names that a linker looks for."""
    libraries = tmp_path / "work" / "cublas-13.0" / "nvidia" / "cu13" / "lib"
    libraries.mkdir(parents=True)
    for name in ("libcublas", "libcublasLt"):
        (libraries / f"{name}.so.13").write_text(name)
    found = toolkit.find()
    assert found.index == libraries
    assert (libraries / "libcublas.so").read_text() == "libcublas"
    told = found.environment()
    assert told["CMAKE_LIBRARY_PATH"] == str(libraries)
    assert told["CPATH"].split(os.pathsep)[0] == told["CMAKE_INCLUDE_PATH"] == str(libraries.parent / "include")


@needs_gcc
def test_libraries_of_nvidia_travel_in_the_order_of_loading(nvidia, tmp_path):
    """Each after those that it needs; the driver's and the system's are the host's; one that is nowhere is named."""
    (nvidia / "lib64" / "libcublas.so").touch()
    folder, there = nvidia / "lib64", f"-L{nvidia / 'lib64'}"
    for name, needs in (
        ("libcudart.so.13", ()),
        ("libcublasLt.so.13", ()),
        ("libcublas.so.13", ("libcublasLt.so.13",)),
    ):
        linked = [f"-l:{each}" for each in needs]
        compiled(folder / name, "int x;", f"-Wl,-soname,{name}", "-Wl,--no-as-needed", there, *linked)
    linked = ["-l:libcublas.so.13", "-l:libcudart.so.13", "-lm"]
    module = compiled(tmp_path / "libggml-cuda.so", "int y;", "-Wl,--no-as-needed", there, *linked)
    kit = toolkit.find()
    order = [each.name for each in kit.libraries(module)]
    assert order == ["libcublasLt.so.13", "libcublas.so.13", "libcudart.so.13"]
    (folder / "libcublasLt.so.13").unlink()
    with pytest.raises(Refused, match=r"libcublasLt\.so\.13 is neither below"):
        kit.libraries(module)


def test_without_nvcc_a_sentence_says_where_it_is_looked_for(monkeypatch, tmp_path):
    """Instead of a traceback of a program that is not there."""
    monkeypatch.setenv("CUDACXX", str(tmp_path / "nvcc"))
    with pytest.raises(Missing, match=r"neither on the PATH nor named in \$CUDACXX"):
        toolkit.find()


@needs_gcc
def test_libraries_of_nvidia_are_passed_on_unchanged(tmp_path):
    """Neither stripped nor bound to older mathematics, as everything else is; the bill has them with their licence."""
    packed = tmp_path / "xllamacpp" / "backends"
    packed.mkdir(parents=True)
    source = "#include <math.h>\ndouble powers(double x) { return pow(x, 1.5); } static int unused(void) { return 1; } int (*f)(void) = unused;"
    for name in ("libcublas.so.13", "libggml-cpu-zen4.so"):
        compiled(packed / name, source, "-fno-builtin", "-lm")
    before = {file.name: file.read_bytes() for file in packed.iterdir()}
    trim.trim(tmp_path)
    rebind.rebind(tmp_path, (2, 28))
    after = {file.name: file.read_bytes() for file in packed.iterdir()}
    assert after["libcublas.so.13"] == before["libcublas.so.13"]
    assert after["libggml-cpu-zen4.so"] != before["libggml-cpu-zen4.so"]
    licences = {part.name: part.licence for part in sbom.libraries(tmp_path)}
    assert licences == {"libcublas.so.13": "LicenseRef-NVIDIA-CUDA-EULA", "libggml-cpu-zen4.so": "MIT"}


def test_every_backend_has_a_licence():
    """The bill of materials knows each that can be made."""
    assert all(sbom.LIBRARIES[f"lib{Variant(name, ()).target}"] == "MIT" for name in variants.WANTED)


# ---- the commands


def said(*command, **environ):
    done = subprocess.run(
        [ROOT / "build" / command[0], *command[1:]],
        env=os.environ | {"PYTHON": sys.executable} | environ,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("backends", "--cuda", "sm_90"), "written as 90 or 86,89, not 'sm_90'"),
        (("engine", "--cuda", "9.0"), "written as 90 or 86,89, not '9.0'"),
        (("backends", "--jobs", "0"), "a number from 1 on, not '0'"),
        (("backends", "--gpu"), "unrecognized arguments: --gpu"),
        (("compile", "--flavour", "hopper", "--no-backends"), "has CUDA from its backends"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_a_mistake_on_the_command_line_is_told(command, told):
    """Exit code 2, and what would be right."""
    status, text = said(*command)
    assert status == 2
    assert told in text


@pytest.mark.parametrize("command", ["backends", "engine"])
def test_a_program_that_is_missing_is_named(command, tmp_path):
    """Exit code 3, before anything is fetched or compiled."""
    for program in ("bash", "dirname"):
        (tmp_path / program).symlink_to(shutil.which(program))
    status, text = said(command, PATH=str(tmp_path))
    assert status == 3
    assert f"build/{command}: not installed: c++ (a C++ compiler; Debian: g++, RHEL: gcc-c++)" in text


def test_cmake_that_is_nowhere_is_named(monkeypatch, tmp_path):
    """Neither installed nor on the package index, which a host without internet cannot reach."""
    pip = tmp_path / "tools" / "bin" / "python"
    pip.parent.mkdir(parents=True)
    pip.write_text("#!/bin/sh\nexit 1\n")
    pip.chmod(0o755)
    monkeypatch.setattr(tools, "WORK", tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Missing, match="cmake is not installed, and not to be had from the package index either"):
        tools.path("cmake")


@pytest.mark.parametrize(
    ("flavour", "way"), [("cpu", "--no-backends makes a program"), ("hopper", "--engine-wheel FILE")]
)
def test_a_compile_that_cannot_make_backends_says_what_would_do(monkeypatch, tmp_path, flavour, way):
    """What is missing, and how the program can be made without it."""
    shop = Workshop(tmp_path)
    (shop.packages / backends.ENGINE).mkdir(parents=True)
    (shop.packages / backends.ENGINE / "xllamacpp.abi3.so").touch()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Missing, match=rf"not installed: c\+\+ .*{way}"):
        compiling.make_backends(shop, FLAVOURS[flavour], 1)


@pytest.mark.parametrize("command", ["backends", "engine", "compile"])
def test_the_commands_teach(command):
    """--help has the exit codes, and says what is needed."""
    status, text = said(command, "--help")
    assert status == 0
    assert "3 a program is missing" in text
    assert "nvcc" in text
