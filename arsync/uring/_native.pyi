"""What mypy knows of the compiled module: every name of `src/arsync.h`.

A C pointer, struct or array is Any here: cffi checks those when they are used. The test of this
file fails when the header has a name that is missing here.
"""

from typing import Any, TypeAlias

CData: TypeAlias = Any

class _FFI:
    NULL: CData
    errno: int
    def new(self, cdecl: str, init: object = ...) -> CData: ...
    def gc(self, cdata: CData, destructor: object, size: int = ...) -> CData: ...
    def release(self, cdata: CData) -> None: ...
    def cast(self, cdecl: str, value: object) -> CData: ...
    def sizeof(self, cdecl: object) -> int: ...
    def offsetof(self, cdecl: str, *fields: str | int) -> int: ...
    def typeof(self, cdecl: object) -> Any: ...
    def addressof(self, cdata: CData, *fields: str | int) -> CData: ...
    def buffer(self, cdata: CData, size: int = ...) -> Any: ...
    def from_buffer(self, cdecl: object, source: object = ...) -> CData: ...
    def unpack(self, cdata: CData, length: int) -> Any: ...
    def string(self, cdata: CData, maxlen: int = ...) -> bytes: ...
    def memmove(self, dest: object, src: object, n: int) -> None: ...

class _Lib:
    AR_FORMAT: int
    AR_PAGE_ROWS: int
    AR_NONE: int
    AR_NO_PAGE: int
    AR_KEY_BYTES: int
    AR_HASH_CHUNK: int
    AR_BIG_BYTES: int
    AR_ROW_MOUNT: int
    AR_ROW_FOLLOWED: int
    AR_ROW_BAD: int
    AR_ROW_SPARSE: int
    AR_PAGE_FIRST: int
    AR_PAGE_LAST: int
    AR_PAGE_PARTIAL: int
    AR_CHANGE_DATA: int
    AR_CHANGE_META: int
    AR_CHANGE_SYMLINK: int
    AR_CHANGE_SPECIAL: int
    AR_CHANGE_LINK: int
    AR_CHANGE_DIR: int
    AR_CHANGE_DELETE: int
    AR_CHANGE_CHECK: int
    AR_CHANGE_NONE: int
    AR_CHANGE_REMOVE: int
    AR_CHANGE_MOVE: int
    AR_CHANGE_BACKED_UP: int
    AR_CHANGE_EXPECTS: int
    AR_CHANGE_PARTLY: int
    AR_WHY_NEW: int
    AR_WHY_TYPE: int
    AR_WHY_SIZE: int
    AR_WHY_MTIME: int
    AR_WHY_MODE: int
    AR_WHY_UID: int
    AR_WHY_GID: int
    AR_WHY_ATIME: int
    AR_WHY_XATTR: int
    AR_WHY_ACL: int
    AR_WHY_TARGET: int
    AR_WHY_LINK: int
    AR_WHY_CONTENT: int
    AR_WHY_EXTRA: int
    AR_WHY_CHECKSUM: int
    AR_WHY_CTIME: int
    AR_WHY_INODE: int
    AR_WHY_RACY: int
    AR_WHY_LARGE: int
    AR_WHY_SMALL: int
    AR_WHY_NEWER: int
    AR_WHY_EXISTS: int
    AR_WHY_COPIED: int
    AR_WHY_MOVED: int
    AR_MOVING_CLONES: int
    AR_MOVING_DELETES: int
    AR_MOVING_BACKS_UP: int
    AR_MOVING_IN_PLACE: int
    AR_MOVING_KEEPS_TIMES: int
    AR_STATE_PLANNED: int
    AR_STATE_LATER: int
    AR_STATE_DONE: int
    AR_STATE_FAILED: int
    AR_STATE_SKIPPED: int
    AR_STATE_BIG: int
    AR_METHOD_NONE: int
    AR_METHOD_REFLINK: int
    AR_METHOD_COPY_RANGE: int
    AR_METHOD_SPLICE: int
    AR_METHOD_READ_WRITE: int
    AR_METHOD_DIRECT: int
    AR_CHANGE_HASHED: int
    AR_CHANGE_UNSTABLE: int
    AR_CHANGE_LEADER: int
    AR_CHANGE_KNOWS_SRC: int
    AR_CHANGE_KNOWS_DST: int
    AR_PAIR_NEW: int
    AR_PAIR_REPLACE: int
    AR_PAIR_NAMED: int
    AR_PAIR_SHALLOW: int
    AR_PAIR_ROOT: int
    AR_PAIR_FINISH: int
    AR_PAIR_TOUCHED: int
    AR_PAIR_FOLLOW: int
    AR_PAIR_IMPLIED: int
    AR_PAIR_GIVEN: int
    AR_PAIR_HELD: int
    AR_PAIR_REMOVE: int
    AR_PAIR_CONVERGED: int
    AR_PAIR_SOME: int
    AR_PAIR_AT_ONCE: int
    AR_PAIR_BARE: int
    AR_PAIR_SAME_DST: int
    AR_KNOWN_HASHED: int
    AR_KNOWN_RACY: int
    AR_KNOWN_DIRTY: int
    AR_KNOWN_UNSTABLE: int
    AR_KNOWN_VOLATILE: int
    AR_KNOWN_CHUNKED: int
    AR_MEMORY_RECORDED: int
    AR_MEMORY_CTIME: int
    AR_MEMORY_INODE: int
    AR_PRUNE_FULL: int
    AR_PRUNE_BARE: int
    AR_PRUNE_NEITHER: int
    AR_PAIR_EXTRA: int
    AR_PAIR_KEPT: int
    AR_PAIR_CARRIED: int
    AR_PAIR_TRUSTED: int
    AR_CHILD_ASK: int
    AR_CHILD_EXTRA: int
    AR_CHILD_BLOCKING: int
    AR_FILTER_INCLUDE: int
    AR_FILTER_NEGATE: int
    AR_FILTER_ONLY_DIRS: int
    AR_FILTER_CONTENT: int
    AR_FILTER_PERISHABLE: int
    AR_FILTER_SENDER: int
    AR_FILTER_RECEIVER: int
    AR_FILTER_EQUAL: int
    AR_FILTER_SUFFIX: int
    AR_FILTER_PREFIX: int
    AR_FILTER_COMPONENTS: int
    AR_FILTER_ANY: int
    AR_FILTER_WILD: int
    AR_FILTER_NAME: int
    AR_FILTER_PATH: int
    AR_FILTER_SLASHED: int
    AR_FILTER_FULL: int
    AR_FILTER_BELOW: int
    AR_FILTER_ASK_ALWAYS: int
    AR_FILTER_SHOWN: int
    AR_FILTER_HIDDEN: int
    AR_FILTER_NO_RULE: int
    AR_CHILD_DST_DIR: int
    AR_CHILD_DST_OTHER: int
    AR_CHILD_SHALLOW: int
    AR_PROBLEM_FAILED: int
    AR_PROBLEM_VANISHED: int
    AR_PROBLEM_CANNOT_HOLD: int
    AR_PROBLEM_UNSTABLE: int
    AR_PROBLEM_SKIPPED: int
    AR_PROBLEM_LOOP: int
    AR_PROBLEM_UNSAFE: int
    AR_PROBLEM_KEPT: int
    AR_PROBLEM_CHANGED: int
    AR_KEEP_PERMS: int
    AR_KEEP_OWNER: int
    AR_KEEP_GROUP: int
    AR_KEEP_TIMES: int
    AR_KEEP_LINKS: int
    AR_KEEP_DEVICES: int
    AR_KEEP_SPECIALS: int
    AR_KEEP_ACLS: int
    AR_KEEP_XATTRS: int
    AR_KEEP_ATIMES: int
    AR_KEEP_DIRS: int
    AR_OMIT_DIR_TIMES: int
    AR_OMIT_LINK_TIMES: int
    AR_AS_ROOT: int
    AR_MAP_ACL_USERS: int
    AR_MAP_ACL_GROUPS: int
    AR_MAKE_WAY: int
    AR_UPDATE_OLDER: int
    AR_UPDATE_ALWAYS: int
    AR_UPDATE_SIZE_ONLY: int
    AR_UPDATE_EXISTING: int
    AR_UPDATE_MISSING: int
    AR_UPDATE_CONTENT: int
    AR_UPDATE_IGNORE_CTIME: int
    AR_UPDATE_IGNORE_INODE: int
    AR_UPDATE_REHASH: int
    AR_CHMOD_DIRS: int
    AR_CHMOD_FILES: int
    AR_CHMOD_X: int
    AR_CHMOD_COPY: int
    AR_SCAN_XDEV: int
    AR_SCAN_ATIME: int
    AR_SCAN_XATTR: int
    AR_SCAN_ACL: int
    AR_SCAN_COPY_LINKS: int
    AR_SCAN_COPY_DIRLINKS: int
    AR_SCAN_COPY_UNSAFE: int
    AR_SCAN_SAFE: int
    AR_SCAN_KEEP_DIRLINKS: int
    AR_SCAN_RECURSE: int
    AR_SCAN_SKIP_MOUNTS: int
    AR_SCAN_ALL_XATTRS: int
    AR_SCAN_DRY_RUN: int
    AR_SCAN_LET_IN: int
    AR_SCAN_NEW_ROOT: int
    AR_SCAN_OLD_MODES: int
    AR_SCAN_DELETE: int
    AR_SCAN_RELATIVE: int
    AR_ROOT_CREATE: int
    AR_LATER_LINKS: int
    AR_LATER_DIRS: int
    AR_LATER_ALL_DIRS: int
    AR_LATER_EXTRAS: int
    AR_EXTRAS_FILES: int
    AR_EXTRAS_DIRS: int
    AR_EXTRAS_WHOLE: int
    AR_EXTRAS_CARRIED: int
    AR_LATER_SOURCES: int
    AR_LATER_PLANNED_SOURCES: int
    AR_ENGINE_URING: int
    AR_ENGINE_SYNC: int
    AR_LANE_INPLACE: int
    AR_LANE_SPARSE: int
    AR_LANE_PREALLOCATE: int
    AR_LANE_REFLINK: int
    AR_LANE_REFLINK_ALWAYS: int
    AR_LANE_DRY_RUN: int
    AR_LANE_UPDATE: int
    AR_OP_NONE: int
    AR_OP_OPEN_FILE: int
    AR_OP_OPEN_DIR: int
    AR_OP_READ_DIR: int
    AR_OP_STAT: int
    AR_OP_READLINK: int
    AR_OP_LIST_XATTR: int
    AR_OP_GET_XATTR: int
    AR_OP_READ: int
    AR_OP_SEEK: int
    AR_OP_CREATE: int
    AR_OP_WRITE: int
    AR_OP_TRUNCATE: int
    AR_OP_ALLOCATE: int
    AR_OP_REFLINK: int
    AR_OP_COPY_RANGE: int
    AR_OP_SPLICE: int
    AR_OP_CHOWN: int
    AR_OP_CHMOD: int
    AR_OP_UTIMES: int
    AR_OP_SET_XATTR: int
    AR_OP_REMOVE_XATTR: int
    AR_OP_SET_ACL: int
    AR_OP_RENAME: int
    AR_OP_LINK: int
    AR_OP_SYMLINK: int
    AR_OP_MKNOD: int
    AR_OP_MKDIR: int
    AR_OP_UNLINK: int
    AR_OP_RMDIR: int
    AR_OP_OPEN_TARGET: int
    AR_OP_RING_SETUP: int
    AR_OP_RING_SUBMIT: int
    AR_OP_MEMORY: int
    AR_OP_SPOOL: int
    AR_OP_BACKUP: int
    AR_OP_SYNC: int
    AR_OP_BURY: int
    AR_OP_VERIFY: int
    AR_OP_COUNT: int
    AR_FAULT_ERROR: int
    AR_FAULT_SHORT: int
    AR_FAULT_PAUSE: int
    AR_FAULT_KILL: int
    AR_FAULT_TRACE: int
    AR_RECORD_FIRST: int
    AR_RECORD_LAST: int
    AR_RECORD_CONVERGED: int
    AR_RECORD_MOST_BYTES: int
    AR_RING_COOP_TASKRUN: int
    AR_RING_SINGLE_ISSUER: int
    AR_RING_DEFER_TASKRUN: int
    AR_TRIAL_OPEN: int
    AR_TRIAL_CREATE: int
    AR_TRIAL_READ_CACHED: int
    AR_TRIAL_READ_COLD: int
    AR_TRIAL_READ_DIRECT: int
    AR_TRIAL_WRITE_NEW: int
    AR_TRIAL_WRITE_DIRECT: int
    AR_TRIAL_FSYNC: int
    AR_TRIAL_FALLOCATE: int
    AR_TRIAL_STATX: int
    AR_TRIAL_MKDIR: int
    AR_TRIAL_RENAME: int
    AR_TRIAL_UNLINK: int
    AR_TRIAL_LINK: int
    AR_TRIAL_SYMLINK: int
    AR_TRIAL_SET_XATTR: int
    AR_TRIAL_GET_XATTR: int
    AR_TRIAL_SPLICE: int
    AR_TRIAL_CLOSE: int
    AR_TRIAL_COUNT: int
    def ar_batch_new(self) -> CData: ...
    def ar_batch_clear(self, batch: CData, /) -> None: ...
    def ar_batch_free(self, batch: CData, /) -> None: ...
    def ar_tally_add(self, total: CData, part: CData, /) -> None: ...
    def ar_root_open(self, path: bytes | CData, flags: int, out: CData, /) -> int: ...
    def ar_root_fd(self, root: CData, /) -> int: ...
    def ar_root_sync(self, root: CData, /) -> int: ...
    def ar_root_close(self, root: CData, /) -> None: ...
    def ar_scan_open(self, src: CData, dst: CData, flags: int, out: CData, /) -> int: ...
    def ar_scan_close(self, scan: CData, /) -> None: ...
    def ar_scan_map_acls(self, scan: CData, rules: CData, /) -> None: ...
    def ar_scan_earlier(
        self, scan: CData, root: CData, paths: bytes, size: int, gives_root: bool, /
    ) -> int: ...
    def ar_scan_further(self, scan: CData, root: CData, paths: bytes, size: int, /) -> int: ...
    def ar_scan_spare(self, scan: CData, path: bytes, size: int, /) -> int: ...
    def ar_scan_hide(self, scan: CData, dev: int, ino: int, /) -> int: ...
    def ar_scan_trust(self, scan: CData, /) -> None: ...
    def ar_scan_names(
        self,
        scan: CData,
        path: bytes | CData,
        path_len: int,
        names: bytes | CData,
        names_len: int,
        alias: bytes | CData,
        pair_flags: int,
        out: CData,
        /,
    ) -> int: ...
    def ar_prune_look(self, batch: CData, found: CData, /) -> None: ...
    def ar_prune_hold(self, batch: CData, pair: int, out: CData, /) -> int: ...
    def ar_filter_check(
        self, table: CData, path: bytes, path_len: int, is_dir: bool, asked: int, /
    ) -> int: ...
    def ar_scan_filter(self, scan: CData, table: CData, /) -> int: ...
    def ar_scan_filter_root(self, scan: CData, table: int, /) -> None: ...
    def ar_scan_root(self, scan: CData, out: CData, more: CData, /) -> int: ...
    def ar_scan_children(
        self, scan: CData, parent: CData, first: int, count: int, out: CData, more: CData, /
    ) -> int: ...
    def ar_scan_more(self, scan: CData, directory: CData, out: CData, /) -> int: ...
    def ar_dir_close(self, directory: CData, /) -> None: ...
    def ar_diff(self, batch: CData, rules: CData, /) -> int: ...
    def ar_want(self, rules: CData, src: CData, dst: CData, want: CData, /) -> None: ...
    def ar_later_open(self, spool_fd: int, what: int, out: CData, /) -> int: ...
    def ar_later_add(self, later: CData, batch: CData, /) -> int: ...
    def ar_later_next(self, later: CData, out: CData, /) -> int: ...
    def ar_later_count(self, later: CData, /) -> int: ...
    def ar_later_settle(self, later: CData, backups_stay: bool, tally: CData, /) -> int: ...
    def ar_later_pass(self, later: CData, what: int, /) -> None: ...
    def ar_later_close(self, later: CData, /) -> None: ...
    def ar_lane_open(self, config: CData, out: CData, /) -> int: ...
    def ar_lane_close(self, lane: CData, /) -> None: ...
    def ar_backup_open(self, directory: bytes, suffix: bytes, out: CData, /) -> int: ...
    def ar_backup_close(self, backup: CData, /) -> None: ...
    def ar_lane_run(self, lane: CData, batch: CData, /) -> int: ...
    def ar_lane_stop(self, lane: CData, /) -> None: ...
    def ar_lane_tally(self, lane: CData, /) -> CData: ...
    def ar_big_open(
        self, lane: CData, batch: CData, pair: int, change: int, out: CData, /
    ) -> int: ...
    def ar_big_bytes(self, big: CData, /) -> int: ...
    def ar_big_copy(self, lane: CData, big: CData, offset: int, length: int, /) -> int: ...
    def ar_big_close(self, lane: CData, big: CData, keep: int, /) -> int: ...
    def ar_fault_set(self, op: int, skip: int, count: int, action: int, value: int, /) -> int: ...
    def ar_fault_clear(self) -> None: ...
    def ar_fault_passes(self, op: int, /) -> int: ...
    def ar_fault_wait(self, op: int, timeout_ms: int, /) -> int: ...
    def ar_fault_resume(self) -> None: ...
    def ar_records_pack(
        self, batch: CData, side: int, records: CData, count: int, out: CData, /
    ) -> int: ...
    def ar_records_compare(self, batch: CData, side: int, records: CData, count: int, /) -> int: ...
    def ar_records_check(self, records: CData, count: int, /) -> int: ...
    def ar_child_keys(
        self, parent: CData, first: int, batch: CData, first_pair: int, keys: CData, /
    ) -> int: ...
    def ar_identify(self, batch: CData, first_pair: int, ids: CData, count: int, /) -> None: ...
    def ar_next_part(self, batch: CData, pair: int, /) -> int: ...
    def ar_unsettled(self, batch: CData, /) -> int: ...
    def ar_recall(self, scan: CData, batch: CData, sides: CData, equality: int, /) -> int: ...
    def ar_past_open(self, fd: int, out: CData, /) -> int: ...
    def ar_past_add_pages(self, past: CData, records: CData, count: int, /) -> int: ...
    def ar_past_add_directory(
        self, past: CData, directory: int, above: int, name: bytes, name_len: int, /
    ) -> int: ...
    def ar_past_seal(self, past: CData, /) -> int: ...
    def ar_past_close(self, past: CData, /) -> None: ...
    def ar_moves_possible(self, batch: CData, /) -> int: ...
    def ar_moves_look(
        self, scan: CData, past: CData, batch: CData, root: int, out: CData, /
    ) -> int: ...
    def ar_moves_wanted(self, moves: CData, out: CData, /) -> int: ...
    def ar_moves_mark(self, moves: CData, sides: CData, rules: CData, how: CData, /) -> int: ...
    def ar_moves_free(self, moves: CData, /) -> None: ...
    def ar_resettlings_possible(self, scan: CData, batch: CData, /) -> int: ...
    def ar_moves_resettle(
        self, scan: CData, past: CData, batch: CData, root: int, how: CData, out: CData, /
    ) -> int: ...
    def ar_past_relocate(self, past: CData, directory: int, path: bytes, length: int, /) -> int: ...
    def ar_chunks_wanted(self, batch: CData, out: CData, /) -> int: ...
    def ar_chunks_give(
        self, batch: CData, pair: int, row: int, hashes: CData, length: int, /
    ) -> int: ...
    def ar_settle(
        self, scan: CData, batch: CData, keeping: CData, out: CData, kept: CData, /
    ) -> int: ...
    def ar_refresh(
        self, scan: CData, batch: CData, sides: CData, keeping: CData, out: CData, kept: CData, /
    ) -> int: ...
    def ar_records_unpack(self, records: CData, count: int, out: CData, side: int, /) -> int: ...
    def ar_probe_ring(self, buffer_bytes: int, out: CData, /) -> int: ...
    def ar_probe_fs(self, fd: int, out: CData, /) -> int: ...
    def ar_probe_fallocate(self, fd: int, mode: int, offset: int, length: int, /) -> int: ...
    def ar_probe_trial(self, dir_fd: int, trial: int, times: int, out: CData, /) -> int: ...

ffi: _FFI
lib: _Lib
