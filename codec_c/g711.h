/*
 * G.711 on whole blocks, exactly as the ITU's software has it (one's complement for negative samples: -1 encodes to
 * 0x7F in mu-law, where Sun's widespread g711.c gives 0x7E).
 *
 * pcm     n int16_t samples in the host's byte order, at any address, aligned or not: 2 * n bytes.
 * ulaw    n mu-law codes, alaw: n A-law codes with the even bits inverted, as they travel: n bytes.
 *
 * The blocks may not overlap. n may be 0, then no pointer is followed. Nothing can fail.
 */
#ifndef G711_H
#define G711_H

#include <stddef.h>
#include <stdint.h>

void g711_ulaw_encode(uint8_t *ulaw, const void *pcm, size_t n);
void g711_ulaw_decode(void *pcm, const uint8_t *ulaw, size_t n);
void g711_alaw_encode(uint8_t *alaw, const void *pcm, size_t n);
void g711_alaw_decode(void *pcm, const uint8_t *alaw, size_t n);

#endif
