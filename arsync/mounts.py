"""Read what is mounted, and say whether walking one directory would lead into another.

Owns the format of /proc/self/mountinfo. For the walk, comparing paths is not enough: a bind mount
shows a directory at a second place, and a mount point hides what is below it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Mount", "find_mount", "mounts_below", "read_mounts", "walk_would_enter"]

_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """Hold a mount: which part (`root`) of which filesystem (`dev`) is seen at `point`.

    Attributes:
        number: its own, as statx reports it.
        parent: number of the mount that it is mounted on.
        dev: major << 32 | minor.
        options: of the mount and of the filesystem itself; "ro" where either of them has it.
        kind: type of the filesystem.
        device: what is mounted.
    """

    number: int
    parent: int
    dev: int
    root: bytes
    point: bytes
    options: tuple[str, ...]
    kind: str
    device: str


def read_mounts() -> Iterator[Mount]:
    """Yield what is mounted, in the order of mounting; nothing where there is no /proc.

    Source: proc_pid_mountinfo(5).
    """
    return map(_parse, _lines())


def _lines() -> list[bytes]:
    try:
        return Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return []


def _parse(line: bytes) -> Mount:
    number, parent, dev, root, point, options, *rest = line.split(b" ")
    # Optional fields end with "-"; type, source and the filesystem's options follow.
    kind, device, own_options = rest[rest.index(b"-") + 1 :][:3]
    return Mount(
        number=int(number),
        parent=int(parent),
        dev=_dev(dev),
        root=_unescape(root),
        point=_unescape(point),
        options=_options(f"{os.fsdecode(options)},{os.fsdecode(own_options)}"),
        kind=os.fsdecode(kind),
        device=os.fsdecode(_unescape(device)),
    )


def _dev(text: bytes) -> int:
    major, _, minor = text.partition(b":")
    return int(major) << 32 | int(minor)


def _options(text: str) -> tuple[str, ...]:
    options = dict.fromkeys(text.split(","))
    if "ro" in options:
        options.pop("rw", None)
    return tuple(options)


def mounts_below(path: bytes) -> list[Mount]:
    """Return what can be written to below a directory, one mount of each filesystem."""
    above = os.path.realpath(path).rstrip(b"/") + b"/"
    found: dict[int, Mount] = {}
    for mount in read_mounts():
        if mount.point.startswith(above) and mount.kind != "autofs" and "ro" not in mount.options:
            found.setdefault(mount.dev, mount)
    return list(found.values())


def find_mount(number: int, dev: int) -> Mount | None:
    """Find a mount by its number; where that is 0, one of the filesystem has to do.

    Args:
        number: from statx, which has none before Linux 5.8.
        dev: major << 32 | minor.
    """
    for line in _lines():  # of hundreds, perhaps: one is worth parsing
        own_number, _parent, own_dev, _rest = line.split(b" ", 3)
        if int(own_number) == number if number else _dev(own_dev) == dev:
            return _parse(line)
    return None


def walk_would_enter(src: bytes, dst: bytes, *, one_file_system: bool) -> bool:
    """Tell whether a walk of src comes to the directory dst.

    Args:
        src: a directory.
        dst: a directory, or one that will be made; the nearest one above it then stands for it.
        one_file_system: the walk does not cross mount points.
    Returns: False where src is below dst, or neither holds the other. Cost: reads mountinfo once.
    """
    src_path, dst_path = _existing(src), _existing(dst)
    mounts = list(read_mounts())
    src_mount, dst_mount = _mount_of(mounts, src_path), _mount_of(mounts, dst_path)
    if src_mount is None or dst_mount is None:
        return _is_below(dst_path, src_path)
    inside_dst = _join(dst_mount.root, _relative(dst_path, dst_mount.point))
    places = [(src_mount, src_path)]
    if not one_file_system:
        places += [
            (one, one.point)
            for one in mounts
            if _is_below(one.point, src_path) and one.point != src_path
        ]
    for mount, place in places:
        if mount.dev != dst_mount.dev:
            continue
        inside_src = _join(mount.root, _relative(place, mount.point))
        if not _is_below(inside_dst, inside_src):
            continue
        seen_at = _join(place, _relative(inside_dst, inside_src))
        if _mount_of(mounts, seen_at) == mount:  # not hidden by a further mount
            return True
    return False


def _existing(path: bytes) -> bytes:
    """Return the real path of what is there, or of the nearest directory above it.

    Only what is missing is climbed over: a directory that cannot be looked into is where it is.
    """
    real = os.path.realpath(path)
    while real != b"/":
        try:
            os.stat(real)
        except (FileNotFoundError, NotADirectoryError):
            real = os.path.dirname(real)
        except OSError:
            break
        else:
            break
    return real


def _mount_of(mounts: list[Mount], path: bytes) -> Mount | None:
    """Return the mount that is seen at a path, by going down from mount to mount as a lookup does.

    The longest mount point will not do: a mount on a directory above it may hide it.
    """
    listed = {one.number for one in mounts}
    above = [one for one in mounts if _is_below(path, one.point)]
    found: Mount | None = None
    next_ones = [one for one in above if one.parent not in listed or one.parent == one.number]
    while next_ones:
        found = min(next_ones, key=lambda one: len(one.point))
        next_ones = [one for one in above if one.parent == found.number and one != found]
    return found


def _is_below(path: bytes, top: bytes) -> bool:
    return path == top or path.startswith(top.rstrip(b"/") + b"/")


def _relative(path: bytes, top: bytes) -> bytes:
    return path[len(top.rstrip(b"/")) :].lstrip(b"/")


def _join(top: bytes, below: bytes) -> bytes:
    return os.path.join(top, below) if below else top


def _unescape(field: bytes) -> bytes:
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field)
