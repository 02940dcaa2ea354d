/*
 * WebSocket frames (RFC 6455, section 5.2): headers read and written, payloads masked.
 *
 * Owns the layout of a frame and nothing of the protocol's state. Reads never go beyond the given size.
 */
#ifndef WEBSOCKET_FRAME_H
#define WEBSOCKET_FRAME_H

#include <stddef.h>
#include <stdint.h>

enum { FRAME_CONTINUATION = 0, FRAME_TEXT = 1, FRAME_BINARY = 2, FRAME_CLOSE = 8, FRAME_PING = 9, FRAME_PONG = 10 };

/* the longest header: two bytes, eight of length, four of mask */
enum { FRAME_HEADER_LIMIT = 14 };

struct frame_header {
    uint64_t payload_bytes;
    uint8_t size;     /* of the header itself */
    uint8_t opcode;
    uint8_t fin;      /* 0 or 1 */
    uint8_t reserved; /* the three RSV bits */
    uint8_t masked;   /* 0 or 1 */
    uint8_t mask[4];  /* of a masked frame */
};

/* Reads the header at the beginning of n bytes. 1 if it is whole, 0 if more bytes are needed. */
int frame_header_read(struct frame_header *header, const uint8_t *bytes, size_t n);

/*
 * Writes the header of a whole text frame, and returns its size, at most FRAME_HEADER_LIMIT. With a mask of four bytes
 * the frame is a client's; NULL makes it a server's.
 */
size_t frame_header_write(uint8_t *bytes, uint64_t payload_bytes, const uint8_t *mask);

/* Masks or unmasks n bytes; out may be in. */
void frame_mask(uint8_t *out, const uint8_t *in, const uint8_t mask[4], size_t n);

#endif
