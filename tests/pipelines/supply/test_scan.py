"""Is a model folder refused for its names, its links, its pickles and archives, and a good one accepted?

Rows 8 to 13 of the bad-input matrix. Pickles are built here and never loaded.
"""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import zipfile

import pytest

from pipelines.errors import NotFound, UnsafeArtifact
from pipelines.supply.checks.paths import FolderLimits, check_relative
from pipelines.supply.scan import scan
from tests.pipelines.supply.refusals import refusal

WEIGHTS = "model.safetensors"


class Evil:
    """Pickles into a call of os.system; nobody loads it."""

    def __reduce__(self):
        """What a loader would run."""
        return os.system, ("true",)


def as_zip(inside: str, data: bytes) -> bytes:
    """A zip archive with one file."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr(inside, data)
    return raw.getvalue()


def as_tar() -> bytes:
    """A tar archive with one file."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights"), None)
    return raw.getvalue()


def test_a_good_folder_is_accepted_whole(tiny_model):
    """Every file is kept and nothing is left behind."""
    report = scan(tiny_model)
    assert report.files == tuple(sorted(p.name for p in tiny_model.iterdir()))
    assert (report.left_behind, report.requirements) == ((), ())


def test_the_trainer_s_leftovers_stay_behind_and_are_named(tiny_copy):
    """They are pickles, known by name, and the model is good without them."""
    leftovers = ("optimizer.pt", "rng_state_0.pth", "scheduler.pt", "training_args.bin")
    for name in leftovers:
        (tiny_copy / name).write_bytes(pickle.dumps({"lr": 0.1}))
    report = scan(tiny_copy)
    assert report.left_behind == leftovers
    assert not set(leftovers) & set(report.files)
    assert report.notes == tuple(f"left behind: {name}" for name in leftovers)


def test_text_that_begins_like_a_pickle_is_still_text(tiny_copy):
    """Ordinary words happen to be opcodes."""
    (tiny_copy / "vocab.txt").write_text("cos\nsin\ntan\n(\n.\nN.\nI1\n")
    (tiny_copy / "README.md").write_text("(a note.)\n")
    assert "vocab.txt" in scan(tiny_copy).files


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../x",
        "a/../../x",
        "..%2fx",
        "%2e%2e/x",
        "a\\b",
        "C:/x",
        "c:x",
        "a#b",
        "a\nb",
        "a\u202eb",
        "",
        "a//b",
        ".",
    ],
)
def test_a_path_that_may_leave_the_folder_is_refused(name):
    """Absolute, upwards, encoded, of another system, or invisible."""
    with pytest.raises(UnsafeArtifact) as caught:
        check_relative(name, "weight_map")
    assert caught.value.code == "E_PATH"


@pytest.mark.parametrize("name", ["a\\b.txt", "..%2fb.txt", "c:b.txt", "a#b.txt", "a\nb.txt"])
def test_a_file_with_such_a_name_is_refused(tiny_copy, name):
    """The same on disk."""
    (tiny_copy / name).write_text("x")
    assert refusal(tiny_copy).code == "E_PATH"


def test_links_and_special_files_are_refused_by_name(tiny_copy):
    """What they lead to is not part of what was registered."""
    makers = {
        "link.txt": lambda p: p.symlink_to("config.json"),
        "folder": lambda p: p.symlink_to(".", target_is_directory=True),
        "hard.txt": lambda p: p.hardlink_to(tiny_copy / "special_tokens_map.json"),
        "fifo.txt": os.mkfifo,
    }
    for name, make in makers.items():
        make(tiny_copy / name)
        error = refusal(tiny_copy)
        assert error.code == "E_ARTIFACT_TYPE"
        assert error.field in {name, "special_tokens_map.json"}
        (tiny_copy / name).unlink()


def test_a_folder_that_is_not_there_is_not_found(tmp_path):
    """A clear sentence, no traceback."""
    with pytest.raises(NotFound):
        scan(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "name",
    ["model.pkl", "pytorch_model.bin", "weights.pt", "weights.pth", "a.ckpt", "a.joblib", "a.npy", "a.npz",
     "tf_model.h5", "model.onnx", "model.gguf", "sub/pytorch_model.bin", "model"],
)  # fmt: skip
def test_other_weight_formats_are_refused(tiny_copy, name):
    """Only safetensors comes in from outside."""
    (tiny_copy / name).parent.mkdir(exist_ok=True)
    (tiny_copy / name).write_bytes(b"x")
    error = refusal(tiny_copy)
    assert (error.code, error.field) == ("E_UNSAFE_FORMAT", name)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", [WEIGHTS, "other.safetensors", "extra.json", "notes.txt", "conda.yaml"])
def test_a_renamed_pickle_is_recognised(tiny_copy, protocol, name):
    """Every protocol under every harmless name."""
    (tiny_copy / name).write_bytes(pickle.dumps(Evil(), protocol=protocol))
    error = refusal(tiny_copy)
    assert (error.code, error.field) == ("E_CONTENT_MISMATCH", name)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_renamed_pickle_of_plain_data_is_recognised(tiny_copy, protocol):
    """It runs nothing, and is not what its name says either."""
    (tiny_copy / "notes.txt").write_bytes(pickle.dumps({"a": [1, 2], "b": "c"}, protocol=protocol))
    assert refusal(tiny_copy).code == "E_CONTENT_MISMATCH"


def test_a_large_renamed_pickle_is_recognised(tiny_copy):
    """What decides stands at its beginning."""
    (tiny_copy / "notes.txt").write_bytes(pickle.dumps([Evil(), "x" * 200_000], protocol=0))
    assert refusal(tiny_copy).code == "E_CONTENT_MISMATCH"


def test_a_renamed_torch_file_is_recognised(tiny_copy):
    """PyTorch's own format is a zip with a pickle inside."""
    (tiny_copy / WEIGHTS).write_bytes(as_zip("archive/data.pkl", pickle.dumps(Evil())))
    assert refusal(tiny_copy).code == "E_CONTENT_MISMATCH"


@pytest.mark.parametrize("name", ["a.zip", "a.7z", "a.tar", "a.tar.gz", "a.tgz", "a.whl", "a.xz"])
def test_an_archive_is_refused_by_name(tiny_copy, name):
    """Even an empty one."""
    (tiny_copy / name).write_bytes(b"")
    assert refusal(tiny_copy).code == "E_ARCHIVE"


@pytest.mark.parametrize(
    "raw", [as_zip("a", b"b"), as_tar(), b"7z\xbc\xaf\x27\x1c\x00", b"\x1f\x8b\x08\x00", b"BZh91AY"]
)
def test_a_renamed_archive_is_recognised(tiny_copy, raw):
    """By its magic."""
    (tiny_copy / "notes.txt").write_bytes(raw)
    assert refusal(tiny_copy).code == "E_ARCHIVE"


def test_binary_text_is_refused(tiny_copy):
    """Text is UTF-8 without NUL."""
    for raw in (b"a\x00b", b"\xff\xfea\x00"):
        (tiny_copy / "notes.txt").write_bytes(raw)
        assert refusal(tiny_copy).code == "E_CONTENT_MISMATCH"


@pytest.mark.parametrize("name", ["modeling_x.py", "code/helper.py", "lib.so", "run.sh"])
def test_programs_are_refused(tiny_copy, name):
    """Shipway never runs code of a model."""
    (tiny_copy / name).parent.mkdir(exist_ok=True)
    (tiny_copy / name).write_text("print(1)")
    assert refusal(tiny_copy).code == "E_REMOTE_CODE"


@pytest.mark.parametrize(
    "limits",
    [
        FolderLimits(max_files=4),
        FolderLimits(max_file_bytes=1000),
        FolderLimits(max_total_bytes=50_000),
        FolderLimits(max_depth=0),
    ],
)
def test_a_limit_is_named(tiny_copy, limits):
    """Too many files, one too large, too much in all, too deep."""
    (tiny_copy / "sub").mkdir()
    error = refusal(tiny_copy, limits=limits)
    assert error.code == "E_LIMIT"
    assert error.expected.startswith("at most ")


def test_a_folder_without_weights_is_refused(tiny_copy):
    """There is nothing to release."""
    (tiny_copy / WEIGHTS).unlink()
    assert refusal(tiny_copy).field == WEIGHTS
