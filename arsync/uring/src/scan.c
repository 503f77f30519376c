/*
 * scan.c - which directories a call scans, and how far it gets.
 *
 * A directory that cannot be looked at is a problem in the batch.  Only when
 * descriptors or memory run out does a call answer with an error, and the batch is
 * then as it was before the directory that needed them.
 */
#include <stdlib.h>
#include <sys/resource.h>

#include "scan.h"

#define KEEP_BYTES (1u << 20)	/* of scratch arrays, from one directory to the next */

/* ------------------------------------------------------------ calls, scratch */

int ar_scan_open(ar_root *src, ar_root *dst, uint32_t flags, ar_scan **out)
{
	struct ar_scan *scan = calloc(1, sizeof(*scan));

	if (!scan)
		return -ENOMEM;
	if (dst)	/* nothing that somebody puts there may lead out of it */
		dst->inside = true;
	scan->src = src;
	scan->dst = dst;
	scan->flags = flags;
	atomic_init(&scan->root_is_new, !dst || flags & AR_SCAN_NEW_ROOT);
	pthread_mutex_init(&scan->lock, NULL);
	*out = scan;
	return 0;
}

void ar_scan_map_acls(ar_scan *scan, const struct ar_rules *rules)
{
	scan->acl_rules = rules;
}

void ar_scan_close(ar_scan *scan)
{
	if (!scan)
		return;
	while (scan->idle) {
		struct ar_scratch *scratch = scan->idle;

		scan->idle = scratch->next;
		ar_dir_free(&scratch->dir);
		free(scratch->sorter.keys);
		free(scratch->path.bytes);
		free(scratch->full.bytes);
		free(scratch);
	}
	ar_earlier_free(scan);
	for (uint32_t i = 0; i < scan->spare_count; i++)
		free(scan->spare[i].path);
	free(scan->spare);
	ar_filters_free(scan);
	pthread_mutex_destroy(&scan->lock);
	free(scan);
}

int ar_scan_spare(ar_scan *scan, const char *path, size_t path_len)
{
	const size_t bytes = (scan->spare_count + 1) * sizeof(*scan->spare);
	struct ar_spare *grown = realloc(scan->spare, bytes);
	char *copy = ar_copy_of(path, path_len);

	if (grown)
		scan->spare = grown;
	if (!grown || !copy) {
		free(copy);
		return -ENOMEM;
	}
	scan->spare[scan->spare_count++] = (struct ar_spare){ .path = copy, .len = path_len };
	return 0;
}

int ar_scan_hide(ar_scan *scan, uint64_t dev, uint64_t ino)
{
	if (scan->hidden_count == AR_HIDDEN_MOST)
		return -ENOSPC;
	scan->hidden[scan->hidden_count++] = (struct ar_hidden){ .dev = dev, .ino = ino };
	return 0;
}

bool ar_scan_hides(const struct ar_scan *scan, const struct statx *stx)
{
	if (!S_ISDIR(stx->stx_mode))
		return false;
	for (uint32_t i = 0; i < scan->hidden_count; i++) {
		if (scan->hidden[i].ino == stx->stx_ino &&
		    scan->hidden[i].dev == ar_dev(stx->stx_dev_major, stx->stx_dev_minor))
			return true;
	}
	return false;
}

static void forget_fds(struct ar_dir *dir)
{
	dir->side[SRC].fd = dir->side[DST].fd = -1;
}

static uint64_t count_waits(void)
{
	struct rusage used;

	return getrusage(RUSAGE_THREAD, &used) ? 0 : (uint64_t)used.ru_nvcsw;
}

int ar_scan_begin(struct scan_call *call, struct ar_scan *scan, struct ar_batch *out)
{
	struct timespec now;

	memset(call, 0, sizeof(*call));
	call->scan = scan;
	call->out = out;
	call->waits = count_waits();
	if (!out->scanned_ns) {
		clock_gettime(CLOCK_REALTIME_COARSE, &now);
		out->scanned_ns = now.tv_sec * 1000000000L + now.tv_nsec;
	}
	out->src_root = scan->src;
	out->dst_root = scan->dst;
	pthread_mutex_lock(&scan->lock);
	call->scratch = scan->idle;
	if (call->scratch)
		scan->idle = call->scratch->next;
	pthread_mutex_unlock(&scan->lock);
	if (call->scratch)
		return 0;
	call->scratch = calloc(1, sizeof(*call->scratch));
	if (!call->scratch)
		return -ENOMEM;
	forget_fds(&call->scratch->dir);
	return 0;
}

void ar_scan_end(struct scan_call *call)
{
	struct ar_scratch *scratch = call->scratch;

	call->out->waits += count_waits() - call->waits;
	ar_dir_reset(&scratch->dir, KEEP_BYTES);
	if (scratch->sorter.room * sizeof(*scratch->sorter.keys) > KEEP_BYTES) {
		free(scratch->sorter.keys);
		memset(&scratch->sorter, 0, sizeof(scratch->sorter));
	}
	pthread_mutex_lock(&call->scan->lock);
	scratch->next = call->scan->idle;
	call->scan->idle = scratch;
	pthread_mutex_unlock(&call->scan->lock);
}

static bool is_full(const struct scan_call *call)
{
	const struct ar_batch *out = call->out;

	return call->rows >= AR_BATCH_ROWS || out->src_bytes >= AR_BATCH_BYTES ||
	       out->pair_count >= AR_BATCH_DIRS;
}

struct mark {			/* what a batch held before */
	uint64_t src_bytes, dst_bytes;
	uint32_t pairs, problems;
	struct ar_tally tally;
};

static struct mark mark_batch(const struct ar_batch *batch)
{
	return (struct mark){
		.src_bytes = batch->src_bytes,
		.dst_bytes = batch->dst_bytes,
		.pairs = batch->pair_count,
		.problems = batch->problem_count,
		.tally = batch->tally,
	};
}

static void roll_back(struct ar_batch *batch, const struct mark *mark)
{
	batch->src_bytes = mark->src_bytes;
	batch->dst_bytes = mark->dst_bytes;
	batch->pair_count = mark->pairs;
	batch->problem_count = mark->problems;
	batch->tally = mark->tally;
}

/* ----------------------------------------------------------- one directory */

/* What is known of a directory before it is opened; its paths are in scratch->dir. */
struct task {
	uint32_t pair_flags;
	bool loop_is_possible;
	bool has_dst;		/* worth a look at the destination */
	bool can_trust;		/* or what is recorded of it will do */
	bool knows_filter;	/* it is filter's rules, and not what a child of theirs inherits */
	uint32_t filter;
};

static bool source_has_more(const struct ar_dir *dir)
{
	return dir->side[SRC].at < dir->side[SRC].names.count;
}

static bool dir_has_more(const struct ar_dir *dir)
{
	return source_has_more(dir) || ar_extras_left(dir);
}

/* the next page of the source, and behind the last one a page of extras */
static int write_pages(struct scan_call *call, struct ar_dir *dir)
{
	int err = 0;

	if (!(dir->pair_flags & AR_PAIR_EXTRA) && (!dir->begun || source_has_more(dir)))
		err = ar_page_pair(call, dir);
	if (!err && dir->deletes && !source_has_more(dir))
		err = ar_extras_pair(call, dir);
	return err;
}

/* to delete in it, its names are needed all the same */
static int open_dest(struct scan_call *call, const struct task *task, struct ar_dir *dir)
{
	const struct ar_side *dst = &dir->side[DST];
	const uint32_t not_as_recorded = AR_PAIR_NEW | AR_PAIR_REPLACE | AR_PAIR_TOUCHED;
	const bool trusted = task->can_trust && ar_trust_fits(dir);
	int err = 0;

	if (!trusted || call->scan->flags & AR_SCAN_DELETE)
		err = ar_dir_open_dest(call, dir, dir->pair_flags & AR_PAIR_SHALLOW);
	if (trusted && !err && !dst->page_flags && !(dir->pair_flags & not_as_recorded))
		dir->pair_flags |= AR_PAIR_TRUSTED;
	return err;
}

static int open_and_list(struct scan_call *call, const struct task *task)
{
	struct ar_dir *dir = &call->scratch->dir;
	bool only_self = dir->pair_flags & (AR_PAIR_SHALLOW | AR_PAIR_NAMED);
	int err = ar_dir_open_source(call, dir, only_self);

	if (err || dir->dead)
		return err;
	if (!only_self) {
		int loop = ar_dir_is_loop(call, dir, task->loop_is_possible);
		if (loop < 0)
			return loop;
		if (loop) {
			dir->pair_flags |= AR_PAIR_SHALLOW;
			err = ar_batch_add_problem(call->out, call->pair, AR_NONE, AR_PROBLEM_LOOP,
						   SRC, AR_OP_NONE, ELOOP);
		} else {
			err = ar_dir_list_source(call, dir);
			if (!err && !task->knows_filter)
				err = ar_filter_inherit(call, dir, task->filter);
		}
	}
	if (!err && task->has_dst && call->scan->dst)
		err = open_dest(call, task, dir);
	else if (!err)
		dir->pair_flags |= AR_PAIR_NEW;
	if (!err && dir->pair_flags & AR_PAIR_ROOT) {
		const bool is_new = atomic_exchange(&call->scan->root_is_new, false);

		dir->pair_flags = (dir->pair_flags & ~AR_PAIR_NEW) | (is_new ? AR_PAIR_NEW : 0);
	}
	if (dir->self_is_given &&
	    (call->scan->flags & AR_SCAN_DRY_RUN || !(dir->pair_flags & AR_PAIR_NEW)))
		dir->pair_flags |= AR_PAIR_GIVEN;
	dir->deletes = ar_extras_wanted(call, dir);
	return err;
}

/* the scratch's directory as a handle of its own, which leaves the scratch a fresh one */
static int keep_for_later(struct scan_call *call, ar_dir **more)
{
	struct ar_dir *dir = &call->scratch->dir, *kept = malloc(sizeof(*kept));

	if (!kept)
		return -ENOMEM;
	ar_names_trim(&dir->side[SRC].names);
	ar_names_trim(&dir->side[DST].names);
	*kept = *dir;
	memset(dir, 0, sizeof(*dir));
	forget_fds(dir);
	*more = kept;
	return 0;
}

/* names of a NAMED directory are there already, and all its pages go into this batch */
static int scan_directory(struct scan_call *call, const struct task *task, ar_dir **more)
{
	struct ar_dir *dir = &call->scratch->dir;
	const struct mark mark = mark_batch(call->out);

	call->pair = call->out->pair_count;
	dir->pair_flags = task->pair_flags;
	if (task->knows_filter && !(task->pair_flags & AR_PAIR_IMPLIED))
		ar_filter_use(call, dir, task->filter);
	int err = open_and_list(call, task);
	if (!err && dir->dead)
		ar_names_clear(&dir->side[SRC].names, KEEP_BYTES);
	do {
		if (!err)
			err = write_pages(call, dir);
	} while (!err && !more && dir_has_more(dir));
	if (!err && dir_has_more(dir))
		err = keep_for_later(call, more);
	if (err)
		roll_back(call->out, &mark);
	ar_dir_reset(dir, KEEP_BYTES);
	return err;
}

/* a directory that only the destination has: all that is in it */
static int scan_extra(struct scan_call *call, const struct task *task, const struct ar_row *row,
		      uint64_t dev, ar_dir **more)
{
	struct ar_dir *dir = &call->scratch->dir;
	const struct mark mark = mark_batch(call->out);

	call->pair = call->out->pair_count;
	dir->pair_flags = AR_PAIR_EXTRA | task->pair_flags;
	if (task->knows_filter)
		ar_filter_use(call, dir, task->filter);
	int err = ar_dir_open_extra(call, dir, row, dev);
	if (!err && !dir->dead && !task->knows_filter)
		err = ar_filter_inherit(call, dir, task->filter);
	if (!err && !dir->dead) {
		dir->deletes = ar_extras_wanted(call, dir);
		err = ar_extras_pair(call, dir);
	}
	if (!err && dir_has_more(dir))
		err = keep_for_later(call, more);
	if (err)
		roll_back(call->out, &mark);
	ar_dir_reset(dir, KEEP_BYTES);
	return err;
}

static int set_paths(struct scan_call *call, const char *src, size_t src_len, const char *dst,
		     size_t dst_len)
{
	struct ar_dir *dir = &call->scratch->dir;
	int err = ar_path_set(&dir->side[SRC].path, src, src_len);

	return err ? err : ar_path_set(&dir->side[DST].path, dst, dst_len);
}

int ar_scan_root(ar_scan *scan, struct ar_batch *out, ar_dir **more)
{
	const struct task task = {
		.pair_flags = AR_PAIR_ROOT,
		.has_dst = true,
		.knows_filter = true,
		.filter = scan->root_filter,
	};
	struct scan_call call;
	int err;

	*more = NULL;
	err = ar_scan_begin(&call, scan, out);
	if (err)
		return err;
	err = set_paths(&call, "", 0, "", 0);
	if (!err)
		err = scan_directory(&call, &task, more);
	ar_scan_end(&call);
	return err;
}

/* ------------------------------------------------------------ named entries */

static int add_named(struct ar_names *names, const char *list, size_t len)
{
	const char *const end = list + len;
	int err = 0;

	while (list < end && !err) {
		const size_t name_len = strnlen(list, (size_t)(end - list));

		if (!name_len || memchr(list, '/', name_len))
			return -EINVAL;
		err = ar_names_add(names, list, name_len);
		list += name_len + 1;
	}
	return err;
}

static int set_named_paths(struct scan_call *call, const char *path, size_t len)
{
	struct ar_path *dst = &call->scratch->dir.side[DST].path;
	int err = set_paths(call, path, len, path, len);

	ar_path_unmark(dst);
	if (!err && call->scan->dst && call->scan->flags & AR_SCAN_KEEP_DIRLINKS)
		err = ar_link_mark_path(call, dst);
	return err;
}

int ar_scan_names(ar_scan *scan, const char *path, size_t path_len, const char *names,
		  size_t names_len, const char *alias, uint32_t pair_flags, struct ar_batch *out)
{
	const struct task task = {
		.pair_flags = pair_flags | AR_PAIR_NAMED | AR_PAIR_SOME,
		.has_dst = true,
		.knows_filter = true,
	};
	struct scan_call call;
	char *src_name = NULL;

	int err = ar_scan_begin(&call, scan, out);
	if (err)
		return err;
	struct ar_dir *dir = &call.scratch->dir;
	struct ar_names *list = &dir->side[SRC].names;
	err = add_named(list, names, names_len);
	if (!err && alias) {
		src_name = strndup(names, names_len);
		err = list->count != 1 || strchr(alias, '/') || !*alias ? -EINVAL : 0;
		ar_names_clear(list, KEEP_BYTES);
		if (!err)
			err = src_name ? ar_names_add(list, alias, strlen(alias)) : -ENOMEM;
		dir->alias = src_name;
	}
	if (!err)
		err = ar_names_sort(list, &call.scratch->sorter);
	if (!err)
		err = set_named_paths(&call, path, path_len);
	const uint32_t first = out->pair_count;
	if (!err)
		err = scan_directory(&call, &task, NULL);
	/* other names are made in it by other calls, so it is finished in any case */
	if (!err && pair_flags & AR_PAIR_ROOT)
		out->pairs[first].flags ^= AR_PAIR_NAMED | AR_PAIR_TOUCHED;
	ar_scan_end(&call);
	free(src_name);
	return err;
}

/* ---------------------------------------------------------------- children */

static int set_child_paths(struct scan_call *call, const struct ar_batch *parent,
			   const struct ar_child *child)
{
	const struct ar_pair *pair = &parent->pairs[child->pair];
	const struct ar_row *row = &ar_rows(ar_src_page(parent, pair))[child->row];
	struct ar_dir *dir = &call->scratch->dir;
	const struct ar_page *src = ar_src_page(parent, pair), *dst = ar_dst_page(parent, pair);
	const struct ar_page *dst_path = ar_dst_path_page(parent, pair);
	const char *name = ar_row_name(src, row), *src_name = ar_row_src_name(src, row);
	uint32_t found = AR_NONE;

	if (call->scan->flags & AR_SCAN_KEEP_DIRLINKS)
		found = ar_page_find(dst, name, row->name_len);
	const bool dst_followed = found != AR_NONE && ar_rows(dst)[found].flags & AR_ROW_FOLLOWED;
	int err = set_paths(call, ar_page_str(src, src->path_off), src->path_len,
			    ar_page_str(dst_path, dst_path->path_off), dst_path->path_len);
	if (!err)
		err = ar_path_push(&dir->side[SRC].path, src_name,
				   src->alias_len ? src->alias_len : row->name_len,
				   row->flags & AR_ROW_FOLLOWED);
	if (!err && child->dst_len)	/* renamed, but for a dry run */
		return ar_path_set(&dir->side[DST].path, (const char *)parent->aux + child->dst,
				   child->dst_len);
	if (!err)
		err = ar_path_push(&dir->side[DST].path, name, row->name_len, dst_followed);
	return err;
}

static bool is_shallow(const struct scan_call *call, const struct ar_child *child,
		       const struct ar_pair *pair, const struct ar_row *row)
{
	const uint32_t flags = call->scan->flags;

	if (child->flags & AR_CHILD_SHALLOW || !(flags & AR_SCAN_RECURSE))
		return true;
	/* a mount point that the user names is entered, as by rsync -x */
	return flags & AR_SCAN_XDEV && row->flags & AR_ROW_MOUNT &&
	       !(pair->flags & AR_PAIR_NAMED);
}

static int scan_extra_child(struct scan_call *call, const struct ar_batch *parent,
			    const struct ar_child *child, ar_dir **more)
{
	const struct ar_pair *pair = &parent->pairs[child->pair];
	const struct ar_page *dst = ar_dst_page(parent, pair);
	const struct ar_row *row = &ar_rows(dst)[child->row];
	const struct task task = {
		.pair_flags = child->flags & AR_CHILD_BLOCKING ? AR_PAIR_REPLACE : 0,
		.knows_filter = child->filter,
		.filter = child->filter ? child->filter : pair->filter,
	};
	const char *path = ar_page_str(dst, dst->path_off);
	struct ar_dir *dir = &call->scratch->dir;

	int err = set_paths(call, path, dst->path_len, path, dst->path_len);
	for (int side = SRC; side <= DST && !err; side++)
		err = ar_path_push(&dir->side[side].path, ar_row_name(dst, row), row->name_len,
				   false);
	return err ? err : scan_extra(call, &task, row, dst->dev, more);
}

static int scan_child(struct scan_call *call, const struct ar_batch *parent,
		      const struct ar_child *child, ar_dir **more)
{
	const struct ar_pair *pair = &parent->pairs[child->pair];
	const struct ar_page *dst = ar_dst_page(parent, pair);
	const struct ar_page *src = ar_src_page(parent, pair);
	const struct ar_row *row = &ar_rows(src)[child->row];
	const char *name = ar_row_name(src, row);
	struct task task = {
		.pair_flags = child->flags & AR_CHILD_DST_OTHER ? AR_PAIR_REPLACE : 0,
		/* above a link that -R leads through nothing is entered */
		.loop_is_possible = row->flags & (AR_ROW_MOUNT | AR_ROW_FOLLOWED) &&
				    !(pair->flags & AR_PAIR_FOLLOW),
		.has_dst = child->flags & AR_CHILD_DST_DIR,
		.can_trust = ar_trust_child(call->scan, dst, name, row->name_len),
		.knows_filter = child->filter,
		.filter = child->filter ? child->filter : pair->filter,
	};

	/* where names could not be looked up, the child may be there for all we know */
	if (dst && dst->flags & AR_PAGE_PARTIAL && !(child->flags & AR_CHILD_DST_OTHER))
		task.has_dst = true;
	if (is_shallow(call, child, pair, row))
		task.pair_flags |= AR_PAIR_SHALLOW;
	if (pair->flags & AR_PAIR_IMPLIED)	/* entries come into it by another pair */
		task.pair_flags |= AR_PAIR_TOUCHED;
	int err = set_child_paths(call, parent, child);
	return err ? err : scan_directory(call, &task, more);
}

int ar_scan_children(ar_scan *scan, const struct ar_batch *parent, uint32_t first, uint32_t count,
		     struct ar_batch *out, ar_dir **more)
{
	struct scan_call call;
	uint32_t done = 0;

	*more = NULL;
	if (first > parent->child_count || count > parent->child_count - first)
		return -EINVAL;
	int err = ar_scan_begin(&call, scan, out);
	if (err)
		return err;
	while (done < count && !*more && !is_full(&call)) {
		struct ar_child *child = &parent->children[first + done];

		if (child->flags & AR_CHILD_EXTRA)
			err = scan_extra_child(&call, parent, child, more);
		else
			err = scan_child(&call, parent, child, more);
		if (err == AR_FILTER_ASK) {
			child->flags |= AR_CHILD_ASK;
			err = 0;
			break;
		}
		if (err)
			break;
		done++;
	}
	ar_scan_end(&call);
	return done ? (int)done : err;
}

/* -------------------------------------------------- directories of many pages */

int ar_scan_more(ar_scan *scan, ar_dir *dir, struct ar_batch *out)
{
	const struct mark mark = mark_batch(out);
	const uint32_t src_at = dir->side[SRC].at, dst_at = dir->side[DST].at;
	const uint32_t extra_at = dir->extra_at, extra_src_at = dir->extra_src_at;
	struct scan_call call;

	int err = ar_scan_begin(&call, scan, out);
	if (err)
		return err;
	err = write_pages(&call, dir);
	ar_scan_end(&call);
	if (err) {
		roll_back(out, &mark);
		dir->side[SRC].at = src_at;
		dir->side[DST].at = dst_at;
		dir->extra_at = extra_at;
		dir->extra_src_at = extra_src_at;
		return err;
	}
	return dir_has_more(dir);
}

void ar_dir_close(ar_dir *dir)
{
	if (!dir)
		return;
	ar_dir_free(dir);
	free(dir);
}
