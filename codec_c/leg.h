/*
 * One leg of a call: a WebSocket to Twilio (carrier) or to the voice provider, and the media that passes through it.
 *
 * Owns the finding of whole frames in what a socket delivers, the short way of the two messages that media_text.h
 * recognises, and the making of the frames that carry audio on. Every other byte goes to the WebSocket library, in order,
 * as EVENT_BYTES: frames whole, but for those longer than frame_limit, which go in pieces. After a frame has gone
 * there, the leg stands still (`stopped`) until leg_resume, because the answer may change what the next one means.
 * Whatever is irregular (reserved bits, wrong masking, unknown opcodes, anything behind a close frame) sets `bypass`: from
 * then on the library sees every byte. The library alone judges the protocol.
 */
#ifndef LEG_H
#define LEG_H

#include <stddef.h>
#include <stdint.h>

#include "outbox.h"
#include "pacer.h"
#include "polyphase.h"

enum {
    LEG_CARRIER = 0,
    LEG_PROVIDER = 1,
    /* stamps of Twilio may be this much off without meaning a gap (engine/call/hearing.py) */
    LEG_TOLERANCE_BYTES = 10 * PACER_BYTES_PER_MS
};

struct leg {
    uint32_t id;
    int fd;          /* -1: read and written by other means (TLS) */
    uint8_t side;    /* LEG_CARRIER or LEG_PROVIDER */
    uint8_t fast;    /* recognise media */
    uint8_t bypass;
    uint8_t stopped;
    uint8_t in_fragment; /* the pieces of a fragmented message are coming */
    uint8_t blocked;     /* the socket took less than it was given; Python has the rest */
    uint32_t frame_limit; /* longer payloads are not recognised */
    uint64_t skip_bytes; /* what is still to come of a frame that goes in pieces */
    /* what has arrived and is not a whole frame yet, or waits behind a stop */
    uint8_t *rest;
    size_t rest_size;
    size_t rest_capacity;
    double heard_at; /* when anything last arrived */
    /* --- of a carrier */
    struct leg *provider; /* where media goes; NULL: nowhere, it is left to the library */
    struct pacer *pacer;  /* what the caller hears; not owned; NULL: nothing */
    const uint8_t *stream_sid; /* what its media messages carry; not owned */
    size_t stream_sid_size;
    const uint8_t *head; /* our media messages up to their payload; not owned */
    size_t head_size;
    int64_t next_sequence;
    int64_t expected_bytes; /* the stamp, in bytes, that the next media message has if nothing is missing */
    uint64_t media_received;
    uint64_t media_sent;
    double media_at; /* when media last arrived */
    polyphase *up;   /* for a provider that wants 24 kHz PCM; not owned; NULL: it wants mu-law */
};

/* Random bytes for masks, fetched from the system as many at a time as it gives without a chance of being interrupted. */
struct mask_pool {
    uint8_t bytes[256];
    size_t left;
};

/* Where frames are made before they are sent. */
struct leg_scratch {
    struct mask_pool masks;
    uint8_t *text;
    size_t text_capacity;
    uint8_t *batch;
    size_t batch_size;
    size_t batch_capacity;
};

struct leg *leg_new(uint32_t id, int fd, int side, uint32_t frame_limit);
void leg_free(struct leg *leg);
void leg_scratch_free(struct leg_scratch *scratch);

/* Takes n bytes that the leg's socket delivered. */
void leg_receive(struct leg *leg, struct outbox *outbox, struct leg_scratch *scratch, const uint8_t *bytes, size_t n, double now);

/* Goes on behind a frame that the library has dealt with. */
void leg_resume(struct leg *leg, struct outbox *outbox, struct leg_scratch *scratch, double now);

/* Hands everything that waits to the library, and all that comes from now on. */
void leg_hand_over(struct leg *leg, struct outbox *outbox);

/* Makes and sends the frames of a carrier's pacer that are due, up to where a mark is wanted. Nothing without a pacer. */
void leg_send_due(struct leg *leg, struct outbox *outbox, struct leg_scratch *scratch, double now);

#endif
