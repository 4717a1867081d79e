"""Stores: where files of the archive lie. One small interface, and a folder that has it.

A file appears whole or not at all and is on the disk when `put` returns. With several machines the
folder must be one that all of them see.
"""

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kernel.errors import NotFound
from kernel.settings import settings

_PIECE_BYTES = 64 << 10
_DRAFT = ".draft"
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Stored:
    """What was written: how much, and its SHA-256."""

    byte_count: int
    digest: str


class Store(Protocol):
    """Files by key; a key is parts of letters, digits, `-`, `_` and `.`, joined by `/`."""

    def put(self, key: str, pieces: Iterable[bytes]) -> Stored:
        """Keep a file for good before returning; raises OSError and then keeps nothing."""

    def get(self, key: str) -> Iterator[bytes]:
        """Give a file's bytes; raises NotFound."""

    def delete(self, key: str) -> None:
        """Drop a file; one that is not there is no error."""

    def list(self, prefix: str) -> list[str]:
        """Name the files, and drafts of files, whose keys begin so; a prefix is whole parts."""


class Folder:
    """A store in a folder of the file system."""

    def __init__(self, root: Path) -> None:
        """Use this folder, which is made when first needed."""
        self.root = root

    def put(self, key: str, pieces: Iterable[bytes]) -> Stored:
        """Write a draft, bring it to the disk, give it its name, bring the name to the disk."""
        path = self._path(key)
        self._make_folders(path.parent)
        draft = path.with_name(path.name + _DRAFT)
        digest, count = hashlib.sha256(), 0
        try:
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "wb") as file:
                for piece in pieces:
                    file.write(piece)
                    digest.update(piece)
                    count += len(piece)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            _bring_to_disk(path.parent)
        except Exception:
            draft.unlink(missing_ok=True)
            raise
        return Stored(count, digest.hexdigest())

    def get(self, key: str) -> Iterator[bytes]:
        """Give a file's bytes a piece at a time."""
        try:
            file = self._path(key).open("rb")
        except FileNotFoundError:
            raise NotFound from None
        return _pieces(file)

    def delete(self, key: str) -> None:
        """Drop a file, and its folder when that was the last."""
        path = self._path(key)
        path.unlink(missing_ok=True)
        if path.parent != self.root:
            with contextlib.suppress(OSError):  # others are in it still, or it is gone already
                path.parent.rmdir()

    def list(self, prefix: str) -> list[str]:
        """Name what lies under a folder, drafts too."""
        found = []
        for folder, _, names in os.walk(self._path(prefix)):
            found += [str((Path(folder) / name).relative_to(self.root)) for name in names]
        return sorted(found)

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if not all(part and part.strip(".") and "\0" not in part for part in parts):
            raise ValueError(f"{key!r} is no key")
        return self.root.joinpath(*parts)

    def _make_folders(self, folder: Path) -> None:
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for one in missing:
            _bring_to_disk(one.parent)


def _pieces(file: object) -> Iterator[bytes]:
    with file:  # type: ignore[attr-defined]
        while piece := file.read(_PIECE_BYTES):  # type: ignore[attr-defined]
            yield piece


def _bring_to_disk(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def store() -> Store:
    """Return the hub's store, as the settings have it."""
    chosen = settings()
    return Folder(Path(chosen.archive_dir or Path(chosen.data_dir) / "archive"))


def trouble_of(error: OSError) -> str:
    """Name what is wrong with a store: it is full, or it cannot be written at all."""
    return "disk_full" if error.errno in FULL else "folder"
