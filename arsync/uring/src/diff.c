/*
 * diff.c - compare source and destination pages.
 *
 * Both pages of a pair are sorted by name, as bytes, so one merge-join finds what
 * differs.  It asks what rsync asks and in its order: is the name there, is it of
 * the same kind, is its content the same (for regular files the quick check: size
 * and mtime, also without AR_KEEP_TIMES; with AR_UPDATE_CONTENT the size alone, and one
 * of the same size is a check, which a lane answers), are its attributes.
 *
 * Where rsync and arsync part: mtimes are compared in rules->granule_ns and not
 * in seconds (unless --modify-window says otherwise), and a block device never
 * passes for a character device.
 *
 * What the update rules leave alone becomes a change of the kind NONE: nobody does
 * anything for it, but what is told of it, and what must not be taken for equal
 * because it has no change, can be seen.
 *
 * The changes of a pair are in the order of its source rows: followers.c relies
 * on that.
 */
#include "internal.h"

#define WHY_CREATED (AR_WHY_NEW | AR_WHY_TYPE)

struct diff {			/* one pair at work */
	struct ar_batch *batch;
	const struct ar_rules *rules;
	const struct ar_page *src;
	const struct ar_page *dst;	/* NULL: no entries there */
	uint32_t pair;
};

uint32_t ar_page_find(const struct ar_page *page, const char *name, size_t len)
{
	uint32_t low = 0, high = page ? page->row_count : 0;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct ar_row *row = &ar_rows(page)[middle];
		int order = ar_name_compare(ar_row_name(page, row), row->name_len, name, len);
		if (!order)
			return middle;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return AR_NONE;
}

const struct ar_row *ar_row_from(const struct ar_page *page, uint32_t *at, const char *name,
				 size_t len)
{
	for (; page && *at < page->row_count; (*at)++) {
		const struct ar_row *row = &ar_rows(page)[*at];
		int order = ar_name_compare(ar_row_name(page, row), row->name_len, name, len);

		if (order >= 0)
			return order ? NULL : row;
	}
	return NULL;
}

/* ------------------------------------------------------- what two rows differ in */

/* rounded down, also before 1970; a time of 64 bits of seconds needs more in ns */
static __int128 granules(int64_t s, uint32_t n, int64_t granule_ns)
{
	__int128 ns = (__int128)s * 1000000000 + n;

	return ns >= 0 ? ns / granule_ns : -((granule_ns - 1 - ns) / granule_ns);
}

static int order_of(__int128 a, __int128 b)
{
	return (a > b) - (a < b);
}

int ar_compare_mtimes(const struct ar_rules *rules, int64_t a_s, uint32_t a_n, int64_t b_s,
		      uint32_t b_n)
{
	const __int128 seconds = (__int128)a_s - b_s;

	if (rules->window_s)	/* whole seconds, as rsync */
		return seconds <= rules->window_s && -seconds <= rules->window_s
			       ? 0
			       : order_of(seconds, 0);
	if (rules->granule_ns <= 1 || (!seconds && a_n == b_n))
		return seconds ? order_of(seconds, 0) : order_of(a_n, b_n);
	return order_of(granules(a_s, a_n, rules->granule_ns),
			granules(b_s, b_n, rules->granule_ns));
}

static int compare_mtimes(const struct ar_rules *rules, const struct ar_row *a,
			  const struct ar_row *b)
{
	return ar_compare_mtimes(rules, a->mtime_s, a->mtime_n, b->mtime_s, b->mtime_n);
}

static bool same_mtime(const struct ar_rules *rules, const struct ar_row *a,
		       const struct ar_row *b)
{
	return !compare_mtimes(rules, a, b);
}

uint32_t ar_attribute_why(const struct ar_rules *rules, const struct ar_row *src,
			  const struct ar_row *dst)
{
	struct ar_want want;
	uint32_t why = 0;

	ar_want(rules, src, dst, &want);
	if (want.set_mode && want.mode != (dst->mode & 07777))
		why |= AR_WHY_MODE;
	if (want.set_uid && want.uid != dst->uid)
		why |= AR_WHY_UID;
	if (want.set_gid && want.gid != dst->gid)
		why |= AR_WHY_GID;
	if (want.set_mtime && !same_mtime(rules, src, dst))
		why |= AR_WHY_MTIME;
	/* seconds, as in rsync; a symlink's moves whenever somebody reads the link */
	if (want.set_atime && src->type != DT_LNK && src->atime_s != dst->atime_s)
		why |= AR_WHY_ATIME;
	if ((rules->keep & AR_KEEP_XATTRS) && src->xattr_digest != dst->xattr_digest)
		why |= AR_WHY_XATTR;
	if ((rules->keep & AR_KEEP_ACLS) && src->type != DT_LNK &&
	    src->acl_digest != dst->acl_digest)
		why |= AR_WHY_ACL;
	return why;
}

static bool same_target(const struct diff *d, const struct ar_row *src, const struct ar_row *dst)
{
	return src->link_len == dst->link_len &&
	       !memcmp(ar_page_str(d->src, src->link_off), ar_page_str(d->dst, dst->link_off),
		       src->link_len);
}

/* files of one size: rsync's quick check, where -c and --size-only are stronger than -I */
static uint32_t quick_why(const struct ar_rules *rules, const struct ar_row *src,
			  const struct ar_row *dst)
{
	if (rules->update & (AR_UPDATE_CONTENT | AR_UPDATE_SIZE_ONLY))
		return 0;
	if (!same_mtime(rules, src, dst))
		return AR_WHY_MTIME | AR_WHY_CONTENT;
	return rules->update & AR_UPDATE_ALWAYS ? AR_WHY_CONTENT : 0;
}

static bool by_content(const struct diff *d)
{
	return d->rules->update & AR_UPDATE_CONTENT;
}

/* why the content, or what stands for it, is to be made anew; dst is of the same kind */
static uint32_t content_why(const struct diff *d, const struct ar_row *src,
			    const struct ar_row *dst)
{
	switch (src->type) {
	case DT_REG:
		if (src->size != dst->size)
			return AR_WHY_SIZE | AR_WHY_CONTENT |
			       (by_content(d) ? AR_WHY_CHECKSUM : 0) |
			       (same_mtime(d->rules, src, dst) ? 0 : AR_WHY_MTIME);
		return quick_why(d->rules, src, dst);
	case DT_LNK:
		return same_target(d, src, dst) ? 0 : AR_WHY_TARGET;
	case DT_CHR:
	case DT_BLK:
		if (src->rdev_major != dst->rdev_major || src->rdev_minor != dst->rdev_minor)
			return AR_WHY_TARGET;
		break;
	}
	return src->type == dst->type ? 0 : AR_WHY_TARGET;
}

static uint32_t row_why(const struct diff *d, const struct ar_row *src, const struct ar_row *dst)
{
	uint32_t made = src->type == DT_REG ? AR_WHY_CONTENT : 0;

	if (!dst)
		return AR_WHY_NEW | made;
	if (!ar_same_kind(src->type, dst->type))
		return AR_WHY_TYPE | made;
	return content_why(d, src, dst) | ar_attribute_why(d->rules, src, dst);
}

/* directories have pages of their own */
bool ar_pages_agree(const struct ar_rules *rules, const struct ar_page *src,
		    const struct ar_page *dst)
{
	const struct diff d = { .rules = rules, .src = src, .dst = dst };
	uint32_t at = 0;

	for (uint32_t i = 0; i < src->row_count; i++) {
		const struct ar_row *row = &ar_rows(src)[i];

		if (row->type != DT_DIR &&
		    row_why(&d, row, ar_row_from(dst, &at, ar_row_name(src, row), row->name_len)))
			return false;
	}
	return true;
}

static const struct ar_memory *memory_of(const struct diff *d, uint32_t src_row)
{
	return ar_memory_of(d->batch, &d->batch->pairs[d->pair], src_row);
}

/* what the manifest and -c make of two rows whose content nothing has called different; why: so far */
static struct ar_look look_at(const struct diff *d, uint32_t src_row, uint32_t why)
{
	const struct ar_row *src = &ar_rows(d->src)[src_row];

	if (src->type != DT_REG || !src->size || why & (WHY_CREATED | AR_WHY_CONTENT) ||
	    (d->rules->update & (AR_UPDATE_SIZE_ONLY | AR_UPDATE_CONTENT)) == AR_UPDATE_SIZE_ONLY)
		return (struct ar_look){ .verdict = AR_LOOK_EQUAL };
	return ar_look(d->rules, memory_of(d, src_row));
}

/* -------------------------------------------------------------- what follows from it */

static bool is_left_out(const struct ar_rules *rules, uint8_t type)
{
	switch (type) {
	case DT_REG:
		return false;
	case DT_DIR:
		return !(rules->keep & AR_KEEP_DIRS);
	case DT_LNK:
		return !(rules->keep & AR_KEEP_LINKS);
	case DT_CHR:
	case DT_BLK:	/* who is not root cannot make them: rsync does not even try */
		return !(rules->keep & AR_KEEP_DEVICES) || !(rules->keep & AR_AS_ROOT);
	case DT_FIFO:
	case DT_SOCK:
		return !(rules->keep & AR_KEEP_SPECIALS);
	}
	return true;
}

/* with a window rsync takes for newer what is not older by as much */
static bool is_newer(const struct ar_rules *rules, const struct ar_row *src,
		     const struct ar_row *dst)
{
	if (rules->window_s)
		return (__int128)src->mtime_s - dst->mtime_s < rules->window_s;
	return compare_mtimes(rules, src, dst) < 0;
}

/* why the update rules leave the entry as it is, asked in rsync's order; 0: they do not */
static uint32_t passed_why(const struct diff *d, const struct ar_row *src,
			   const struct ar_row *dst)
{
	const uint32_t update = d->rules->update;

	if (!dst && update & AR_UPDATE_EXISTING)
		return AR_WHY_NEW;
	if (dst && (update & AR_UPDATE_MISSING) && !(src->type == DT_DIR && dst->type == DT_DIR))
		return AR_WHY_EXISTS | row_why(d, src, dst);
	if (src->type == DT_REG && src->size > d->rules->max_size)
		return AR_WHY_LARGE;
	if (src->type == DT_REG && src->size < d->rules->min_size)
		return AR_WHY_SMALL;
	if (dst && (update & AR_UPDATE_OLDER) && src->type == DT_REG && dst->type == DT_REG &&
	    is_newer(d->rules, src, dst))
		return AR_WHY_NEWER;
	return 0;
}

static uint8_t change_kind(uint8_t type, uint32_t why)
{
	if (!(why & (WHY_CREATED | AR_WHY_CONTENT | AR_WHY_TARGET)))
		return AR_CHANGE_META;
	if (type == DT_REG)
		return AR_CHANGE_DATA;
	return type == DT_LNK ? AR_CHANGE_SYMLINK : AR_CHANGE_SPECIAL;
}

static void count_change(struct ar_tally *tally, const struct ar_row *src, uint8_t kind,
			 uint32_t why)
{
	const uint64_t created = !!(why & WHY_CREATED);

	switch (kind) {
	case AR_CHANGE_DATA:
		tally->plan_files++;
		tally->plan_bytes += src->size;
		tally->new_files += created;
		break;
	case AR_CHANGE_SYMLINK:
		tally->new_symlinks += created;
		break;
	case AR_CHANGE_SPECIAL:
		*(ar_is_device(src->type) ? &tally->new_devices : &tally->new_specials) += created;
		break;
	case AR_CHANGE_META:
		tally->plan_metas++;
		break;
	case AR_CHANGE_CHECK:
		tally->plan_checks++;
		tally->plan_check_bytes += src->size;
		break;
	}
}

static int add_change(const struct diff *d, uint32_t src_row, uint32_t dst_row, uint8_t kind,
		      uint32_t why)
{
	const struct ar_row *src = &ar_rows(d->src)[src_row];
	struct ar_change *change = ar_batch_add_change(d->batch);

	if (!change)
		return -ENOMEM;
	change->src_row = src_row;
	change->dst_row = dst_row;
	change->why = why;
	change->kind = kind;
	if (kind == AR_CHANGE_NONE)
		change->state = AR_STATE_DONE;
	count_change(&d->batch->tally, src, kind, why);

	struct ar_pair *pair = &d->batch->pairs[d->pair];
	pair->change_count++;
	if (kind != AR_CHANGE_META && kind != AR_CHANGE_NONE)
		pair->flags |= AR_PAIR_TOUCHED;
	return 0;
}

static int add_check(const struct diff *d, uint32_t src_row, uint32_t dst_row, uint32_t why,
		     const struct ar_look *look)
{
	int err = add_change(d, src_row, dst_row, AR_CHANGE_CHECK, why);

	if (err || !look->hash)
		return err;
	struct ar_change *change = &d->batch->changes[d->batch->change_count - 1];
	change->flags |= look->flags;
	memcpy(change->hash, look->hash, sizeof(change->hash));
	return 0;
}

/* a file that replaces another one, whose source ought to have the recorded content */
static void expect(const struct diff *d, uint32_t src_row)
{
	const struct ar_memory *memory = memory_of(d, src_row);
	const uint8_t *hash = memory ? ar_look_expected(d->rules, memory) : NULL;

	if (!hash)
		return;
	struct ar_change *change = &d->batch->changes[d->batch->change_count - 1];
	change->flags |= AR_CHANGE_EXPECTS;
	memcpy(change->hash, hash, sizeof(change->hash));
}

static int add_child(const struct diff *d, uint32_t src_row, const struct ar_row *dst)
{
	struct ar_child *child = ar_batch_add_child(d->batch);

	if (!child)
		return -ENOMEM;
	child->pair = d->pair;
	child->row = src_row;
	if (dst && dst->type == DT_DIR)
		child->flags = AR_CHILD_DST_DIR;
	else
		d->batch->pairs[d->pair].flags |= AR_PAIR_TOUCHED;
	if (dst && dst->type != DT_DIR)
		child->flags = AR_CHILD_DST_OTHER;
	return 0;
}

/* what is in the directory is to go first; the rest of the change comes with another walk */
static bool is_blocked(const struct diff *d, const struct ar_row *src, const struct ar_row *dst)
{
	return d->rules->keep & AR_MAKE_WAY && dst && dst->type == DT_DIR &&
	       src->type != DT_DIR && !(dst->flags & (AR_ROW_MOUNT | AR_ROW_FOLLOWED));
}

static int add_blocking(const struct diff *d, uint32_t dst_row)
{
	struct ar_child *child = ar_batch_add_child(d->batch);

	if (!child)
		return -ENOMEM;
	child->pair = d->pair;
	child->row = dst_row;
	child->flags = AR_CHILD_EXTRA | AR_CHILD_BLOCKING;
	d->batch->blocking_count++;
	d->batch->pairs[d->pair].flags |= AR_PAIR_TOUCHED;
	return 0;
}

static int diff_row(const struct diff *d, uint32_t src_row, uint32_t dst_row)
{
	const struct ar_row *src = &ar_rows(d->src)[src_row];
	const struct ar_row *dst = dst_row == AR_NONE ? NULL : &ar_rows(d->dst)[dst_row];

	if ((src->flags & AR_ROW_BAD) || (dst && (dst->flags & AR_ROW_BAD)))
		return 0;

	const bool left_out = is_left_out(d->rules, src->type);
	uint32_t why = passed_why(d, src, dst);
	/* rsync's sender leaves directories out, its receiver the rest */
	if (why && !(left_out && src->type == DT_DIR))
		return add_change(d, src_row, dst_row, AR_CHANGE_NONE, why);
	if (left_out)
		return ar_batch_add_problem(d->batch, d->pair, src_row, AR_PROBLEM_SKIPPED, 0,
					    AR_OP_NONE, 0);
	if (src->type == DT_DIR)
		return add_child(d, src_row, dst);
	if (is_blocked(d, src, dst))
		return add_blocking(d, dst_row);

	why = row_why(d, src, dst);
	const struct ar_look look = look_at(d, src_row, why);
	if (look.verdict == AR_LOOK_DIFFERENT)
		why |= AR_WHY_CONTENT | AR_WHY_CHECKSUM;
	if (look.verdict == AR_LOOK_CHECK)
		return add_check(d, src_row, dst_row, why | look.why, &look);
	if (!why)
		return 0;
	const uint8_t kind = change_kind(src->type, why);
	int err = add_change(d, src_row, dst_row, kind, why);
	if (!err && kind == AR_CHANGE_DATA && dst)
		expect(d, src_row);
	return err;
}

static int diff_rows(const struct diff *d)
{
	const struct ar_row *src = ar_rows(d->src);
	const struct ar_row *dst = d->dst ? ar_rows(d->dst) : NULL;
	const uint32_t dst_count = d->dst ? d->dst->row_count : 0;
	uint32_t j = 0;

	for (uint32_t i = 0; i < d->src->row_count; i++) {
		int order = 1;
		while (j < dst_count) {
			order = ar_name_compare(ar_row_name(d->dst, &dst[j]), dst[j].name_len,
						ar_row_name(d->src, &src[i]), src[i].name_len);
			if (order >= 0)
				break;
			j++;
		}
		bool found = j < dst_count && !order;
		int err = diff_row(d, i, found ? j++ : AR_NONE);
		if (err)
			return err;
	}
	return 0;
}

/* of a directory that has converged: what is below it may have changed all the same */
static int diff_converged(const struct diff *d)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < d->src->row_count; i++) {
		const struct ar_row *row = &ar_rows(d->src)[i];

		if (row->type != DT_DIR)
			continue;
		int err = add_child(d, i, ar_row_from(d->dst, &at, ar_row_name(d->src, row),
						      row->name_len));
		if (err)
			return err;
	}
	return 0;
}

/* ------------------------------------------------------------- the directory itself */

static uint32_t self_why(const struct diff *d, const struct ar_pair *pair)
{
	const bool is_root = pair->flags & AR_PAIR_ROOT;

	if ((pair->flags & AR_PAIR_REPLACE) && !is_root)
		return AR_WHY_TYPE;
	if (pair->flags & AR_PAIR_NEW)
		return AR_WHY_NEW;
	if (!d->dst)	/* of a root that a dry run does not make, this has been said before */
		return is_root ? 0 : AR_WHY_NEW;
	return ar_attribute_why(d->rules, &d->src->self, &d->dst->self);
}

/* what the scan could not look at has its problem already */
static bool has_bad_self(const struct diff *d)
{
	return (d->src->self.flags & AR_ROW_BAD) || (d->dst && (d->dst->self.flags & AR_ROW_BAD));
}

static void diff_self(const struct diff *d, struct ar_pair *pair)
{
	if ((pair->flags & (AR_PAIR_NAMED | AR_PAIR_GIVEN)) ||
	    !(d->src->flags & AR_PAGE_FIRST) || has_bad_self(d))
		return;

	uint32_t why = self_why(d, pair);
	if (!why)
		return;
	pair->self.kind = AR_CHANGE_DIR;
	pair->self.src_row = AR_NONE;
	pair->self.dst_row = AR_NONE;
	pair->self.why = why;
	if (why & (WHY_CREATED | AR_WHY_MTIME))
		pair->flags |= AR_PAIR_TOUCHED;
	if (why & WHY_CREATED)
		d->batch->tally.new_dirs++;
	else
		d->batch->tally.plan_metas++;
}

/* ------------------------------------------------------------- what is there alone */

/* what becomes of extras is settled when all are known: here only where more of them are */
static int diff_extras(const struct diff *d)
{
	const struct ar_row *row = ar_rows(d->dst);

	for (uint32_t i = 0; i < d->dst->row_count; i++) {
		if (row[i].type != DT_DIR || row[i].flags & (AR_ROW_BAD | AR_ROW_MOUNT))
			continue;
		struct ar_child *child = ar_batch_add_child(d->batch);
		if (!child)
			return -ENOMEM;
		child->pair = d->pair;
		child->row = i;
		child->flags = AR_CHILD_EXTRA;
	}
	return 0;
}

int ar_diff(struct ar_batch *batch, const struct ar_rules *rules)
{
	for (uint32_t i = 0; i < batch->pair_count; i++) {
		struct ar_pair *pair = &batch->pairs[i];
		struct diff d = {
			.batch = batch,
			.rules = rules,
			.src = ar_src_page(batch, pair),
			.dst = ar_dst_page(batch, pair),
			.pair = i,
		};
		pair->change_first = batch->change_count;
		pair->change_count = 0;
		int err = 0;
		if (pair->flags & AR_PAIR_CONVERGED) {
			err = diff_converged(&d);
		} else {
			diff_self(&d, pair);
			err = pair->flags & AR_PAIR_EXTRA ? diff_extras(&d) : diff_rows(&d);
		}
		if (err)
			return err;
	}
	return 0;
}
