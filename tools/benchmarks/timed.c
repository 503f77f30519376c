/*
 * timed: run one command and measure it, the sync of its destination included.
 *
 * A small program of its own because ru_maxrss of a child counts what the parent held when it
 * forked: measured from Python, every tool would seem to need Python's memory.
 *
 * Writes one JSON object to RESULT: copy_seconds (start of the command until its exit),
 * seconds (until syncfs of the filesystem of SYNC_DIR has returned as well), start (CLOCK_MONOTONIC at
 * the start), user_seconds, system_seconds and rss_kib (of the largest process, children of the
 * command included), exit (its exit status, or 128 + the signal that ended it).
 *
 * Usage: timed RESULT SYNC_DIR COMMAND [ARGUMENT...]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what, const char *name)
{
	fprintf(stderr, "timed: cannot %s '%s': %s\n", what, name, strerror(errno));
	exit(125);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static double seconds(struct timeval time)
{
	return time.tv_sec + time.tv_usec / 1e6;
}

static int exit_code(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static pid_t start_command(char **command)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork for", command[0]);
	if (pid == 0) {
		execvp(command[0], command);
		die("run", command[0]);
	}
	return pid;
}

int main(int argc, char **argv)
{
	double started, exited, synced;
	struct rusage usage;
	int sync_fd, status;
	FILE *result;
	pid_t pid;

	if (argc < 4) {
		fprintf(stderr, "usage: timed RESULT SYNC_DIR COMMAND [ARGUMENT...]\n");
		return 2;
	}
	result = fopen(argv[1], "we");
	if (!result)
		die("write", argv[1]);
	sync_fd = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (sync_fd < 0)
		die("open", argv[2]);

	started = now();
	pid = start_command(argv + 3);
	if (waitpid(pid, &status, 0) != pid)
		die("wait for", argv[3]);
	exited = now();
	if (syncfs(sync_fd))
		die("sync", argv[2]);
	synced = now();

	getrusage(RUSAGE_CHILDREN, &usage);
	fprintf(result,
		"{\"start\": %.6f, \"copy_seconds\": %.6f, \"seconds\": %.6f, "
		"\"user_seconds\": %.3f, \"system_seconds\": %.3f, \"rss_kib\": %ld, "
		"\"exit\": %d}\n",
		started, exited - started, synced - started, seconds(usage.ru_utime),
		seconds(usage.ru_stime), usage.ru_maxrss, exit_code(status));
	if (fclose(result))
		die("write", argv[1]);
	return 0;
}
