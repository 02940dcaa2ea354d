#include "media_text.h"

#include <string.h>

enum value_kind { VALUE_STRING, VALUE_NUMBER, VALUE_OBJECT };

/* a place in a JSON text; `at` never passes `end` */
struct cursor {
    const uint8_t *at;
    const uint8_t *end;
};

struct member {
    struct text_slice name;
    struct text_slice value; /* of a string, without its quotes; of an object, empty: the cursor stands inside it */
    enum value_kind kind;
};

static void skip_space(struct cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r'))
        c->at++;
}

static int take(struct cursor *c, uint8_t expected)
{
    skip_space(c);
    if (c->at == c->end || *c->at != expected)
        return 0;
    c->at++;
    return 1;
}

/* A string of printable ASCII without escapes. memchr is the fast way over a payload; what it passed is checked after. */
static int take_string(struct cursor *c, struct text_slice *string)
{
    if (!take(c, '"'))
        return 0;
    const uint8_t *quote = memchr(c->at, '"', (size_t)(c->end - c->at));
    if (quote == NULL)
        return 0;
    string->at = c->at;
    string->size = (size_t)(quote - c->at);
    uint8_t odd = 0;
    for (const uint8_t *p = c->at; p < quote; p++)
        odd |= (uint8_t)((*p < 0x20) | (*p > 0x7e) | (*p == '\\'));
    c->at = quote + 1;
    return !odd;
}

/* A whole, small, non-negative number: no sign, fraction, exponent or leading zero. */
static int take_number(struct cursor *c, struct text_slice *number)
{
    number->at = c->at;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9')
        c->at++;
    number->size = (size_t)(c->at - number->at);
    return number->size == 1 || (number->size > 1 && number->size <= 9 && *number->at != '0');
}

/* Takes `"name": value`; of an object only the opening brace. */
static int take_member(struct cursor *c, struct member *m)
{
    if (!take_string(c, &m->name) || !take(c, ':'))
        return 0;
    skip_space(c);
    if (c->at == c->end)
        return 0;
    if (*c->at == '{') {
        c->at++;
        m->kind = VALUE_OBJECT;
        return 1;
    }
    if (*c->at == '"') {
        m->kind = VALUE_STRING;
        return take_string(c, &m->value);
    }
    m->kind = VALUE_NUMBER;
    return take_number(c, &m->value);
}

/* Behind a member: 1 if another follows, 0 if the object ends, -1 if neither. */
static int take_separator(struct cursor *c)
{
    if (take(c, ','))
        return 1;
    return take(c, '}') ? 0 : -1;
}

static int at_end(struct cursor *c)
{
    skip_space(c);
    return c->at == c->end;
}

static int is(const struct text_slice *slice, const char *text)
{
    const size_t size = strlen(text);
    return slice->size == size && memcmp(slice->at, text, size) == 0;
}

/* Decimal digits without a sign; leading zeros mean nothing to int(), so they are left to the parser. */
static int read_digits(const struct text_slice *slice, int64_t *number)
{
    if (slice->size == 0 || slice->size > 15 || (slice->size > 1 && *slice->at == '0'))
        return 0;
    *number = 0;
    for (size_t i = 0; i < slice->size; i++) {
        if (slice->at[i] < '0' || slice->at[i] > '9')
            return 0;
        *number = *number * 10 + (slice->at[i] - '0');
    }
    return 1;
}

/* Notes that a member was seen; 0 if it was already. */
static int first_time(unsigned *seen, unsigned bit)
{
    if (*seen & bit)
        return 0;
    *seen |= bit;
    return 1;
}

enum { SEEN_TRACK = 1, SEEN_CHUNK = 2, SEEN_TIMESTAMP = 4, SEEN_PAYLOAD = 8 };

static int take_media_member(const struct member *m, struct carrier_media *media, unsigned *seen)
{
    int64_t chunk;
    if (m->kind != VALUE_STRING)
        return 0;
    if (is(&m->name, "payload")) {
        media->payload = m->value;
        return first_time(seen, SEEN_PAYLOAD);
    }
    if (is(&m->name, "timestamp"))
        return read_digits(&m->value, &media->timestamp_ms) && first_time(seen, SEEN_TIMESTAMP);
    if (is(&m->name, "chunk"))
        return read_digits(&m->value, &chunk) && first_time(seen, SEEN_CHUNK);
    if (is(&m->name, "track"))
        return is(&m->value, "inbound") && first_time(seen, SEEN_TRACK);
    return 0;
}

static int take_media_object(struct cursor *c, struct carrier_media *media)
{
    struct member m;
    unsigned seen = 0;
    int more = 1;
    while (more == 1) {
        if (!take_member(c, &m) || !take_media_member(&m, media, &seen))
            return 0;
        more = take_separator(c);
    }
    return more == 0 && (seen & (SEEN_TIMESTAMP | SEEN_PAYLOAD)) == (SEEN_TIMESTAMP | SEEN_PAYLOAD);
}

enum { SEEN_EVENT = 1, SEEN_SEQUENCE = 2, SEEN_SID = 4, SEEN_MEDIA = 8 };

static int take_carrier_member(struct cursor *c, const struct member *m, struct carrier_media *media, unsigned *seen)
{
    if (m->kind == VALUE_OBJECT)
        return is(&m->name, "media") && take_media_object(c, media) && first_time(seen, SEEN_MEDIA);
    if (m->kind != VALUE_STRING)
        return 0;
    if (is(&m->name, "event"))
        return is(&m->value, "media") && first_time(seen, SEEN_EVENT);
    if (is(&m->name, "sequenceNumber"))
        return read_digits(&m->value, &media->sequence_number) && first_time(seen, SEEN_SEQUENCE);
    if (is(&m->name, "streamSid")) {
        media->stream_sid = m->value;
        return first_time(seen, SEEN_SID);
    }
    return 0;
}

int carrier_media_find(struct carrier_media *media, const uint8_t *text, size_t n)
{
    struct cursor c = {text, text + n};
    struct member m;
    unsigned seen = 0;
    int more = take(&c, '{');
    if (!more)
        return 0;
    while (more == 1) {
        if (!take_member(&c, &m) || !take_carrier_member(&c, &m, media, &seen))
            return 0;
        more = take_separator(&c);
    }
    return more == 0 && at_end(&c) && seen == (SEEN_EVENT | SEEN_SEQUENCE | SEEN_SID | SEEN_MEDIA);
}

enum { SEEN_TYPE = 1, SEEN_EVENT_ID = 2, SEEN_RESPONSE = 4, SEEN_ITEM = 8, SEEN_OUTPUT = 16, SEEN_CONTENT = 32, SEEN_DELTA = 64 };

static int take_delta_member(const struct member *m, struct audio_delta *delta, unsigned *seen)
{
    if (m->kind == VALUE_OBJECT)
        return 0;
    if (m->kind == VALUE_NUMBER) {
        if (is(&m->name, "output_index"))
            return first_time(seen, SEEN_OUTPUT);
        return is(&m->name, "content_index") && read_digits(&m->value, &delta->content_index) && first_time(seen, SEEN_CONTENT);
    }
    if (is(&m->name, "type"))
        return (is(&m->value, "response.output_audio.delta") || is(&m->value, "response.audio.delta")) && first_time(seen, SEEN_TYPE);
    if (is(&m->name, "event_id"))
        return first_time(seen, SEEN_EVENT_ID);
    if (is(&m->name, "response_id")) {
        delta->response_id = m->value;
        return first_time(seen, SEEN_RESPONSE);
    }
    if (is(&m->name, "item_id")) {
        delta->item_id = m->value;
        return first_time(seen, SEEN_ITEM);
    }
    if (is(&m->name, "delta")) {
        delta->delta = m->value;
        return first_time(seen, SEEN_DELTA);
    }
    return 0;
}

int audio_delta_find(struct audio_delta *delta, const uint8_t *text, size_t n)
{
    struct cursor c = {text, text + n};
    struct member m;
    unsigned seen = 0;
    const unsigned needed = SEEN_TYPE | SEEN_RESPONSE | SEEN_ITEM | SEEN_DELTA;
    int more = take(&c, '{');
    if (!more)
        return 0;
    delta->content_index = 0;
    while (more == 1) {
        if (!take_member(&c, &m) || !take_delta_member(&m, delta, &seen))
            return 0;
        more = take_separator(&c);
    }
    return more == 0 && at_end(&c) && (seen & needed) == needed;
}

static int is_one_of(uint8_t character, const char *characters)
{
    return memchr(characters, character, strlen(characters)) != NULL;
}

/* Skips a string of ASCII whose escapes are valid; 0 if it is not one. */
static int skip_string(struct cursor *c)
{
    if (!take(c, '"'))
        return 0;
    for (; c->at < c->end && *c->at != '"'; c->at++) {
        if (*c->at < 0x20 || *c->at > 0x7e)
            return 0;
        if (*c->at != '\\')
            continue;
        if (++c->at == c->end)
            return 0;
        const int hex_digits = *c->at == 'u' ? 4 : 0;
        if (!hex_digits && !is_one_of(*c->at, "\"\\/bfnrt"))
            return 0;
        for (int i = 0; i < hex_digits; i++) {
            if (++c->at == c->end || !is_one_of(*c->at, "0123456789abcdefABCDEF"))
                return 0;
        }
    }
    return take(c, '"');
}

int transcript_delta_is(const uint8_t *text, size_t n)
{
    struct cursor c = {text, text + n};
    struct text_slice name, value;
    unsigned seen = 0;
    int more = take(&c, '{');
    if (!more)
        return 0;
    while (more == 1) {
        if (!take_string(&c, &name) || !take(&c, ':'))
            return 0;
        skip_space(&c);
        if (is(&name, "type")) {
            const int known = take_string(&c, &value) && (is(&value, "response.output_audio_transcript.delta") ||
                                                          is(&value, "response.audio_transcript.delta"));
            if (!known || !first_time(&seen, SEEN_TYPE))
                return 0;
        } else if (c.at < c.end && *c.at == '"' ? !skip_string(&c) : !take_number(&c, &value)) {
            return 0;
        }
        more = take_separator(&c);
    }
    return more == 0 && at_end(&c) && seen == SEEN_TYPE;
}
