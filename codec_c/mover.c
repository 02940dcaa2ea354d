#define _GNU_SOURCE

#include "mover.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef __linux__

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { INBOX_BYTES = 65536, READY_LIMIT = 1024 };

struct mover {
    int epoll_fd;
    struct outbox outbox;
    struct outbox aside;
    struct leg_scratch scratch;
    /* the carriers whose pacers are looked at */
    struct leg **paced;
    size_t paced_count;
    size_t paced_capacity;
    struct epoll_event ready[READY_LIMIT];
    uint8_t inbox[INBOX_BYTES];
};

struct mover *mover_new(void)
{
    struct mover *mover = calloc(1, sizeof *mover);
    if (mover == NULL)
        return NULL;
    mover->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (mover->epoll_fd < 0) {
        free(mover);
        return NULL;
    }
    return mover;
}

void mover_free(struct mover *mover)
{
    if (mover == NULL)
        return;
    close(mover->epoll_fd);
    outbox_free(&mover->outbox);
    outbox_free(&mover->aside);
    leg_scratch_free(&mover->scratch);
    free(mover->paced);
    free(mover);
}

int mover_fd(const struct mover *mover)
{
    return mover->epoll_fd;
}

int mover_watch(struct mover *mover, struct leg *leg, int fd)
{
    struct epoll_event interest = {.events = EPOLLIN, .data.ptr = leg};
    return epoll_ctl(mover->epoll_fd, EPOLL_CTL_ADD, fd, &interest);
}

static void stop_pacing(struct mover *mover, const struct leg *leg)
{
    for (size_t i = 0; i < mover->paced_count; i++)
        if (mover->paced[i] == leg) {
            mover->paced[i] = mover->paced[--mover->paced_count];
            return;
        }
}

void mover_forget(struct mover *mover, struct leg *leg, int fd)
{
    struct epoll_event nothing = {0};
    if (fd >= 0)
        epoll_ctl(mover->epoll_fd, EPOLL_CTL_DEL, fd, &nothing);
    stop_pacing(mover, leg);
}

int mover_pace(struct mover *mover, struct leg *leg)
{
    if (mover->paced_count == mover->paced_capacity) {
        const size_t capacity = mover->paced_capacity ? mover->paced_capacity * 2 : 64;
        struct leg **paced = realloc(mover->paced, capacity * sizeof *paced);
        if (paced == NULL)
            return -1;
        mover->paced = paced;
        mover->paced_capacity = capacity;
    }
    mover->paced[mover->paced_count++] = leg;
    return 0;
}

static int is_due(const struct leg *leg, double now)
{
    return leg->pacer != NULL && !leg->blocked && pacer_due_at(leg->pacer) <= now + 0.00005;
}

/* Receives once: what is left stays readable for the next pass, so that no leg keeps the others waiting. */
static void receive(struct mover *mover, struct leg *leg, double now)
{
    if (leg->fd < 0) {
        outbox_event(&mover->outbox, leg->id, EVENT_READABLE);
        return;
    }
    const ssize_t n = recv(leg->fd, mover->inbox, sizeof mover->inbox, MSG_DONTWAIT);
    if (n > 0) {
        leg_receive(leg, &mover->outbox, &mover->scratch, mover->inbox, (size_t)n, now);
    } else if (n == 0) {
        leg_hand_over(leg, &mover->outbox);
        outbox_event(&mover->outbox, leg->id, EVENT_ENDED);
    } else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
        const int error = errno;
        struct leg_event *event = outbox_event(&mover->outbox, leg->id, EVENT_FAILED);
        if (event != NULL)
            event->error = error;
    }
}

static void drain(struct mover *mover, double now)
{
    const int n = epoll_wait(mover->epoll_fd, mover->ready, READY_LIMIT, 0);
    for (int i = 0; i < n; i++)
        receive(mover, mover->ready[i].data.ptr, now);
}

void mover_pass(struct mover *mover, double now)
{
    outbox_reset(&mover->outbox);
    for (size_t i = 0; i < mover->paced_count; i++)
        if (is_due(mover->paced[i], now))
            leg_send_due(mover->paced[i], &mover->outbox, &mover->scratch, now);
    drain(mover, now);
}

void mover_drain(struct mover *mover, double now)
{
    outbox_reset(&mover->outbox);
    drain(mover, now);
}

double mover_due_at(const struct mover *mover)
{
    double due_at = INFINITY;
    for (size_t i = 0; i < mover->paced_count; i++) {
        const struct leg *leg = mover->paced[i];
        if (leg->pacer == NULL || leg->blocked)
            continue;
        const double at = pacer_due_at(leg->pacer);
        due_at = at < due_at ? at : due_at;
    }
    return due_at;
}

#else

struct mover {
    struct outbox outbox;
    struct outbox aside;
    struct leg_scratch scratch;
};

struct mover *mover_new(void)
{
    errno = ENOSYS;
    return NULL;
}

void mover_free(struct mover *mover)
{
    (void)mover;
}

int mover_fd(const struct mover *mover)
{
    (void)mover;
    return -1;
}

int mover_watch(struct mover *mover, struct leg *leg, int fd)
{
    (void)mover, (void)leg, (void)fd;
    errno = ENOSYS;
    return -1;
}

void mover_forget(struct mover *mover, struct leg *leg, int fd)
{
    (void)mover, (void)leg, (void)fd;
}

int mover_pace(struct mover *mover, struct leg *leg)
{
    (void)mover, (void)leg;
    errno = ENOSYS;
    return -1;
}

void mover_pass(struct mover *mover, double now)
{
    (void)mover, (void)now;
}

void mover_drain(struct mover *mover, double now)
{
    (void)mover, (void)now;
}

double mover_due_at(const struct mover *mover)
{
    (void)mover;
    return INFINITY;
}

#endif

void mover_resume(struct mover *mover, struct leg *leg, double now)
{
    outbox_reset(&mover->outbox);
    leg_resume(leg, &mover->outbox, &mover->scratch, now);
}

void mover_feed(struct mover *mover, struct leg *leg, const void *bytes, size_t n, double now)
{
    outbox_reset(&mover->outbox);
    leg_receive(leg, &mover->outbox, &mover->scratch, bytes, n, now);
}

void mover_send_due(struct mover *mover, struct leg *leg, double now)
{
    outbox_reset(&mover->aside);
    leg_send_due(leg, &mover->aside, &mover->scratch, now);
}

void mover_hand_over(struct mover *mover, struct leg *leg)
{
    outbox_reset(&mover->aside);
    leg_hand_over(leg, &mover->aside);
}

struct outbox *mover_outbox(struct mover *mover)
{
    return &mover->outbox;
}

struct outbox *mover_aside(struct mover *mover)
{
    return &mover->aside;
}
