/*
 * Exercises codec_c/polyphase.c as the sanitizers like it: every block is a heap allocation of exactly its size and begins at odd
 * addresses too, so that a byte read or written beyond it ends the program. Exit status 0 if all is well.
 *
 * The reference here convolves with the whole filter, laid out from the header's tables, in 64 bits and one output at a time.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "g711.h"
#include "polyphase.h"
#include "polyphase_filters.h"

#define MOST_INPUTS 2000
#define MOST_OUTPUTS (3 * MOST_INPUTS)
#define REACH 36 /* taps on one side of the longest filter's middle, and one */

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                \
        }                                                                           \
    } while (0)

typedef size_t convert_fn(polyphase *state, void *output, const void *input, size_t n);
typedef size_t flush_fn(polyphase *state, void *output);

/* One of the functions, the size of its inputs and outputs, and the function that ends its stream. */
struct way {
    convert_fn *convert;
    flush_fn *flush;
    size_t input_bytes, output_bytes;
};

static size_t from_ulaw(polyphase *state, void *pcm, const void *ulaw, size_t n)
{
    return polyphase_convert_from_ulaw(state, pcm, ulaw, n);
}

static size_t to_ulaw(polyphase *state, void *ulaw, const void *pcm, size_t n)
{
    return polyphase_convert_to_ulaw(state, ulaw, pcm, n);
}

static size_t flush_to_ulaw(polyphase *state, void *ulaw)
{
    return polyphase_flush_to_ulaw(state, ulaw);
}

static const struct way plain = {polyphase_convert, polyphase_flush, 2, 2};
static const struct way decoding = {from_ulaw, polyphase_flush, 1, 2};
static const struct way encoding = {to_ulaw, flush_to_ulaw, 2, 1};

static const uint32_t rates_hz[4][2] = {{8000, 16000}, {8000, 24000}, {16000, 8000}, {24000, 8000}};

/* The tap `place` steps of the higher rate from the filter's middle, in units of 2^-bits. */
static int64_t filter_tap(int up, int down, int place)
{
    if (place <= -POLYPHASE_LOOKAHEAD * up * down || place >= POLYPHASE_LOOKAHEAD * up * down)
        return 0;
    if (down == 2)
        return polyphase_down_by_2[0][place + 23];
    if (down == 3)
        return polyphase_down_by_3[0][place + 35];
    const int phase = (place % up + up) % up;
    const int sample = 11 - (place - phase) / up;
    return up == 2 ? polyphase_up_by_2[phase][sample] : polyphase_up_by_3[phase][sample];
}

static int16_t reference_output(int up, int down, const int16_t *inputs, int n, int j)
{
    const int bits = up > 1 ? POLYPHASE_UP_BITS : POLYPHASE_DOWN_BITS;
    int64_t sum = INT64_C(1) << (bits - 1);
    for (int i = (j * down - REACH) / up - 1; i <= (j * down + REACH) / up + 1; i++)
        if (i >= 0 && i < n)
            sum += filter_tap(up, down, j * down - i * up) * inputs[i];
    const int64_t one = INT64_C(1) << bits;
    const int64_t rounded = sum >= 0 ? sum / one : -((one - 1 - sum) / one);
    return (int16_t)(rounded > 32767 ? 32767 : rounded < -32768 ? -32768 : rounded);
}

/* A block of exactly `size` bytes that begins `offset` bytes into its allocation and ends with it. */
static unsigned char *block_new(size_t size, size_t offset, unsigned char **allocation)
{
    *allocation = malloc(size + offset);
    CHECK(*allocation != NULL || size + offset == 0);
    return *allocation + offset;
}

/* Convert one piece between exact blocks, appending to `outputs`; the result is how many outputs there were. */
static size_t convert_piece(polyphase *state, const struct way *way, unsigned char *outputs, const unsigned char *inputs, size_t n)
{
    const size_t expected = polyphase_output_samples(state, n);
    CHECK(expected <= (n * state->up + state->down - 1) / state->down);
    unsigned char *allocations[2];
    unsigned char *input = block_new(n * way->input_bytes, n % 3, &allocations[0]);
    unsigned char *output = block_new(expected * way->output_bytes, n % 2, &allocations[1]);
    if (n > 0)
        memcpy(input, inputs, n * way->input_bytes);
    CHECK(way->convert(state, output, input, n) == expected);
    if (expected > 0)
        memcpy(outputs, output, expected * way->output_bytes);
    free(allocations[0]);
    free(allocations[1]);
    return expected;
}

static size_t flush_stream(polyphase *state, const struct way *way, unsigned char *outputs)
{
    const size_t expected = polyphase_flush_samples(state);
    CHECK(expected <= POLYPHASE_MOST_FLUSHED);
    unsigned char *allocation;
    unsigned char *output = block_new(expected * way->output_bytes, 0, &allocation);
    CHECK(way->flush(state, output) == expected);
    if (expected > 0)
        memcpy(outputs, output, expected * way->output_bytes);
    free(allocation);
    return expected;
}

/* A whole stream in pieces of `piece` inputs, on a state that is exactly as large as its type. */
static size_t convert_stream(const uint32_t *hz, const struct way *way, unsigned char *outputs, const unsigned char *inputs, size_t n, size_t piece)
{
    polyphase *state = malloc(sizeof *state);
    CHECK(state != NULL && polyphase_start(state, hz[0], hz[1]) == 0);
    size_t given = 0;
    for (size_t start = 0; start < n; start += piece) {
        const size_t size = n - start < piece ? n - start : piece;
        given += convert_piece(state, way, outputs + given * way->output_bytes, inputs + start * way->input_bytes, size);
    }
    given += flush_stream(state, way, outputs + given * way->output_bytes);
    CHECK(flush_stream(state, way, NULL) == 0);
    free(state);
    return given;
}

static size_t rounded_ratio(size_t n, size_t up, size_t down)
{
    const size_t whole = n * up / down, rest = n * up % down;
    return whole + (2 * rest > down || (2 * rest == down && whole % 2 == 1));
}

static void fill_inputs(int16_t *inputs, size_t n, unsigned seed)
{
    uint32_t random = seed;
    for (size_t i = 0; i < n; i++) {
        random = random * 1664525u + 1013904223u;
        /* every fourth seed: nothing but full scale, which saturates */
        inputs[i] = seed % 4 == 0 ? (random >> 31 ? INT16_MAX : INT16_MIN) : (int16_t)((int)(random >> 16) - 32768);
    }
}

static void check_stream(const uint32_t *hz, size_t n, size_t piece, unsigned seed)
{
    static int16_t inputs[MOST_INPUTS], decoded[MOST_INPUTS], outputs[MOST_OUTPUTS];
    static uint8_t codes[MOST_INPUTS], encoded[MOST_OUTPUTS], expected[MOST_OUTPUTS];
    const int up = (int)(hz[1] / hz[0] + (hz[1] < hz[0])), down = (int)(hz[0] / hz[1] + (hz[0] < hz[1]));
    const size_t total = rounded_ratio(n, (size_t)up, (size_t)down);
    fill_inputs(inputs, n, seed);
    CHECK(convert_stream(hz, &plain, (unsigned char *)outputs, (unsigned char *)inputs, n, piece) == total);
    for (size_t j = 0; j < total; j++)
        CHECK(outputs[j] == reference_output(up, down, inputs, (int)n, (int)j));
    CHECK(convert_stream(hz, &encoding, encoded, (unsigned char *)inputs, n, piece) == total);
    g711_ulaw_encode(expected, outputs, total);
    CHECK(memcmp(encoded, expected, total) == 0);
    g711_ulaw_encode(codes, inputs, n);
    g711_ulaw_decode(decoded, codes, n);
    CHECK(convert_stream(hz, &decoding, (unsigned char *)outputs, codes, n, piece) == total);
    for (size_t j = 0; j < total; j++)
        CHECK(outputs[j] == reference_output(up, down, decoded, (int)n, (int)j));
}

static void check_start(void)
{
    polyphase state, before;
    memset(&state, 7, sizeof state);
    before = state;
    static const uint32_t refused_hz[][2] = {{8000, 8000}, {16000, 24000}, {8000, 48000}, {0, 8000}, {24000, 16000}, {8000, 0}};
    for (size_t i = 0; i < sizeof refused_hz / sizeof refused_hz[0]; i++) {
        errno = 0;
        CHECK(polyphase_start(&state, refused_hz[i][0], refused_hz[i][1]) == -1 && errno == EINVAL);
        CHECK(memcmp(&state, &before, sizeof state) == 0);
    }
    CHECK(polyphase_start(&state, 8000, 24000) == 0);
    CHECK(polyphase_convert(&state, NULL, NULL, 0) == 0);
    CHECK(polyphase_flush(&state, NULL) == 0);
}

int main(void)
{
    check_start();
    for (size_t i = 0; i < 4; i++) {
        for (size_t n = 0; n <= 100; n++)
            check_stream(rates_hz[i], n, 1 + n % 7, (unsigned)n);
        check_stream(rates_hz[i], MOST_INPUTS, MOST_INPUTS, 1);
        check_stream(rates_hz[i], MOST_INPUTS, 1, 2);
        for (size_t piece = 479; piece <= 481; piece++)
            check_stream(rates_hz[i], MOST_INPUTS - piece % 7, piece, 4);
    }
    return 0;
}
