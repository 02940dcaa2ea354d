#include "websocket_frame.h"

#include <string.h>

int frame_header_read(struct frame_header *header, const uint8_t *bytes, size_t n)
{
    if (n < 2)
        return 0;
    header->fin = bytes[0] >> 7;
    header->reserved = bytes[0] >> 4 & 7;
    header->opcode = bytes[0] & 15;
    header->masked = bytes[1] >> 7;
    const uint8_t length = bytes[1] & 127;
    const size_t extended = length == 126 ? 2 : length == 127 ? 8 : 0;
    header->size = (uint8_t)(2 + extended + (header->masked ? 4 : 0));
    if (n < header->size)
        return 0;
    header->payload_bytes = extended ? 0 : length;
    for (size_t i = 0; i < extended; i++)
        header->payload_bytes = header->payload_bytes << 8 | bytes[2 + i];
    if (header->masked)
        memcpy(header->mask, bytes + 2 + extended, 4);
    return 1;
}

size_t frame_header_write(uint8_t *bytes, uint64_t payload_bytes, const uint8_t *mask)
{
    const size_t extended = payload_bytes < 126 ? 0 : payload_bytes < 65536 ? 2 : 8;
    const unsigned length = extended == 0 ? (unsigned)payload_bytes : extended == 2 ? 126 : 127;
    bytes[0] = 0x80 | FRAME_TEXT;
    bytes[1] = (uint8_t)(length | (mask ? 0x80 : 0));
    for (size_t i = 0; i < extended; i++)
        bytes[2 + i] = (uint8_t)(payload_bytes >> (8 * (extended - 1 - i)));
    if (mask)
        memcpy(bytes + 2 + extended, mask, 4);
    return 2 + extended + (mask ? 4 : 0);
}

void frame_mask(uint8_t *out, const uint8_t *in, const uint8_t mask[4], size_t n)
{
    uint64_t wide;
    memcpy(&wide, mask, 4);
    memcpy((uint8_t *)&wide + 4, mask, 4);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, in + i, 8);
        word ^= wide;
        memcpy(out + i, &word, 8);
    }
    for (; i < n; i++)
        out[i] = in[i] ^ mask[i & 3];
}
