/*
 * The mover's pass: what has arrived on all media sockets is received, carried on, and what is due is sent, in one call.
 *
 * Owns an epoll of the legs' sockets. Decides nothing: what is not steady flow is left in the outbox for Python. Only on
 * Linux; elsewhere mover_new gives NULL and ENOSYS.
 */
#ifndef MOVER_H
#define MOVER_H

#include <stdint.h>

#include "leg.h"
#include "outbox.h"

struct mover;

struct mover *mover_new(void);
void mover_free(struct mover *mover);

/* The epoll's descriptor: readable when a leg's socket is. Belongs to the mover. */
int mover_fd(const struct mover *mover);

/*
 * Watches fd for the leg (its own descriptor, or for a leg read by other means the one that tells of arrivals). 0, or -1 and
 * errno. A leg must be forgotten before it is freed or its descriptor closed.
 */
int mover_watch(struct mover *mover, struct leg *leg, int fd);
void mover_forget(struct mover *mover, struct leg *leg, int fd);

/* A carrier whose pacer the passes look at; forgotten by mover_forget as well. 0, or -1 and errno. */
int mover_pace(struct mover *mover, struct leg *leg);

/* One pass: sends what is due, then moves what has arrived. The events are in mover_outbox. */
void mover_pass(struct mover *mover, double now);

/* Only what has arrived. */
void mover_drain(struct mover *mover, double now);

/* One leg: goes on behind a stop; takes bytes read by other means. */
void mover_resume(struct mover *mover, struct leg *leg, double now);
void mover_feed(struct mover *mover, struct leg *leg, const void *bytes, size_t n, double now);

/*
 * The same for what may happen while the events of a pass are being dealt with: sends what is due; hands all to the
 * library. These leave their events in mover_aside, and those of mover_outbox as they are.
 */
void mover_send_due(struct mover *mover, struct leg *leg, double now);
void mover_hand_over(struct mover *mover, struct leg *leg);

/* When the next frame of any pacer is due; infinity when there is none. */
double mover_due_at(const struct mover *mover);

/* The events of the last pass, drain, resume or feed; and of the last send_due or hand_over. */
struct outbox *mover_outbox(struct mover *mover);
struct outbox *mover_aside(struct mover *mover);

#endif
