/* send(2) and getentropy(3) are not in strict C11. */
#define _GNU_SOURCE

#include "leg.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base64.h"
#include "media_text.h"
#include "websocket_frame.h"

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* Python ignores SIGPIPE */
#endif

/* a rest buffer larger than this is given back when it is empty */
static const size_t KEPT_CAPACITY = 8192;

static const char APPEND_HEAD[] = "{\"type\":\"input_audio_buffer.append\",\"audio\":\"";
static const char APPEND_TAIL[] = "\"}";
static const char MEDIA_TAIL[] = "\"}}";

struct leg *leg_new(uint32_t id, int fd, int side, uint32_t frame_limit)
{
    struct leg *leg = calloc(1, sizeof *leg);
    if (leg == NULL)
        return NULL;
    leg->id = id;
    leg->fd = fd;
    leg->side = (uint8_t)side;
    leg->frame_limit = frame_limit;
    leg->expected_bytes = -1;
    return leg;
}

void leg_free(struct leg *leg)
{
    if (leg != NULL)
        free(leg->rest);
    free(leg);
}

void leg_scratch_free(struct leg_scratch *scratch)
{
    free(scratch->text);
    free(scratch->batch);
    memset(scratch, 0, sizeof *scratch);
}

/* Grows a buffer to at least n bytes, keeping what is in it. 0 if there is no memory. */
static int reserve(uint8_t **bytes, size_t *capacity, size_t n)
{
    if (n <= *capacity)
        return 1;
    size_t wanted = *capacity ? *capacity : 4096;
    while (wanted < n)
        wanted *= 2;
    uint8_t *grown = realloc(*bytes, wanted);
    if (grown == NULL)
        return 0;
    *bytes = grown;
    *capacity = wanted;
    return 1;
}

/* Four bytes that nobody can predict (RFC 6455, section 5.3). 0 if the system has none to give. */
static int take_mask(struct mask_pool *pool, uint8_t mask[4])
{
    if (pool->left < 4) {
        if (getentropy(pool->bytes, sizeof pool->bytes) != 0)
            return 0;
        pool->left = sizeof pool->bytes;
    }
    pool->left -= 4;
    memcpy(mask, pool->bytes + pool->left, 4);
    return 1;
}

/* ------------------------------------------------------------------------------------------------------- sending */

/* Sends the batch; what the socket does not take becomes an event, and blocks the leg until Python has sent it. */
static void send_batch(struct leg *leg, struct outbox *outbox, struct leg_scratch *scratch)
{
    const size_t n = scratch->batch_size;
    scratch->batch_size = 0;
    if (n == 0)
        return;
    /* a leg that is written by other means has taken nothing yet */
    const ssize_t sent = leg->fd < 0 ? 0 : send(leg->fd, scratch->batch, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent == (ssize_t)n)
        return;
    if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
        struct leg_event *event = outbox_event(outbox, leg->id, EVENT_FAILED);
        if (event != NULL)
            event->error = errno;
        return;
    }
    const size_t gone = sent > 0 ? (size_t)sent : 0;
    leg->blocked = 1;
    outbox_copy(outbox, leg->id, EVENT_UNSENT, scratch->batch + gone, n - gone);
}

/* Adds one masked text frame to the batch, or to the outbox for a leg that is not written here. */
static int put_provider_frame(struct leg *leg, struct outbox *outbox, struct leg_scratch *scratch, const uint8_t *text, size_t n)
{
    uint8_t mask[4];
    if (!take_mask(&scratch->masks, mask))
        return 0;
    const int direct = leg->fd >= 0 && !leg->blocked;
    uint8_t *frame;
    if (direct) {
        if (!reserve(&scratch->batch, &scratch->batch_capacity, scratch->batch_size + FRAME_HEADER_LIMIT + n))
            return 0;
        frame = scratch->batch + scratch->batch_size;
    } else {
        frame = outbox_take(outbox, FRAME_HEADER_LIMIT + n);
        if (frame == NULL)
            return 0;
    }
    const size_t header = frame_header_write(frame, n, mask);
    frame_mask(frame + header, text, mask, n);
    if (direct) {
        scratch->batch_size += header + n;
        return 1;
    }
    struct leg_event *event = outbox_event(outbox, leg->id, EVENT_SEND);
    if (event == NULL)
        return 0;
    event->data = frame;
    event->size = header + n;
    return 1;
}

/* Writes `input_audio_buffer.append` around base64 text that is already in place behind its head. */
static size_t close_append(uint8_t *text, size_t payload_size)
{
    memcpy(text, APPEND_HEAD, sizeof APPEND_HEAD - 1);
    memcpy(text + sizeof APPEND_HEAD - 1 + payload_size, APPEND_TAIL, sizeof APPEND_TAIL - 1);
    return sizeof APPEND_HEAD - 1 + payload_size + sizeof APPEND_TAIL - 1;
}

static int append_ulaw(struct leg *leg, struct outbox *outbox, struct leg_scratch *scratch, const struct text_slice *payload)
{
    uint8_t text[1024], *out = text;
    const size_t room = payload->size + sizeof APPEND_HEAD + sizeof APPEND_TAIL;
    if (room > sizeof text && (out = outbox_take(outbox, room)) == NULL)
        return 0;
    memcpy(out + sizeof APPEND_HEAD - 1, payload->at, payload->size);
    return put_provider_frame(leg->provider, outbox, scratch, out, close_append(out, payload->size));
}

static int append_pcm(struct leg *leg, struct outbox *outbox, struct leg_scratch *scratch, const uint8_t *ulaw, size_t n)
{
    const size_t samples = polyphase_output_samples(leg->up, n);
    uint8_t *pcm = outbox_take(outbox, samples * 2 + 1);
    uint8_t *text = outbox_take(outbox, base64_encoded_size(samples * 2) + sizeof APPEND_HEAD + sizeof APPEND_TAIL);
    if (pcm == NULL || text == NULL)
        return 0;
    polyphase_convert_from_ulaw(leg->up, pcm, ulaw, n);
    if (samples == 0)
        return 1; /* the filter holds all of it back */
    base64_encode(text + sizeof APPEND_HEAD - 1, pcm, samples * 2);
    put_provider_frame(leg->provider, outbox, scratch, text, close_append(text, base64_encoded_size(samples * 2)));
    return 1; /* the filter has moved on: this audio must not go another way too */
}

void leg_send_due(struct leg *leg, struct outbox *outbox, struct leg_scratch *scratch, double now)
{
    struct pacer *pacer = leg->pacer;
    uint8_t ulaw[PACER_FRAME_LIMIT];
    struct paced_frame frame;
    if (pacer == NULL)
        return;
    const size_t text_size = leg->head_size + base64_encoded_size(pacer->frame_bytes) + sizeof MEDIA_TAIL - 1;
    int mark_wanted = pacer_mark_wanted(pacer);
    while (!mark_wanted && !leg->blocked) {
        if (!reserve(&scratch->batch, &scratch->batch_capacity, scratch->batch_size + FRAME_HEADER_LIMIT + text_size))
            break;
        if (!pacer_take(pacer, ulaw, &frame, now))
            break;
        uint8_t *at = scratch->batch + scratch->batch_size;
        at += frame_header_write(at, text_size, NULL);
        memcpy(at, leg->head, leg->head_size);
        base64_encode(at + leg->head_size, ulaw, pacer->frame_bytes);
        memcpy(at + text_size - (sizeof MEDIA_TAIL - 1), MEDIA_TAIL, sizeof MEDIA_TAIL - 1);
        scratch->batch_size = (size_t)(at - scratch->batch) + text_size;
        leg->media_sent++;
        mark_wanted = pacer_mark_wanted(pacer);
    }
    send_batch(leg, outbox, scratch);
    if (mark_wanted)
        outbox_event(outbox, leg->id, EVENT_MARK_WANTED);
}

/* ----------------------------------------------------------------------------------------------------- receiving */

/* The short way of a caller's voice. 1 if it was taken, 0 if the library has to look at the message. */
static int carry_media(struct leg *leg, struct outbox *outbox, struct leg_scratch *scratch, const uint8_t *text, size_t n, double now)
{
    struct carrier_media media;
    if (leg->provider == NULL || leg->stream_sid == NULL || leg->expected_bytes < 0 || !carrier_media_find(&media, text, n))
        return 0;
    if (media.stream_sid.size != leg->stream_sid_size || memcmp(media.stream_sid.at, leg->stream_sid, leg->stream_sid_size) != 0)
        return 0;
    if (media.sequence_number != leg->next_sequence)
        return 0;
    uint8_t small[1024], *ulaw = small;
    const size_t room = media.payload.size / 4 * 3;
    if (room > sizeof small && (ulaw = outbox_take(outbox, room)) == NULL)
        return 0;
    const ptrdiff_t bytes = base64_decode(ulaw, media.payload.at, media.payload.size);
    const int64_t off_by = media.timestamp_ms * PACER_BYTES_PER_MS - leg->expected_bytes;
    if (bytes <= 0 || off_by >= LEG_TOLERANCE_BYTES || off_by <= -LEG_TOLERANCE_BYTES)
        return 0;
    const int taken = leg->up != NULL ? append_pcm(leg, outbox, scratch, ulaw, (size_t)bytes)
                                      : append_ulaw(leg, outbox, scratch, &media.payload);
    if (!taken)
        return 0;
    leg->next_sequence++;
    leg->expected_bytes += bytes;
    leg->media_received++;
    leg->media_at = now;
    return 1;
}

/* The short way of the model's voice. */
static int carry_delta(struct leg *leg, struct outbox *outbox, const uint8_t *text, size_t n)
{
    struct audio_delta delta;
    if (!audio_delta_find(&delta, text, n))
        return 0;
    const size_t ids = delta.response_id.size + delta.item_id.size;
    uint8_t *bytes = outbox_take(outbox, ids + delta.delta.size / 4 * 3 + 1);
    if (bytes == NULL)
        return 0;
    memcpy(bytes, delta.response_id.at, delta.response_id.size);
    memcpy(bytes + delta.response_id.size, delta.item_id.at, delta.item_id.size);
    const ptrdiff_t size = base64_decode(bytes + ids, delta.delta.at, delta.delta.size);
    struct leg_event *event = size >= 0 ? outbox_event(outbox, leg->id, EVENT_DELTA) : NULL;
    if (event == NULL)
        return 0;
    event->response_id = bytes;
    event->response_id_size = delta.response_id.size;
    event->item_id = bytes + delta.response_id.size;
    event->item_id_size = delta.item_id.size;
    event->content_index = delta.content_index;
    event->data = bytes + ids;
    event->size = (size_t)size;
    return 1;
}

/* Tries the short way with a whole text frame. */
static int carry(struct leg *leg, struct outbox *outbox, struct leg_scratch *scratch, const struct frame_header *header,
                 const uint8_t *payload, double now)
{
    const size_t n = (size_t)header->payload_bytes;
    if (leg->side == LEG_PROVIDER)
        return carry_delta(leg, outbox, payload, n) || transcript_delta_is(payload, n);
    if (n == 0 || !reserve(&scratch->text, &scratch->text_capacity, n))
        return 0;
    frame_mask(scratch->text, payload, header->mask, n);
    return carry_media(leg, outbox, scratch, scratch->text, n, now);
}

/* Whether the header is one that this side may be sent; the rest is the library's to refuse. */
static int is_regular(const struct leg *leg, const struct frame_header *header)
{
    if (header->reserved || header->masked != (leg->side == LEG_CARRIER) || header->payload_bytes > INT64_MAX)
        return 0;
    if (header->opcode >= FRAME_CLOSE)
        return header->opcode <= FRAME_PONG && header->fin && header->payload_bytes <= 125;
    return header->opcode <= FRAME_BINARY;
}

/* Follows what a frame means for the ones behind it. */
static void follow(struct leg *leg, const struct frame_header *header)
{
    if (header->opcode == FRAME_CLOSE)
        leg->bypass = 1;
    else if (header->opcode < FRAME_CLOSE)
        leg->in_fragment = !header->fin;
}

static void hand(struct leg *leg, struct outbox *outbox, const uint8_t *bytes, size_t n)
{
    outbox_copy(outbox, leg->id, EVENT_BYTES, bytes, n);
}

/* Goes through n bytes as far as whole frames reach, or to a stop; returns how many are done with. */
static size_t scan(struct leg *leg, struct outbox *outbox, struct leg_scratch *scratch, const uint8_t *bytes, size_t n, double now)
{
    struct frame_header header;
    size_t at = 0;
    while (at < n && !leg->stopped) {
        if (leg->bypass || leg->skip_bytes) {
            const size_t piece = leg->bypass || leg->skip_bytes > n - at ? n - at : (size_t)leg->skip_bytes;
            hand(leg, outbox, bytes + at, piece);
            leg->skip_bytes -= leg->bypass ? leg->skip_bytes : piece;
            leg->stopped = !leg->skip_bytes && !leg->bypass;
            at += piece;
            continue;
        }
        if (!frame_header_read(&header, bytes + at, n - at))
            break;
        if (!is_regular(leg, &header)) {
            leg->bypass = 1;
            continue;
        }
        if (header.payload_bytes > leg->frame_limit) {
            leg->skip_bytes = header.size + header.payload_bytes;
            follow(leg, &header);
            continue;
        }
        const size_t size = header.size + (size_t)header.payload_bytes;
        if (n - at < size)
            break;
        const int short_way = leg->fast && header.opcode == FRAME_TEXT && header.fin && !leg->in_fragment;
        if (!short_way || !carry(leg, outbox, scratch, &header, bytes + at + header.size, now)) {
            hand(leg, outbox, bytes + at, size);
            follow(leg, &header);
            leg->stopped = 1;
        }
        at += size;
    }
    return at;
}

static void keep_rest(struct leg *leg, struct outbox *outbox, const uint8_t *bytes, size_t n)
{
    if (n && !reserve(&leg->rest, &leg->rest_capacity, leg->rest_size + n)) {
        struct leg_event *event = outbox_event(outbox, leg->id, EVENT_FAILED);
        if (event != NULL)
            event->error = ENOMEM;
        return;
    }
    if (n)
        memcpy(leg->rest + leg->rest_size, bytes, n);
    leg->rest_size += n;
}

/* Scans the rest, and drops what is done with. */
static void scan_rest(struct leg *leg, struct outbox *outbox, struct leg_scratch *scratch, double now)
{
    const size_t done = scan(leg, outbox, scratch, leg->rest, leg->rest_size, now);
    leg->rest_size -= done;
    if (done && leg->rest_size)
        memmove(leg->rest, leg->rest + done, leg->rest_size);
    if (!leg->rest_size && leg->rest_capacity > KEPT_CAPACITY) {
        free(leg->rest);
        leg->rest = NULL;
        leg->rest_capacity = 0;
    }
}

static void send_carried(struct leg *leg, struct outbox *outbox, struct leg_scratch *scratch)
{
    if (leg->provider != NULL && scratch->batch_size)
        send_batch(leg->provider, outbox, scratch);
}

void leg_receive(struct leg *leg, struct outbox *outbox, struct leg_scratch *scratch, const uint8_t *bytes, size_t n, double now)
{
    leg->heard_at = now;
    if (leg->rest_size || leg->stopped) {
        keep_rest(leg, outbox, bytes, n);
        if (!leg->stopped)
            scan_rest(leg, outbox, scratch, now);
    } else {
        const size_t done = scan(leg, outbox, scratch, bytes, n, now);
        keep_rest(leg, outbox, bytes + done, n - done);
    }
    send_carried(leg, outbox, scratch);
}

void leg_resume(struct leg *leg, struct outbox *outbox, struct leg_scratch *scratch, double now)
{
    leg->stopped = 0;
    scan_rest(leg, outbox, scratch, now);
    send_carried(leg, outbox, scratch);
}

void leg_hand_over(struct leg *leg, struct outbox *outbox)
{
    leg->bypass = 1;
    leg->stopped = 0;
    if (leg->rest_size)
        hand(leg, outbox, leg->rest, leg->rest_size);
    leg->rest_size = 0;
}
