/*
 * A periodic alarm on the monotonic clock that an event loop can wait for: a thin wrapper of Linux's timerfd(2).
 *
 * All times are nanoseconds of CLOCK_MONOTONIC, the clock of Python's time.monotonic_ns(). Failures give -1 and errno;
 * where there is no timerfd every function fails with ENOSYS. The descriptor belongs to the caller, who closes it.
 */
#ifndef FRAME_TIMER_H
#define FRAME_TIMER_H

#include <stdint.h>

/* A new disarmed timer: a descriptor that is non-blocking and closed on exec, readable once the timer has expired. */
int frame_timer_open(void);

/*
 * Expire at first_ns (absolute; a time that has passed expires at once), then every interval_ns after first_ns, whatever
 * the delay of the reader; an interval of 0 expires once. first_ns 0 disarms. Forgets expirations not yet read.
 * 0 on success; negative times fail with EINVAL.
 */
int frame_timer_arm(int fd, int64_t first_ns, int64_t interval_ns);

/* How often the timer has expired since it was armed or last read; 0, without waiting, if it has not. */
int64_t frame_timer_read(int fd);

#endif
