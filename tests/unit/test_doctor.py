"""What `arsync doctor` finds and how it says it."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from arsync.doctor import Doctor, examine, render
from arsync.doctor.system import examine_system
from arsync.model import Op
from arsync.uring.faults import FOREVER, Action, fault
from arsync.uring.probe import Ring
from arsync.uring.trials import Answer, Trial
from tests.kit.children import become_nobody, forbid_call, in_child
from tests.kit.filesystems import KINDS, Filesystems, filesystem
from tests.requirements import SYS_IO_URING_SETUP, need_filesystem, need_root, need_uring


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Doctor:
    """Examine one directory."""
    return examine([tmp_path_factory.mktemp("here")])


def words(text: str) -> str:
    """Return the text without its layout."""
    return " ".join(text.split())


# ---------------------------------------------------------------------------------- the paths


@pytest.mark.parametrize("kind", KINDS)
def test_a_path_is_examined_and_left_as_it_was(kind: str, filesystems: Filesystems) -> None:
    """All is tried on the path's own filesystem; names and modification time stay."""
    with filesystems.mount(kind).directory() as path:
        os.utime(path, ns=(1, 987654321))
        (place,) = examine([path]).places
        assert os.listdir(path) == []
        assert path.stat().st_mtime_ns == 987654321
    assert place.path == place.examined == os.fsencode(path)
    assert (place.note, place.untried) == ("", "")
    assert place.filesystem.kind == kind
    assert place.abilities.holes.works


def test_a_path_that_is_missing_stands_for_its_nearest_parent(tmp_path: Path) -> None:
    """A DST that does not exist yet is not made; the text says what was looked at."""
    doctor = examine([tmp_path / "not" / "there"])
    assert doctor.places[0].examined == os.fsencode(tmp_path)
    assert os.listdir(tmp_path) == []
    assert "nearest parent: the path does not exist yet" in words(render(doctor, 200))


def test_a_file_stands_for_its_directory(tmp_path: Path) -> None:
    """Nothing of the file is touched."""
    file = tmp_path / "file"
    file.write_bytes(b"content")
    (place,) = examine([file]).places
    assert place.examined == os.fsencode(tmp_path)
    assert place.note == "the directory it is in"
    assert file.read_bytes() == b"content"


def test_a_read_only_mount_is_examined_without_writing() -> None:
    """What cannot be tried is unknown, what the kernel tells is there, and the text says why."""
    need_filesystem("ext4")
    with filesystem("ext4", options="ro,noatime") as mount:
        doctor = examine([mount.path])
    (place,) = doctor.places
    assert place.filesystem.read_only
    assert place.filesystem.kind == "ext4"
    assert place.abilities.reflink.works is None
    assert place.trials == ()
    text = words(render(doctor, 200))
    assert f"nothing can be written there: {os.strerror(errno.EROFS)}" in text
    assert "(ro, noatime)" in text


def test_a_directory_of_somebody_else_is_examined_without_writing() -> None:
    """An ordinary user learns the type of a filesystem where he may not write, and why no more."""
    need_root()

    def find() -> dict[str, Any]:
        become_nobody()
        return examine(["/usr"]).to_json()

    found = in_child(find)
    assert found["system"]["root"] is False
    assert found["paths"][0]["untried"].endswith(os.strerror(errno.EACCES))
    assert found["paths"][0]["filesystem"]["kind"]


def test_the_alignment_of_a_read_only_mount_is_asked_of_a_file() -> None:
    """The kernel tells the alignment for O_DIRECT of files only: one in the directory serves."""
    need_filesystem("ext4")
    with filesystem("ext4") as mount:
        (mount.path / "file").write_bytes(b"x" * 8192)
        fd = os.open(mount.path / "file", os.O_RDONLY)
        os.close(fd)
        subprocess.run(["mount", "-o", "remount,ro", str(mount.path)], check=True)
        (place,) = examine([mount.path]).places
    if place.filesystem.direct_known:  # Linux 6.1
        assert place.filesystem.direct_offset_bytes in (512, 1024, 2048, 4096)


def test_a_path_that_cannot_be_reached_is_an_error(tmp_path: Path) -> None:
    """A loop of symlinks leads nowhere."""
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links") as raised:
        examine([tmp_path / "loop" / "x"])
    assert raised.value.errno == errno.ELOOP


# ---------------------------------------------------------------------------- the conclusions


def test_two_paths_give_a_choice(filesystems: Filesystems) -> None:
    """SRC and DST on one xfs: reflinks; from ext4 to xfs: none."""
    with (
        filesystems.mount("xfs").directory() as one,
        filesystems.mount("xfs").directory() as two,
        filesystems.mount("ext4").directory() as other,
    ):
        same, apart, back = examine([one, two]), examine([other, two]), examine([two, other])
    assert same.choice is not None
    assert same.choice.reflink
    assert apart.choice is not None
    assert not apart.choice.reflink
    assert "two filesystems cannot share blocks" in words(render(apart, 80))
    need_uring()
    assert "with holes read_write" in words(render(back, 80))


def test_subvolumes_of_btrfs_are_one_filesystem(filesystems: Filesystems) -> None:
    """Each has a device number of its own, and files of one can be cloned in the other."""
    with filesystems.mount("btrfs").directory() as path:
        subvolume = path / "subvolume"
        subprocess.run(["btrfs", "-q", "subvolume", "create", str(subvolume)], check=True)
        doctor = examine([path, subvolume])
        subprocess.run(["btrfs", "-q", "subvolume", "delete", str(subvolume)], check=True)
    assert doctor.choice is not None
    assert doctor.choice.reflink


def test_one_path_gives_no_choice(here: Doctor) -> None:
    """The text says how to get one."""
    assert here.choice is None
    assert "name SRC and DST" in words(render(here))


def test_a_refused_ring_means_the_plain_engine(tmp_path: Path) -> None:
    """With ENOMEM from the kernel the rest is found all the same, and the text says why."""
    with fault(Op.RING_SETUP, Action.ERROR, errno.ENOMEM, count=FOREVER):
        doctor = examine([tmp_path, tmp_path])
    assert doctor.engine.name == "sync"
    assert doctor.places[0].trials == ()
    assert doctor.choice is not None
    assert doctor.choice.reading.method == "plain"
    text = words(render(doctor))
    assert "refused not enough memory, or RLIMIT_MEMLOCK is too small" in text
    assert "sync: io_uring is refused" in text


def test_a_container_s_filter_is_named(tmp_path: Path) -> None:
    """A real seccomp filter: the reason is its own, not only an errno."""
    need_uring()

    def find() -> dict[str, Any]:
        forbid_call(SYS_IO_URING_SETUP, errno.EPERM)
        return examine([tmp_path]).to_json()

    found = in_child(find)
    assert found["system"]["seccomp"] == 2
    assert found["ring"]["available"] is False
    assert "seccomp" in found["ring"]["why_not"]
    assert found["use"]["engine"]["name"] == "sync"


def test_plain_calls_follow_the_kernel(here: Doctor) -> None:
    """getdents64 has no operation in any kernel; ftruncate has one since 6.9."""
    need_uring()
    assert "getdents64" in here.plain_calls
    assert ("ftruncate" in here.plain_calls) == (not here.ring.has("FTRUNCATE"))


def test_the_system_is_described() -> None:
    """Version, cores and limits are those of this process."""
    system = examine_system()
    assert system.version >= (5, 8)
    assert system.cores == len(os.sched_getaffinity(0))
    assert system.memory_bytes > 1 << 20
    assert system.root == (os.geteuid() == 0)
    assert replace(system, kernel="7.12.0-rc1").version == (7, 12)
    assert replace(system, kernel="strange").version == (0, 0)


# --------------------------------------------------------------------------- text and machines


@pytest.mark.parametrize("width", [40, 60, 80, 132])
def test_the_text_keeps_to_the_width(here: Doctor, width: int) -> None:
    """Only a word that is longer than the room for it may stick out; here none is."""
    without_paths = replace(here, places=())
    lines = render(without_paths, width).splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0] == "system"


def test_the_text_has_each_group(here: Doctor) -> None:
    """In the order in which a person reads them."""
    heads = [line for line in render(here).splitlines() if line and not line.startswith(" ")]
    assert heads == ["system", "io_uring", os.fsdecode(here.places[0].path), "what arsync will use"]
    assert render(here).endswith("\n")


def test_the_text_says_what_another_machine_would_lack(here: Doctor) -> None:
    """One core, a container, a filter, a poor ring, odd limits: each has its words."""
    system = replace(
        here.system,
        cores=1,
        root=False,
        container="/.dockerenv",
        seccomp=2,
        cgroup_bytes=3 << 30,
        descriptors=(1024, None),
        memlock_bytes=(8 << 20, 8 << 20),
        ignores_memlock=False,
    )
    ring = Ring(error=0, operations=(0, 1, 3), depth=64, buffer_bytes=1536, buffer_error=12)
    text = words(render(replace(here, system=system, ring=ring), 500))
    for said in (
        "1 core, run by an ordinary user",
        "limited to 3 GiB",
        "descriptors 1024, up to unlimited when asked for",
        "memlock 8 MiB seccomp",
        "a filter may forbid system calls",
        "likely: there is /.dockerenv",
        "with none of the newer flags",
        "1.5 KiB registered; more: Cannot allocate memory",
        "3, up to FSYNC; not WRITEV",
    ):
        assert said in text


def test_the_text_says_what_another_filesystem_would_lack(here: Doctor) -> None:
    """Abilities that are missing or unknown come with their reasons; times by their unit."""
    (place,) = here.places
    poor = replace(
        place.abilities,
        acl=Answer(False, "Operation not supported"),
        fifos=Answer(False),
        xattr_trusted=Answer(None, "Operation not permitted"),
        direct=Answer(False, "Invalid argument"),
        granule_ns=2_000_000_000,
    )
    old = replace(
        place.filesystem, has_birth_time=False, total_inodes=9, free_inodes=7, device="", options=()
    )
    trials = (
        Trial("read (cold)", "READ", "failed", (0, 0, 0), errno.EBUSY),
        Trial("statx", "STATX", "failed", (0, 0, 0), errno.ENOMEM),
        Trial("splice", "SPLICE", "missing", (0, 0, 0), 0),
    )
    changed = replace(
        place, abilities=poor, filesystem=old, trials=trials, multigrain=False, untried=""
    )
    text = words(render(replace(here, places=(changed,)), 500))
    for said in (
        "POSIX ACLs (Operation not supported), fifos not known",
        "not known trusted.* (Operation not permitted)",
        "times units of 2000000000 ns, no birth times O_DIRECT",
        "O_DIRECT no (Invalid argument)",
        f"filesystem {old.kind} free",
        "7 inodes; names up to",
        "no operation splice",
        "read (cold): files stay in the cache, statx (Cannot allocate memory)",
    ):
        assert said in text
    blind = replace(poor, granule_ns=0)
    text = words(render(replace(here, places=(replace(changed, abilities=blind),)), 500))
    assert "times of unknown precision" in text


@pytest.mark.parametrize(
    ("known", "alignment", "said"),
    [(True, 4096, "O_DIRECT in units of 4096 bytes"), (True, 0, "O_DIRECT no"), (False, 0, "")],
)
def test_what_is_known_without_trying_is_said(
    here: Doctor, known: bool, alignment: int, said: str
) -> None:
    """Of a place where nothing may be written, the kernel tells birth times and alignment."""
    (place,) = here.places
    filesystem = replace(
        place.filesystem,
        direct_known=known,
        direct_memory_bytes=min(alignment, 4),
        direct_offset_bytes=alignment,
    )
    blind = replace(place, filesystem=filesystem, untried="not tried: no right", trials=())
    text = words(render(replace(here, places=(blind,)), 500))
    assert "abilities not tried: no right times" in text
    assert said in text
    assert ("O_DIRECT" in text.split("what arsync will use")[0]) == known


def test_json_takes_all_of_it(here: Doctor) -> None:
    """json.dumps needs no help, and each answer has its reason."""
    found = json.loads(json.dumps(here.to_json()))
    assert found["schema"] == 1
    assert found["ring"]["operations"]["READ"] == 22
    assert set(found["paths"][0]["abilities"]["reflink"]) == {"works", "why"}
    assert {trial["operation"] for trial in found["paths"][0]["ring"]} >= {"open", "statx", "close"}
    assert found["use"]["copy"] is None


def test_json_names_the_methods(tmp_path: Path) -> None:
    """As --copy-method takes them."""
    found = examine([tmp_path, tmp_path]).to_json()
    assert found["use"]["copy"]["small"]["method"] == "read_write"


def test_a_path_that_is_no_text(tmp_path: Path) -> None:
    """Bytes come twice in JSON and escaped in the text."""
    path = os.fsencode(tmp_path) + b"/\xff\n"
    os.mkdir(path)
    doctor = examine([path])
    (found,) = doctor.to_json()["paths"]
    assert found["path_b64"]
    assert json.dumps(found)
    assert "\\#377\\#012" in render(doctor)


def test_doctor_needs_no_rich() -> None:
    """The import of rich takes longer than all others."""
    code = "import sys, arsync.doctor; sys.exit('rich' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
