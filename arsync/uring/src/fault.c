/*
 * fault.c - failpoints: make the Nth pass of an operation fail, fall short,
 * pause or kill.
 *
 * Off, a failpoint costs one relaxed load.  The tests arm one operation at a
 * time; passes of every operation are counted while any is armed, so that a
 * test can walk N = 1, 2, ... until the run survives.
 */
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "sys.h"

_Atomic int ar_fault_armed;

static struct {
	pthread_mutex_t lock;
	pthread_cond_t moved;
	uint64_t passes[AR_OP_COUNT];
	int op;
	int action;
	uint64_t first, last;	/* passes that are hit, 1 is the first */
	int64_t value;
	int paused;		/* threads waiting now */
	uint64_t releases;
} fault = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.moved = PTHREAD_COND_INITIALIZER,
};

static void wait_for_release(void)
{
	uint64_t seen = fault.releases;

	fault.paused++;
	pthread_cond_broadcast(&fault.moved);
	while (fault.releases == seen)
		pthread_cond_wait(&fault.moved, &fault.lock);
}

int ar_fault_hit(int op, size_t *len)
{
	int err = 0;

	pthread_mutex_lock(&fault.lock);
	uint64_t pass = ++fault.passes[op];
	if (op == fault.op && pass >= fault.first && pass <= fault.last) {
		switch (fault.action) {
		case AR_FAULT_ERROR:
			err = -(int)fault.value;
			break;
		case AR_FAULT_SHORT:
			if (len && *len > (size_t)fault.value)
				*len = (size_t)fault.value;
			break;
		case AR_FAULT_PAUSE:
			wait_for_release();
			break;
		case AR_FAULT_KILL:
			kill(getpid(), SIGKILL);
			break;
		}
	}
	pthread_mutex_unlock(&fault.lock);
	return err;
}

int ar_fault_set(int op, uint32_t skip, uint32_t count, int action, int64_t value)
{
	if (op <= AR_OP_NONE || op >= AR_OP_COUNT || action < AR_FAULT_ERROR ||
	    action > AR_FAULT_TRACE)
		return -EINVAL;
	pthread_mutex_lock(&fault.lock);
	memset(fault.passes, 0, sizeof(fault.passes));
	fault.op = op;
	fault.action = action;
	fault.first = (uint64_t)skip + 1;
	fault.last = (uint64_t)skip + count;
	fault.value = value;
	pthread_mutex_unlock(&fault.lock);
	atomic_store(&ar_fault_armed, 1);
	return 0;
}

void ar_fault_clear(void)
{
	atomic_store(&ar_fault_armed, 0);
	pthread_mutex_lock(&fault.lock);
	fault.op = AR_OP_NONE;
	fault.paused = 0;
	fault.releases++;
	pthread_cond_broadcast(&fault.moved);
	pthread_mutex_unlock(&fault.lock);
}

uint64_t ar_fault_passes(int op)
{
	if (op <= AR_OP_NONE || op >= AR_OP_COUNT)
		return 0;
	pthread_mutex_lock(&fault.lock);
	uint64_t passes = fault.passes[op];
	pthread_mutex_unlock(&fault.lock);
	return passes;
}

int ar_fault_wait(int op, int timeout_ms)
{
	struct timespec until;
	int rc = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += timeout_ms % 1000 * 1000000L;
	if (until.tv_nsec >= 1000000000L) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000L;
	}
	pthread_mutex_lock(&fault.lock);
	while (!(fault.op == op && fault.paused) && rc == 0)
		rc = -pthread_cond_timedwait(&fault.moved, &fault.lock, &until);
	pthread_mutex_unlock(&fault.lock);
	return rc;
}

void ar_fault_resume(void)
{
	pthread_mutex_lock(&fault.lock);
	fault.paused = 0;	/* at once: the next wait is for the next pause */
	fault.releases++;
	pthread_cond_broadcast(&fault.moved);
	pthread_mutex_unlock(&fault.lock);
}
