/* struct timespec and read(2) are POSIX, which strict C11 leaves out of the headers. */
#define _POSIX_C_SOURCE 200809L

#include "frame_timer.h"

#include <errno.h>

#ifdef __linux__

#include <sys/timerfd.h>
#include <unistd.h>

#define NS_PER_S INT64_C(1000000000)

static struct timespec timespec_of(int64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
}

int frame_timer_open(void)
{
    return timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
}

int frame_timer_arm(int fd, int64_t first_ns, int64_t interval_ns)
{
    if (first_ns < 0 || interval_ns < 0) {
        errno = EINVAL;
        return -1;
    }
    const struct itimerspec schedule = {.it_value = timespec_of(first_ns), .it_interval = timespec_of(interval_ns)};
    return timerfd_settime(fd, TFD_TIMER_ABSTIME, &schedule, NULL);
}

int64_t frame_timer_read(int fd)
{
    uint64_t expirations = 0;
    if (read(fd, &expirations, sizeof expirations) == (ssize_t)sizeof expirations)
        return (int64_t)expirations;
    return errno == EAGAIN ? 0 : -1;
}

#else

int frame_timer_open(void)
{
    errno = ENOSYS;
    return -1;
}

int frame_timer_arm(int fd, int64_t first_ns, int64_t interval_ns)
{
    (void)fd, (void)first_ns, (void)interval_ns;
    errno = ENOSYS;
    return -1;
}

int64_t frame_timer_read(int fd)
{
    (void)fd;
    errno = ENOSYS;
    return -1;
}

#endif
