/*
 * The parts of the hot path one by one (base64, frames, media texts, a leg, the pacer's memory), as the sanitizers like it: every
 * block that is read is a heap allocation of exactly its size. Exit status 0 if all is well. fuzz_leg.c takes the whole.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base64.h"
#include "leg.h"
#include "media_text.h"
#include "pacer.h"
#include "websocket_frame.h"

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                \
        }                                                                           \
    } while (0)

#define SID "MZ00000000000000000000000000000000"

static uint8_t *copy_of(const void *data, size_t n)
{
    uint8_t *copy = malloc(n);
    CHECK(copy != NULL || n == 0);
    if (n)
        memcpy(copy, data, n);
    return copy;
}

/* ----------------------------------------------------------------------------------------------------------- base64 */

static ptrdiff_t decode(const char *text, uint8_t *bytes)
{
    uint8_t *exact = copy_of(text, strlen(text));
    uint8_t *room = malloc(strlen(text) / 4 * 3 + 1);
    CHECK(room != NULL);
    const ptrdiff_t n = base64_decode(room, exact, strlen(text));
    if (n > 0)
        memcpy(bytes, room, (size_t)n);
    free(exact);
    free(room);
    return n;
}

static void check_base64(void)
{
    static const char *const WRONG[] = {"A", "AA", "AAA", "AAAAA", "====", "A===", "=AAA", "AA=A", "AB==", "AAB=", "A A=", "AA\n=",
                                        "AA==AAAA", "AAAA====", "AA-_", "\x80\xff" "AA"};
    uint8_t bytes[16];
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++)
        CHECK(decode(WRONG[i], bytes) == -1);
    CHECK(decode("", bytes) == 0);
    CHECK(decode("TWFu", bytes) == 3 && memcmp(bytes, "Man", 3) == 0);
    CHECK(decode("TWE=", bytes) == 2 && memcmp(bytes, "Ma", 2) == 0);
    CHECK(decode("TQ==", bytes) == 1 && bytes[0] == 'M');
    for (size_t n = 0; n < 200; n++) {
        uint8_t *data = malloc(n), *text = malloc(base64_encoded_size(n)), *again = malloc(base64_encoded_size(n) / 4 * 3);
        for (size_t i = 0; i < n; i++)
            data[i] = (uint8_t)(i * 167 + n * 59);
        base64_encode(text, data, n);
        CHECK(base64_decode(again, text, base64_encoded_size(n)) == (ptrdiff_t)n);
        CHECK(n == 0 || memcmp(data, again, n) == 0);
        free(data);
        free(text);
        free(again);
    }
}

/* ----------------------------------------------------------------------------------------------------------- frames */

static void check_headers(void)
{
    static const uint64_t SIZES[] = {0, 1, 125, 126, 127, 65535, 65536, UINT64_MAX};
    static const uint8_t MASK[4] = {1, 2, 3, 4};
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++)
        for (int masked = 0; masked < 2; masked++) {
            uint8_t bytes[FRAME_HEADER_LIMIT];
            struct frame_header header;
            const size_t size = frame_header_write(bytes, SIZES[i], masked ? MASK : NULL);
            for (size_t n = 0; n <= size; n++) {
                uint8_t *exact = copy_of(bytes, n);
                CHECK(frame_header_read(&header, exact, n) == (n == size));
                free(exact);
            }
            CHECK(header.payload_bytes == SIZES[i] && header.size == size && header.fin && header.opcode == FRAME_TEXT);
            CHECK(header.masked == masked && !header.reserved && (!masked || memcmp(header.mask, MASK, 4) == 0));
        }
}

static void check_masking(void)
{
    static const uint8_t MASK[4] = {0x37, 0xfa, 0x21, 0x3d};
    for (size_t n = 0; n < 70; n++) {
        uint8_t *in = malloc(n), *out = malloc(n);
        for (size_t i = 0; i < n; i++)
            in[i] = (uint8_t)(i * 31);
        frame_mask(out, in, MASK, n);
        for (size_t i = 0; i < n; i++)
            CHECK(out[i] == (in[i] ^ MASK[i % 4]));
        frame_mask(out, out, MASK, n);
        CHECK(n == 0 || memcmp(in, out, n) == 0);
        free(in);
        free(out);
    }
}

/* ------------------------------------------------------------------------------------------------------------ texts */

static const char MEDIA[] =
    " {\"event\":\"media\", \"sequenceNumber\":\"7\",\"media\":{\"track\":\"inbound\",\"chunk\":\"5\",\n\"timestamp\":\"100\","
    "\"payload\":\"AAAA\"},\"streamSid\":\"" SID "\"}\r";
static const char DELTA[] =
    "{\"type\":\"response.output_audio.delta\",\"event_id\":\"e\",\"response_id\":\"r\",\"item_id\":\"i\",\"output_index\":0,"
    "\"content_index\":2,\"delta\":\"AAAA\"} ";
static const char TRANSCRIPT[] =
    "{\"type\":\"response.audio_transcript.delta\",\"item_id\":\"i\",\"n\":12,\"delta\":\"a\\\"b\\\\\\u00e4\\n\"} ";

static int find_any(int kind, const char *text, size_t n)
{
    uint8_t *exact = copy_of(text, n);
    struct carrier_media media;
    struct audio_delta delta;
    const int found = kind == 0   ? carrier_media_find(&media, exact, n)
                      : kind == 1 ? audio_delta_find(&delta, exact, n)
                                  : transcript_delta_is(exact, n);
    if (found && kind == 0)
        CHECK(media.sequence_number == 7 && media.timestamp_ms == 100 && media.payload.size == 4 && media.stream_sid.size == 34);
    if (found && kind == 1)
        CHECK(delta.content_index == 2 && delta.delta.size == 4 && *delta.item_id.at == 'i' && *delta.response_id.at == 'r');
    free(exact);
    return found;
}

/* A text is recognised whole, or short of white space at its end, and never otherwise. */
static void check_texts(void)
{
    static const char *const TEXTS[] = {MEDIA, DELTA, TRANSCRIPT};
    for (int kind = 0; kind < 3; kind++) {
        const size_t size = strlen(TEXTS[kind]);
        for (size_t n = 0; n <= size; n++)
            CHECK(find_any(kind, TEXTS[kind], n) == (n >= size - 1));
        CHECK(!find_any((kind + 1) % 3, TEXTS[kind], size));
        for (size_t at = 0; at < size; at++) { /* nothing beyond ASCII, and no control character, is ever taken */
            char *spoilt = (char *)copy_of(TEXTS[kind], size);
            for (int odd = 0; odd < 2; odd++) {
                spoilt[at] = odd ? '\x01' : '\x80';
                CHECK(!find_any(kind, spoilt, size));
            }
            free(spoilt);
        }
    }
}

/* ------------------------------------------------------------------------------------------------------------- a leg */

static size_t write_media(uint8_t *bytes, unsigned sequence)
{
    static const uint8_t MASK[4] = {9, 8, 7, 6};
    char text[300];
    const int n = snprintf(text, sizeof text,
        "{\"event\":\"media\",\"sequenceNumber\":\"%u\",\"media\":{\"timestamp\":\"%u\",\"payload\":\"/////////////////////w==\"},"
        "\"streamSid\":\"" SID "\"}", sequence, (sequence - 1) * 2);
    const size_t size = frame_header_write(bytes, (uint64_t)n, MASK);
    frame_mask(bytes + size, (const uint8_t *)text, MASK, (size_t)n);
    return size + (size_t)n;
}

static struct leg *carrier_to(struct leg *provider)
{
    struct leg *leg = leg_new(1, -1, LEG_CARRIER, 1000);
    CHECK(leg != NULL);
    leg->fast = 1;
    leg->provider = provider;
    leg->stream_sid = (const uint8_t *)SID;
    leg->stream_sid_size = sizeof SID - 1;
    leg->next_sequence = 1;
    leg->expected_bytes = 0;
    return leg;
}

/* Three messages, cut in two at every place: all are carried, each in a frame of its own. */
static void check_every_cut(void)
{
    uint8_t stream[1000];
    size_t size = 0;
    for (unsigned i = 1; i <= 3; i++)
        size += write_media(stream + size, i);
    for (size_t at = 0; at <= size; at++) {
        struct leg *provider = leg_new(2, -1, LEG_PROVIDER, 1000), *leg = carrier_to(provider);
        struct outbox outbox = {0};
        struct leg_scratch scratch = {0};
        uint8_t *first = copy_of(stream, at), *second = copy_of(stream + at, size - at);
        leg_receive(leg, &outbox, &scratch, first, at, 1);
        leg_receive(leg, &outbox, &scratch, second, size - at, 2);
        CHECK(leg->media_received == 3 && leg->next_sequence == 4 && leg->expected_bytes == 48 && !leg->rest_size);
        CHECK(outbox.count == 3);
        for (uint32_t i = 0; i < outbox.count; i++)
            CHECK(outbox.events[i].kind == EVENT_SEND && outbox.events[i].leg_id == 2);
        free(first);
        free(second);
        leg_free(leg);
        leg_free(provider);
        outbox_free(&outbox);
        leg_scratch_free(&scratch);
    }
}

static int compare(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/*
 * Of 4096 random masks 0.002 pairs are alike on average: more than three alike, or a bit that is not set in about half of them, is
 * no accident (the bound is eight standard deviations).
 */
static void check_masks_are_random(void)
{
    enum { MASKS = 4096 };
    static uint32_t masks[MASKS];
    struct leg *provider = leg_new(2, -1, LEG_PROVIDER, 1000), *leg = carrier_to(provider);
    struct outbox outbox = {0};
    struct leg_scratch scratch = {0};
    unsigned set[32] = {0}, alike = 0;
    for (unsigned i = 0; i < MASKS; i++) {
        uint8_t bytes[400];
        struct frame_header header;
        leg_receive(leg, &outbox, &scratch, bytes, write_media(bytes, i + 1), 1);
        CHECK(outbox.count == 1 && frame_header_read(&header, outbox.events[0].data, outbox.events[0].size) && header.masked);
        memcpy(&masks[i], header.mask, 4);
        for (unsigned bit = 0; bit < 32; bit++)
            set[bit] += masks[i] >> bit & 1;
        outbox_reset(&outbox);
    }
    qsort(masks, MASKS, sizeof *masks, compare);
    for (unsigned i = 1; i < MASKS; i++)
        alike += masks[i] == masks[i - 1];
    CHECK(alike <= 3);
    for (unsigned bit = 0; bit < 32; bit++)
        CHECK(set[bit] > MASKS / 2 - 256 && set[bit] < MASKS / 2 + 256);
    leg_free(leg);
    leg_free(provider);
    outbox_free(&outbox);
    leg_scratch_free(&scratch);
}

/* A frame longer than any signed number is not followed: were its length to wrap, what lies in it would be taken for frames. */
static void check_endless_frame(void)
{
    uint8_t bytes[500] = {0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    const size_t n = 14 + write_media(bytes + 14, 1);
    struct leg *provider = leg_new(2, -1, LEG_PROVIDER, 1000), *leg = carrier_to(provider);
    struct outbox outbox = {0};
    struct leg_scratch scratch = {0};
    uint8_t *exact = copy_of(bytes, n);
    leg_receive(leg, &outbox, &scratch, exact, n, 1);
    CHECK(outbox.count == 1 && outbox.events[0].kind == EVENT_BYTES && outbox.events[0].size == n);
    CHECK(leg->media_received == 0 && leg->bypass);
    free(exact);
    leg_free(leg);
    leg_free(provider);
    outbox_free(&outbox);
    leg_scratch_free(&scratch);
}

/* ---------------------------------------------------------------------------------------------------------- the pacer */

static void check_pacer_memory(void)
{
    struct pacer *pacer = pacer_new(20, 0.2);
    struct paced_frame frame;
    uint8_t *speech = calloc(1, 100000), ulaw[PACER_FRAME_LIMIT];
    CHECK(pacer != NULL && speech != NULL);
    for (int by_clear = 0; by_clear < 2; by_clear++) {
        CHECK(pacer_push(pacer, speech, 100000, 1000.0 * by_clear) == 100000 && pacer->capacity >= 100000);
        if (by_clear)
            CHECK(pacer_clear(pacer, 1000) == 100000);
        for (double now = 0; !by_clear && pacer->size; now += 0.02, pacer->run_count = 0)
            while (pacer_take(pacer, ulaw, &frame, now))
                continue;
        CHECK(pacer->capacity == 0 && pacer->queue == NULL); /* a long answer's memory is given back */
    }
    CHECK(pacer_push(pacer, speech, 160, 2000) == 160);
    const size_t small = pacer->capacity;
    for (int i = 0; i < 10000; i++) { /* and a call that goes on does not grow */
        CHECK(pacer_push(pacer, speech, 160, 2000 + i * 0.02) == 160);
        pacer->run_count = 0;
        while (pacer_take(pacer, ulaw, &frame, 2000 + i * 0.02))
            pacer->run_count = 0;
    }
    CHECK(pacer->capacity == small);
    pacer_free(pacer);
    pacer_free(NULL);
    free(speech);
}

static void check_full_account(void)
{
    struct pacer *pacer = pacer_new(10, 0.4);
    struct paced_frame frame;
    uint8_t ulaw[PACER_FRAME_LIMIT], piece[40] = {0};
    double now = 0;
    for (int i = 0; i < PACER_RUN_LIMIT; i++, now += 0.001) { /* each frame ends in silence, and so does its run */
        CHECK(pacer_push(pacer, piece, sizeof piece, now) == sizeof piece);
        pacer_complete(pacer, now);
        CHECK(pacer_take(pacer, ulaw, &frame, now));
        pacer_marked(pacer);
    }
    CHECK(pacer->run_count == PACER_RUN_LIMIT);
    pacer_push(pacer, piece, sizeof piece, now);
    pacer_complete(pacer, now);
    CHECK(isinf(pacer_due_at(pacer)) && !pacer_take(pacer, ulaw, &frame, now));
    CHECK(pacer_mark_wanted(pacer)); /* or nobody would ever take the account */
    pacer->run_count = 0;
    CHECK(!isinf(pacer_due_at(pacer)) && pacer_take(pacer, ulaw, &frame, now));
    pacer_free(pacer);
}

int main(void)
{
    check_base64();
    check_headers();
    check_masking();
    check_texts();
    check_every_cut();
    check_masks_are_random();
    check_endless_frame();
    check_pacer_memory();
    check_full_account();
    return 0;
}
