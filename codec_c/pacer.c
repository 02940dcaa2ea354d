#include "pacer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double GRID_S = 0.001;   /* dues lie on the frame clock's grid */
static const double EARLY_S = 0.00005; /* floating-point dust, and a clock that woke us a hair early */
static const uint8_t SILENCE = 0xff;
/* a queue larger than this gives its memory back when it has run empty */
static const size_t KEPT_CAPACITY = 16384;

static double on_grid(double now)
{
    return floor((now + EARLY_S) / GRID_S) * GRID_S;
}

struct pacer *pacer_new(uint32_t frame_ms, double lead_s)
{
    struct pacer *pacer = calloc(1, sizeof *pacer);
    if (pacer == NULL)
        return NULL;
    pacer->frame_bytes = frame_ms * PACER_BYTES_PER_MS;
    pacer->frame_s = frame_ms / 1000.0;
    pacer->lead_s = lead_s;
    pacer->dry_at = pacer->ready_at = -INFINITY;
    return pacer;
}

void pacer_free(struct pacer *pacer)
{
    if (pacer != NULL)
        free(pacer->queue);
    free(pacer);
}

static int is_ready(const struct pacer *pacer)
{
    return pacer->size >= pacer->frame_bytes || pacer->complete_bytes > 0;
}

/* Makes room for n more bytes behind the queue: moves it to the front, or grows. 0 if there is no memory. */
static int make_room(struct pacer *pacer, size_t n)
{
    if (pacer->head + pacer->size + n <= pacer->capacity)
        return 1;
    if (pacer->head >= pacer->size && pacer->size + n <= pacer->capacity) {
        memmove(pacer->queue, pacer->queue + pacer->head, pacer->size);
        pacer->head = 0;
        return 1;
    }
    size_t capacity = pacer->capacity ? pacer->capacity : 4096;
    while (capacity < pacer->size + n)
        capacity *= 2;
    uint8_t *queue = malloc(capacity);
    if (queue == NULL)
        return 0;
    if (pacer->size)
        memcpy(queue, pacer->queue + pacer->head, pacer->size);
    free(pacer->queue);
    pacer->queue = queue;
    pacer->capacity = capacity;
    pacer->head = 0;
    return 1;
}

size_t pacer_push(struct pacer *pacer, const void *ulaw, size_t n, double now)
{
    const size_t room = (size_t)PACER_QUEUE_LIMIT - pacer->size;
    size_t taken = n < room ? n : room;
    if (!is_ready(pacer))
        pacer->ready_at = now;
    if (taken && !make_room(pacer, taken))
        taken = 0;
    if (taken) {
        memcpy(pacer->queue + pacer->head + pacer->size, ulaw, taken);
        pacer->size += taken;
        pacer->ended = 0;
    }
    pacer->refused_bytes += n - taken;
    return taken;
}

void pacer_complete(struct pacer *pacer, double now)
{
    if (!is_ready(pacer))
        pacer->ready_at = now;
    pacer->complete_bytes = pacer->size;
    pacer->ended = 1;
}

static void release(struct pacer *pacer)
{
    pacer->head = 0;
    if (pacer->capacity > KEPT_CAPACITY) {
        free(pacer->queue);
        pacer->queue = NULL;
        pacer->capacity = 0;
    }
}

size_t pacer_clear(struct pacer *pacer, double now)
{
    const size_t dropped = pacer->size;
    pacer->size = pacer->complete_bytes = 0;
    pacer->ended = 0;
    release(pacer);
    if (on_grid(now) < pacer->dry_at)
        pacer->dry_at = on_grid(now);
    pacer->unmarked_bytes = 0;
    pacer->spurt_unmarked = 0;
    return dropped;
}

double pacer_due_at(const struct pacer *pacer)
{
    if (!is_ready(pacer) || pacer->run_count == PACER_RUN_LIMIT)
        return INFINITY;
    const double by_lead = pacer->dry_at - pacer->lead_s;
    return by_lead > pacer->ready_at ? by_lead : pacer->ready_at;
}

/* Begins the schedule anew, on the grid. */
static void restart(struct pacer *pacer, double now)
{
    /* a frame was ready before the buffer ran dry: we were too slow, and the caller heard the gap */
    if (pacer->ready_at < pacer->dry_at) {
        pacer->underruns++;
        pacer->underrun_s += now - pacer->dry_at;
    }
    pacer->dry_at = on_grid(now);
    /* the lead that follows is due at once, not late */
    pacer->ready_at = now;
}

static uint32_t pop_audio(struct pacer *pacer, uint8_t *ulaw)
{
    const size_t n = pacer->size >= pacer->frame_bytes ? pacer->frame_bytes : pacer->complete_bytes;
    memcpy(ulaw, pacer->queue + pacer->head, n);
    memset(ulaw + n, SILENCE, pacer->frame_bytes - n);
    pacer->head += n;
    pacer->size -= n;
    /* what follows a partial frame is not complete, and waits for the rest */
    pacer->complete_bytes = pacer->complete_bytes > n ? pacer->complete_bytes - n : 0;
    if (pacer->size == 0)
        release(pacer);
    return (uint32_t)n;
}

static void account(struct pacer *pacer, const struct paced_frame *frame)
{
    struct pacer_run *last = pacer->run_count ? &pacer->runs[pacer->run_count - 1] : NULL;
    if (last == NULL || frame->starts_spurt || last->filler_bytes) {
        last = &pacer->runs[pacer->run_count++];
        *last = (struct pacer_run){.plays_at = frame->plays_at, .starts_spurt = frame->starts_spurt};
    }
    last->audio_bytes += frame->audio_bytes;
    last->filler_bytes += pacer->frame_bytes - frame->audio_bytes;
    pacer->unmarked_bytes += pacer->frame_bytes;
    pacer->spurt_unmarked |= frame->starts_spurt;
}

int pacer_take(struct pacer *pacer, uint8_t *ulaw, struct paced_frame *frame, double now)
{
    const double due_at = pacer_due_at(pacer);
    if (due_at > now + EARLY_S)
        return 0;
    frame->audio_bytes = pop_audio(pacer, ulaw);
    /* within the grid's step the model cannot tell dry from not dry */
    frame->starts_spurt = now - pacer->dry_at > GRID_S;
    frame->plays_at = now > pacer->dry_at ? now : pacer->dry_at;
    if (frame->starts_spurt)
        restart(pacer, now);
    pacer->dry_at += pacer->frame_s;
    frame->late_s = now > due_at ? now - due_at : 0;
    pacer->frames++;
    pacer->late_frames += frame->late_s > pacer->frame_s;
    lateness_add(&pacer->lateness, frame->late_s);
    account(pacer, frame);
    return 1;
}

int pacer_mark_wanted(const struct pacer *pacer)
{
    const int at_end = pacer->ended && pacer->size == 0;
    if (pacer->run_count == PACER_RUN_LIMIT)
        return 1; /* whoever marks also takes the account; until then nothing leaves */
    return pacer->unmarked_bytes && (pacer->spurt_unmarked || at_end || pacer->unmarked_bytes >= PACER_MARK_INTERVAL);
}

void pacer_marked(struct pacer *pacer)
{
    pacer->unmarked_bytes = 0;
    pacer->spurt_unmarked = 0;
}

void lateness_add(struct lateness *lateness, double seconds)
{
    size_t index = 0;
    lateness->count++;
    if (seconds > lateness->worst_s)
        lateness->worst_s = seconds;
    if (seconds >= 0.000001) {
        int exponent;
        const double fraction = frexp(seconds * 1000000, &exponent); /* at least a half; a microsecond is 0.5 * 2^1 */
        index = (size_t)(exponent - 1) * LATENESS_STEPS + (size_t)((fraction - 0.5) * 2 * LATENESS_STEPS);
    }
    lateness->buckets[index < LATENESS_BUCKETS ? index : LATENESS_BUCKETS - 1]++;
}
