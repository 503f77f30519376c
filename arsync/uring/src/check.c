/*
 * check.c - whether a file at the destination has the content of its source.
 *
 * A job reads first the destination's file, then the source's, each whole, and
 * compares hashes; a side whose hash is known is not read.  The source comes last:
 * where all of it is in the buffer and differs, its copy begins with what is there.
 *
 * Equal means that both stood still while they were read and have one hash.  All
 * else is copied, by the rules of a copy: a source that changed meanwhile, and a
 * destination that cannot be read, as rsync does it.
 */
#include <pthread.h>

#include "inodes.h"
#include "lane.h"

/* ----------------------------------------------------------- what is found */

static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;

static struct ar_inode dst_inode(const struct ar_lane *lane, const struct ar_pair *pair,
				 const struct ar_change *change)
{
	return ar_inode_of(ar_dst_page(lane->batch, pair)->dev,
			   ar_change_dst_row(lane->batch, pair, change));
}

/*
 * A further name that is linked to its first name already needs nothing where that
 * one stays.  A run sees it when it comes to link them; a dry run remembers which
 * inodes of the destination stay.
 */
static void keep_inode(struct ar_lane *lane, const struct ar_pair *pair,
		       const struct ar_change *change)
{
	struct ar_root *root = lane->batch->dst_root;
	struct ar_leader *entry = NULL;

	pthread_mutex_lock(&kept_lock);
	if (!root->kept)
		root->kept = ar_inodes_new();
	if (root->kept)
		entry = ar_inodes_enter(root->kept, dst_inode(lane, pair, change));
	if (entry)
		entry->path = 1;
	else
		lane->fatal = -ENOMEM;
	pthread_mutex_unlock(&kept_lock);
}

void ar_check_drop_links(struct ar_lane *lane, const struct ar_pair *pair)
{
	struct ar_change *change = lane->batch->changes + pair->change_first;
	const struct ar_root *root = lane->batch->dst_root;

	pthread_mutex_lock(&kept_lock);
	for (uint32_t i = 0; i < pair->change_count && root->kept; i++)
		if (change[i].kind == AR_CHANGE_LINK && change[i].dst_row != AR_NONE &&
		    ar_inodes_has(root->kept, dst_inode(lane, pair, &change[i])))
			change[i].why = 0;
	pthread_mutex_unlock(&kept_lock);
}

static void plan_copy(struct ar_lane *lane, const struct ar_pair *pair, struct ar_change *change)
{
	change->kind = AR_CHANGE_DATA;
	lane->tally.plan_files++;
	lane->tally.plan_bytes += ar_rows(ar_src_page(lane->batch, pair))[change->src_row].size;
}

void ar_check_decide(struct ar_lane *lane, const struct ar_pair *pair, struct ar_change *change,
		     const uint8_t *hash)
{
	lane->tally.checked_files++;
	change->state = AR_STATE_PLANNED;
	if (!hash) {
		if (ar_has_moved(change))
			ar_move_drop(lane, change);
		else
			change->why |= AR_WHY_CONTENT | AR_WHY_CHECKSUM;
		plan_copy(lane, pair, change);
		return;
	}
	change->flags |= AR_CHANGE_HASHED;
	memcpy(change->hash, hash, AR_HASH_BYTES);
	if (ar_is_clone(lane->batch, change)) {
		plan_copy(lane, pair, change);
		lane->tally.plan_clones++;
		return;
	}
	if (ar_has_moved(change)) {
		change->kind = AR_CHANGE_MOVE;
		lane->tally.plan_moves++;
		return;
	}
	if (ar_is_dry_run(lane) && (change->flags & AR_CHANGE_LEADER))
		keep_inode(lane, pair, change);
	change->kind = AR_CHANGE_META;
	change->why &= ~(AR_WHY_CTIME | AR_WHY_INODE | AR_WHY_RACY);
	lane->tally.plan_metas += !!change->why;
	if (!change->why)
		change->state = AR_STATE_DONE;
}

/* --------------------------------------------------------------- both sides */

bool ar_stat_same(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static void close_side(struct job *job)
{
	close(job->src_fd);
	job->src_fd = -1;
}

static void found_equal(struct ar_lane *lane, struct job *job, const uint8_t *hash, size_t buffered)
{
	struct folder *folder = job->folder;
	struct ar_change *change = job->change;

	if (!buffered)
		ar_job_keep_chunks(lane, job);
	ar_check_decide(lane, folder->pair, change, hash);
	ar_job_release(lane, job);
	if (change->why && !ar_is_dry_run(lane))
		ar_change_run(lane, folder, change);
}

/* buffered: the whole source is in the buffer */
static void found_different(struct ar_lane *lane, struct job *job, size_t buffered)
{
	ar_check_decide(lane, job->folder->pair, job->change, NULL);
	if (ar_is_dry_run(lane)) {
		ar_job_release(lane, job);
		return;
	}
	job->tries = job->patience = 0;
	if (buffered && !ar_method_shares(lane, (int)lane->cfg.method, job->page->dev)) {
		ar_job_complete(lane, job, buffered, AR_METHOD_READ_WRITE);
		return;
	}
	if (job->src_fd >= 0)
		close_side(job);
	ar_job_begin(lane, job);
}

/* ------------------------------------------------------- a source that decays */

#define BLOCK_BYTES (1u << 20)

static bool has_hash(struct ar_hasher *hasher, int fd, uint64_t size, const uint8_t *expected)
{
	uint8_t hash[AR_HASH_BYTES], *block = malloc(BLOCK_BYTES);
	uint64_t off = 0;
	ssize_t got = 1;

	while (block && off < size && got > 0) {
		got = sys_read(fd, block, BLOCK_BYTES, (off_t)off, 0);
		if (got > 0) {
			ar_hasher_update(hasher, block, (size_t)got);
			off += (uint64_t)got;
		}
	}
	free(block);
	return off == size && ar_hasher_final(hasher, hash) &&
	       !memcmp(hash, expected, AR_HASH_BYTES);
}

bool ar_source_decays(const struct folder *folder, const struct ar_change *change,
		      const char *name, uint64_t size, const uint8_t *hash)
{
	struct ar_hasher hasher = { 0 };
	struct stat st;

	if (!(change->flags & AR_CHANGE_EXPECTS) ||
	    !memcmp(hash, change->hash, AR_HASH_BYTES) || folder->dst_fd < 0)
		return false;
	int fd = sys_open(AR_OP_VERIFY, folder->dst_fd, name,
			  O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	if (fd < 0)
		return false;
	ar_hasher_reset(&hasher);
	bool holds = !sys_fstat(fd, &st) && S_ISREG(st.st_mode) && (uint64_t)st.st_size == size &&
		     has_hash(&hasher, fd, size, change->hash);
	ar_hasher_free(&hasher);
	close(fd);
	return holds;
}

/* --------------------------------------------------------------- small files */

void ar_check_begin(struct ar_lane *lane, struct job *job)
{
	memcpy(job->hash, job->change->hash, AR_HASH_BYTES);	/* if it is known */
	ar_job_read(lane, job, job->change->flags & AR_CHANGE_KNOWS_DST ? 0 : 1);
}

void ar_check_copy_anyway(struct ar_lane *lane, struct job *job)
{
	lane->tally.checked_bytes += job->row->size;
	found_different(lane, job, 0);
}

bool ar_check_opened(struct ar_lane *lane, struct job *job)
{
	int err = job->side ? sys_fstat(job->src_fd, &job->before) : 0;

	if (err) {
		ar_job_failed(lane, job, err, AR_OP_STAT, 1);
		return false;
	}
	if (!job->side ||
	    (S_ISREG(job->before.st_mode) && (uint64_t)job->before.st_size == job->row->size))
		return true;
	ar_check_copy_anyway(lane, job);	/* not what was compared */
	return false;
}

/* 1: the side is as it was before the reading, 0: it is not */
static int stood_still(struct job *job)
{
	struct stat st;
	int err = sys_fstat(job->src_fd, &st);

	if (err)
		return err;
	return job->off == job->row->size &&
	       (job->side ? ar_stat_same(&st, &job->before) : ar_row_same(&st, job->row));
}

void ar_check_read(struct ar_lane *lane, struct job *job, size_t buffered)
{
	const bool is_last = !job->side || (job->change->flags & AR_CHANGE_KNOWS_SRC);
	uint8_t hash[AR_HASH_BYTES];
	int stood = stood_still(job);

	if (stood < 0) {
		ar_job_failed(lane, job, stood, AR_OP_STAT, (int)job->side);
		return;
	}
	if (buffered)
		ar_hash_block(job->buf, buffered, hash);
	else if (!ar_hasher_final(&job->hasher, hash)) {
		ar_job_failed(lane, job, -ENOMEM, AR_OP_MEMORY, (int)job->side);
		return;
	}
	if (!stood) {
		ar_check_copy_anyway(lane, job);
		return;
	}
	if (!is_last) {
		memcpy(job->hash, hash, AR_HASH_BYTES);
		close_side(job);
		ar_job_read(lane, job, 0);
		return;
	}
	lane->tally.checked_bytes += job->row->size;
	if (memcmp(hash, job->hash, AR_HASH_BYTES))
		found_different(lane, job, job->side ? 0 : buffered);
	else
		found_equal(lane, job, hash, buffered);
}
