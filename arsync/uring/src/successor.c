/*
 * successor.c - the table of successor.h.
 *
 * It is small: beyond its end nothing is remembered.  Where a filesystem has no hard
 * links at all, which the first successor shows, nothing more is put into it.
 */
#include <pthread.h>
#include <stdlib.h>

#include "successor.h"

#define SUCCESSORS 64

struct ar_successor {
	char *first, *path;
	size_t first_len, path_len;
	uint64_t serial;
	bool in_the_making;
};

struct ar_successors {
	pthread_mutex_t lock;
	pthread_cond_t made;
	bool no_links;		/* a file of our own could not have a second name */
	uint32_t count;
	struct ar_successor list[SUCCESSORS];
};

struct ar_successors *ar_successors_new(void)
{
	struct ar_successors *all = calloc(1, sizeof(*all));

	if (!all)
		return NULL;
	pthread_mutex_init(&all->lock, NULL);
	pthread_cond_init(&all->made, NULL);
	return all;
}

void ar_successors_free(struct ar_successors *all)
{
	if (!all)
		return;
	for (uint32_t i = 0; i < all->count; i++) {
		free(all->list[i].first);
		free(all->list[i].path);
	}
	pthread_cond_destroy(&all->made);
	pthread_mutex_destroy(&all->lock);
	free(all);
}

/* paths may hold NULs (internal.h), so they are compared by their length */
static struct ar_successor *lookup(struct ar_successors *all, const char *first, size_t len)
{
	for (uint32_t i = 0; i < all->count; i++) {
		struct ar_successor *one = &all->list[i];
		if (one->first_len == len && !memcmp(one->first, first, len))
			return one;
	}
	return NULL;
}

int ar_successor_find(struct ar_successors *all, const char *first, size_t len,
		      struct ar_heir *heir)
{
	struct ar_successor *one;
	int err = 0;

	memset(heir, 0, sizeof(*heir));
	pthread_mutex_lock(&all->lock);
	while ((one = lookup(all, first, len)) && one->in_the_making)
		pthread_cond_wait(&all->made, &all->lock);
	if (one) {
		heir->serial = one->serial;
		heir->len = one->path_len;
		heir->path = ar_copy_of(one->path, one->path_len);
		err = heir->path ? 0 : -ENOMEM;
	}
	pthread_mutex_unlock(&all->lock);
	return err;
}

/* NULL: no room, or no memory */
static struct ar_successor *enter(struct ar_successors *all, const char *first, size_t len)
{
	struct ar_successor *one = &all->list[all->count];

	if (all->count == SUCCESSORS)
		return NULL;
	one->first = ar_copy_of(first, len);
	if (!one->first)
		return NULL;
	one->first_len = len;
	all->count++;
	return one;
}

bool ar_successor_claim(struct ar_successors *all, const char *first, size_t len,
			const struct ar_heir *heir, int err, char *path, size_t path_len,
			struct ar_successor **claimed)
{
	bool is_first;

	pthread_mutex_lock(&all->lock);
	struct ar_successor *one = lookup(all, first, len);
	is_first = (one ? one->serial : 0) == heir->serial;
	if (err == -EPERM && heir->serial)
		all->no_links = true;
	if (all->no_links || !path)
		one = NULL;
	else if (is_first && !one)
		one = enter(all, first, len);
	if (is_first && one) {
		free(one->path);
		one->path = path;
		one->path_len = path_len;
		one->serial++;
		one->in_the_making = true;
		path = NULL;
	}
	*claimed = is_first ? one : NULL;
	pthread_mutex_unlock(&all->lock);
	free(path);
	return is_first;
}

void ar_successor_made(struct ar_successors *all, struct ar_successor *claimed)
{
	pthread_mutex_lock(&all->lock);
	claimed->in_the_making = false;
	pthread_cond_broadcast(&all->made);
	pthread_mutex_unlock(&all->lock);
}
