/*
 * Resampling by a fixed factor: 8000 Hz to and from 16000 and 24000 Hz, with G.711 mu-law at either side in the same call.
 *
 * pcm     int16_t samples, mono, in the host's byte order, at any address, aligned or not: 2 bytes each.
 * ulaw    mu-law codes: 1 byte each.
 *
 * Output j lies at the time of input j * input_hz / output_hz: the delay of the filters is made up for, and before the first
 * input there was silence. An output is given as soon as the input reaches 1.5 ms (12 samples at 8000 Hz) beyond it. How many
 * outputs a call gives therefore depends only on how many inputs went in so far; their values depend on the inputs alone, not
 * on how they were cut.
 *
 * All arithmetic is in whole numbers and the same on every machine: the sum of products is exact, rounded to the nearest
 * (halves upwards) and saturated at -32768 and 32767. A constant comes out as it went in once the filter holds nothing else.
 * polyphase_filters.h has the filters, and how well they keep and stop.
 *
 * The blocks of one call may not overlap each other, nor the state. A block without samples may be NULL. Nothing is
 * allocated (some 4 KB of stack are used) and nothing kept but the state: use different states in different threads at will.
 */
#ifndef POLYPHASE_H
#define POLYPHASE_H

#include <stddef.h>
#include <stdint.h>

#define POLYPHASE_MOST_HELD 71    /* samples: the longest filter, less the sample that completes it */
#define POLYPHASE_MOST_FLUSHED 36 /* samples that polyphase_flush gives at most: 1.5 ms at 24000 Hz */

/* One stream. May be copied as it is: the copy goes on from the same place. */
typedef struct polyphase {
    uint64_t taken;    /* inputs of this stream so far */
    uint16_t up, down; /* output_hz / input_hz as up / down, one of which is 1 */
    uint16_t held;     /* how much of history there is */
    int16_t history[POLYPHASE_MOST_HELD]; /* the inputs that outputs still to come have need of, oldest first */
} polyphase;

/*
 * Begin a stream. 0 on success; -1 and EINVAL, and the state untouched, unless one rate is 8000 and the other 16000 or 24000.
 */
int polyphase_start(polyphase *state, uint32_t input_hz, uint32_t output_hz);

/* How many outputs the next n inputs will give, exactly: never more than n * up / down rounded up. n is at most SIZE_MAX / 6. */
size_t polyphase_output_samples(const polyphase *state, size_t n);

/* Take n inputs, give polyphase_output_samples(state, n) outputs; the result is their number. */
size_t polyphase_convert(polyphase *state, void *output_pcm, const void *input_pcm, size_t n);
size_t polyphase_convert_from_ulaw(polyphase *state, void *output_pcm, const uint8_t *ulaw, size_t n);
size_t polyphase_convert_to_ulaw(polyphase *state, uint8_t *ulaw, const void *input_pcm, size_t n);

/*
 * End the stream: give the outputs still owed, as if silence followed, and begin the next stream. In total a stream of n inputs
 * gives n * up / down outputs, rounded to the nearest (halves to the even). The result is how many this call gave:
 * polyphase_flush_samples(state), at most POLYPHASE_MOST_FLUSHED.
 */
size_t polyphase_flush_samples(const polyphase *state);
size_t polyphase_flush(polyphase *state, void *output_pcm);
size_t polyphase_flush_to_ulaw(polyphase *state, uint8_t *ulaw);

#endif
