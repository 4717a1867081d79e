"""Archives: a connector folder as one zip, read as a stranger's and never trusted.

Names are checked before anything is unpacked, sizes are counted while it is: what a zip says of
itself proves nothing. Only plain files in few known places come through.
"""

import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from connectors.errors import Unfit, finding

MAX_ZIP = 512 * 1024
MAX_FILES = 300
MAX_FILE = 256 * 1024
MAX_TOTAL = 3 * 1024 * 1024
_CHUNK = 64 * 1024
_STAMP = (2026, 1, 1, 0, 0, 0)  # so that the same files give the same archive
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_KEY = re.compile(r"""^\s+key:\s*["']?([a-z][a-z0-9-]{0,59})["']?\s*$""", re.MULTILINE)
_PLACES = {
    "": {"manifest.yaml", "README.md", "icon.svg", "contract.json"},
    "schemas": {".json"},
    "fixtures": {".yaml"},
}

Files = Mapping[str, bytes]  # by path inside the folder


def read(raw: bytes) -> dict[str, bytes]:
    """Return the files of a zip by name, without the folder around them; raises Unfit."""
    if len(raw) > MAX_ZIP:
        raise _refused("压缩包超过 512 KB", "The zip is larger than 512 kB")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as zipped:
            return _take(zipped)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError,
            ValueError, OSError) as bad:  # fmt: skip
        raise _refused("这不是可以打开的 zip 文件", "This is no zip that can be opened") from bad


def _take(zipped: zipfile.ZipFile) -> dict[str, bytes]:
    entries = [one for one in zipped.infolist() if not _is_chaff(one.filename)]
    if len(entries) > MAX_FILES:
        raise _refused(f"文件超过 {MAX_FILES} 个", f"There are more than {MAX_FILES} files")
    around = _around([one.filename for one in entries])
    found: dict[str, bytes] = {}
    total = 0
    for one in entries:
        if one.is_dir():
            continue
        name = one.filename[len(around) :]
        check_name(name)
        if one.external_attr >> 16 & 0o170000 not in (0, 0o100000):
            raise _refused(f"{name} 不是普通文件", f"{name} is no plain file")
        if one.flag_bits & 1:
            raise _refused(f"{name} 加了密", f"{name} is encrypted")
        if name in found:
            raise _refused(f"{name} 出现了两次", f"{name} is there twice")
        found[name] = _unpack(zipped, one, name, total)
        total += len(found[name])
    if "manifest.yaml" not in found:
        raise _refused("缺少 manifest.yaml", "manifest.yaml is missing")
    return found


def _unpack(zipped: zipfile.ZipFile, one: zipfile.ZipInfo, name: str, total: int) -> bytes:
    """Read a file, and stop as soon as it is too large, whatever the zip says of its size."""
    parts, size = [], 0
    with zipped.open(one) as stream:
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            if size > MAX_FILE:
                raise _refused(f"{name} 超过 256 KB", f"{name} is larger than 256 kB")
            if total + size > MAX_TOTAL:
                raise _refused("解压后超过 3 MB", "Unpacked it is larger than 3 MB")
            parts.append(chunk)
    return b"".join(parts)


def _is_chaff(name: str) -> bool:
    """Tell what file managers leave behind from what a person put in."""
    parts = PurePosixPath(name).parts
    return any(part in ("__MACOSX", ".DS_Store", "Thumbs.db") for part in parts)


def _around(names: list[str]) -> str:
    """Return the one folder that everything is in, with its slash; "" without one."""
    heads = {name.partition("/")[0] for name in names}
    if len(heads) == 1 and all("/" in name for name in names):
        return f"{heads.pop()}/"
    return ""


def check_name(name: str) -> None:
    """Refuse a file that is no part of a connector, or would lead out of its folder."""
    folder, _, last = name.rpartition("/")
    allowed = _PLACES.get(folder)
    is_known = allowed is not None and (last in allowed or PurePosixPath(last).suffix in allowed)
    if not is_known or not _NAME.fullmatch(last) or ".." in name:
        raise _refused(
            f"{name[:80]} 不属于连接器：只放 manifest.yaml、README.md、icon.svg、contract.json，"
            "以及 schemas/*.json 和 fixtures/*.yaml",
            f"{name[:80]} is no part of a connector: put in manifest.yaml, README.md, icon.svg, "
            "contract.json, schemas/*.json and fixtures/*.yaml alone",
        )


def pack(files: Files) -> bytes:
    """Return the files as a zip, always the same bytes for the same files; raises Unfit."""
    for name, body in files.items():
        check_name(name)
        if len(body) > MAX_FILE:
            raise _refused(f"{name} 超过 256 KB", f"{name} is larger than 256 kB")
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _STAMP)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o100644 << 16
            zipped.writestr(entry, files[name])
    raw = held.getvalue()
    if len(raw) > MAX_ZIP or sum(map(len, files.values())) > MAX_TOTAL:
        raise _refused("文件合计太大", "The files are too large together")
    return raw


def digest(raw: bytes) -> str:
    """Return the digest of an archive that was packed here."""
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def key_in(manifest: bytes) -> str:
    """Return the key that a manifest gives its connector, by the line it stands on; "" without."""
    found = _KEY.search(manifest[:MAX_FILE].decode("utf-8", "replace"))
    return found[1] if found else ""


def of_folder(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder on this machine, without hidden ones; links are not followed."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if any(part.startswith(".") for part in parts) or path.is_dir():
            continue
        name = "/".join(parts)
        if path.is_symlink() or not path.is_file():
            raise _refused(f"{name} 不是普通文件", f"{name} is no plain file")
        if path.stat().st_size > MAX_FILE:
            raise _refused(f"{name} 超过 256 KB", f"{name} is larger than 256 kB")
        found[name] = path.read_bytes()
    return found


def unpack(files: Files, folder: Path) -> None:
    """Write files that were read here into a fresh folder."""
    for name, body in files.items():
        check_name(name)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


def _refused(zh: str, en: str) -> Unfit:
    return Unfit([finding("/archive", zh, en)])
