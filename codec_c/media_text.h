/*
 * The two messages of which there are fifty a second: Twilio's media and OpenAI's audio delta, recognised in their JSON.
 *
 * Owns the recognition of exactly what a telephone call is full of, and nothing else. A text is recognised only if it is
 * one flat JSON object whose members are the documented ones, each at most once, with strings that need no unescaping;
 * white space and the order of members are free. Everything else gives 0, and a JSON parser has to look at it. What is
 * recognised means to a JSON parser exactly what is found here. Slices point into the text.
 */
#ifndef MEDIA_TEXT_H
#define MEDIA_TEXT_H

#include <stddef.h>
#include <stdint.h>

struct text_slice {
    const uint8_t *at;
    size_t size;
};

/* protocols: Twilio "media", server bound. Numbers are at most 15 digits long, written as strings. */
struct carrier_media {
    struct text_slice stream_sid;
    struct text_slice payload; /* base64, not looked at yet */
    int64_t sequence_number;
    int64_t timestamp_ms;
};

/* 1 if the n bytes are a media message of the inbound track with every field of struct carrier_media. */
int carrier_media_find(struct carrier_media *media, const uint8_t *text, size_t n);

/* OpenAI "response.output_audio.delta", or its beta name "response.audio.delta". */
struct audio_delta {
    struct text_slice response_id;
    struct text_slice item_id;
    struct text_slice delta; /* base64, not looked at yet */
    int64_t content_index;
};

/* 1 if the n bytes are an audio delta with every field of struct audio_delta (content_index 0 if it is missing). */
int audio_delta_find(struct audio_delta *delta, const uint8_t *text, size_t n);

/*
 * 1 if the n bytes are a flat JSON object, wholly valid, whose type is "response.output_audio_transcript.delta" (or its beta
 * name): it comes with every audio delta, and a telephone has no use for it.
 */
int transcript_delta_is(const uint8_t *text, size_t n);

#endif
