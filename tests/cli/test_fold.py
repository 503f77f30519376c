"""What options add up to, in the order given."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arsync.cli.fold import Folded, fold
from arsync.cli.words import read_words
from arsync.errors import UsageError
from arsync.options import ARCHIVE, SyncOptions, UpdatePolicy

LETTERS = {
    "r": "recursive",
    "d": "dirs",
    "l": "links",
    "p": "perms",
    "t": "times",
    "g": "group",
    "o": "owner",
}


def folded(words: str) -> Folded:
    """Read and fold a command line without operands."""
    return fold(read_words(words.split()).given, umask=0o022)


def kept(words: str) -> set[str]:
    """Return the names of what is preserved."""
    preserve = dataclasses.asdict(folded(words).sync.preserve)
    return {name for name, value in preserve.items() if value}


ARCHIVED = {name for name, value in dataclasses.asdict(ARCHIVE).items() if value}


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("", ARCHIVED),
        ("-v", ARCHIVED),
        ("-H -v", ARCHIVED | {"hard_links"}),
        ("-a", ARCHIVED),
        ("-a --no-o", ARCHIVED - {"owner"}),
        ("--no-o -a", ARCHIVED),
        ("--no-o", set()),
        ("-p --no-p -p", {"perms"}),
        ("-p --no-p", set()),
        ("-r", {"recursive"}),
        ("-rlptgoD", ARCHIVED),
        ("-a --no-D", ARCHIVED - {"devices", "specials"}),
        ("-a --no-devices", ARCHIVED - {"devices"}),
        ("--no-devices", ARCHIVED - {"devices"}),
        ("-rA", {"recursive", "perms", "acls"}),
        ("-rA --no-A", {"recursive", "perms"}),
        (
            "-aAXHUOJ",
            ARCHIVED
            | {*("acls", "xattrs", "hard_links", "atimes")}
            | {"omit_dir_times", "omit_link_times"},
        ),
        ("-aX --no-X", ARCHIVED),
        ("-aXX --no-X -X", ARCHIVED | {"xattrs"}),
        ("-r --usermap=0:1 --groupmap=0:1", {"recursive", "owner", "group"}),
        ("-r --chown=0:0", {"recursive", "owner", "group"}),
        ("-r --chown=:0", {"recursive", "group"}),
        ("-r --chown=0:0 --no-o", {"recursive", "group"}),
        ("-R", set()),
        ("--relative -D", {"devices", "specials"}),
    ],
)
def test_options_fold_in_order(words: str, names: set[str]) -> None:
    """Each occurrence changes what stands before it; without a mode option it is -a."""
    assert kept(words) == names


WORDS = st.lists(
    st.sampled_from(
        ["-a", "-A", "--no-A", "-D", "--no-D", "--devices", "--no-specials"]
        + [f"-{letter}" for letter in LETTERS]
        + [f"--no-{letter}" for letter in LETTERS]
        + [f"--{name}" for name in LETTERS.values()]
        + [f"--no-{name}" for name in LETTERS.values()]
    ),
    max_size=12,
)


def model(words: list[str]) -> set[str]:
    """Fold as rsync's manual says it, on a set of names."""
    archive = {*LETTERS.values(), "devices", "specials"} - {"dirs"}
    modes = {"-a", "-D", "--no-D", *(f"-{c}" for c in LETTERS), *(f"--no-{c}" for c in LETTERS)}
    modes |= {f"--{name}" for name in LETTERS.values()}
    modes |= {f"--no-{name}" for name in LETTERS.values()}
    state = set() if modes & set(words) else set(archive)
    for word in words:
        bare = word.removeprefix("--no-").lstrip("-")
        names = {
            "a": archive,
            "A": {"acls"} if word.startswith("--no-") else {"acls", "perms"},
            "D": {"devices", "specials"},
        }.get(bare, {LETTERS.get(bare, bare)})
        state = state - names if word.startswith("--no-") else state | names
    return state


@given(WORDS)
def test_any_order_folds_as_the_model_does(words: list[str]) -> None:
    """Random sequences of mode options agree with a model that fits on a page."""
    assert kept(" ".join(words)) == model(words)


def field(options: SyncOptions, path: str) -> object:
    """Return a field by its dotted name."""
    value: object = options
    for name in path.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize(
    ("words", "path", "value"),
    [
        ("-L", "links.copy_links", True),
        ("-k", "links.copy_dirlinks", True),
        ("-K", "links.keep_dirlinks", True),
        ("--safe-links", "links.safe_links", True),
        ("--copy-unsafe-links", "links.copy_unsafe_links", True),
        ("-L --no-L", "links.copy_links", False),
        ("-x", "one_file_system", 1),
        ("-xx", "one_file_system", 2),
        ("-xxx", "one_file_system", 2),
        ("-xx --no-x", "one_file_system", 0),
        ("-R", "relative", True),
        ("-n", "write.dry_run", True),
        ("-n --no-dry-run", "write.dry_run", False),
        ("--inplace", "write.inplace", True),
        ("--inplace --temp-dir=/t", "write.temp_dir", b"/t"),
        ("-S", "write.sparse", True),
        ("--preallocate", "write.preallocate", True),
        ("-W", "write.whole_file", True),
        ("-W --no-whole-file", "write.whole_file", False),
        ("--mkpath", "write.mkpath", True),
        ("--mkpath --no-mkpath", "write.mkpath", False),
        ("-T /t", "write.temp_dir", b"/t"),
        ("--bwlimit=1m", "write.bwlimit_bytes", 1 << 20),
        ("--bwlimit=10 --no-bwlimit", "write.bwlimit_bytes", 0),
        ("--numeric-ids", "owners.numeric_ids", True),
        ("--engine=sync", "engine.engine", "sync"),
        ("--cpu-count 3", "engine.cpu_count", 3),
        ("--queue-depth=32768", "engine.queue_depth", 32768),
        ("--max-files-in-flight=9", "engine.files_in_flight", 9),
        ("--buffer-size=1M", "engine.buffer_bytes", 1 << 20),
        ("--max-memory=256M", "engine.memory_bytes", 256 << 20),
        ("--scan-threads=8", "engine.scan_threads", 8),
        ("--copy-method=direct", "engine.copy_method", "direct"),
        ("--reflink=never", "engine.reflink", "never"),
        ("-vv", "report_unchanged", True),
        ("-ii", "report_unchanged", True),
        ("-vv --info=name1", "report_unchanged", False),
        ("--info=name2", "report_unchanged", True),
        ("--delete --trash-dir=.t", "delete.trash_dir", b".t"),
        ("--delete --trash-dir=\udcff", "delete.trash_dir", b"\xff"),
    ],
)
def test_an_option_sets_its_field(words: str, path: str, value: object) -> None:
    """Each option reaches the field that a stage reads, and its --no- form takes it back."""
    assert field(folded(words).sync, path) == value


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("", "out_format", None),
        ("-v", "out_format", "%n%L"),
        ("-i", "out_format", "%i %n%L"),
        ("-i --no-i", "out_format", None),
        ("-v --info=name0", "out_format", None),
        ("-i --out-format=%f", "out_format", "%f"),
        ("--log-format=%f", "out_format", "%f"),
        ("", "human_readable", 1),
        ("-h", "human_readable", 2),
        ("-hh", "human_readable", 3),
        ("-hhh", "human_readable", 3),
        ("--no-h", "human_readable", 0),
        ("--no-h -h", "human_readable", 1),
        ("-vvv", "verbosity", 3),
        ("-vvv --no-v -v", "verbosity", 1),
        ("-q", "quiet", True),
        ("-q --no-quiet", "quiet", False),
        ("--json", "json", True),
        ("--progress", "progress_level", 1),
        ("-P", "progress_level", 1),
        ("-P", "name_level", 1),
        ("-P --info=name0", "out_format", None),
        ("--info=stats0", "summary", False),
        ("--info=progress0", "live_view", False),
        ("-P --no-progress", "progress_level", 0),
        ("--info=progress2", "progress_level", 2),
        ("--info=PROGRESS2,stats", "progress_level", 2),
        ("--progress --info=progress0", "progress_level", 0),
        ("--stats", "stats_level", 2),
        ("--stats -vv", "stats_level", 3),
        ("-v", "stats_level", 1),
        ("-v --info=stats0", "stats_level", 0),
        ("--info=all4", "stats_level", 3),
        ("-v --info=none", "name_level", 0),
        ("--info=flist0,misc0,name", "name_level", 1),
        ("--info=name9,progress4", "name_level", 2),
        ("--info=progress9", "progress_level", 2),
        ("--info=symsafe", "symsafe", True),
        ("-v", "symsafe", True),
        ("-v --info=symsafe0", "symsafe", False),
        ("", "symsafe", False),
        ("--info=nonreg0", "nonreg", False),
        ("", "nonreg", True),
        ("-v", "removals", False),
        ("-vv", "removals", True),
        ("--info=remove", "removals", True),
        ("-v", "backups", False),
        ("-vv", "backups", True),
        ("--info=backup", "backups", True),
        ("-v", "skip_level", 0),
        ("-vv", "skip_level", 1),
        ("-vv --info=skip0", "skip_level", 0),
        ("--info=skip2", "skip_level", 2),
        ("--log-file=/l", "log_file", b"/l"),
        ("--log-file=/l", "log_format", "%i %n%L"),
        ("--log-file=/l --log-file-format=", "log_format", ""),
    ],
)
def test_an_option_sets_what_its_reader_sees(words: str, name: str, value: object) -> None:
    """The options of output reach the field that the command reads."""
    assert getattr(folded(words).output, name) == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--queue-depth=0", "--queue-depth: 0 is out of range (1 to 32768)"),
        ("--queue-depth=32769", "--queue-depth: 32769 is out of range (1 to 32768)"),
        ("--queue-depth=-1", "--queue-depth: -1 is out of range"),
        ("--queue-depth=many", "--queue-depth: 'many' is not a whole number"),
        ("--cpu-count=0", "--cpu-count: 0 is out of range"),
        ("--max-files-in-flight=0", "--max-files-in-flight: 0 is out of range"),
        ("--scan-threads=257", "--scan-threads: 257 is out of range (1 to 256)"),
        ("--buffer-size=1", "--buffer-size: 1 is out of range (4096 to 1073741824)"),
        ("--max-memory=1M", "--max-memory: 1048576 is out of range"),
        ("--max-memory=lots", "--max-memory: 'lots' is not a size"),
        ("--engine=fast", "--engine: 'fast' is not one of auto, uring, sync"),
        ("--copy-method=cat", "--copy-method: 'cat' is not one of"),
        ("--reflink=maybe", "--reflink: 'maybe' is not one of"),
        ("--fsync=group", "--fsync: 'group' is not one of file, none"),
        ("--bwlimit=fast", "--bwlimit: 'fast' is not a size"),
        ("--chmod=u+q", "--chmod: cannot read 'u+q'"),
        ("--usermap=x", "--usermap: 'x' has no colon"),
        ("--usermap=0:0 --usermap=0:0", "--usermap can be given once only"),
        ("--usermap=0:0 --chown=0", "--chown conflicts with --usermap before it"),
        ("--chown=:0 --groupmap=0:0", "--groupmap conflicts with --chown before it"),
        ("--chown=no.such.user", "--chown: there is no user 'no.such.user' on this machine"),
        ("--inplace --partial-dir=x", "--inplace cannot be used with --partial-dir"),
        ("-XX", "-X given twice is rsync's, but not in arsync yet"),
        ("-UU", "-U given twice is rsync's, but not in arsync yet"),
        ("--compress-level=x", "--compress-level: 'x' is not a whole number"),
        ("-z --zl=1.5", "--compress-level: '1.5' is not a whole number"),
        ("--compress-threads=all", "--compress-threads: 'all' is not a whole number"),
        ("--port=ssh", "--port: 'ssh' is not a whole number"),
        ("--protocol=new", "--protocol: 'new' is not a whole number"),
        ("--contimeout=soon", "--contimeout: 'soon' is not a whole number"),
        ("--block-size=abc", "--block-size: 'abc' is not a size"),
        ("-B 200000", "--block-size: '200000' is out of range (0 to 131072 bytes)"),
        ("--info=colour", "--info: there is no 'colour'"),
        ("--out-format=%Z", "--out-format: '%Z' is no escape"),
        ("--out-format=%h", "--out-format: '%h' is no escape"),
        ("--out-format=%c", "--out-format: '%c' is no escape"),
        ("--json --out-format=%n", "--json cannot be used with --out-format"),
        ("--log-file-format=%20Z", "--log-file-format: '%20Z' is no escape"),
        ("--temp-dir=", "--temp-dir: the name of the directory is empty"),
    ],
)
def test_what_makes_no_sense_is_refused(words: str, message: str) -> None:
    """A value out of range, an unknown word or a contradiction names the option and says why."""
    with pytest.raises(UsageError) as caught:
        folded(words)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["%i %n%L", "%-30n|%'l %''l", "100%% %f", "%o %B %U %G %M %t %p"])
def test_formats_that_can_be_filled_pass(text: str) -> None:
    """Widths, apostrophes and every escape that means something on one machine are fine."""
    line = read_words([f"--out-format={text}"])
    assert fold(line.given, 0).output.out_format == text


def test_each_option_without_effect_has_one_note() -> None:
    """What is accepted without effect says so once, as it was spelled."""
    notes = folded("-z -e ssh --partial -z --no-s -a --fsync").notes
    assert [note.split(" ")[0] for note in notes] == ["-z", "-e", "--partial", "--no-s", "--fsync"]
    assert all(" has no effect: " in note for note in notes)
    assert folded("-aAXP --info=flist0,name,all").notes == ()
    (silent,) = folded("--info=flist2,flist").notes
    assert silent == "--info=flist has no effect: arsync has no such messages"


@pytest.mark.parametrize(
    ("words", "update"),
    [
        ("-u", UpdatePolicy(update=True)),
        ("-uI --no-u", UpdatePolicy(ignore_times=True)),
        ("--ignore-non-existing --size-only", UpdatePolicy(existing=True, size_only=True)),
        ("--ignore-existing", UpdatePolicy(ignore_existing=True)),
        ("-a", UpdatePolicy()),
        ("-@0", UpdatePolicy(modify_window=0)),
        ("-@-1", UpdatePolicy(modify_window=-1)),
        ("-@ 2 --modify-window=3", UpdatePolicy(modify_window=3)),
    ],
)
def test_update_rules(words: str, update: UpdatePolicy) -> None:
    """Each update rule reaches the policy, and a window that is not given is none."""
    assert folded(words).sync.update == update


@pytest.mark.parametrize(("words", "passed"), [("", False), ("--info=skip", True), ("-vv", True)])
def test_what_is_left_alone_is_reported_on_request(words: str, passed: bool) -> None:
    """A run is asked for what the update rules leave alone only where it will be named."""
    assert folded(words).sync.report_passed == passed


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("", None),
        ("--suffix=.old", None),
        ("-b", b"d/f~"),
        ("-b --no-b", None),
        ("-b --suffix .old", b"d/f.old"),
        ("--backup-dir=bak", b"bak/d/f"),
        ("--backup-dir=/bak/ --suffix=~", b"/bak/d/f~"),
    ],
)
def test_where_backups_are_kept(words: str, kept: bytes | None) -> None:
    """The name of a backup follows from the three options; --backup-dir alone is enough."""
    write = folded(words).sync.write
    assert (write.backup_name(b"d/f") if write.backup else None) == kept


@pytest.mark.parametrize("words", ["-b --suffix=", "-b --suffix=a/b", "--backup-dir="])
def test_backups_without_a_name_of_their_own_are_refused(words: str) -> None:
    """What would make a backup of the file itself, or lead elsewhere, is a usage error."""
    with pytest.raises(UsageError):
        folded(words)
