/*
 * Exercises codec_c/ as the sanitizers like it: every block is a heap allocation of exactly its size, so that a byte read or
 * written beyond it ends the program; blocks begin at odd addresses too. Exit status 0 if all is well.
 *
 * The reference here counts segments one shift at a time and shares no table with g711.c.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frame_timer.h"
#include "g711.h"

#define SAMPLES 65536

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                \
        }                                                                           \
    } while (0)

typedef void encode_fn(uint8_t *codes, const void *pcm, size_t n);
typedef void decode_fn(void *pcm, const uint8_t *codes, size_t n);

static uint8_t reference_ulaw(int sample)
{
    int left = ((sample < 0 ? -1 - sample : sample) >> 2) + 33;
    if (left > 8191)
        left = 8191;
    int segment = 0;
    while (left >= 64) {
        left >>= 1;
        segment++;
    }
    const int code = segment << 4 | ((left >> 1) - 16);
    return (uint8_t)((sample < 0 ? 0x7F : 0xFF) - code);
}

static uint8_t reference_alaw(int sample)
{
    int left = (sample < 0 ? -1 - sample : sample) >> 4;
    int segment = left >= 16;
    while (left >= 32) {
        left >>= 1;
        segment++;
    }
    const int code = segment << 4 | (left & 15);
    return (uint8_t)((sample < 0 ? code : code + 128) ^ 0x55);
}

/* A block of exactly `size` bytes that begins `offset` bytes into its allocation and ends with it. */
static unsigned char *block_new(size_t size, size_t offset, unsigned char **allocation)
{
    *allocation = malloc(size + offset);
    CHECK(*allocation != NULL || size + offset == 0);
    return *allocation + offset;
}

static void check_block(encode_fn *encode, decode_fn *decode, int first, size_t n, size_t offset)
{
    unsigned char *allocations[4];
    unsigned char *pcm = block_new(2 * n, offset, &allocations[0]);
    uint8_t *codes = block_new(n, offset, &allocations[1]);
    unsigned char *decoded = block_new(2 * n, offset, &allocations[2]);
    uint8_t *again = block_new(n, offset, &allocations[3]);
    for (size_t i = 0; i < n; i++) {
        const int16_t sample = (int16_t)(first + (int)i);
        memcpy(pcm + 2 * i, &sample, sizeof sample);
    }
    encode(codes, pcm, n);
    decode(decoded, codes, n);
    encode(again, decoded, n);
    for (size_t i = 0; i < n; i++) {
        const int sample = first + (int)i;
        CHECK(codes[i] == (encode == g711_ulaw_encode ? reference_ulaw(sample) : reference_alaw(sample)));
        /* only mu-law's negative zero comes back as another code */
        CHECK(again[i] == codes[i] || (encode == g711_ulaw_encode && codes[i] == 0x7F && again[i] == 0xFF));
    }
    for (size_t i = 0; i < 4; i++)
        free(allocations[i]);
}

static void check_law(encode_fn *encode, decode_fn *decode)
{
    encode(NULL, NULL, 0);
    decode(NULL, NULL, 0);
    check_block(encode, decode, -32768, SAMPLES, 0);
    check_block(encode, decode, -32768, SAMPLES, 1);
    for (size_t n = 0; n <= 161; n++)
        for (size_t offset = 0; offset < 4; offset++)
            check_block(encode, decode, -80, n, offset);
}

static void check_frame_timer(void)
{
    const int fd = frame_timer_open();
#ifdef __linux__
    CHECK(fd >= 0);
    CHECK(frame_timer_read(fd) == 0);
    CHECK(frame_timer_arm(fd, 1, 0) == 0);
    CHECK(frame_timer_read(fd) == 1);
    CHECK(frame_timer_read(fd) == 0);
    CHECK(frame_timer_arm(fd, 1, INT64_C(1000000000)) == 0);
    CHECK(frame_timer_read(fd) >= 1);
    CHECK(frame_timer_arm(fd, INT64_MAX, INT64_MAX) == 0);
    CHECK(frame_timer_read(fd) == 0);
    CHECK(frame_timer_arm(fd, -1, 0) == -1 && errno == EINVAL);
    CHECK(frame_timer_arm(fd, 1, -1) == -1 && errno == EINVAL);
    CHECK(close(fd) == 0);
    CHECK(frame_timer_arm(fd, 1, 0) == -1 && errno == EBADF);
    CHECK(frame_timer_read(fd) == -1 && errno == EBADF);
#else
    CHECK(fd == -1 && errno == ENOSYS);
#endif
}

int main(void)
{
    check_law(g711_ulaw_encode, g711_ulaw_decode);
    check_law(g711_alaw_encode, g711_alaw_decode);
    check_frame_timer();
    return 0;
}
