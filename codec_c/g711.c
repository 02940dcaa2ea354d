#include "g711.h"

#include <string.h>

#include "g711_tables.h"

/* memcpy and not a plain access: a caller's buffer may begin at an odd address. Compilers make one load of it. */
static int sample_load(const unsigned char *pcm, size_t index)
{
    int16_t sample;
    memcpy(&sample, pcm + index * sizeof sample, sizeof sample);
    return sample;
}

static void sample_store(unsigned char *pcm, size_t index, int16_t sample)
{
    memcpy(pcm + index * sizeof sample, &sample, sizeof sample);
}

/* The mirror of a negative sample is its one's complement, so that magnitudes run from 0 to 32767 on both sides. */
static unsigned sample_magnitude(int sample)
{
    return (unsigned)(sample < 0 ? ~sample : sample);
}

static uint8_t ulaw_code(int sample)
{
    const unsigned sign = sample < 0 ? 0x80u : 0u;
    unsigned biased = (sample_magnitude(sample) >> 2) + 33u; /* 14 bits of the 16, and the bias of G.711 table 2 */
    if (biased > 0x1FFFu)
        biased = 0x1FFFu;
    const unsigned segment = g711_ulaw_segment[biased >> 5];
    const unsigned mantissa = biased >> (segment + 1u) & 15u;
    return (uint8_t)~(sign | segment << 4 | mantissa);
}

static uint8_t alaw_code(int sample)
{
    const unsigned sign = sample < 0 ? 0u : 0x80u;
    const unsigned magnitude = sample_magnitude(sample) >> 4; /* 13 bits of the 16, in steps of two */
    const unsigned segment = g711_alaw_segment[magnitude >> 4];
    const unsigned mantissa = magnitude >> (segment > 1u ? segment - 1u : 0u) & 15u;
    return (uint8_t)((sign | segment << 4 | mantissa) ^ 0x55u);
}

void g711_ulaw_encode(uint8_t *ulaw, const void *pcm, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ulaw[i] = ulaw_code(sample_load(pcm, i));
}

void g711_ulaw_decode(void *pcm, const uint8_t *ulaw, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sample_store(pcm, i, g711_ulaw_sample[ulaw[i]]);
}

void g711_alaw_encode(uint8_t *alaw, const void *pcm, size_t n)
{
    for (size_t i = 0; i < n; i++)
        alaw[i] = alaw_code(sample_load(pcm, i));
}

void g711_alaw_decode(void *pcm, const uint8_t *alaw, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sample_store(pcm, i, g711_alaw_sample[alaw[i]]);
}
