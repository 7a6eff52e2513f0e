/* The wall clock of one node of a lab is moved, by so many seconds as the first eight bytes of the file GECKO_TEST_CLOCKS/GECKO_NODE say at the moment; every
 * other clock is as it is. For LD_PRELOAD: clocks_test. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define OUTSIDE __attribute__((visibility("default")))

static int (*real_clock_gettime)(clockid_t, struct timespec *);
static const volatile int64_t *moved_by_s;

__attribute__((constructor)) static void begin(void)
{
	const char *directory = getenv("GECKO_TEST_CLOCKS"), *node = getenv("GECKO_NODE");
	char path[256];
	void *at;
	int fd;

	real_clock_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	if (!directory || !node || snprintf(path, sizeof path, "%s/%s", directory, node) >= (int)sizeof path)
		return;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	at = mmap(NULL, sizeof *moved_by_s, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (at != MAP_FAILED)
		moved_by_s = at;
}

OUTSIDE int clock_gettime(clockid_t id, struct timespec *ts)
{
	int rc;

	if (!real_clock_gettime)
		begin();
	rc = real_clock_gettime(id, ts);
	if (rc == 0 && moved_by_s && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		ts->tv_sec += *moved_by_s;
	return rc;
}

OUTSIDE time_t time(time_t *t)
{
	struct timespec ts = { 0 };

	clock_gettime(CLOCK_REALTIME, &ts);
	if (t)
		*t = ts.tv_sec;
	return ts.tv_sec;
}

OUTSIDE int gettimeofday(struct timeval *tv, void *zone)
{
	struct timespec ts = { 0 };

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &ts);
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}
