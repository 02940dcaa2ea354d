/*
 * What one pass of the hot path leaves for Python to decide: a list of events, and the bytes that belong to them.
 *
 * Everything in an outbox lives until the next outbox_reset. Memory that cannot be had is never an error of its own: the
 * event is lost, and outbox.starved tells.
 */
#ifndef OUTBOX_H
#define OUTBOX_H

#include <stddef.h>
#include <stdint.h>

enum event_kind {
    EVENT_BYTES = 1,       /* data: whole frames, or pieces of a long one, for the WebSocket library */
    EVENT_DELTA = 2,       /* data: an audio delta, decoded; response_id, item_id, content_index */
    EVENT_SEND = 3,        /* data: one frame of audio that this leg should be sent by other means than its descriptor */
    EVENT_UNSENT = 4,      /* data: what this leg's socket did not take; the beginning of it may have gone */
    EVENT_READABLE = 5,    /* a leg that is read by other means has something to read */
    EVENT_MARK_WANTED = 6, /* a mark should follow the audio that has left */
    EVENT_ENDED = 7,       /* the peer has ended its side */
    EVENT_FAILED = 8       /* error: an errno of the leg's socket */
};

struct leg_event {
    uint32_t leg_id;
    uint32_t kind;
    int32_t error;
    int64_t content_index;
    const uint8_t *data;
    size_t size;
    const uint8_t *response_id;
    size_t response_id_size;
    const uint8_t *item_id;
    size_t item_id_size;
};

struct outbox {
    struct leg_event *events;
    uint32_t count;
    uint32_t capacity;
    /* events of EVENT_UNSENT among them: they come first, or something would be sent into the middle of a frame */
    uint32_t unsent;
    uint8_t starved;
    struct outbox_block *blocks;
};

void outbox_reset(struct outbox *outbox);
void outbox_free(struct outbox *outbox);

/* n bytes, aligned for nothing; NULL if there is no memory. */
uint8_t *outbox_take(struct outbox *outbox, size_t n);

/* A new event of the leg, all else 0; NULL if there is no memory. */
struct leg_event *outbox_event(struct outbox *outbox, uint32_t leg_id, enum event_kind kind);

/* The same, with a copy of n bytes. */
struct leg_event *outbox_copy(struct outbox *outbox, uint32_t leg_id, enum event_kind kind, const uint8_t *data, size_t n);

#endif
