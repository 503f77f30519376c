/*
 * moves.c - new names that are files which the source had under another name.
 *
 * Inode and birth time say which file it is; that its old name is gone, or another
 * file's now, says that it moved; that the old file at the destination is as it was
 * recorded, size, times and inode, says that it is the content to be had there.
 *
 * A file whose own ctime has moved is read first, and has to have the recorded hash;
 * a directory's rename does not move that of what is in it.
 *
 * Where the old name is gone, and what it stood for would be deleted, the file at
 * the destination is renamed.  Where the old name is another file's, which replaces
 * it in the same batch, the lane gives the old file a second name first: so any
 * exchange and any circle of names comes out right.  Where the old name stays, the
 * new one gets a clone (FICLONE) of its file.  Anything else is copied from the source:
 * a copy of a copy would take as long, and keep what has decayed.
 */
#include "inodes.h"
#include "past.h"
#include "record.h"

struct hit {			/* one old name of a changed row's inode */
	struct ar_change *change;
	const struct ar_past_record *old;
	uint32_t pair;
	bool is_gone;		/* from the source; else it is another file's */
	bool has_src, has_dst;	/* the rows that were recorded of it */
	bool is_intact;		/* the destination's file is as recorded */
	struct ar_row src, dst;
	struct ar_known known;	/* of dst */
};

struct ar_moves {
	ar_scan *scan;
	const ar_past *past;
	struct ar_batch *batch;
	uint64_t root;
	struct hit *hits;	/* by directory and name */
	uint32_t count, room;
	struct ar_wanted *wanted;
	uint32_t wanted_count;
	struct ar_path path;
	struct ar_known spare[AR_RECORD_ROWS];
};

/* ------------------------------------------------------------------ looking */

static bool is_candidate(const struct ar_batch *batch, const struct ar_pair *pair,
			 const struct ar_change *change)
{
	const struct ar_page *page = ar_src_page(batch, pair);
	const struct ar_row *row;

	if (change->kind != AR_CHANGE_DATA || change->state != AR_STATE_PLANNED ||
	    change->why & AR_WHY_TYPE || page->alias_len)
		return false;
	row = &ar_rows(page)[change->src_row];
	if (!row->btime_s || row->flags & (AR_ROW_BAD | AR_ROW_FOLLOWED | AR_ROW_MOUNT))
		return false;
	const struct ar_memory *memory = ar_memory_of(batch, pair, change->src_row);
	return !memory || !memory->is_same_file;
}

uint32_t ar_moves_possible(const struct ar_batch *batch)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < batch->pair_count; i++) {
		const struct ar_pair *pair = &batch->pairs[i];

		for (uint32_t j = 0; j < pair->change_count && !(pair->flags & AR_PAIR_EXTRA); j++)
			count += is_candidate(batch, pair, &batch->changes[pair->change_first + j]);
	}
	return count;
}

static struct hit *add_hit(struct ar_moves *moves)
{
	if (moves->count == moves->room) {
		const uint32_t room = AR_MAX(2 * moves->room, 64u);
		struct hit *grown = realloc(moves->hits, room * sizeof(*grown));

		if (!grown)
			return NULL;
		moves->hits = grown;
		moves->room = room;
	}
	struct hit *hit = &moves->hits[moves->count++];
	memset(hit, 0, sizeof(*hit));
	return hit;
}

static int look_up(struct ar_moves *moves, uint32_t pair, struct ar_change *change)
{
	const struct ar_page *page = ar_src_page(moves->batch, &moves->batch->pairs[pair]);
	const struct ar_row *row = &ar_rows(page)[change->src_row];
	const uint64_t born = ar_born(row->btime_s, row->btime_n);
	const struct ar_past_record *old = NULL;

	while ((old = ar_past_find(moves->past, row->ino, born, DT_REG, old))) {
		struct hit *hit = add_hit(moves);

		if (!hit)
			return -ENOMEM;
		hit->change = change;
		hit->old = old;
		hit->pair = pair;
	}
	return 0;
}

static int by_old_name(const void *left, const void *right)
{
	const struct ar_past_record *a = ((const struct hit *)left)->old;
	const struct ar_past_record *b = ((const struct hit *)right)->old;

	if (a->directory != b->directory)
		return a->directory < b->directory ? -1 : 1;
	return ar_name_compare(ar_past_name(a), a->name_len, ar_past_name(b), b->name_len);
}

static uint32_t end_of_directory(const struct ar_moves *moves, uint32_t from)
{
	uint32_t end = from;

	while (end < moves->count &&
	       moves->hits[end].old->directory == moves->hits[from].old->directory)
		end++;
	return end;
}

/* ------------------------------------------------------- old names in the source */

static int open_dir(struct ar_moves *moves, const struct ar_root *root, uint64_t directory)
{
	return ar_past_open_dir(moves->past, root, directory, moves->root, &moves->path);
}

/* drops the hits whose old names still are theirs */
static int drop_those_there(struct ar_moves *moves)
{
	uint32_t kept = 0;

	for (uint32_t i = 0, end; i < moves->count; i = end) {
		end = end_of_directory(moves, i);
		int fd = open_dir(moves, moves->scan->src, moves->hits[i].old->directory);
		if (fd == -ENOMEM)
			return fd;
		for (uint32_t j = i; j < end; j++) {
			struct hit hit = moves->hits[j];

			if (ar_past_has_left(moves->scan, hit.old, fd, &hit.is_gone))
				moves->hits[kept++] = hit;
		}
		if (fd >= 0)
			close(fd);
	}
	moves->count = kept;
	return 0;
}

static int list_wanted(struct ar_moves *moves)
{
	moves->wanted = calloc(moves->count + 1u, sizeof(*moves->wanted));
	if (!moves->wanted)
		return -ENOMEM;
	for (uint32_t i = 0, end; i < moves->count; i = end) {
		end = end_of_directory(moves, i);
		const struct ar_past_record *first = moves->hits[i].old;
		const struct ar_past_record *last = moves->hits[end - 1].old;

		moves->wanted[moves->wanted_count++] = (struct ar_wanted){
			.directory = first->directory,
			.first = ar_past_name(first),
			.last = ar_past_name(last),
			.first_len = first->name_len,
			.last_len = last->name_len,
		};
	}
	return 0;
}

void ar_moves_free(ar_moves *moves)
{
	if (!moves)
		return;
	free(moves->path.bytes);
	free(moves->wanted);
	free(moves->hits);
	free(moves);
}

int ar_moves_look(ar_scan *scan, const ar_past *past, struct ar_batch *batch, uint64_t root,
		  ar_moves **out)
{
	struct ar_moves *moves = calloc(1, sizeof(*moves));
	int err = moves ? 0 : -ENOMEM;

	if (err)
		return err;
	moves->scan = scan;
	moves->past = past;
	moves->batch = batch;
	moves->root = root;
	for (uint32_t i = 0; i < batch->pair_count && !err; i++) {
		const struct ar_pair *pair = &batch->pairs[i];
		struct ar_change *change = batch->changes + pair->change_first;

		for (uint32_t j = 0; j < pair->change_count && !err; j++) {
			if (!(pair->flags & AR_PAIR_EXTRA) &&
			    is_candidate(batch, pair, &change[j]))
				err = look_up(moves, i, &change[j]);
		}
	}
	if (!err && moves->count) {
		qsort(moves->hits, moves->count, sizeof(*moves->hits), by_old_name);
		err = drop_those_there(moves);
	}
	if (!err)
		err = list_wanted(moves);
	if (err) {
		ar_moves_free(moves);
		return err;
	}
	*out = moves;
	return 0;
}

uint32_t ar_moves_wanted(const ar_moves *moves, const struct ar_wanted **out)
{
	*out = moves->wanted;
	return moves->wanted_count;
}

/* -------------------------------------------------------- what was recorded of them */

static void take_rows(struct ar_moves *moves, const struct ar_page *page, int side, uint32_t from,
		      uint32_t end)
{
	const struct ar_known *known = moves->spare + !!(page->flags & AR_PAGE_FIRST);

	for (uint32_t i = from; i < end; i++) {
		struct hit *hit = &moves->hits[i];
		uint32_t at = ar_page_find(page, ar_past_name(hit->old), hit->old->name_len);

		if (at == AR_NONE)
			continue;
		if (side) {
			hit->dst = ar_rows(page)[at];
			hit->known = known[at];
			hit->has_dst = !(known[at].state &
					 (AR_KNOWN_DIRTY | AR_KNOWN_VOLATILE | AR_KNOWN_RACY));
		} else {
			hit->src = ar_rows(page)[at];
			hit->has_src = !(known[at].state & (AR_KNOWN_UNSTABLE | AR_KNOWN_RACY));
		}
	}
}

static int take_chain(struct ar_moves *moves, struct ar_batch *spare, int side,
		      struct ar_recorded *record, uint32_t from, uint32_t end)
{
	ar_batch_clear(spare);
	record->known = moves->spare;
	int err = ar_records_unpack(record, 1, spare, 0);
	if (err || record->result)
		return err ? err : record->result;
	take_rows(moves, (const struct ar_page *)spare->src, side, from, end);
	return 0;
}

static int take_records(struct ar_moves *moves, const struct ar_chains *chains, int side)
{
	struct ar_batch *spare = ar_batch_new();
	const uint8_t *bytes = chains->bytes;
	const uint64_t *len = chains->lens;
	uint32_t from = 0;
	int err = spare ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < moves->wanted_count; i++) {
		const uint32_t end = end_of_directory(moves, from);

		for (uint32_t j = 0; j < chains->counts[i] && !err; j++) {
			struct ar_recorded record = {
				.bytes = bytes, .len = *len,
				.directory = moves->wanted[i].directory, .tree = chains->tree,
			};

			err = take_chain(moves, spare, side, &record, from, end);
			bytes += *len++;
		}
		from = end;
	}
	ar_batch_free(spare);
	return err;
}

static bool is_as_recorded(const struct ar_row *row, const struct statx *stx)
{
	return row->type == DT_REG && S_ISREG(stx->stx_mode) && stx->stx_ino == row->ino &&
	       stx->stx_size == row->size && stx->stx_mtime.tv_sec == row->mtime_s &&
	       stx->stx_mtime.tv_nsec == row->mtime_n && stx->stx_ctime.tv_sec == row->ctime_s &&
	       stx->stx_ctime.tv_nsec == row->ctime_n;
}

/* the old files at the destination, directory by directory */
static int look_at_old_files(struct ar_moves *moves)
{
	struct statx stx;

	for (uint32_t i = 0, end; i < moves->count; i = end) {
		end = end_of_directory(moves, i);
		int fd = open_dir(moves, moves->scan->dst, moves->hits[i].old->directory);
		if (fd == -ENOMEM)
			return fd;
		for (uint32_t j = i; j < end && fd >= 0; j++) {
			struct hit *hit = &moves->hits[j];

			hit->is_intact = hit->has_src && hit->has_dst &&
					 !sys_statx(fd, ar_past_name(hit->old),
						    AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
						    STATX_BASIC_STATS, &stx) &&
					 is_as_recorded(&hit->dst, &stx);
		}
		if (fd >= 0)
			close(fd);
	}
	return 0;
}

/* ---------------------------------------------------------------- what may be moved */

/* the old file is what the new name shall have */
static bool is_content(const struct ar_rules *rules, const struct ar_row *row,
		       const struct hit *hit)
{
	return hit->is_intact && hit->src.ino == row->ino && hit->src.size == row->size &&
	       hit->src.mtime_s == row->mtime_s && hit->src.mtime_n == row->mtime_n &&
	       hit->dst.size == row->size &&
	       !ar_compare_mtimes(rules, row->mtime_s, row->mtime_n, hit->dst.mtime_s,
				  hit->dst.mtime_n);
}

static bool is_replaced_in(const struct ar_batch *batch, const struct ar_pair *pair,
			   const char *name, size_t len)
{
	const uint32_t row = ar_page_find(ar_src_page(batch, pair), name, len);
	const struct ar_change *change = batch->changes + pair->change_first;

	for (uint32_t i = 0; i < pair->change_count; i++) {
		if (change[i].src_row == row)
			return row != AR_NONE && change[i].state == AR_STATE_PLANNED &&
			       (change[i].kind == AR_CHANGE_DATA || ar_has_moved(&change[i]));
	}
	return false;
}

/* whether the batch puts another file where the old one is */
static bool is_replaced(const struct ar_moves *moves, const struct hit *hit)
{
	const struct ar_batch *batch = moves->batch;
	const size_t dir_len = moves->path.len - hit->old->name_len;

	for (uint32_t i = 0; i < batch->pair_count; i++) {
		const struct ar_pair *pair = &batch->pairs[i];
		const struct ar_page *page = ar_dst_path_page(batch, pair);
		const size_t len = dir_len ? dir_len - 1 : 0;

		if (!(pair->flags & AR_PAIR_EXTRA) && page->path_len == len &&
		    !memcmp(ar_page_str(page, page->path_off), moves->path.bytes, len) &&
		    is_replaced_in(batch, pair, ar_past_name(hit->old), hit->old->name_len))
			return true;
	}
	return false;
}

/*
 * A rename moves ctime, and so does who writes and puts the mtime back.  A file of a
 * directory that was renamed has its old ctime.
 */
static bool needs_look(const struct ar_rules *rules, const struct ar_row *row,
		       const struct hit *hit)
{
	return row->size && !(rules->update & AR_UPDATE_IGNORE_CTIME) &&
	       (row->ctime_s != hit->src.ctime_s || row->ctime_n != hit->src.ctime_n);
}

/* all lanes share a big file, when the batch has been done and second names are gone */
static bool may_be_looked_at(const struct ar_rules *rules, const struct ar_row *row,
			     const struct hit *hit, bool stays)
{
	return hit->known.state & AR_KNOWN_HASHED && !(rules->update & AR_UPDATE_REHASH) &&
	       (hit->is_gone || stays || row->size < AR_BIG_BYTES);
}

/* what is read is the source; the destination's file has the hash that was recorded */
static void plan_look(struct ar_moves *moves, const struct ar_row *row, const struct hit *hit)
{
	struct ar_change *change = hit->change;

	change->kind = AR_CHANGE_CHECK;
	change->flags |= AR_CHANGE_KNOWS_DST;
	memcpy(change->hash, hit->known.hash, sizeof(change->hash));
	moves->batch->tally.plan_checks++;
	moves->batch->tally.plan_check_bytes += row->size;
}

/* it is a copy no more, until it turns out that it has to be one */
static void uncount(struct ar_tally *tally, const struct ar_row *row)
{
	tally->plan_files--;
	tally->plan_bytes -= row->size;
}

/* no copy, and nothing new */
static void make_move(struct ar_moves *moves, const struct ar_rules *rules, const struct hit *hit,
		      const struct ar_row *row)
{
	struct ar_tally *tally = &moves->batch->tally;
	struct ar_change *change = hit->change;

	uncount(tally, row);
	tally->new_files -= change->dst_row == AR_NONE;
	if (needs_look(rules, row, hit)) {
		plan_look(moves, row, hit);
	} else {
		change->kind = AR_CHANGE_MOVE;
		tally->plan_moves++;
	}
	change->why = AR_WHY_MOVED | ar_attribute_why(rules, row, &hit->dst);
}

/* a copy whose content comes from the old file */
static void make_clone(struct ar_moves *moves, const struct ar_rules *rules, const struct hit *hit,
		       const struct ar_row *row)
{
	if (needs_look(rules, row, hit)) {
		uncount(&moves->batch->tally, row);
		plan_look(moves, row, hit);
	} else {
		moves->batch->tally.plan_clones++;
	}
	hit->change->why |= AR_WHY_MOVED;
}

static int mark(struct ar_moves *moves, const struct ar_rules *rules, const struct hit *hit,
		bool stays)
{
	struct ar_batch *batch = moves->batch;
	struct ar_change *change = hit->change;
	const struct ar_page *page = ar_src_page(batch, &batch->pairs[hit->pair]);
	const struct ar_row *row = &ar_rows(page)[change->src_row];
	struct ar_old_file old = {
		.known = hit->known, .ino = hit->dst.ino, .size = hit->dst.size,
		.mtime_s = hit->dst.mtime_s, .mtime_n = hit->dst.mtime_n,
		.ctime_s = hit->dst.ctime_s, .ctime_n = hit->dst.ctime_n,
		.is_shared = !hit->is_gone && !stays, .stays = stays,
	};
	char *bytes = malloc(sizeof(old) + moves->path.len);

	if (!bytes)
		return -ENOMEM;
	memcpy(bytes, &old, sizeof(old));
	memcpy(bytes + sizeof(old), moves->path.bytes, moves->path.len);
	const uint32_t aux = ar_batch_add_aux(batch, bytes, sizeof(old) + moves->path.len);
	free(bytes);
	if (aux == AR_NONE)
		return -ENOMEM;
	change->aux = aux + (uint32_t)sizeof(old);
	change->aux_len = (uint32_t)moves->path.len;
	if (stays)
		make_clone(moves, rules, hit, row);
	else
		make_move(moves, rules, hit, row);
	return 0;
}

/* the file at the destination is what the change would copy */
static bool is_of_use(const struct ar_moves *moves, const struct ar_rules *rules,
		      const struct hit *hit, bool stays)
{
	const struct ar_change *change = hit->change;
	const struct ar_pair *pair = &moves->batch->pairs[hit->pair];
	const struct ar_row *row = &ar_rows(ar_src_page(moves->batch, pair))[change->src_row];
	const struct ar_row *now = ar_change_dst_row(moves->batch, pair, change);

	if (change->kind != AR_CHANGE_DATA || ar_has_moved(change) ||
	    !is_content(rules, row, hit))
		return false;
	if (needs_look(rules, row, hit) && !may_be_looked_at(rules, row, hit, stays))
		return false;
	return !now || now->ino != hit->dst.ino;	/* a name of the same file stays one */
}

static int find_path(struct ar_moves *moves, const struct hit *hit)
{
	int err = ar_past_path(moves->past, hit->old->directory, moves->root, &moves->path);

	if (err)
		return err;
	return ar_path_push(&moves->path, ar_past_name(hit->old), hit->old->name_len, false);
}

static bool may_move(const struct ar_moves *moves, const struct hit *hit,
		     const struct ar_moving *how)
{
	/* what it replaces is kept by a copy */
	if (hit->change->dst_row != AR_NONE && how->flags & AR_MOVING_BACKS_UP)
		return false;
	if (hit->is_gone)
		return ar_would_go(moves->scan, moves->path.bytes, moves->path.len, how);
	return !(how->flags & AR_MOVING_IN_PLACE) && is_replaced(moves, hit);
}

/* 1: marked */
static int try_move(struct ar_moves *moves, const struct ar_rules *rules, const struct hit *hit,
		    const struct ar_moving *how)
{
	if (!is_of_use(moves, rules, hit, false))
		return 0;
	int err = find_path(moves, hit);
	if (err || !may_move(moves, hit, how))
		return err;
	int claimed = ar_root_claim(moves->scan->dst, moves->path.bytes, moves->path.len);
	if (claimed <= 0)
		return claimed;
	return mark(moves, rules, hit, false) ? -ENOMEM : 1;
}

static int try_clone(struct ar_moves *moves, const struct ar_rules *rules, const struct hit *hit)
{
	ar_root *dst = moves->scan->dst;

	if (!hit->dst.size || !is_of_use(moves, rules, hit, true))
		return 0;
	int err = find_path(moves, hit);
	if (err || ar_root_has_claim(dst, moves->path.bytes, moves->path.len))
		return err;
	return mark(moves, rules, hit, true);
}

int ar_moves_mark(ar_moves *moves, const struct ar_chains *sides, const struct ar_rules *rules,
		  const struct ar_moving *how)
{
	int err = take_records(moves, &sides[0], 0);

	if (!err)
		err = take_records(moves, &sides[1], 1);
	if (!err)
		err = look_at_old_files(moves);
	for (uint32_t i = 0; i < moves->count && err >= 0; i++)
		err = try_move(moves, rules, &moves->hits[i], how);
	const bool clones = how->flags & AR_MOVING_CLONES && !moves->scan->dst->has_no_clones;
	for (uint32_t i = 0; i < moves->count && clones && err >= 0; i++)
		err = try_clone(moves, rules, &moves->hits[i]);
	return AR_MIN(err, 0);
}

void ar_move_undo(struct ar_batch *batch, struct ar_change *change)
{
	const bool is_clone = ar_is_clone(batch, change);

	change->kind = AR_CHANGE_DATA;
	change->flags &= (uint8_t)~(AR_CHANGE_HASHED | AR_CHANGE_KNOWS_DST);
	change->why &= ~(uint32_t)AR_WHY_MOVED;
	if (!is_clone) {
		ar_root_release(batch->dst_root, (const char *)batch->aux + change->aux,
				change->aux_len);
		change->why =
			AR_WHY_CONTENT | (change->dst_row == AR_NONE ? AR_WHY_NEW : change->why);
	}
	change->aux_len = 0;
}
