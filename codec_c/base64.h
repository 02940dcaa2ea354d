/*
 * Base64 (RFC 4648, section 4): the standard alphabet, padded, without line breaks.
 *
 * Input and output must not overlap. Nothing is read before or beyond the given sizes.
 */
#ifndef BASE64_H
#define BASE64_H

#include <stddef.h>
#include <stdint.h>

/* How many characters encode n bytes. */
static inline size_t base64_encoded_size(size_t n)
{
    return (n + 2) / 3 * 4;
}

/* Encodes n bytes into base64_encoded_size(n) characters; no terminator. */
void base64_encode(uint8_t *text, const uint8_t *bytes, size_t n);

/*
 * Decodes n characters into at most n / 4 * 3 bytes, and returns how many; -1 if the text is not canonical base64: a
 * length that is no multiple of 4, a foreign character, padding elsewhere than at the end, or stray bits before it.
 * The output may then hold part of the text decoded.
 */
ptrdiff_t base64_decode(uint8_t *bytes, const uint8_t *text, size_t n);

#endif
