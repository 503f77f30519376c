"""What arsync.uring finds out about rings and filesystems, on real ones."""

from __future__ import annotations

import errno
import os
import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from arsync.model import Method, Op
from arsync.uring import methods, probe, trials
from arsync.uring.faults import FOREVER, Action, fault
from tests.kit.children import become_nobody, forbid_call, hide_proc, in_child
from tests.kit.filesystems import KINDS, Filesystems, filesystem, mounted
from tests.requirements import (
    SYS_IO_URING_SETUP,
    need_filesystem,
    need_root,
    need_uring,
    skip_without,
)

CLONES = {"ext4": False, "xfs": True, "btrfs": True, "tmpfs": False}


@pytest.fixture
def refused_ring() -> Iterator[None]:
    """Make every set-up of a ring fail with ENOMEM."""
    with fault(Op.RING_SETUP, Action.ERROR, errno.ENOMEM, count=FOREVER):
        yield


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, filesystems: Filesystems) -> Iterator[tuple[str, int]]:
    """Lend the kind of a filesystem and the descriptor of a fresh directory on it."""
    with filesystems.mount(request.param).directory() as path:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY)
        try:
            yield request.param, fd
        finally:
            os.close(fd)


# ------------------------------------------------------------------------------------ rings


def test_the_table_of_operations_agrees_with_the_kernels_numbers() -> None:
    """Some numbers of the kernel's header, from its first to its newest operation."""
    known = {"NOP": 0, "OPENAT": 18, "READ": 22, "SPLICE": 30, "LINKAT": 39, "GETXATTR": 44}
    known |= {"FTRUNCATE": 55, "PIPE": 62, "URING_CMD128": 64}
    assert {name: probe.OPERATIONS.index(name) for name in known} == known
    assert probe.operation_name(64) == "URING_CMD128"
    assert probe.operation_name(200) == "200"


def test_a_ring_names_its_operations() -> None:
    """Any kernel with io_uring that arsync runs on has openat, read and close."""
    need_uring()
    ring = probe.probe_ring()
    assert ring.available
    assert all(ring.has(name) for name in ("NOP", "OPENAT", "READ", "CLOSE"))
    assert list(ring.operations) == sorted(set(ring.operations))
    assert (ring.depth, ring.buffer_bytes) == (0, 0)


def test_flags_come_in_the_order_of_their_kernels() -> None:
    """DEFER_TASKRUN is only ever reported together with SINGLE_ISSUER."""
    need_uring()
    flags = probe.probe_ring().flags
    assert flags == ("COOP_TASKRUN", "SINGLE_ISSUER", "DEFER_TASKRUN")[: len(flags)]


def test_a_kernel_without_the_newest_flag_gets_the_others() -> None:
    """EINVAL to the first try means one flag less, not no ring."""
    need_uring()
    all_flags = probe.probe_ring().flags
    skip_without(len(all_flags) == 3, "needs a kernel with all ring flags (6.1)")
    with fault(Op.RING_SETUP, Action.ERROR, errno.EINVAL, count=2):
        ring = probe.probe_ring()
    assert ring.available
    assert ring.flags == all_flags[:1]


def test_limits_find_the_largest_depth() -> None:
    """No kernel takes more than 32,768 entries; a power of two is found below."""
    need_uring()
    ring = probe.probe_limits(1 << 20)
    assert 0 < ring.depth <= 32768
    assert ring.depth & (ring.depth - 1) == 0
    assert ring.buffer_bytes == 1 << 20


def test_registered_buffers_count_against_memlock() -> None:
    """Without CAP_IPC_LOCK no more can be registered than RLIMIT_MEMLOCK allows."""
    need_root()
    need_uring()

    def limits() -> list[int]:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (2 << 20, 2 << 20))
        become_nobody()
        ring = probe.probe_limits(16 << 20)
        return [ring.buffer_bytes, ring.buffer_error]

    buffer_bytes, error = in_child(limits)
    assert 0 < buffer_bytes <= 2 << 20
    assert error == errno.ENOMEM


@pytest.mark.usefixtures("refused_ring")
def test_a_refused_ring_is_a_finding() -> None:
    """The errno is kept, nothing is raised, and no flag is claimed."""
    assert probe.probe_ring() == probe.Ring(error=errno.ENOMEM)
    assert not probe.probe_limits(1 << 20).available


def test_a_seccomp_filter_refuses_the_ring() -> None:
    """A process that a container's filter holds sees EPERM from the real system call."""
    need_uring()

    def error() -> int:
        forbid_call(SYS_IO_URING_SETUP, errno.EPERM)
        return probe.probe_ring().error

    assert in_child(error) == errno.EPERM


@pytest.mark.parametrize(
    ("error", "disabled", "seccomp", "phrase"),
    [
        (errno.EPERM, 2, 0, "kernel.io_uring_disabled is 2"),
        (errno.EPERM, 0, 2, "seccomp"),
        (errno.ENOSYS, None, 2, "seccomp"),
        (errno.ENOSYS, None, 0, "no io_uring"),
        (errno.ENOMEM, 0, 0, "RLIMIT_MEMLOCK"),
        (errno.EPERM, 0, 0, "not permitted"),
    ],
)
def test_a_refusal_is_explained(
    error: int, disabled: int | None, seccomp: int | None, phrase: str
) -> None:
    """The phrase names what an administrator would have to change."""
    assert phrase in probe.why_refused(error, disabled, seccomp)


def test_probing_at_start_up_is_cheap() -> None:
    """Start-up allows 0.15 s in all: the best of five probes takes less than a tenth of it."""
    need_uring()
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        probe.probe_ring()
        fd = os.open(".", os.O_PATH)
        probe.probe_filesystem(fd)
        os.close(fd)
        took.append(time.perf_counter() - begun)
    assert min(took) < 0.015


# ------------------------------------------------------------------------------ filesystems


def test_a_filesystem_says_what_it_is(place: tuple[str, int]) -> None:
    """Kind, mount options and sizes agree with mount and statvfs."""
    kind, fd = place
    found = probe.probe_filesystem(fd)
    told = os.statvfs(f"/proc/self/fd/{fd}")
    assert found.kind == kind
    assert "noatime" in found.options
    assert not found.read_only
    assert found.name_max == 255
    assert found.has_birth_time
    assert found.block_bytes == told.f_frsize
    assert found.total_bytes == told.f_blocks * told.f_frsize


def test_mount_points_with_odd_names_are_read_back(tmp_path: Path) -> None:
    """Blanks and backslashes of a mount point, escaped in mountinfo, come back as they are."""
    need_filesystem("tmpfs")
    odd = tmp_path / "a b\\c\td"
    odd.mkdir()
    with mounted("-t", "tmpfs", "-o", "ro", "none", odd):
        fd = os.open(odd, os.O_PATH)
        found = probe.probe_filesystem(fd)
        os.close(fd)
    assert found.mount_point == str(odd)
    assert found.read_only
    assert "rw" not in found.options


def test_same_filesystem_or_not(filesystems: Filesystems) -> None:
    """Two directories of one filesystem are on the same one, two filesystems are not."""
    mount = filesystems.mount("ext4")
    with mount.directory() as one, mount.directory() as two:
        fds = [os.open(path, os.O_PATH) for path in (one, two, "/proc")]
        first, second, other = (probe.probe_filesystem(fd) for fd in fds)
        for fd in fds:
            os.close(fd)
    assert first.same_as(second)
    assert not first.same_as(other)


def test_without_proc_the_kind_is_known_by_its_number(place: tuple[str, int]) -> None:
    """What only the list of mounts tells is empty; statfs tells the rest."""
    need_root()
    kind, fd = place

    def ask() -> list[object]:
        hide_proc()
        found = probe.probe_filesystem(fd)
        return [found.kind, found.device, found.mount_point, found.options, found.name_max]

    assert in_child(ask) == [kind, "", "", [], 255]


# ----------------------------------------------------------------------------------- trials


def test_abilities_of_the_filesystems_we_know(place: tuple[str, int]) -> None:
    """What ext4, xfs, btrfs and tmpfs are known to have is found by trying."""
    need_root()
    kind, fd = place
    with trials.scratch_directory(fd) as scratch_fd:
        found = trials.try_abilities(scratch_fd)
    assert found.reflink.works is CLONES[kind]
    everywhere = ("copy_file_range", "tmpfile", "xattr_trusted", "xattr_security", "holes")
    everywhere += ("punch_hole", "preallocate", "hard_links", "symlinks", "fifos", "case_sensitive")
    assert [name for name in everywhere if not getattr(found, name).works] == []
    assert found.granule_ns == 1
    if kind != "tmpfs":  # tmpfs has user.* attributes since 6.6 only, O_DIRECT since 6.6 too
        assert found.acl.works
        assert found.xattr_user.works
        assert found.direct.works
        assert found.direct_bytes in (512, 1024, 2048, 4096)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_the_alignment_that_a_kernel_does_not_tell_is_found(
    kind: str, filesystems: Filesystems
) -> None:
    """Before Linux 6.1 writes of each size are tried: the least that works is what 6.1 tells."""
    with filesystems.mount(kind).directory() as path:
        fd = os.open(path / "file", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
        try:
            facts = probe.probe_filesystem(fd)
            told, tried = (
                trials.find_direct_alignment(fd, replace(facts, direct_known=known))
                for known in (True, False)
            )
        finally:
            os.close(fd)
    skip_without(facts.direct_known, "needs a kernel that tells the alignment (6.1)")
    assert tried == told


def test_a_filesystem_that_can_little() -> None:
    """On vfat the trials find two-second times, no links, and names without case."""
    known = Path("/proc/filesystems").read_text().split()
    skip_without("vfat" in known, "needs a kernel with vfat")
    need_root()
    with filesystem("vfat", options="") as mount:
        fd = os.open(mount.path, os.O_PATH)
        with trials.scratch_directory(fd) as scratch_fd:
            found = trials.try_abilities(scratch_fd)
        os.close(fd)
    assert found.granule_ns == 2_000_000_000
    assert found.case_sensitive.works is False
    assert found.hard_links.works is False
    assert found.symlinks.works is False
    assert found.xattr_user.works is False


def test_a_missing_right_is_not_a_missing_ability() -> None:
    """Without root, trusted attributes are unknown, not absent."""
    need_root()

    def trusted() -> list[object]:
        become_nobody()
        fd = os.open("/dev/shm", os.O_PATH)
        with trials.scratch_directory(fd) as scratch_fd:
            found = trials.try_abilities(scratch_fd).xattr_trusted
        return [found.works, found.why]

    works, why = in_child(trusted)
    assert works is None
    assert why == os.strerror(errno.EPERM)


def test_operations_are_seen_to_be_punted(place: tuple[str, int]) -> None:
    """What the kernel always forces to a worker is reported so; close and a cached open never."""
    need_uring()
    kind, fd = place
    with trials.scratch_directory(fd) as scratch_fd:
        found = {trial.name: trial for trial in trials.try_ring(scratch_fd, probe.probe_ring())}
        assert os.listdir(f"/proc/self/fd/{scratch_fd}") == []
    forced = ("statx", "mkdirat", "renameat", "unlinkat", "linkat", "symlinkat", "fsync")
    assert {name: found[name].way for name in forced} == dict.fromkeys(forced, "worker")
    assert found["open"].way == "inline"
    assert found["close"].way == "inline"
    if kind in ("ext4", "xfs", "btrfs"):
        assert found["read (cached)"].way == "inline"
        assert found["read (O_DIRECT)"].way in ("inline", "device")
    assert all(sum(trial.counts) == 5 for trial in found.values() if not trial.error)


def test_an_operation_the_kernel_lacks_is_not_tried(place: tuple[str, int]) -> None:
    """A ring without an operation says "missing", and the directory stays empty."""
    need_uring()
    ring = probe.Ring(error=0, operations=(probe.OPERATIONS.index("CLOSE"),))
    with trials.scratch_directory(place[1]) as scratch_fd:
        found = trials.try_ring(scratch_fd, ring)
    assert {trial.way for trial in found if trial.opcode != "CLOSE"} == {"missing"}


def test_a_ring_refused_in_mid_trial_is_a_finding(place: tuple[str, int]) -> None:
    """Trials whose own ring is refused say so, each with the errno, and leave nothing."""
    need_uring()
    ring = probe.probe_ring()
    with trials.scratch_directory(place[1]) as scratch_fd:
        with fault(Op.RING_SETUP, Action.ERROR, errno.ENOMEM, count=FOREVER):
            found = trials.try_ring(scratch_fd, ring)
        assert os.listdir(f"/proc/self/fd/{scratch_fd}") == []
    assert {(trial.way, trial.error) for trial in found} == {("failed", errno.ENOMEM)}


def test_without_a_ring_nothing_is_tried(place: tuple[str, int]) -> None:
    """No ring, no trials."""
    assert trials.try_ring(place[1], probe.Ring(error=errno.EPERM)) == ()


def test_the_scratch_directory_is_never_left_behind(place: tuple[str, int]) -> None:
    """An exception inside, with files and directories lying about, leaves the place as it was."""
    fd = place[1]
    os.utime(f"/proc/self/fd/{fd}", ns=(5, 123456789))

    def interrupted() -> None:
        with trials.scratch_directory(fd) as scratch_fd:
            os.mkdir("directory", dir_fd=scratch_fd)
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=scratch_fd))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(f"/proc/self/fd/{fd}") == []
    assert os.stat(f"/proc/self/fd/{fd}").st_mtime_ns == 123456789


# ---------------------------------------------------------------------------------- methods


@pytest.mark.parametrize("kind", ["xfs", "btrfs", "bcachefs", "zfs", "a-new-one"])
def test_blocks_are_shared_where_they_may_be(kind: str) -> None:
    """On one filesystem a reflink is tried, also on a type that nobody knows yet."""
    assert methods.choose(kind, kind, True).reflink


@pytest.mark.parametrize(("kind", "same"), [("ext4", True), ("tmpfs", True), ("xfs", False)])
def test_no_reflink_where_none_can_be(kind: str, same: bool) -> None:
    """Neither on ext4, nor between two filesystems."""
    assert not methods.choose(kind, kind, same).reflink


def test_copy_file_range_is_for_one_filesystem() -> None:
    """Between two filesystems it is EXDEV."""
    assert methods.choose("ext4", "ext4", True).copy_file_range
    assert not methods.choose("ext4", "xfs", False).copy_file_range


def test_every_pair_has_a_method_and_a_reason() -> None:
    """The table leaves nothing open, and each row says why in one line of words."""
    kinds = ("ext4", "xfs", "btrfs", "tmpfs", "nfs4", "fuse.sshfs", "vfat", "0x1234")
    for src in kinds:
        for dst in kinds:
            for same in {False, src == dst}:
                choice = methods.choose(src, dst, same)
                for decision in (choice.small, choice.big):
                    assert decision.method in set(Method) - {Method.NONE}
                    assert len(decision.why.split()) > 3
                    assert "@" not in decision.why
                assert choice.reflink_why
                assert choice.reading.why


def test_direct_writing_needs_a_ring() -> None:
    """Where O_DIRECT is best for big files, it is not without a ring."""
    assert methods.choose("ext4", "ext4", False).big.method == Method.DIRECT
    assert methods.choose("ext4", "ext4", False, ring=False).big.method == Method.READ_WRITE


def test_the_server_copies_by_itself() -> None:
    """On one NFS mount no byte travels; between two it does."""
    assert methods.choose("nfs4", "nfs4", True).big.method == Method.COPY_RANGE
    assert methods.choose("nfs4", "nfs4", False).big.method == Method.READ_WRITE


def test_reading_goes_round_the_ring_where_each_read_is_punted() -> None:
    """On tmpfs every read may block, so the ring would start a worker for each."""
    assert methods.choose("ext4", "xfs", False).reading.method == "ring"
    assert methods.choose("tmpfs", "xfs", False).reading.method == "plain"
    assert methods.choose("ext4", "xfs", False, ring=False).reading.method == "plain"


def test_the_engine_follows_the_ring() -> None:
    """A ring that can read means uring; a refusal or a ring that cannot means sync, with why."""
    full = probe.Ring(error=0, operations=tuple(range(len(probe.OPERATIONS))))
    assert methods.choose_engine(full)[0] == "uring"
    assert methods.choose_engine(probe.Ring(error=errno.EPERM), "no luck") == (
        "sync",
        "io_uring is refused: no luck",
    )
    poor = probe.Ring(error=0, operations=(0, 1, 2))
    name, why = methods.choose_engine(poor)
    assert name == "sync"
    assert "OPENAT" in why


def test_methods_are_named_as_the_option_takes_them() -> None:
    """The names of --copy-method."""
    names = [methods.method_name(method) for method in Method if method != Method.NONE]
    assert names == ["reflink", "copy_file_range", "splice", "read_write", "direct"]
