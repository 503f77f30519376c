"""Say which tree a directory is, however it is mounted today.

Owns what an identity is made of and when two are the same (docs/formats.md, "Identity"), and the
way up from a directory to those above it on its filesystem. It knows nothing of stores.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from struct import Struct
from typing import Any, Final

from arsync.errors import FileError, describe
from arsync.manifest.format import damage
from arsync.mounts import Mount, read_mounts
from arsync.uring.origin import Origin, probe_origin

__all__ = ["Identity", "identify", "identify_above"]

# linux/fs.h, since 6.9: struct fsuuid2.
_FS_IOC_GETFSUUID: Final = 0x80111500
# linux/btrfs.h; the filesystem's id follows two counts.
_BTRFS_IOC_FS_INFO: Final = 0x8400941F
_BTRFS_IOC_INO_LOOKUP: Final = 0xD0009412
_BTRFS_FIRST_FREE_OBJECTID: Final = 256
_BTRFS_MAGIC: Final = 0x9123683E
_LOOKUP: Final = Struct("<QQ")
_BY_UUID: Final = Path("/dev/disk/by-uuid")


@dataclass(frozen=True)
class Identity:
    """Hold what a directory is known by: docs/formats.md has the table."""

    filesystem: str
    subvolume: int
    inode: int
    born_ns: int
    device: str
    path: str

    def is_same(self, other: Identity) -> bool:
        """Tell whether both are one directory, wherever it is mounted; a clone is not."""
        devices = {self.device, other.device} - {""}
        return self.looks_like(other) and len(devices) < 2

    def looks_like(self, other: Identity) -> bool:
        """Tell whether both are one directory or a clone of it."""
        return self._key() == other._key()

    def _key(self) -> tuple[str, int, int, int]:
        return self.filesystem, self.subvolume, self.inode, self.born_ns

    def as_json(self) -> dict[str, Any]:
        """Return it as it is recorded."""
        return asdict(self)

    @classmethod
    def from_json(cls, recorded: Any) -> Identity:
        """Return what was recorded.

        Raises: ManifestCorruptError.
        """
        fields = cls.__dataclass_fields__
        if not isinstance(recorded, dict) or set(recorded) != set(fields):
            raise damage("an identity of a tree that is none")
        if any(type(recorded[name]).__name__ != one.type for name, one in fields.items()):
            raise damage("an identity of a tree that is none")
        return cls(**recorded)


def identify(path: bytes) -> Identity:
    """Return the identity of a directory.

    Raises: FileError.
    """
    directory_fd = _open(path)  # as given: what is above may be closed
    try:
        return _identify(directory_fd, os.path.realpath(path))
    finally:
        os.close(directory_fd)


def identify_above(path: bytes) -> Iterator[tuple[Identity, bytes]]:
    """Yield the identity of a directory and of each above it on its filesystem, nearest first.

    Where only a part of a filesystem is mounted (a bind mount, a subvolume), the way goes on in
    another mount of it that shows what is above.

    Returns: with each identity the path from there down to the directory, b"" at first.
    Raises: FileError for the directory itself; the way ends where one above cannot be opened.
    """
    real = os.path.realpath(path)
    yield identify(path), b""
    below: list[bytes] = []
    while True:
        try:
            place = _above(real)
        except FileError:
            return
        if place is None:
            return
        real, name = place
        below.insert(0, name)
        with suppress(FileError):
            yield identify(real), b"/".join(below)
            continue
        return


def _above(real: bytes) -> tuple[bytes, bytes] | None:
    """Return the directory that holds this one on its filesystem, and the name in it."""
    mount = _mount_of(real)
    if mount is None:
        return None
    if real != mount.point:
        return os.path.dirname(real), os.path.basename(real)
    if mount.root == b"/":
        return None
    parent, name = os.path.split(mount.root)
    for other in read_mounts():
        if other.dev != mount.dev or other.number == mount.number:
            continue
        if parent != other.root and not parent.startswith(other.root.rstrip(b"/") + b"/"):
            continue
        seen = os.path.join(other.point, os.path.relpath(parent, other.root)).removesuffix(b"/.")
        with suppress(OSError):  # hidden by a further mount, or not to be searched
            if os.path.samestat(os.stat(os.path.join(seen, name)), os.stat(real)):
                return os.path.realpath(seen), name
    return None


def _mount_of(real: bytes) -> Mount | None:
    directory_fd = _open(real)
    try:
        return probe_origin(directory_fd).mount
    finally:
        os.close(directory_fd)


def _identify(directory_fd: int, real: bytes) -> Identity:
    origin = probe_origin(directory_fd)
    is_btrfs = origin.magic == _BTRFS_MAGIC
    return Identity(
        filesystem=_uuid(directory_fd, is_btrfs) or _name(origin),
        subvolume=_subvolume(directory_fd) if is_btrfs else 0,
        inode=os.fstat(directory_fd).st_ino,
        born_ns=origin.born_ns,
        device=_medium(origin.mount),
        path=os.fsdecode(real),
    )


def _uuid(directory_fd: int, is_btrfs: bool) -> str:
    answer = bytearray(17)
    with suppress(OSError):
        fcntl.ioctl(directory_fd, _FS_IOC_GETFSUUID, answer)
        if any(answer[1:]):
            return answer[1 : 1 + answer[0]].hex()
    if is_btrfs:
        info = bytearray(1024)
        with suppress(OSError):
            fcntl.ioctl(directory_fd, _BTRFS_IOC_FS_INFO, info)
            return info[16:32].hex()
    return _uuid_by_udev(os.fstat(directory_fd).st_dev)


def _uuid_by_udev(dev: int) -> str:
    """Return what udev's links say of a block device, as kernels before 6.9 need it."""
    with suppress(OSError):
        for link in _BY_UUID.iterdir():
            with suppress(OSError):
                if link.stat().st_rdev == dev:
                    return link.name.replace("-", "").lower()
    return ""


def _name(origin: Origin) -> str:
    mount = origin.mount
    return f"{mount.kind}:{mount.device}" if mount else f"{origin.magic:#x}"


def _subvolume(directory_fd: int) -> int:
    """Return the id of the subvolume that a directory of btrfs is in; no rights are needed."""
    request = bytearray(4096)
    _LOOKUP.pack_into(request, 0, 0, _BTRFS_FIRST_FREE_OBJECTID)
    with suppress(OSError):
        fcntl.ioctl(directory_fd, _BTRFS_IOC_INO_LOOKUP, request)
        return int(_LOOKUP.unpack_from(request)[0])
    return 0


def _medium(mount: Mount | None) -> str:
    """Return what the mounted device says of itself, "" where nothing is known."""
    if mount is None or not mount.device.startswith("/"):
        return ""
    try:
        number = os.stat(mount.device).st_rdev
    except OSError:
        return ""
    block = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    partition = _text(block / "partition")
    disk = block.parent if partition else block
    for name, kind in _SOURCES:
        text = _text(disk / name)
        if text:
            return f"{kind}:{text}/{partition}"
    return ""


_SOURCES: Final = (
    ("dm/uuid", "dm"),
    ("md/uuid", "md"),
    ("wwid", "wwid"),
    ("device/wwid", "wwid"),
    ("serial", "serial"),
    ("device/serial", "serial"),
    ("loop/backing_file", "loop"),
)


def _text(path: Path) -> str:
    try:
        return " ".join(path.read_text(errors="replace").split())
    except OSError:
        return ""


def _open(real: bytes) -> int:
    try:
        return os.open(real, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise FileError(describe("open", real, error.errno or 0)) from error
