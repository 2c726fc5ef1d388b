import hashlib
import os
from pathlib import Path

import pytest

from study.tracking.manifest import differences, manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    for name in ("MLmodel", "code/models/a.py", "code/models/b.py", "data/network/w"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    return root


def test_every_file_stands_there_with_its_digest_and_what_changed_is_named(folder: Path) -> None:
    files = manifest(folder)
    assert list(files) == ["MLmodel", "code/models/a.py", "code/models/b.py", "data/network/w"]
    for name, digest in files.items():
        assert digest == hashlib.sha256(f"content of {name}".encode()).hexdigest()
    assert list(differences(folder, files)) == []
    (folder / "MLmodel").write_text("content of MLmodel.")
    (folder / "code/models/a.py").rename(folder / "code/models/c.py")
    for beside in ("", "code", "code/models", "data/network"):
        (folder / beside / ".hidden").touch()
    assert list(differences(folder, files)) == [
        ".hidden must not be there: the model was logged without it",
        "MLmodel is not the file that was logged",
        "code/.hidden must not be there: the model was logged without it",
        "code/models/.hidden must not be there: the model was logged without it",
        "code/models/a.py is missing",
        "code/models/c.py must not be there: the model was logged without it",
        "data/network/.hidden must not be there: the model was logged without it",
    ]


def test_what_no_model_has_is_refused(folder: Path, tmp_path: Path) -> None:
    made = {
        "code/link.py": lambda p: p.symlink_to(folder / "MLmodel"),
        "code/nowhere": lambda p: p.symlink_to(tmp_path / "nothing"),
        "code/outside": lambda p: p.symlink_to(tmp_path, target_is_directory=True),
        "data/pipe": os.mkfifo,
        "data/empty": os.mkdir,
        "code/models/__pycache__": os.mkdir,
    }
    for name, make in made.items():
        path = folder / name
        make(path)
        with pytest.raises(ValueError, match=rf"^{name} must "):
            manifest(folder)
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
    manifest(folder)
