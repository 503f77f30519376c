"""Fresh filesystems on loop devices whose images lie on tmpfs, and their certain removal.

A guest touches a page of memory for the first time about ten times slower than later, so an image
is written once in full when it is made, and what mkfs punched out of it is written again.
The loop device has no seek latency: cold figures are those of a fast disk, and the reports say so.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from .errors import BenchError
from .machine import MIB

WORK_PREFIX = "arsync-bench-"
SECTOR_BYTES = 512
UNMOUNT_ATTEMPTS = 20
UNMOUNT_PAUSE_S = 0.25

# No discard: it would give the warmed pages of the image back. Nothing lazy: it would go on
# working in the background of the first run.
MKFS = {
    "ext4": (
        *("mkfs.ext4", "-q", "-F", "-m", "0", "-J", "size=64"),
        *("-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"),
    ),
    "xfs": ("mkfs.xfs", "-q", "-f", "-K"),
    "btrfs": ("mkfs.btrfs", "-q", "-f", "-K", "-m", "single"),
}
MOUNT_OPTIONS = {"ext4": "defaults", "xfs": "defaults", "btrfs": "nodiscard"}
PACKAGES = {"ext4": "e2fsprogs", "xfs": "xfsprogs", "btrfs": "btrfs-progs"}


def require_filesystem(filesystem: str) -> None:
    """Refuse a filesystem whose mkfs is not installed.

    Raises:
        BenchError: the sentence names the Debian package.
    """
    program = MKFS[filesystem][0]
    if shutil.which(program) is None:
        package = PACKAGES[filesystem]
        raise BenchError(f"'{program}' is not installed: apt-get install {package}")


class Volume:
    """Own one image file, its loop device and its mount; all are gone when the `with` ends."""

    def __init__(
        self,
        work: Path,
        name: str,
        *,
        filesystem: str,
        size_bytes: int,
        mkfs_options: Sequence[str] = (),
    ) -> None:
        self.filesystem = filesystem
        self.size_bytes = -(-size_bytes // MIB) * MIB
        self.mkfs = (*MKFS[filesystem], *mkfs_options)
        self.mount_point = work / name
        self._image = work / f"{name}.img"
        self._device = ""

    def __enter__(self) -> Volume:
        try:
            self.mount_point.mkdir()
            with self._image.open("wb") as image:
                image.truncate(self.size_bytes)
            self._warm_image()
            self._device = _output("losetup", "--find", "--show", str(self._image))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Unmount, detach and remove whatever of the volume exists, also after an interrupt."""
        self.unmount()
        _detach(self._image)
        self._image.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self.mount_point.rmdir()

    def make_fresh(self) -> None:
        """Put a new, empty filesystem on the warmed image and mount it for writing."""
        self.unmount()
        run_command(*self.mkfs, self._device)
        self._warm_image()
        self.mount()

    def mount(self, *, read_only: bool = False, access_times: bool = True) -> None:
        """Mount the volume; access times would be written during a run, so a source has none."""
        options = MOUNT_OPTIONS[self.filesystem]
        options += (",ro" if read_only else "") + ("" if access_times else ",noatime")
        run_command("mount", "-o", options, self._device, str(self.mount_point))

    def unmount(self) -> None:
        """Unmount if mounted, waiting a little for a process that has just been ended."""
        if self.mount_point.is_mount():
            unmount_path(self.mount_point)

    def read_bytes(self) -> int:
        """Return how much was read from the device so far: a warm run adds next to nothing."""
        fields = Path("/sys/block", Path(self._device).name, "stat").read_text().split()
        return int(fields[2]) * SECTOR_BYTES

    def _warm_image(self) -> None:
        """Write zeros into every hole of the image, which reads as zeros already."""
        zeros = bytes(MIB)
        fd = os.open(self._image, os.O_RDWR | os.O_CLOEXEC)
        try:
            for start, end in _holes(fd, self.size_bytes):
                for offset in range(start, end, MIB):
                    os.pwrite(fd, zeros[: min(MIB, end - offset)], offset)
        finally:
            os.close(fd)


@contextlib.contextmanager
def work_directory(place: Path) -> Iterator[Path]:
    """Yield a directory for images, mounts and results, and remove it at the end.

    What a killed benchmark left behind is cleaned up first.
    """
    _remove_leftovers(place)
    work = place / f"{WORK_PREFIX}{os.getpid()}"
    work.mkdir(mode=0o700)
    try:
        yield work
    finally:
        shutil.rmtree(work)


def run_command(*command: str) -> None:
    """Run a system program that must succeed.

    Raises:
        BenchError: it failed; the sentence holds what it said.
    """
    _output(*command)


def unmount_path(path: Path) -> None:
    """Unmount a path; detach it lazily when it stays busy, so that nothing is left behind."""
    for _ in range(UNMOUNT_ATTEMPTS):
        if subprocess.run(["umount", str(path)], stderr=subprocess.DEVNULL).returncode == 0:
            return
        time.sleep(UNMOUNT_PAUSE_S)
    run_command("umount", "--lazy", str(path))


def _output(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        said = result.stderr.strip() or f"exit status {result.returncode}"
        raise BenchError(f"cannot run '{' '.join(command)}': {said}")
    return result.stdout.strip()


def _detach(image: Path) -> None:
    """Ask the kernel which devices an image has: an interrupt may have come before we knew."""
    if image.exists():
        for device in _output("losetup", "-n", "-O", "NAME", "-j", str(image)).split():
            run_command("losetup", "--detach", device)


def _holes(fd: int, size: int) -> Iterator[tuple[int, int]]:
    offset = 0
    while offset < size:
        hole = os.lseek(fd, offset, os.SEEK_HOLE)
        if hole >= size:
            return
        offset = _next_data(fd, hole, size)
        yield hole, offset


def _next_data(fd: int, offset: int, size: int) -> int:
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        raise


def _remove_leftovers(place: Path) -> None:
    for work in place.glob(f"{WORK_PREFIX}*"):
        pid = work.name.removeprefix(WORK_PREFIX)
        if pid.isdigit() and not Path("/proc", pid).exists():
            _remove_work(work)


def _remove_work(work: Path) -> None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        mount_point = Path(line.split()[1])
        if mount_point.parent == work:
            unmount_path(mount_point)
    for image in work.glob("*.img"):
        _detach(image)
    shutil.rmtree(work)
