#include "base64.h"

static const char ALPHABET[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* the value of each character of the alphabet, 64 for every other */
static const uint8_t VALUES[256] = {
#define X4 64, 64, 64, 64
#define X16 X4, X4, X4, X4
    X16, X16,
    X4, X4, 64, 64, 64, 62, 64, 64, 64, 63,
    52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 64, 64, 64, 64, 64, 64,
    64, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
    15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 64, 64, 64, 64, 64,
    64, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
    41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 64, 64, 64, 64, 64,
    X16, X16, X16, X16, X16, X16, X16, X16
#undef X16
#undef X4
};

void base64_encode(uint8_t *text, const uint8_t *bytes, size_t n)
{
    size_t i = 0;
    for (; i + 3 <= n; i += 3, text += 4) {
        const uint32_t word = (uint32_t)bytes[i] << 16 | (uint32_t)bytes[i + 1] << 8 | bytes[i + 2];
        text[0] = (uint8_t)ALPHABET[word >> 18];
        text[1] = (uint8_t)ALPHABET[word >> 12 & 63];
        text[2] = (uint8_t)ALPHABET[word >> 6 & 63];
        text[3] = (uint8_t)ALPHABET[word & 63];
    }
    if (i < n) {
        const uint32_t word = (uint32_t)bytes[i] << 16 | (i + 1 < n ? (uint32_t)bytes[i + 1] << 8 : 0);
        text[0] = (uint8_t)ALPHABET[word >> 18];
        text[1] = (uint8_t)ALPHABET[word >> 12 & 63];
        text[2] = i + 1 < n ? (uint8_t)ALPHABET[word >> 6 & 63] : (uint8_t)'=';
        text[3] = (uint8_t)'=';
    }
}

ptrdiff_t base64_decode(uint8_t *bytes, const uint8_t *text, size_t n)
{
    if (n == 0)
        return 0;
    if (n % 4 != 0)
        return -1;
    const size_t padding = (size_t)(text[n - 1] == '=') + (size_t)(text[n - 1] == '=' && text[n - 2] == '=');
    const size_t whole = padding ? n - 4 : n;
    uint8_t *out = bytes;
    uint32_t foreign = 0;
    for (size_t i = 0; i < whole; i += 4, out += 3) {
        const uint32_t a = VALUES[text[i]], b = VALUES[text[i + 1]], c = VALUES[text[i + 2]], d = VALUES[text[i + 3]];
        foreign |= (a | b | c | d) & 64;
        const uint32_t word = a << 18 | b << 12 | c << 6 | d;
        out[0] = (uint8_t)(word >> 16);
        out[1] = (uint8_t)(word >> 8);
        out[2] = (uint8_t)word;
    }
    if (foreign)
        return -1;
    if (padding) {
        const uint32_t a = VALUES[text[whole]], b = VALUES[text[whole + 1]];
        const uint32_t c = padding == 1 ? VALUES[text[whole + 2]] : 0;
        if (((a | b | c) & 64) || (padding == 1 ? c & 3 : b & 15))
            return -1;
        *out++ = (uint8_t)(a << 2 | b >> 4);
        if (padding == 1)
            *out++ = (uint8_t)(b << 4 | c >> 2);
    }
    return out - bytes;
}
