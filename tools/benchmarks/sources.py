"""What is copied: real trees, large random files, and millions of empty entries."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import BenchError
from .machine import GIB, MIB

BLOCK_BYTES = 4096
INODE_BYTES = {"ext4": 256, "xfs": 640, "btrfs": 700}
# Room beside the data: journal or log, allocation groups, btrfs's separate metadata chunks.
FIXED_BYTES = {"ext4": 128 * MIB, "xfs": 256 * MIB, "btrfs": 640 * MIB}
INODE_MARGIN = 1.05
EXT4_GROUP_INODES = 32_768
EXT4_GROUP_BLOCKS = 8_192
SLACK = {"ext4": 1.04, "xfs": 1.06, "btrfs": 1.12}

TREE_FILES = 100_000
TREE_BYTES = 2 * 10**9
TREE_BYTES_MOST = int(2.8 * GIB)
SMALL_TREE_FILES = 112_000
SMALL_FILE_BYTES = 64 * 1024
QUICK_TREE_FILES = 5_000
QUICK_TREE_BYTES = 30 * 10**6
QUICK_TREE_BYTES_MOST = 128 * MIB
MANY_BIG_COUNT = 8
SPREAD_DIRECTORIES = 1_000


@dataclass(frozen=True)
class Contents:
    """Count what a tree holds; `disk_bytes` is data in whole blocks."""

    files: int = 0
    others: int = 0
    data_bytes: int = 0
    disk_bytes: int = 0

    @property
    def entries(self) -> int:
        """Count everything that takes an inode."""
        return self.files + self.others

    def __add__(self, more: Contents) -> Contents:
        return Contents(
            self.files + more.files,
            self.others + more.others,
            self.data_bytes + more.data_bytes,
            self.disk_bytes + more.disk_bytes,
        )

    def sentence(self) -> str:
        """Describe the contents in a few words."""
        size = (
            f"{self.data_bytes / 1e9:.2f} GB"
            if self.data_bytes >= 10**9
            else f"{self.data_bytes / 1e6:.0f} MB"
        )
        return f"{self.files:,} files in {self.entries:,} entries, {size}"


@dataclass(frozen=True)
class Source:
    """Know how to build one source and how large it will be.

    Attributes:
        name: its key in the kept runs.
        contents: counted before it is built, so that the image can be sized.
        build: makes it at the given path, as a directory or as one file.
        is_only_entries: all entries are empty. On ext4 small directories are kept in their inodes
            then, a block for each of 10^6 would need 4 GiB; and block groups are small, for
            a group of any size has at most 32,768 inodes.
    """

    name: str
    contents: Contents
    build: Callable[[Path], None]
    is_only_entries: bool = False

    def image_bytes(self, filesystem: str) -> int:
        """Return the size of an image that holds the source once."""
        inodes = self.contents.entries * INODE_BYTES[filesystem]
        stored = int((self.contents.disk_bytes + inodes) * SLACK[filesystem])
        size = max(stored + FIXED_BYTES[filesystem], 384 * MIB)
        if filesystem == "ext4" and self.is_only_entries:
            groups = self.contents.entries * INODE_MARGIN // EXT4_GROUP_INODES + 1
            size = max(size, int(groups) * EXT4_GROUP_BLOCKS * BLOCK_BYTES)
        return size

    def mkfs_options(self, filesystem: str) -> tuple[str, ...]:
        """Return what mkfs must be told so that all inodes fit."""
        if filesystem != "ext4":
            return ()
        options = ("-N", str(int(self.contents.entries * INODE_MARGIN) + 1024))
        if not self.is_only_entries:
            return options
        return (*options, "-O", "inline_data", "-g", str(EXT4_GROUP_BLOCKS))


def real_tree(given: Path | None, *, quick: bool) -> Source:
    """Choose the real tree: the given directory, or directories of this machine.

    Without hard links, since neither `rsync -a` nor the floor would keep them.
    """
    if given is not None:
        parts: Sequence[Path] = (given,)
    elif quick:
        parts = _gather(
            _quick_candidates(), QUICK_TREE_FILES, QUICK_TREE_BYTES, QUICK_TREE_BYTES_MOST
        )
    else:
        parts = _gather(_candidates(), TREE_FILES, TREE_BYTES, TREE_BYTES_MOST)
    contents = sum((count_contents(part) for part in parts), Contents())

    def build(path: Path) -> None:
        path.mkdir()
        for number, part in enumerate(parts):
            _copy_part(part, path / f"{number:02d}-{part.name or 'root'}")

    return Source("tree", contents, build)


def one_big_file(size_bytes: int) -> Source:
    """One file of random bytes, which no filesystem can compress or share."""
    return Source(
        "big", _file_contents(1, size_bytes), lambda path: _write_random(path, size_bytes)
    )


def many_big_files(size_bytes: int) -> Source:
    """A directory of eight large files."""

    def build(path: Path) -> None:
        path.mkdir()
        for number in range(MANY_BIG_COUNT):
            _write_random(path / f"file{number}", size_bytes)

    return Source("many-big", _file_contents(MANY_BIG_COUNT, size_bytes), build)


def files_in_one_directory(count: int) -> Source:
    """A directory of very many empty files."""

    def build(path: Path) -> None:
        path.mkdir()
        _make_empty_files(path, count)

    return _empty_entries("one-directory", Contents(files=count, others=1), build)


def files_in_many_directories(count: int) -> Source:
    """Very many empty files over a thousand directories."""
    each = count // SPREAD_DIRECTORIES

    def build(path: Path) -> None:
        path.mkdir()
        for number in range(SPREAD_DIRECTORIES):
            directory = path / f"directory{number:04d}"
            directory.mkdir()
            _make_empty_files(directory, each)

    contents = Contents(files=each * SPREAD_DIRECTORIES, others=1 + SPREAD_DIRECTORIES)
    return _empty_entries("spread", contents, build)


def directories_in_one_directory(count: int) -> Source:
    """A directory of very many empty directories."""

    def build(path: Path) -> None:
        path.mkdir()
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for number in range(count):
                os.mkdir(f"directory{number:07d}", 0o755, dir_fd=fd)
        finally:
            os.close(fd)

    return _empty_entries("directories", Contents(others=1 + count), build)


def small_tree(given: Path | None, *, quick: bool) -> Source:
    """Choose a real tree without its larger files, whose data a second run does not look at."""
    if given is not None:
        parts: Sequence[Path] = (given,)
    else:
        candidates, files = _quick_candidates(), QUICK_TREE_FILES
        if not quick:
            candidates, files = _candidates(), SMALL_TREE_FILES
        parts = _gather(candidates, files, 0, TREE_BYTES_MOST, SMALL_FILE_BYTES)
    counted = (count_contents(part, SMALL_FILE_BYTES) for part in parts)
    contents = sum(counted, Contents())

    def build(path: Path) -> None:
        path.mkdir()
        for number, part in enumerate(parts):
            _copy_small_files(part, path / f"{number:02d}-{part.name or 'root'}")

    return Source("small-files", contents, build)


def one_directory_of_files(count: int, size_bytes: int) -> Source:
    """A directory of files of random bytes in the source's root, to be renamed."""

    def build(path: Path) -> None:
        (path / "directory").mkdir(parents=True)
        for number in range(count):
            _write_random(path / "directory" / f"file{number:05d}", size_bytes)

    return Source("directory", _file_contents(count, size_bytes), build)


def big_file_in_directory(size_bytes: int) -> Source:
    """One file of random bytes in the source's root."""

    def build(path: Path) -> None:
        path.mkdir()
        _write_random(path / "file", size_bytes)

    return Source("big-file", _file_contents(1, size_bytes), build)


def count_contents(root: Path, most_file_bytes: int | None = None) -> Contents:
    """Count a tree without leaving its filesystem.

    Args:
        most_file_bytes: larger files are left out.

    Raises:
        BenchError: the root cannot be read.
    """
    try:
        device = os.lstat(root).st_dev
    except OSError as error:
        raise BenchError(f"cannot read '{root}': {error.strerror}") from error
    files = others = data = disk = 0
    for status in _walk(os.fspath(root), device):
        if stat.S_ISREG(status.st_mode):
            if most_file_bytes is not None and status.st_size > most_file_bytes:
                continue
            files += 1
            data += status.st_size
            disk += -(-status.st_size // BLOCK_BYTES) * BLOCK_BYTES
        else:
            others += 1
            disk += BLOCK_BYTES if stat.S_ISDIR(status.st_mode) else 0
    return Contents(files, others, data, disk)


def _walk(root: str, device: int) -> Iterator[os.stat_result]:
    yield os.lstat(root)
    pending = [root]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if status.st_dev != device:
                    continue
                yield status
                if stat.S_ISDIR(status.st_mode):
                    pending.append(entry.path)


def _candidates() -> list[Path]:
    """Directories of real files, those with many small files first."""
    python = Path(sys.base_prefix).resolve()
    first = [] if python in (Path("/usr"), Path("/usr/local")) else [python]
    found = [*first, Path("/usr/share"), Path("/usr/include"), *_children(Path("/usr/lib"))]
    found += [*_children(Path("/usr/local/lib")), *_children(Path("/opt")), Path("/var/lib")]
    return [path for path in found if path.is_dir()]


def _quick_candidates() -> list[Path]:
    return _children(Path("/usr/share"))


def _children(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    children = (child for child in directory.iterdir() if not child.is_symlink())
    return sorted(child for child in children if child.is_dir())


def _gather(
    candidates: list[Path],
    files: int,
    data_bytes: int,
    most_bytes: int,
    most_file_bytes: int | None = None,
) -> list[Path]:
    """Take candidates in order until both bounds are met, again from the first if need be."""
    counted = [(path, count_contents(path, most_file_bytes)) for path in candidates]
    counted = [(path, contents) for path, contents in counted if contents.data_bytes <= most_bytes]
    if not any(contents.files for _, contents in counted):
        raise BenchError("this machine has no directories to make a tree of: give one with --tree")
    chosen: list[Path] = []
    total = Contents()
    while True:
        before = total
        for path, contents in counted:
            if total.files >= files and total.data_bytes >= data_bytes:
                return chosen
            if total.data_bytes + contents.data_bytes <= most_bytes:
                chosen.append(path)
                total += contents
        if total == before:
            return chosen


def _copy_part(part: Path, target: Path) -> None:
    command = ["cp", "-a", "-x", "--no-preserve=links", "--", str(part), str(target)]
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if result.returncode != 0:
        raise BenchError(f"cannot copy '{part}' into the source image: {result.stderr.strip()}")


def _copy_small_files(part: Path, target: Path) -> None:
    command = ["rsync", "-ax", f"--max-size={SMALL_FILE_BYTES}", f"{part}/", str(target)]
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if result.returncode != 0:
        raise BenchError(f"cannot copy '{part}' into the source image: {result.stderr.strip()}")


def _file_contents(count: int, size_bytes: int) -> Contents:
    total = count * size_bytes
    return Contents(files=count, others=1, data_bytes=total, disk_bytes=total)


def _empty_entries(name: str, contents: Contents, build: Callable[[Path], None]) -> Source:
    # A name takes about 24 bytes in a directory that is filled to two thirds.
    names = Contents(disk_bytes=contents.entries * 40)
    return Source(name, contents + names, build, is_only_entries=True)


def _write_random(path: Path, size_bytes: int) -> None:
    """Fill a file from the kernel's generator, 0.4 GB a second."""
    with path.open("wb", buffering=0) as file:
        for offset in range(0, size_bytes, MIB):
            file.write(os.urandom(min(MIB, size_bytes - offset)))


def _make_empty_files(directory: Path, count: int) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number in range(count):
            os.close(os.open(f"file{number:07d}", os.O_CREAT | os.O_EXCL, 0o644, dir_fd=fd))
    finally:
        os.close(fd)
