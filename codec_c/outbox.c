#include "outbox.h"

#include <stdlib.h>
#include <string.h>

/* one pass of some hundred calls leaves a few kilobytes */
static const size_t BLOCK_BYTES = 65536;

struct outbox_block {
    struct outbox_block *next;
    size_t used;
    size_t size;
    uint8_t bytes[];
};

static void free_blocks(struct outbox_block *block)
{
    while (block != NULL) {
        struct outbox_block *next = block->next;
        free(block);
        block = next;
    }
}

void outbox_reset(struct outbox *outbox)
{
    outbox->count = outbox->unsent = 0;
    outbox->starved = 0;
    if (outbox->blocks == NULL)
        return;
    free_blocks(outbox->blocks->next);
    outbox->blocks->next = NULL;
    outbox->blocks->used = 0;
    if (outbox->blocks->size > BLOCK_BYTES) {
        free(outbox->blocks);
        outbox->blocks = NULL;
    }
}

void outbox_free(struct outbox *outbox)
{
    free_blocks(outbox->blocks);
    free(outbox->events);
    memset(outbox, 0, sizeof *outbox);
}

uint8_t *outbox_take(struct outbox *outbox, size_t n)
{
    struct outbox_block *block = outbox->blocks;
    if (block == NULL || block->size - block->used < n) {
        const size_t size = n > BLOCK_BYTES ? n : BLOCK_BYTES;
        block = malloc(sizeof *block + size);
        if (block == NULL) {
            outbox->starved = 1;
            return NULL;
        }
        *block = (struct outbox_block){.next = outbox->blocks, .size = size};
        outbox->blocks = block;
    }
    uint8_t *bytes = block->bytes + block->used;
    block->used += n;
    return bytes;
}

struct leg_event *outbox_event(struct outbox *outbox, uint32_t leg_id, enum event_kind kind)
{
    if (outbox->count == outbox->capacity) {
        const uint32_t capacity = outbox->capacity ? outbox->capacity * 2 : 256;
        struct leg_event *events = realloc(outbox->events, capacity * sizeof *events);
        if (events == NULL) {
            outbox->starved = 1;
            return NULL;
        }
        outbox->events = events;
        outbox->capacity = capacity;
    }
    struct leg_event *event = &outbox->events[outbox->count++];
    *event = (struct leg_event){.leg_id = leg_id, .kind = kind};
    outbox->unsent += kind == EVENT_UNSENT;
    return event;
}

struct leg_event *outbox_copy(struct outbox *outbox, uint32_t leg_id, enum event_kind kind, const uint8_t *data, size_t n)
{
    uint8_t *copy = outbox_take(outbox, n);
    struct leg_event *event = copy != NULL ? outbox_event(outbox, leg_id, kind) : NULL;
    if (event == NULL)
        return NULL;
    memcpy(copy, data, n);
    event->data = copy;
    event->size = n;
    return event;
}
