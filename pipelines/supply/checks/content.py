"""What is a file really, whatever its name says?

Only looks: pickles are recognised by their opcodes (`pickletools`, which executes nothing), archives by their magic.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from pipelines.errors import UnsafeArtifact

WEIGHTS = frozenset({".safetensors"})
JSON_NAMES = frozenset({".json"})
YAML_NAMES = frozenset({".yaml", ".yml"})
TEXT_NAMES = frozenset({".txt", ".md", ".jinja", ".csv", ".tsv", ".gitattributes", ".gitignore"})
TEXT_FILES = frozenset({"MLmodel", "LICENSE", "NOTICE", "README", "USE_POLICY", ".gitattributes", ".gitignore"})
SENTENCEPIECE = frozenset({".model"})

LEFTOVERS = ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state*.pth")
"""What a Hugging Face Trainer is known to leave beside the model: pickles that stay behind."""

_OTHER_WEIGHTS = frozenset({".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack"})
"""In which transformers saves, or saved, the weights of its models."""
_CONVERT = "convert weights to safetensors: model.save_pretrained(folder, safe_serialization=True)"

_ARCHIVES = frozenset(
    {".zip", ".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".lz4", ".whl", ".jar", ".mar"}
)
_PROGRAMS = frozenset({".py", ".pyc", ".pyi", ".so", ".dll", ".dylib", ".sh", ".exe", ".ipynb", ".js", ".wasm"})
_MAGIC = {
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_HEAD_BYTES = 1 << 16
_RUNS_CODE = frozenset({"GLOBAL", "STACK_GLOBAL", "INST", "OBJ", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "BUILD", "EXT1"})


def is_leftover(name: str) -> bool:
    """Whether it is one of the Trainer's known leftovers."""
    return any(fnmatch(PurePosixPath(name).name, pattern) for pattern in LEFTOVERS)


def check_name(name: str) -> None:
    """Is a file of this kind accepted from outside? Raises what the kind deserves."""
    suffix, plain = PurePosixPath(name).suffix.lower(), PurePosixPath(name).name
    if suffix in _ARCHIVES:
        raise _archive(name, suffix.removeprefix("."))
    if suffix in _PROGRAMS:
        raise UnsafeArtifact(
            f"{name} is program code, which Shipway never runs",
            code="E_REMOTE_CODE",
            field=name,
            expected="weights, configuration and tokenizer files",
            hint="use an architecture that transformers knows, and remove the file",
        )
    if plain not in TEXT_FILES and suffix not in WEIGHTS | JSON_NAMES | YAML_NAMES | TEXT_NAMES | SENTENCEPIECE:
        raise UnsafeArtifact(
            f"{name} is not of a format that is safe to read",
            code="E_UNSAFE_FORMAT",
            field=name,
            expected="safetensors, JSON, text and tokenizer files",
            hint=_CONVERT if suffix in _OTHER_WEIGHTS else "Shipway releases text classifiers of transformers for now",
        )


def check_content(name: str, file: Path) -> None:
    """Is the content what the name says? E_CONTENT_MISMATCH for a renamed pickle, E_ARCHIVE for an archive."""
    with file.open("rb") as opened:
        head = opened.read(_HEAD_BYTES)
    if file.suffix.lower() in WEIGHTS and head[8:9] == b"{":
        return  # a header follows: its truth is `safetensors_check`'s question; bytes 0-7 are a length, not a magic
    if _looks_pickled(head) or _is_zipped_pickle(head, file):
        raise UnsafeArtifact(
            f"{name} is a pickle under another name",
            code="E_CONTENT_MISMATCH",
            field=name,
            expected=f"a {file.suffix or 'text'} file",
            hint="convert the weights to safetensors; a pickle runs code when it is loaded",
        )
    kind = _archive_kind(head)
    if kind:
        raise _archive(name, kind)


def check_text(name: str, file: Path, max_bytes: int) -> None:
    """Is it plain UTF-8 text of a sensible size?"""
    if file.stat().st_size > max_bytes:
        raise UnsafeArtifact(f"{name} is larger than {max_bytes:,} bytes", code="E_LIMIT", field=name)
    raw = file.read_bytes()
    try:
        is_text = "\x00" not in raw.decode("utf-8")
    except UnicodeDecodeError:
        is_text = False
    if not is_text:
        raise UnsafeArtifact(f"{name} is not UTF-8 text", code="E_CONTENT_MISMATCH", field=name, expected="UTF-8 text")


def _looks_pickled(head: bytes) -> bool:
    """Whether the bytes parse as a pickle: by magic from protocol 2 on, by opcodes for protocols 0 and 1."""
    if head[:1] == b"\x80" and head[1:2] in {b"\x02", b"\x03", b"\x04", b"\x05"}:
        return True
    opcodes = []
    try:
        for opcode, _, position in pickletools.genops(io.BytesIO(head)):
            opcodes.append(opcode.name)
            if opcode.name == "STOP":
                is_whole = not head[position + 1 :].strip() if position is not None else False
                return bool(_RUNS_CODE & set(opcodes)) or (is_whole and len(opcodes) >= 4)
    except (ValueError, IndexError, OverflowError):
        return _runs_code_so_far(opcodes)
    return False


def _runs_code_so_far(opcodes: list[str]) -> bool:
    """A pickle that is cut off or larger than what was read: both a global and a call were seen."""
    return bool({"GLOBAL", "INST"} & set(opcodes)) and bool({"REDUCE", "BUILD", "OBJ"} & set(opcodes))


def _is_zipped_pickle(head: bytes, file: Path) -> bool:
    """Whether it is PyTorch's zip format, which holds a pickle."""
    if not head.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return b"data.pkl" in head


def _archive_kind(head: bytes) -> str | None:
    if head[:4] in {b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"}:
        return "zip"
    if head[257:262] == b"ustar":
        return "tar"
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def _archive(name: str, kind: str) -> UnsafeArtifact:
    return UnsafeArtifact(
        f"{name} is an archive ({kind})",
        code="E_ARCHIVE",
        field=name,
        expected="plain files",
        hint="unpack it before you register the model",
    )
