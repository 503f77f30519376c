"""Real filesystems for tests: images on loop devices, tmpfs, overlay; fixtures that lend them.

Nothing is left behind, not even by a test run that is killed: the mounts live in a mount namespace
of this process, images have no name once they are mounted, and a loop device goes with its last
user (autoclear).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.requirements import SEARCH_PATH, need_filesystem, need_root, skip_without

KINDS = ("ext4", "xfs", "btrfs", "tmpfs")

_MIB = 1 << 20
_DEFAULT_BYTES = 400 * _MIB
_CLONE_NEWNS = 0x00020000

# mke2fs chooses 1 KiB blocks for an image of this size; real disks have 4 KiB.
_MKFS: Mapping[str, tuple[str, ...]] = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-b", "4096", "-I", "256"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
    "vfat": ("mkfs.vfat",),
}


@dataclass(frozen=True)
class Limits:
    """Say how much one entry can hold: attribute bytes in all, and bytes of a symlink's target."""

    xattr_bytes: int
    symlink_bytes: int


LIMITS = {
    "ext4": Limits(xattr_bytes=3000, symlink_bytes=4095),
    "xfs": Limits(xattr_bytes=3000, symlink_bytes=1023),
    "btrfs": Limits(xattr_bytes=3000, symlink_bytes=4000),
    "tmpfs": Limits(xattr_bytes=3000, symlink_bytes=4095),
}


@dataclass
class Mount:
    """Hold a mounted filesystem.

    `device` is the loop device, None for one that needs no device. It stays attached for as long as
    the `filesystem` block lasts, so that a test may unmount and mount again.
    """

    kind: str
    path: Path
    device: str | None = None
    options: str = ""

    def unmount(self) -> None:
        """Unmount it; not busy is the test's duty."""
        _run("umount", str(self.path))

    def mount(self) -> None:
        """Mount the device again after unmount()."""
        if self.device is None:
            raise ValueError(f"{self.kind} keeps nothing to mount again")
        _run("mount", *_flags(self.options), self.device, str(self.path))

    @contextmanager
    def directory(self) -> Iterator[Path]:
        """Lend a fresh directory, removed at the end."""
        path = Path(tempfile.mkdtemp(dir=self.path))
        try:
            yield path
        finally:
            _remove(path)


@contextmanager
def filesystem(
    kind: str,
    *,
    size_bytes: int = _DEFAULT_BYTES,
    options: str = "noatime",
    at: Path | None = None,
) -> Iterator[Mount]:
    """Make and mount a filesystem for the length of a block.

    Access times stand still unless `options` says otherwise: so one source can be copied twice.

    Args:
        kind: ext4, xfs, btrfs, tmpfs, overlay (on a tmpfs) or vfat.
        size_bytes: of the image (sparse, in memory); xfs takes 300 MiB and more.
        options: as for mount -o.
        at: the directory to mount on; a new one otherwise.
    """
    with ExitStack() as stack:
        place = at or Path(tempfile.mkdtemp(prefix="arsync-test-"))
        if at is None:
            stack.callback(os.rmdir, place)
        if kind == "tmpfs":
            _run(
                "mount", "-t", "tmpfs", *_flags(f"size={size_bytes},{options}"), "tmpfs", str(place)
            )
            mount = Mount(kind, place)
        elif kind == "overlay":
            mount = _mount_overlay(stack, place, size_bytes, options)
        else:
            mount = _mount_image(stack, kind, place, size_bytes, options)
        stack.callback(_unmount_for_good, place)
        yield mount


@contextmanager
def mounted(*arguments: str | Path) -> Iterator[None]:
    """Mount for the length of a block; skip the test where that is not allowed.

    Args:
        arguments: as for mount(8); the last one is where.
    """
    need_root()
    words = [os.fspath(argument) for argument in arguments]
    _run("mount", *words)
    try:
        yield
    finally:
        _run("umount", "--lazy", words[-1])


def _mount_image(stack: ExitStack, kind: str, place: Path, size_bytes: int, options: str) -> Mount:
    with tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="arsync-test-") as image:
        image.truncate(size_bytes)
        _run(*_MKFS[kind], image.name)
        _run("mount", *_flags(f"loop,{options}"), image.name, str(place))
        # mount sets autoclear; this descriptor is what keeps the device while it is unmounted.
        device = _device_of(place)
        stack.callback(os.close, os.open(device, os.O_RDONLY))
    return Mount(kind, place, device, options)


def _mount_overlay(stack: ExitStack, place: Path, size_bytes: int, options: str) -> Mount:
    below = stack.enter_context(filesystem("tmpfs", size_bytes=size_bytes))
    parts = {name: below.path / name for name in ("lower", "upper", "work")}
    for part in parts.values():
        part.mkdir()
    layers = "lowerdir={lower},upperdir={upper},workdir={work}".format(**parts)
    _run("mount", "-t", "overlay", *_flags(f"{layers},{options}"), "overlay", str(place))
    return Mount("overlay", place)


def _flags(options: str) -> tuple[str, ...]:
    return ("-o", options.strip(",")) if options.strip(",") else ()


def _device_of(place: Path) -> str:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[4] == str(place):
            return fields[fields.index("-") + 2]
    raise RuntimeError(f"{place} is not a mount point")


def _unmount_for_good(place: Path) -> None:
    """Unmount even what is busy (lazily), and what a test has unmounted itself."""
    if os.path.ismount(place):
        _run("umount", "--lazy", str(place))


def _remove(path: Path) -> None:
    """Remove a tree of any depth; rmtree of Python recurses and gives up at a thousand levels."""
    try:
        shutil.rmtree(os.fsencode(path))
    except (RecursionError, OSError):
        _run("rm", "-rf", "--", str(path))


def _run(*command: str) -> None:
    environment = {**os.environ, "PATH": SEARCH_PATH, "LC_ALL": "C"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")


class Filesystems:
    """Lend one filesystem of each kind, made when first asked for, to a whole test session."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._mounts: dict[str, Mount] = {}

    def mount(self, kind: str) -> Mount:
        """Return the shared filesystem of a kind; skip the test where there can be none."""
        if kind not in self._mounts:
            need_filesystem(kind if kind != "overlay" else "tmpfs")
            if kind == "overlay":
                known = Path("/proc/filesystems").read_text().split()
                skip_without("overlay" in known, "needs a kernel with overlay")
            self._mounts[kind] = self._stack.enter_context(filesystem(kind))
        return self._mounts[kind]


@pytest.fixture(scope="session")
def filesystems() -> Iterator[Filesystems]:
    """Lend filesystems by kind for the whole session."""
    with ExitStack() as stack:
        yield Filesystems(stack)


@pytest.fixture(params=KINDS)
def each_filesystem(request: pytest.FixtureRequest, filesystems: Filesystems) -> Iterator[Path]:
    """Run the test once on ext4, xfs, btrfs and tmpfs, each time in a fresh directory."""
    with filesystems.mount(request.param).directory() as path:
        yield path


def pytest_sessionstart() -> None:
    """Move to a mount namespace of our own: what is mounted there goes when the process goes."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) == 0:
        _run("mount", "--make-rprivate", "/")
