/*
 * Fuzzes one leg (codec_c/leg.h): whatever arrives, however it is cut, every byte is either handed to the library, in order,
 * or belongs to a frame that was carried on with its audio unchanged; and nothing is kept beyond the bounds.
 *
 * An input is four bytes of choices and then what the socket delivers. With libFuzzer: build with -DLIBFUZZER and
 * -fsanitize=fuzzer. Without: `fuzz_leg RUNS SEED` makes inputs of its own from whole frames, and spoils them;
 * `fuzz_leg --seconds SECONDS SEED` goes on that long; `fuzz_leg --corpus DIRECTORY` writes some for libFuzzer to begin with;
 * `fuzz_leg FILE` repeats one.
 */
#define _GNU_SOURCE

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base64.h"
#include "leg.h"
#include "media_text.h"
#include "websocket_frame.h"

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                \
        }                                                                           \
    } while (0)

#define SID "MZ00000000000000000000000000000000"

static const char APPEND[] = "{\"type\":\"input_audio_buffer.append\",\"audio\":\"";
static const char HEAD[] = "{\"event\":\"media\",\"streamSid\":\"" SID "\",\"media\":{\"payload\":\"";

/* the choices in the first byte of an input */
enum { PROVIDER_SIDE = 1, SLOW = 2, PCM = 4, DIRECT = 8, DEAF = 16, PACED = 32, HANDED_OVER = 64 };

struct bytes {
    uint8_t *at;
    size_t size;
    size_t capacity;
};

/* one leg under test, what it was given, and what became of it */
struct trial {
    struct leg *leg;
    struct leg *provider;
    struct outbox outbox;
    struct leg_scratch scratch;
    polyphase up;
    int sockets[2];
    unsigned choices;
    const uint8_t *stream;
    size_t given;     /* how much of the stream the leg was given */
    size_t accounted; /* how much of it was handed on or carried */
    uint64_t carried;
    uint64_t appends; /* frames that reached the provider */
    struct bytes wire; /* what reaches the provider, in order */
    struct bytes kept; /* the part of it that Python has to send */
};

static void append(struct bytes *to, const void *data, size_t n)
{
    if (to->size + n > to->capacity) {
        to->capacity = (to->size + n) * 2;
        to->at = realloc(to->at, to->capacity);
        CHECK(to->at != NULL);
    }
    if (n)
        memcpy(to->at + to->size, data, n);
    to->size += n;
}

static uint32_t draw(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

/* --------------------------------------------------------------------------------------------------------- the check */

/* The text of the whole, final, unfragmented text frame at the account's place, in memory of its own; NULL if there is none. */
static uint8_t *text_at(const struct trial *t, size_t *n, size_t *frame_bytes)
{
    struct frame_header header;
    const uint8_t *at = t->stream + t->accounted;
    if (!frame_header_read(&header, at, t->given - t->accounted))
        return NULL;
    if (header.opcode != FRAME_TEXT || !header.fin || header.reserved || header.payload_bytes > t->given - t->accounted - header.size)
        return NULL;
    *n = (size_t)header.payload_bytes;
    *frame_bytes = header.size + *n;
    uint8_t *text = malloc(*n + 1);
    CHECK(text != NULL);
    const uint8_t unmasked[4] = {0};
    frame_mask(text, at + header.size, header.masked ? header.mask : unmasked, *n);
    return text;
}

/* Takes a frame off the account that was carried, with this audio in it; NULL: with any. */
static void account_for_carried(struct trial *t, const uint8_t *base64, size_t n)
{
    size_t text_bytes, frame_bytes;
    uint8_t *text = text_at(t, &text_bytes, &frame_bytes);
    CHECK(text != NULL);
    CHECK(base64 == NULL || n == 0 || memmem(text, text_bytes, base64, n) != NULL);
    struct carrier_media media;
    struct audio_delta delta;
    CHECK(t->leg->side == LEG_CARRIER ? carrier_media_find(&media, text, text_bytes)
                                      : audio_delta_find(&delta, text, text_bytes) || transcript_delta_is(text, text_bytes));
    free(text);
    t->accounted += frame_bytes;
}

/* A message that is dropped leaves no event. */
static int skip_dropped(struct trial *t)
{
    size_t text_bytes, frame_bytes;
    uint8_t *text = t->leg->side == LEG_PROVIDER ? text_at(t, &text_bytes, &frame_bytes) : NULL;
    const int dropped = text != NULL && transcript_delta_is(text, text_bytes);
    free(text);
    t->accounted += dropped ? frame_bytes : 0;
    return dropped;
}

/* What is dropped comes before `following` bytes that end where the leg stands. */
static void skip_all_dropped(struct trial *t, size_t following)
{
    CHECK(following + t->leg->rest_size <= t->given);
    while (t->accounted < t->given - t->leg->rest_size - following)
        CHECK(skip_dropped(t));
    CHECK(t->accounted == t->given - t->leg->rest_size - following);
}

/* How many bytes the library gets from an event on; nothing is carried behind them before leg_resume. */
static size_t bytes_from(const struct outbox *outbox, uint32_t first)
{
    size_t n = 0;
    for (uint32_t i = first; i < outbox->count; i++)
        n += outbox->events[i].kind == EVENT_BYTES ? outbox->events[i].size : 0;
    return n;
}

static void take_delta(struct trial *t, const struct leg_event *event)
{
    const size_t n = base64_encoded_size(event->size);
    uint8_t *text = malloc(n + 1);
    CHECK(text != NULL);
    base64_encode(text, event->data, event->size);
    size_t text_bytes, frame_bytes;
    for (;;) {
        struct audio_delta delta;
        uint8_t *candidate = text_at(t, &text_bytes, &frame_bytes);
        const int found = candidate != NULL && audio_delta_find(&delta, candidate, text_bytes);
        free(candidate);
        if (found || !skip_dropped(t))
            break;
    }
    account_for_carried(t, text, n);
    free(text);
}

static void take_bytes(struct trial *t, const struct leg_event *event, size_t n_from_here)
{
    skip_all_dropped(t, n_from_here);
    CHECK(memcmp(t->stream + t->accounted, event->data, event->size) == 0);
    t->accounted += event->size;
}

/* Goes through what a call left, and takes it off the account. */
static void take_events(struct trial *t, struct outbox *outbox)
{
    CHECK(!outbox->starved);
    if (t->leg->side == LEG_CARRIER)
        for (; t->carried < t->leg->media_received; t->carried++)
            account_for_carried(t, NULL, 0); /* media comes before what made the leg stand still */
    for (uint32_t i = 0; i < outbox->count; i++) {
        const struct leg_event *event = &outbox->events[i];
        const int to_provider = event->leg_id == 2;
        CHECK(event->leg_id == 1 || to_provider);
        if (event->kind == EVENT_BYTES)
            take_bytes(t, event, bytes_from(outbox, i));
        else if (event->kind == EVENT_DELTA)
            take_delta(t, event);
        else if (event->kind == EVENT_SEND || (event->kind == EVENT_UNSENT && to_provider))
            append(&t->kept, event->data, event->size);
        else
            CHECK(event->kind == EVENT_MARK_WANTED || (event->kind == EVENT_UNSENT && t->choices & PACED));
        if (event->kind == EVENT_MARK_WANTED || event->kind == EVENT_UNSENT) {
            t->leg->blocked = 0;
            if (t->leg->pacer != NULL) {
                t->leg->pacer->run_count = 0;
                pacer_marked(t->leg->pacer);
            }
        }
    }
    skip_all_dropped(t, 0);
    outbox_reset(outbox);
}

static void read_wire(struct trial *t)
{
    uint8_t piece[4096];
    ssize_t n;
    while (t->choices & DIRECT && (n = recv(t->sockets[1], piece, sizeof piece, MSG_DONTWAIT)) > 0)
        append(&t->wire, piece, (size_t)n);
}

/* What reached the provider are whole, masked text frames, one for each piece of audio. */
static void check_wire(struct trial *t)
{
    read_wire(t);
    append(&t->wire, t->kept.at, t->kept.size);
    size_t at = 0;
    for (; at < t->wire.size; t->appends++) {
        struct frame_header header;
        CHECK(frame_header_read(&header, t->wire.at + at, t->wire.size - at));
        CHECK(header.fin && header.masked && header.opcode == FRAME_TEXT && !header.reserved);
        CHECK(header.payload_bytes <= t->wire.size - at - header.size);
        uint8_t *text = t->wire.at + at + header.size;
        frame_mask(text, text, header.mask, (size_t)header.payload_bytes);
        CHECK(header.payload_bytes > sizeof APPEND + 1 && memcmp(text, APPEND, sizeof APPEND - 1) == 0);
        CHECK(memcmp(text + header.payload_bytes - 2, "\"}", 2) == 0);
        const size_t audio_size = (size_t)header.payload_bytes - (sizeof APPEND - 1) - 2;
        uint8_t *audio = malloc(audio_size + 1);
        CHECK(audio != NULL && base64_decode(audio, text + sizeof APPEND - 1, audio_size) > 0);
        free(audio);
        at += header.size + (size_t)header.payload_bytes;
    }
    CHECK(t->choices & PCM ? t->appends <= t->leg->media_received : t->appends == t->leg->media_received);
}

/* --------------------------------------------------------------------------------------------------------- the trial */

static void begin(struct trial *t, const uint8_t choices[4])
{
    static const uint32_t LIMITS[] = {65536, 300, 4096, 125};
    *t = (struct trial){.choices = choices[0], .sockets = {-1, -1}};
    const int side = t->choices & PROVIDER_SIDE ? LEG_PROVIDER : LEG_CARRIER;
    t->leg = leg_new(1, -1, side, LIMITS[choices[3] & 3]);
    CHECK(t->leg != NULL);
    t->leg->fast = !(t->choices & SLOW);
    if (side == LEG_PROVIDER)
        return;
    if (t->choices & DIRECT) {
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, t->sockets) == 0);
        const int small = 4096;
        CHECK(setsockopt(t->sockets[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
    }
    t->provider = leg_new(2, t->sockets[0], LEG_PROVIDER, 65536);
    CHECK(t->provider != NULL);
    t->leg->provider = t->provider;
    t->leg->stream_sid = (const uint8_t *)SID;
    t->leg->stream_sid_size = sizeof SID - 1;
    t->leg->head = (const uint8_t *)HEAD;
    t->leg->head_size = sizeof HEAD - 1;
    t->leg->next_sequence = 1;
    t->leg->expected_bytes = 0;
    if (t->choices & PCM) {
        CHECK(polyphase_start(&t->up, 8000, 24000) == 0);
        t->leg->up = &t->up;
    }
    if (t->choices & PACED)
        CHECK((t->leg->pacer = pacer_new(20, 0.1)) != NULL);
}

/* Plays a little; what is due goes where a descriptor of -1 sends it: to Python. */
static void pace(struct trial *t, double now)
{
    static const uint8_t SPEECH[333];
    if (t->leg->pacer == NULL)
        return;
    pacer_push(t->leg->pacer, SPEECH, sizeof SPEECH, now);
    pacer_complete(t->leg->pacer, now);
    struct outbox aside = {0};
    leg_send_due(t->leg, &aside, &t->scratch, now);
    CHECK(aside.count > 0);
    take_events(t, &aside);
    outbox_free(&aside);
}

static void feed(struct trial *t, size_t n, double now)
{
    uint8_t *piece = malloc(n); /* exactly as large, so that the sanitizer sees a byte read too much */
    CHECK(piece != NULL);
    memcpy(piece, t->stream + t->given, n);
    t->given += n;
    leg_receive(t->leg, &t->outbox, &t->scratch, piece, n, now);
    free(piece);
    take_events(t, &t->outbox);
    while (t->leg->stopped) {
        const size_t before = t->leg->rest_size;
        leg_resume(t->leg, &t->outbox, &t->scratch, now);
        CHECK(t->leg->rest_size < before || !t->leg->stopped);
        take_events(t, &t->outbox);
    }
    CHECK(t->leg->rest_size < t->leg->frame_limit + (size_t)FRAME_HEADER_LIMIT);
    if (!(t->choices & DEAF))
        read_wire(t);
}

static void end(struct trial *t)
{
    leg_hand_over(t->leg, &t->outbox);
    take_events(t, &t->outbox);
    CHECK(t->accounted == t->given);
    if (t->provider != NULL)
        check_wire(t);
    pacer_free(t->leg->pacer);
    leg_free(t->leg);
    leg_free(t->provider);
    outbox_free(&t->outbox);
    leg_scratch_free(&t->scratch);
    free(t->wire.at);
    free(t->kept.at);
    for (int i = 0; i < 2; i++)
        if (t->sockets[i] >= 0)
            close(t->sockets[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 4)
        return 0;
    struct trial t;
    begin(&t, data);
    t.stream = data + 4;
    uint32_t seed = data[1] * 2654435761u + 1;
    const size_t longest = data[2] == 0 ? size : data[2];
    for (size_t left = size - 4; left;) {
        const size_t n = data[2] == 0 ? left : 1 + draw(&seed) % (longest < left ? longest : left);
        if (t.choices & PACED && draw(&seed) % 4 == 0)
            pace(&t, (double)t.given);
        feed(&t, n, (double)t.given);
        left -= n;
        if (t.choices & HANDED_OVER && draw(&seed) % 16 == 0) {
            leg_hand_over(t.leg, &t.outbox);
            take_events(&t, &t.outbox);
        }
    }
    end(&t);
    return 0;
}

/* ---------------------------------------------------------------------------------------- inputs without libFuzzer */

#ifndef LIBFUZZER

struct writer {
    struct bytes input;
    uint32_t seed;
    int from_client;
    uint32_t sequence;
    uint32_t timestamp_ms;
};

static void write_frame(struct writer *w, unsigned first, const void *payload, size_t n)
{
    uint8_t header[FRAME_HEADER_LIMIT], mask[4], *masked = malloc(n + 1);
    CHECK(masked != NULL);
    for (int i = 0; i < 4; i++) /* mostly none, so that what is spoilt stays readable */
        mask[i] = draw(&w->seed) % 4 ? 0 : (uint8_t)draw(&w->seed);
    const size_t size = frame_header_write(header, n, w->from_client ? mask : NULL);
    header[0] = (uint8_t)first;
    append(&w->input, header, size);
    const uint8_t unmasked[4] = {0};
    frame_mask(masked, payload, w->from_client ? mask : unmasked, n);
    append(&w->input, masked, n);
    free(masked);
}

static void write_media(struct writer *w)
{
    uint8_t ulaw[480], base64[660];
    char text[1200];
    const size_t n = draw(&w->seed) % 8 ? 160 : draw(&w->seed) % sizeof ulaw;
    for (size_t i = 0; i < n; i++)
        ulaw[i] = (uint8_t)draw(&w->seed);
    base64_encode(base64, ulaw, n);
    if (draw(&w->seed) % 16 == 0)
        w->sequence++;
    if (draw(&w->seed) % 16 == 0)
        w->timestamp_ms += draw(&w->seed) % 30;
    const char *space = draw(&w->seed) % 8 ? "" : " \t";
    const int size = snprintf(text, sizeof text,
        "{\"event\":%s\"media\",\"sequenceNumber\":\"%u\",\"media\":{\"track\":\"%s\",\"chunk\":\"2\",%s\"timestamp\":\"%u\","
        "\"payload\":\"%.*s\"},\"streamSid\":\"" SID "\"}",
        space, w->sequence++, draw(&w->seed) % 16 ? "inbound" : "outbound", space, w->timestamp_ms,
        (int)base64_encoded_size(n), (const char *)base64);
    w->timestamp_ms += (uint32_t)n / 8;
    write_frame(w, 0x80 | FRAME_TEXT, text, (size_t)size);
}

static void write_delta(struct writer *w)
{
    uint8_t audio[3000], base64[4004];
    char text[5000];
    const size_t n = draw(&w->seed) % (draw(&w->seed) % 4 ? 300 : sizeof audio);
    for (size_t i = 0; i < n; i++)
        audio[i] = (uint8_t)draw(&w->seed);
    base64_encode(base64, audio, n);
    const int size = draw(&w->seed) % 4 == 0
        ? snprintf(text, sizeof text, "{\"type\":\"response.output_audio_transcript.delta\",\"item_id\":\"i\",\"delta\":\"a\\\"\\u00e4\"}")
        : snprintf(text, sizeof text,
              "{\"type\":\"response.%saudio.delta\",\"event_id\":\"event_1\",\"response_id\":\"resp_%u\",\"item_id\":\"item_%u\","
              "\"output_index\":0,\"content_index\":%u,\"delta\":\"%.*s\"}",
              draw(&w->seed) % 2 ? "output_" : "", draw(&w->seed) % 3, draw(&w->seed) % 3, draw(&w->seed) % 2,
              (int)base64_encoded_size(n), (const char *)base64);
    write_frame(w, 0x80 | FRAME_TEXT, text, (size_t)size);
}

static void write_other(struct writer *w)
{
    static const unsigned FIRSTS[] = {0x89, 0x8a, 0x82, 0x81, 0x01, 0x00, 0x80, 0x88, 0xc1, 0x83, 0x09};
    static const char TEXT[] = "{\"event\":\"mark\",\"streamSid\":\"" SID "\",\"mark\":{\"name\":\"0:160\"}}";
    const size_t kind = draw(&w->seed) % (draw(&w->seed) % 8 ? 4 : sizeof FIRSTS / sizeof *FIRSTS);
    const size_t n = FIRSTS[kind] == 0x81 ? sizeof TEXT - 1 : draw(&w->seed) % 100;
    write_frame(w, FIRSTS[kind], TEXT, n < sizeof TEXT ? n : sizeof TEXT - 1);
    w->sequence += FIRSTS[kind] == 0x81;
}

static void spoil(struct writer *w)
{
    struct bytes *input = &w->input;
    for (uint32_t times = draw(&w->seed) % 4; times && input->size > 8; times--) {
        const size_t at = 4 + draw(&w->seed) % (input->size - 4);
        const size_t n = 1 + draw(&w->seed) % (input->size - at < 8 ? input->size - at : 8);
        static const uint8_t ODD[] = {0, 1, 125, 126, 127, 128, 254, 255, '"', '\\', '{', '}', ',', '=', ' ', '9'};
        switch (draw(&w->seed) % 4) {
        case 0:
            input->at[at] ^= (uint8_t)(1u << draw(&w->seed) % 8);
            break;
        case 1:
            input->at[at] = ODD[draw(&w->seed) % sizeof ODD];
            break;
        case 2:
            memmove(input->at + at, input->at + at + n, input->size - at - n);
            input->size -= n;
            break;
        default:
            append(input, ODD, n < sizeof ODD ? n : 1);
            memmove(input->at + at + n, input->at + at, input->size - at - n);
        }
    }
}

/* The same seed gives the same input. */
static struct bytes make_input(uint32_t seed)
{
    struct writer w = {.seed = seed * 2654435761u | 1, .sequence = 1};
    uint8_t choices[4];
    for (int i = 0; i < 4; i++)
        choices[i] = (uint8_t)(draw(&w.seed) >> 8);
    if (choices[1] & 1) /* more often than chance: in one piece, and byte by byte */
        choices[2] = choices[1] & 2 ? 0 : 1;
    if (choices[0] & SLOW && choices[1] & 4)
        choices[0] &= (uint8_t)~SLOW;
    append(&w.input, choices, sizeof choices);
    w.from_client = !(choices[0] & PROVIDER_SIDE);
    for (uint32_t frames = 1 + draw(&w.seed) % 16; frames; frames--) {
        if (draw(&w.seed) % 4 == 0)
            write_other(&w);
        else if (w.from_client)
            write_media(&w);
        else
            write_delta(&w);
    }
    if (draw(&w.seed) % 2)
        spoil(&w);
    return w.input;
}

static void write_corpus(const char *directory)
{
    for (uint32_t seed = 1; seed <= 200; seed++) {
        char path[4096];
        CHECK((size_t)snprintf(path, sizeof path, "%s/%u", directory, seed) < sizeof path);
        struct bytes input = make_input(seed);
        FILE *file = fopen(path, "wb");
        CHECK(file != NULL && fwrite(input.at, 1, input.size, file) == input.size && fclose(file) == 0);
        free(input.at);
    }
}

static void repeat(const char *path)
{
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    struct bytes input = {0};
    uint8_t piece[4096];
    for (size_t n; (n = fread(piece, 1, sizeof piece, file)) > 0;)
        append(&input, piece, n);
    fclose(file);
    LLVMFuzzerTestOneInput(input.at, input.size);
    free(input.at);
}

static void run(uint32_t first_seed, uint32_t runs)
{
    fprintf(stderr, "\rseeds from %u on", first_seed); /* the last line told is the one that failed */
    for (uint32_t i = 0; i < runs; i++) {
        struct bytes input = make_input(first_seed + i);
        LLVMFuzzerTestOneInput(input.at, input.size);
        free(input.at);
    }
}

int main(int count, char **arguments)
{
    if (count == 3 && strcmp(arguments[1], "--corpus") == 0) {
        write_corpus(arguments[2]);
    } else if (count == 4 && strcmp(arguments[1], "--seconds") == 0) {
        const time_t until = time(NULL) + atoi(arguments[2]);
        const uint32_t first_seed = (uint32_t)strtoul(arguments[3], NULL, 10);
        uint32_t seed = first_seed;
        for (; time(NULL) < until; seed += 100)
            run(seed, 100);
        fprintf(stderr, "\n%u streams, no fault found\n", seed - first_seed);
    } else if (count == 3) {
        const uint32_t runs = (uint32_t)strtoul(arguments[1], NULL, 10);
        run((uint32_t)strtoul(arguments[2], NULL, 10), runs);
        fprintf(stderr, "\n");
    } else if (count == 2) {
        repeat(arguments[1]);
    } else {
        fprintf(stderr, "fuzz_leg RUNS SEED | --seconds SECONDS SEED | --corpus DIRECTORY | FILE\n");
        return 2;
    }
    return 0;
}

#endif
