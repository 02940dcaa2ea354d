/*
 * The frame pacer: turns bursts of audio into frames that leave on an even schedule.
 *
 * Owns one call's queue of audio, the model of Twilio's playout buffer that says when the next frame is due, and the
 * account of what has left. engine/call/pacer.py explains the model. Audio is G.711 mu-law, 8000 Hz, mono: 8 bytes a
 * millisecond. Times are seconds of one monotonic clock. Frames leave in the order the audio came, every byte once.
 */
#ifndef PACER_H
#define PACER_H

#include <stddef.h>
#include <stdint.h>

enum {
    PACER_BYTES_PER_MS = 8,
    PACER_FRAME_LIMIT = 200 * PACER_BYTES_PER_MS,
    PACER_QUEUE_LIMIT = 15 * 60 * 1000 * PACER_BYTES_PER_MS,
    PACER_RUN_LIMIT = 32,
    /* a mark is wanted after this much audio, half a second */
    PACER_MARK_INTERVAL = 500 * PACER_BYTES_PER_MS,
    LATENESS_STEPS = 8,
    LATENESS_BUCKETS = 32 * LATENESS_STEPS
};

/* Frames that left one behind the other: they play without a gap from plays_at on. Filler is silence behind the audio. */
struct pacer_run {
    double plays_at;
    uint64_t audio_bytes;
    uint64_t filler_bytes;
    uint8_t starts_spurt; /* playout was empty before it */
};

struct paced_frame {
    double plays_at;
    double late_s;
    uint32_t audio_bytes; /* the rest of the frame is silence */
    uint8_t starts_spurt;
};

/* Durations in buckets an eighth of a power of two wide, from one microsecond on. */
struct lateness {
    uint64_t buckets[LATENESS_BUCKETS];
    uint64_t count;
    double worst_s;
};

struct pacer {
    /* audio that has not left: size bytes from head on */
    uint8_t *queue;
    size_t head;
    size_t size;
    size_t capacity;
    /* how much of it nothing more belongs to: its last, partial frame may leave as it is */
    size_t complete_bytes;
    uint32_t frame_bytes;
    double frame_s;
    /* what Twilio's buffer has run down to when the next frame is due */
    double lead_s;
    /* when Twilio's buffer runs dry, by the model */
    double dry_at;
    /* since when a frame has been ready to leave; none is due before */
    double ready_at;
    /* whether nothing was queued since pacer_complete */
    uint8_t ended;
    /* what has left since the account was last taken */
    struct pacer_run runs[PACER_RUN_LIMIT];
    uint32_t run_count;
    /* bytes that have left since the last mark, and whether this spurt has had none */
    uint64_t unmarked_bytes;
    uint8_t spurt_unmarked;
    uint64_t frames;
    uint64_t late_frames; /* by more than a frame's length */
    uint64_t underruns;   /* times Twilio's buffer ran dry, by the model, although a frame was ready */
    double underrun_s;
    uint64_t refused_bytes; /* the queue was full */
    struct lateness lateness;
};

/* frame_ms 10 to 200, lead_s at least 0. NULL if there is no memory. */
struct pacer *pacer_new(uint32_t frame_ms, double lead_s);
void pacer_free(struct pacer *pacer);

/* Queues n bytes, or as many as the queue takes, and returns how many; fewer only when it, or the memory, is full. */
size_t pacer_push(struct pacer *pacer, const void *ulaw, size_t n, double now);

/* Says that nothing follows for now: the last, partial frame may leave, filled with silence. */
void pacer_complete(struct pacer *pacer, double now);

/* Drops the queue and takes Twilio's buffer for empty, as after a clear; returns how many bytes were dropped. */
size_t pacer_clear(struct pacer *pacer, double now);

/* When the next frame is due; infinity when there is none. */
double pacer_due_at(const struct pacer *pacer);

/*
 * Takes the next frame if it is due: 1, and frame_bytes bytes in ulaw; else 0. The account of at most PACER_RUN_LIMIT
 * runs is kept; while it is full, nothing is due.
 */
int pacer_take(struct pacer *pacer, uint8_t *ulaw, struct paced_frame *frame, double now);

/*
 * Whether a mark should follow what has left: the first of its spurt, after half a second, at the end, or because the
 * account is full.
 */
int pacer_mark_wanted(const struct pacer *pacer);

/* Says that a mark was sent, or is not to be. */
void pacer_marked(struct pacer *pacer);

void lateness_add(struct lateness *lateness, double seconds);

#endif
