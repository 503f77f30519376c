"""C's merge join against a dict: any two pages, any options."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from arsync.diff import diff
from arsync.model import Keep, Kind, ProblemKind, Why
from arsync.options import LARGEST_SIZE, Preserve, SyncOptions, UpdatePolicy
from arsync.uring import Identity, Rules
from arsync.uring._native import lib
from tests.pages import BLK, CHR, DIR, FIFO, LNK, REG, SOCK, Page, Pair, Row, batch_of
from tests.property.diff_model import BAD, Expected, Plain, attributes, compare

NAMES = st.one_of(
    st.sampled_from([b"a", b"b", b"aa", b"a\x01", b"\xff", b"B", b"a" * 255]),
    st.binary(min_size=1, max_size=3).filter(lambda name: not set(name) & {0, 47}),
)
TIMES = st.tuples(
    st.sampled_from([0, -1, 1, -2, 2**40, -(2**62), 2**62]),
    st.sampled_from([0, 1, 999, 1_000, 500_000_000, 999_999_999]),
)
FLAGS = st.sampled_from([0] * 9 + [BAD])


@st.composite
def rows(draw: st.DrawFn, name: bytes) -> Row:
    """Draw an entry of few values, so that two of them often agree."""
    kind = draw(st.sampled_from([REG, REG, DIR, LNK, FIFO, SOCK, CHR, BLK]))
    return Row(
        name=name,
        type=kind,
        mode=0o777 if kind == LNK else draw(st.sampled_from([0o644, 0o4755])),
        uid=draw(st.sampled_from([0, 1, 2**32 - 2])),
        gid=draw(st.sampled_from([0, 1])),
        size=draw(st.sampled_from([0, 1, 2**40])) if kind == REG else 0,
        mtime=draw(TIMES),
        atime=draw(TIMES),
        rdev=draw(st.sampled_from([(1, 3), (1, 5)])) if kind in (CHR, BLK) else (0, 0),
        target=draw(st.sampled_from([b"x", b"xy"])) if kind == LNK else b"",
        xattrs=draw(st.sampled_from([0, 1])),
        acls=draw(st.sampled_from([0, 1])),
        flags=draw(FLAGS),
    )


@st.composite
def sides(draw: st.DrawFn) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Draw two directories; what both have is often the same, or the same but for one field."""
    src: list[Row] = []
    dst: list[Row] = []
    for name in draw(st.sets(NAMES, max_size=12)):
        row, other = draw(rows(name)), draw(rows(name))
        where = draw(st.sampled_from(["src", "dst", "same", "near", "near", "other"]))
        if where != "dst":
            src.append(row)
        if where == "same":
            dst.append(row)
        elif where == "near":
            field = draw(st.sampled_from(["mode", "uid", "gid", "mtime", "atime", "xattrs"]))
            dst.append(replace(row, **{field: getattr(other, field)}))
        elif where != "src":
            dst.append(other)
    return tuple(src), tuple(dst)


PRESERVE = st.builds(
    Preserve, **{name: st.booleans() for name in Preserve.__dataclass_fields__}
).map(lambda preserve: replace(preserve, perms=preserve.perms or preserve.acls))


SWITCH = st.sampled_from((False, False, True))
UPDATE = st.builds(
    UpdatePolicy,
    update=SWITCH,
    checksum=SWITCH,
    ignore_times=SWITCH,
    size_only=SWITCH,
    existing=SWITCH,
    ignore_existing=SWITCH,
    modify_window=st.sampled_from((None, None, -1, 0, 1, 2)),
    min_size=st.sampled_from((0, 0, 0, 1, 5)),
    max_size=st.sampled_from((LARGEST_SIZE, LARGEST_SIZE, 0, 1, 5)),
)


def plain_keep(preserve: Preserve) -> Keep:
    """Return the bits of the options, by their names."""
    keep = Keep.DIRS if preserve.recursive else Keep(0)
    for name in preserve.__dataclass_fields__:
        if name not in ("recursive", "hard_links") and getattr(preserve, name):
            keep |= Keep[name.upper()]
    return keep


@given(
    both=sides(),
    preserve=PRESERVE,
    granule_ns=st.sampled_from([1, 1, 100, 1_000, 10**9, 2 * 10**9]),
    root=st.booleans(),
    update=UPDATE,
)
@example(both=((), ()), preserve=Preserve(), granule_ns=1, root=False, update=UpdatePolicy())
def test_the_join_agrees_with_a_dict(
    both: tuple[tuple[Row, ...], tuple[Row, ...]],
    preserve: Preserve,
    granule_ns: int,
    root: bool,
    update: UpdatePolicy,
) -> None:
    """Changes, children, skipped types and the mark on the pair are those of the model."""
    src, dst = both
    rules = Rules(
        SyncOptions(preserve=preserve, update=update),
        granule_ns,
        Identity(umask=0o022, is_root=root, groups=(0, 1)),
    )
    plain = Plain(plain_keep(preserve), granule_ns, root=root, update=update)
    batch = batch_of(Pair(Page(src), Page(dst)))
    diff(batch, rules)
    assert found_in(batch, src) == compare(plain, src, dst)


@given(own=st.tuples(rows(b""), rows(b"")), preserve=PRESERVE)
def test_a_directory_itself_differs_in_what_the_options_keep(
    own: tuple[Row, Row], preserve: Preserve
) -> None:
    """The own rows of a directory that both sides have are compared like any entry's."""
    src, dst = (replace(row, type=DIR, target=b"", flags=0) for row in own)
    rules = Rules(SyncOptions(preserve=preserve), 1, Identity(0o022, True, ()))
    batch = batch_of(Pair(Page(own=src), Page(own=dst)))
    diff(batch, rules)
    why = attributes(Plain(plain_keep(preserve)), src, dst)
    pair = batch.raw.pairs[0]
    assert Why(pair.self.why) == why
    assert pair.self.kind == (Kind.DIR if why else 0)
    assert bool(pair.flags & lib.AR_PAIR_TOUCHED) == (Why.MTIME in why)


@given(both=sides())
def test_equal_sides_need_nothing(both: tuple[tuple[Row, ...], tuple[Row, ...]]) -> None:
    """What is compared with itself gives no change, whatever is in it."""
    src, _ = both
    batch = batch_of(Pair(Page(src), Page(src)))
    everything = Preserve(**dict.fromkeys(Preserve.__dataclass_fields__, True))
    diff(batch, Rules(SyncOptions(preserve=everything), 1, Identity(0, True, ())))
    assert list(batch.changes()) == []
    assert not batch.raw.pairs[0].flags & lib.AR_PAIR_TOUCHED


def found_in(batch: object, src: tuple[Row, ...]) -> Expected:
    """Read what C found in the one pair of a batch."""
    raw = batch.raw  # type: ignore[attr-defined]
    names = sorted(row.name for row in src)
    pair = raw.pairs[0]
    assert (pair.change_first, pair.change_count) == (0, raw.change_count)
    changes = raw.changes[0 : raw.change_count] if raw.change_count else []
    children = raw.children[0 : raw.child_count] if raw.child_count else []
    problems = raw.problems[0 : raw.problem_count] if raw.problem_count else []
    assert all(problem.kind == ProblemKind.SKIPPED for problem in problems)
    return Expected(
        changes=[(names[one.src_row], Kind(one.kind), Why(one.why)) for one in changes],
        children=[
            (
                names[one.row],
                bool(one.flags & lib.AR_CHILD_DST_DIR),
                bool(one.flags & lib.AR_CHILD_DST_OTHER),
            )
            for one in children
        ],
        skipped=[names[one.row] for one in problems],
        touched=bool(pair.flags & lib.AR_PAIR_TOUCHED),
    )
