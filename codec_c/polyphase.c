#include "polyphase.h"

#include <errno.h>
#include <string.h>

#include "g711.h"
#include "polyphase_filters.h"

#ifdef __GNUC__
#define ALWAYS_INLINE inline __attribute__((always_inline)) /* factors become constants and the loops over taps unroll */
#else
#define ALWAYS_INLINE inline
#endif

#define LOOKAHEAD POLYPHASE_LOOKAHEAD
#define SPAN (2 * LOOKAHEAD) /* samples at 8000 Hz from the first to the last that make one output */
#define BLOCK 480            /* inputs filtered at a time: 20 ms at 24000 Hz */
#define MOST_FACTOR 3

_Static_assert(POLYPHASE_MOST_HELD == SPAN * MOST_FACTOR - 1, "the history is one sample short of the longest filter");
_Static_assert(POLYPHASE_MOST_FLUSHED == LOOKAHEAD * MOST_FACTOR, "a flush gives the lookahead");

/* What was held back and the next inputs in one row, and what comes of them. */
struct block {
    int16_t samples[POLYPHASE_MOST_HELD + BLOCK];
    int16_t outputs[BLOCK * MOST_FACTOR];
};

/* How samples lie in a caller's block: their size, and how n of them are read from it or written to it. */
struct format {
    size_t bytes;
    void (*copy)(void *to, const void *from, size_t n);
};

static void copy_pcm(void *to, const void *from, size_t n)
{
    if (n > 0) /* a caller that expects nothing may have no block for it */
        memcpy(to, from, n * sizeof(int16_t));
}

static void read_ulaw(void *pcm, const void *ulaw, size_t n)
{
    g711_ulaw_decode(pcm, ulaw, n);
}

static void write_ulaw(void *ulaw, const void *pcm, size_t n)
{
    g711_ulaw_encode(ulaw, pcm, n);
}

static void read_silence(void *pcm, const void *nothing, size_t n)
{
    (void)nothing;
    memset(pcm, 0, n * sizeof(int16_t));
}

static const struct format pcm_format = {sizeof(int16_t), copy_pcm};
static const struct format ulaw_input = {1, read_ulaw};
static const struct format ulaw_output = {1, write_ulaw};
static const struct format silence_input = {0, read_silence};

/* Cannot overflow: the |taps| of one output add up to at most 65535, as the program that makes them asserts. */
static ALWAYS_INLINE int16_t weigh(const int16_t *samples, const int16_t *taps, size_t n, int bits)
{
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += samples[i] * taps[i];
    const int32_t rounded = (sum + (1 << (bits - 1))) >> bits; /* an arithmetic shift, as in every compiler we know */
    return (int16_t)(rounded > INT16_MAX ? INT16_MAX : rounded < INT16_MIN ? INT16_MIN : rounded);
}

/* The outputs at `windows` places of the filter; `up`, `down` and `bits` are constants. */
static ALWAYS_INLINE void filter_windows(struct block *block, size_t windows, const int16_t *taps, size_t up, size_t down, int bits)
{
    const size_t span = SPAN * down;
    for (size_t window = 0; window < windows; window++)
        for (size_t phase = 0; phase < up; phase++)
            block->outputs[window * up + phase] = weigh(block->samples + window * down, taps + phase * span, span, bits);
}

static void filter_block(struct block *block, size_t windows, const polyphase *state)
{
    if (state->up == 3)
        filter_windows(block, windows, polyphase_up_by_3[0], 3, 1, POLYPHASE_UP_BITS);
    else if (state->up == 2)
        filter_windows(block, windows, polyphase_up_by_2[0], 2, 1, POLYPHASE_UP_BITS);
    else if (state->down == 3)
        filter_windows(block, windows, polyphase_down_by_3[0], 1, 3, POLYPHASE_DOWN_BITS);
    else
        filter_windows(block, windows, polyphase_down_by_2[0], 1, 2, POLYPHASE_DOWN_BITS);
}

/* Take n inputs, at most BLOCK, and make the outputs that they complete; the result is how many. */
static size_t advance(polyphase *state, struct block *block, const struct format *format, const void *input, size_t n)
{
    const size_t down = state->down, length = state->held + n;
    memcpy(block->samples, state->history, state->held * sizeof(int16_t));
    format->copy(block->samples + state->held, input, n);
    const size_t windows = length / down < SPAN ? 0 : length / down - (SPAN - 1);
    filter_block(block, windows, state);
    state->taken += n;
    state->held = (uint16_t)(length - windows * down);
    memcpy(state->history, block->samples + windows * down, state->held * sizeof(int16_t));
    return windows * state->up;
}

static size_t convert(polyphase *state, const struct format *to, void *output, const struct format *from, const void *input, size_t n)
{
    struct block block;
    size_t given = 0;
    for (size_t start = 0; start < n; start += BLOCK) {
        const size_t piece = n - start < BLOCK ? n - start : BLOCK;
        const size_t made = advance(state, &block, from, (const unsigned char *)input + start * from->bytes, piece);
        to->copy((unsigned char *)output + given * to->bytes, block.outputs, made);
        given += made;
    }
    return given;
}

static void begin(polyphase *state)
{
    state->taken = 0;
    state->held = (uint16_t)(LOOKAHEAD * state->down - 1); /* silence up to the first sample */
    memset(state->history, 0, sizeof state->history);
}

static size_t flush(polyphase *state, const struct format *to, void *output)
{
    struct block block;
    const size_t owed = polyphase_flush_samples(state);
    advance(state, &block, &silence_input, NULL, (size_t)LOOKAHEAD * state->down);
    to->copy(output, block.outputs, owed);
    begin(state);
    return owed;
}

/* Outputs that are complete after so many inputs. */
static uint64_t outputs_after(const polyphase *state, uint64_t taken)
{
    const uint64_t windows = (taken + state->down - 1) / state->down;
    return windows < LOOKAHEAD ? 0 : (windows - LOOKAHEAD) * state->up;
}

/* Outputs of a whole stream of so many inputs: taken * up / down, rounded, halves to the even. */
static uint64_t outputs_in_total(const polyphase *state, uint64_t taken)
{
    const uint64_t whole = taken / state->down, rest = taken % state->down * 2;
    return (whole + (rest > state->down || (rest == state->down && whole % 2 == 1))) * state->up;
}

int polyphase_start(polyphase *state, uint32_t input_hz, uint32_t output_hz)
{
    const uint32_t low_hz = input_hz < output_hz ? input_hz : output_hz, high_hz = input_hz < output_hz ? output_hz : input_hz;
    if (low_hz != 8000 || (high_hz != 16000 && high_hz != 24000)) {
        errno = EINVAL;
        return -1;
    }
    state->up = (uint16_t)(output_hz / low_hz);
    state->down = (uint16_t)(input_hz / low_hz);
    begin(state);
    return 0;
}

size_t polyphase_output_samples(const polyphase *state, size_t n)
{
    return (size_t)(outputs_after(state, state->taken + n) - outputs_after(state, state->taken));
}

size_t polyphase_convert(polyphase *state, void *output_pcm, const void *input_pcm, size_t n)
{
    return convert(state, &pcm_format, output_pcm, &pcm_format, input_pcm, n);
}

size_t polyphase_convert_from_ulaw(polyphase *state, void *output_pcm, const uint8_t *ulaw, size_t n)
{
    return convert(state, &pcm_format, output_pcm, &ulaw_input, ulaw, n);
}

size_t polyphase_convert_to_ulaw(polyphase *state, uint8_t *ulaw, const void *input_pcm, size_t n)
{
    return convert(state, &ulaw_output, ulaw, &pcm_format, input_pcm, n);
}

size_t polyphase_flush_samples(const polyphase *state)
{
    return (size_t)(outputs_in_total(state, state->taken) - outputs_after(state, state->taken));
}

size_t polyphase_flush(polyphase *state, void *output_pcm)
{
    return flush(state, &pcm_format, output_pcm);
}

size_t polyphase_flush_to_ulaw(polyphase *state, uint8_t *ulaw)
{
    return flush(state, &ulaw_output, ulaw);
}
