/*
 * followers.c - find the names of one inode and put all but the first into the
 * spool (see later.h).
 */
#include "later.h"

static int spool_leader(struct ar_later *later, const struct ar_page *dir, const char *name,
			size_t len, uint64_t *offset)
{
	const uint64_t path_len = dir->path_len + (dir->path_len ? 1 : 0) + len;
	struct ar_bytes *out = &later->spool.out;

	int err = ar_spool_begin(&later->spool, RECORD_LEADER, offset);
	if (!err)
		err = ar_bytes_add(out, &path_len, sizeof(path_len));
	if (!err)
		err = ar_bytes_add(out, ar_page_str(dir, dir->path_off), dir->path_len);
	if (!err && dir->path_len)
		err = ar_bytes_add(out, "/", 1);
	if (!err)
		err = ar_later_string(out, name, len);
	return err ? err : ar_spool_end(&later->spool, *offset);
}

struct name {			/* one name of an inode that may have more */
	struct ar_batch *batch;
	struct ar_pair *pair;
	const struct ar_page *src_page;
	const struct ar_page *dst_page;
	const struct ar_row *src;
	const struct ar_row *dst;	/* NULL: nothing of this name is there */
	struct ar_change *change;	/* NULL: nothing to do for it */
	bool folder_spooled;	/* for this pair, by a name before */
};

static bool keeps_inode(const struct ar_change *change)
{
	return !change || change->kind == AR_CHANGE_META;
}

static uint64_t inode_id(const struct name *name)
{
	return ar_inode_id(ar_inode_of(name->dst_page->dev, name->dst));
}

static uint64_t dst_inode_id(const struct name *name)
{
	return name->dst && keeps_inode(name->change) ? inode_id(name) : 0;
}

static int lead(struct ar_later *later, struct ar_leader *leader, const struct name *name)
{
	const struct ar_page *dir = ar_dst_path_page(name->batch, name->pair);
	uint64_t offset;

	int err = spool_leader(later, dir, ar_row_name(name->src_page, name->src),
			       name->src->name_len, &offset);
	if (err)
		return err;
	/* above 0: ar_later_open put a record there */
	leader->path = offset;
	leader->dst = dst_inode_id(name);
	if (name->change) {
		name->change->flags |= AR_CHANGE_LEADER;
		if (name->change->kind == AR_CHANGE_META)
			leader->path |= AR_LEADER_META;
	}
	return 0;
}

/* the change is no longer the batch's; what is new stays counted as new */
static void take_out(const struct name *name)
{
	struct ar_tally *tally = &name->batch->tally;

	if (name->change->kind == AR_CHANGE_DATA) {
		tally->plan_files--;
		tally->plan_bytes -= name->src->size;
	} else if (name->change->kind == AR_CHANGE_CHECK) {
		tally->plan_checks--;
		tally->plan_check_bytes -= name->src->size;
	} else if (name->change->kind == AR_CHANGE_META) {
		tally->plan_metas--;
	}
	name->change->kind = AR_CHANGE_LINK;
	name->change->state = AR_STATE_LATER;
}

/* a further name is linked to the first one, wherever the file was before */
static void undo_move(const struct name *name)
{
	struct ar_tally *tally = &name->batch->tally;
	struct ar_change *change = name->change;

	if (!change || !ar_has_moved(change))
		return;
	if (change->kind == AR_CHANGE_MOVE) {
		tally->plan_moves--;
	} else if (change->kind == AR_CHANGE_CHECK) {
		tally->plan_checks--;
		tally->plan_check_bytes -= name->src->size;
	} else {
		tally->plan_clones--;
	}
	if (change->kind != AR_CHANGE_DATA) {
		tally->plan_files++;
		tally->plan_bytes += name->src->size;
	}
	if (!ar_is_clone(name->batch, change))
		tally->new_files += change->dst_row == AR_NONE;
	ar_move_undo(name->batch, change);
}

static int spool_follower(struct ar_later *later, const struct ar_leader *leader,
			  struct name *name)
{
	struct follower_record follower = {
		.leader = leader->path & ~7ull,
		.why = name->change ? name->change->why & ~(AR_WHY_CONTENT | AR_WHY_CHECKSUM) : 0,
		.has_dst = !!name->dst,
		.name_len = name->src->name_len,
		.link_len = name->src->link_len,
		.src = *name->src,
	};
	struct ar_bytes *out = &later->spool.out;
	uint64_t offset;

	if (name->dst) {
		follower.dst = *name->dst;
		follower.why |= AR_WHY_LINK;
	}
	int err = name->folder_spooled ? 0 : ar_later_folder(later, name->batch, name->pair);
	name->folder_spooled = true;
	if (!err)
		err = ar_spool_begin(&later->spool, RECORD_FOLLOWER, &offset);
	if (!err)
		err = ar_bytes_add(out, &follower.head + 1,
				   sizeof(follower) - sizeof(follower.head));
	if (!err)
		err = ar_later_string(out, ar_row_name(name->src_page, name->src),
				      follower.name_len);
	if (!err)
		err = ar_later_string(out, ar_page_str(name->src_page, name->src->link_off),
				      follower.link_len);
	return err ? err : ar_spool_end(&later->spool, offset);
}

static int follow(struct ar_later *later, const struct ar_leader *leader, struct name *name)
{
	undo_move(name);
	/* where the first name stays as it is, its content is this one's, whatever is known of it */
	const bool is_check = name->change && name->change->kind == AR_CHANGE_CHECK;
	const uint64_t dst = is_check && name->dst ? inode_id(name) : dst_inode_id(name);

	if (dst && dst == leader->dst) {	/* linked already */
		if (name->change && (is_check || leader->path & AR_LEADER_META)) {
			take_out(name);
			name->change->why = 0;
		}
		return 0;
	}
	int err = spool_follower(later, leader, name);
	if (err)
		return err;
	if (name->change) {
		take_out(name);
		name->change->why |= AR_WHY_LINK;	/* 0 would say that it is up to date */
	}
	name->pair->flags |= AR_PAIR_TOUCHED;
	later->count++;
	return 0;
}

/*
 * A row does not say which device it is on where that is not its directory's, as
 * the target of a followed link may be.  Such files are copied one by one.
 */
static bool may_share_inode(const struct ar_row *row)
{
	return row->nlink > 1 && row->type != DT_DIR &&
	       !(row->flags & (AR_ROW_BAD | AR_ROW_MOUNT));
}

static int add_name(struct ar_later *later, struct name *name)
{
	struct ar_leader *leader =
		ar_inodes_enter(later->inodes, ar_inode_of(name->src_page->dev, name->src));
	if (!leader)
		return -ENOMEM;
	return leader->path ? follow(later, leader, name) : lead(later, leader, name);
}

/* whether the options leave the row out; few rows are asked for, and few answered yes */
static bool is_left_out(const struct ar_batch *batch, uint32_t pair, uint32_t row)
{
	for (uint32_t i = 0; i < batch->problem_count; i++) {
		const struct ar_problem *problem = &batch->problems[i];
		if (problem->kind == AR_PROBLEM_SKIPPED && problem->pair == pair &&
		    problem->row == row)
			return true;
	}
	return false;
}

/* finds what ar_diff compared it with; false: it made nothing of this name */
static bool find_dst(struct name *name, uint32_t pair, uint32_t row)
{
	uint32_t at;

	if (name->change)
		at = name->change->dst_row;
	else
		at = ar_page_find(name->dst_page, ar_row_name(name->src_page, name->src),
				  name->src->name_len);
	name->dst = at == AR_NONE ? NULL : &ar_rows(name->dst_page)[at];
	if (name->change)
		return true;
	return name->dst && ar_same_kind(name->src->type, name->dst->type) &&
	       !(name->dst->flags & AR_ROW_BAD) && !is_left_out(name->batch, pair, row);
}

/* the names of a pair that stay as they are, or the others */
static int add_names(struct ar_later *later, struct name *name, uint32_t index, bool kept)
{
	struct ar_change *change = name->batch->changes + name->pair->change_first;
	struct ar_change *const end = change + name->pair->change_count;

	for (uint32_t row = 0; row < name->src_page->row_count; row++) {
		name->src = &ar_rows(name->src_page)[row];
		while (change < end && change->src_row < row)
			change++;
		if (!may_share_inode(name->src))
			continue;
		name->change = change < end && change->src_row == row ? change : NULL;
		if (kept != keeps_inode(name->change))
			continue;
		if (name->change && name->change->state == AR_STATE_LATER)
			continue;	/* it follows already */
		if (name->change && name->change->kind == AR_CHANGE_NONE)
			continue;	/* neither first nor further: left alone */
		int err = find_dst(name, index, row) ? add_name(later, name) : 0;
		if (err)
			return err;
	}
	return 0;
}

/* a name that stays comes first: the others are linked to it, and nothing is copied */
static int add_pair(struct ar_later *later, struct ar_batch *batch, uint32_t index)
{
	struct ar_pair *pair = &batch->pairs[index];
	struct name name = {
		.batch = batch,
		.pair = pair,
		.src_page = ar_src_page(batch, pair),
		.dst_page = ar_dst_page(batch, pair),
	};
	int err = add_names(later, &name, index, true);

	return err ? err : add_names(later, &name, index, false);
}

int ar_followers_add(struct ar_later *later, struct ar_batch *batch)
{
	for (uint32_t i = 0; i < batch->pair_count; i++) {
		/* under another name than the source's it is the only one of the run */
		int err = ar_src_page(batch, &batch->pairs[i])->alias_len
				  ? 0
				  : add_pair(later, batch, i);
		if (err)
			return err;
	}
	return 0;
}
