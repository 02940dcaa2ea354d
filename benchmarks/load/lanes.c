/*
 * Lanes: the steady flow of audio of many sockets, received and compared with the tape in one call.
 *
 * Owns an epoll of the lanes' sockets. Recognises one kind of message only: a whole text frame whose text is the lane's prefix,
 * base64, and the lane's suffix, and whose bytes are what lies next on the lane's tape. Such a message is counted. Every other
 * frame is handed over as it came, and so is all that follows it on its lane until lane_sync: what it means is decided
 * elsewhere.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 16, RECEIVED = 1 << 14, PREFIX = 256, EVENTS = 1024, RECORDS = 1 << 17, ARENA = 1 << 22 };
enum { COUNTED = 1, RAW = 2, CLOSED = 3 };

struct lane {
    int fd, id, masked;
    /* until the next lane_sync; for good, since frames cannot be told any more */
    int handing_over, is_lost;
    /* messages that may yet be counted before one must be handed over */
    int countdown;
    int prefix_size, suffix_size;
    uint8_t prefix[PREFIX], suffix[PREFIX];
    int64_t origin, position, limit;
    uint8_t last_key[4];
    int64_t repeated_keys;
    int size;
    uint8_t buffer[BUFFER];
};

struct lanes {
    int epoll;
    const uint8_t *tape;
    int64_t period;
    double wall_ahead_s;
    int count, arena_size;
    int32_t lane[RECORDS], kind[RECORDS], size[RECORDS], offset[RECORDS];
    int64_t position[RECORDS];
    double at[RECORDS];
    uint8_t arena[ARENA];
    int8_t values[256];
};

struct lanes *lanes_new(const uint8_t *tape, int64_t period)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct lanes *lanes = calloc(1, sizeof *lanes);
    if (!lanes)
        return NULL;
    lanes->epoll = epoll_create1(EPOLL_CLOEXEC);
    lanes->tape = tape;
    lanes->period = period;
    memset(lanes->values, -1, sizeof lanes->values);
    for (int i = 0; i < 64; i++)
        lanes->values[(uint8_t)digits[i]] = (int8_t)i;
    return lanes;
}

void lanes_free(struct lanes *lanes)
{
    close(lanes->epoll);
    free(lanes);
}

struct lane *lane_new(int fd, int id, int masked)
{
    struct lane *lane = calloc(1, sizeof *lane);
    if (lane) {
        lane->fd = fd;
        lane->id = id;
        lane->masked = masked;
    }
    return lane;
}

void lane_begin(struct lane *lane, int64_t origin, int64_t limit)
{
    lane->origin = origin;
    lane->limit = limit;
}

void lane_limit(struct lane *lane, int64_t limit)
{
    lane->limit = limit;
}

/* What was handed over has been dealt with: go on from here, with so many messages. */
void lane_sync(struct lane *lane, int64_t position, int countdown)
{
    lane->position = position;
    lane->countdown = countdown;
    lane->handing_over = 0;
}

void lane_learn(struct lane *lane, const uint8_t *prefix, int prefix_size, const uint8_t *suffix, int suffix_size)
{
    memcpy(lane->prefix, prefix, (size_t)prefix_size);
    memcpy(lane->suffix, suffix, (size_t)suffix_size);
    lane->prefix_size = prefix_size;
    lane->suffix_size = suffix_size;
}

int64_t lane_repeated_keys(const struct lane *lane)
{
    return lane->repeated_keys;
}

int lanes_watch(struct lanes *lanes, struct lane *lane)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = lane};
    return epoll_ctl(lanes->epoll, EPOLL_CTL_ADD, lane->fd, &event);
}

void lanes_forget(struct lanes *lanes, struct lane *lane)
{
    epoll_ctl(lanes->epoll, EPOLL_CTL_DEL, lane->fd, NULL);
    free(lane);
}

/* Whether another lane's buffer might not fit. */
static int is_full(const struct lanes *lanes)
{
    return lanes->count > RECORDS - BUFFER / 2 || lanes->arena_size > ARENA - BUFFER;
}

static void record(struct lanes *lanes, const struct lane *lane, int kind, double at, int64_t position, int size)
{
    int n = lanes->count++;
    lanes->lane[n] = lane->id;
    lanes->kind[n] = kind;
    lanes->at[n] = at;
    lanes->position[n] = position;
    lanes->size[n] = size;
    lanes->offset[n] = lanes->arena_size;
}

static void hand_over(struct lanes *lanes, struct lane *lane, const uint8_t *frame, int size, double at)
{
    record(lanes, lane, RAW, at, 0, size);
    memcpy(lanes->arena + lanes->arena_size, frame, (size_t)size);
    lanes->arena_size += size;
    lane->handing_over = 1;
}

/* Decodes strictly; the number of bytes, or -1. */
static int decode(const struct lanes *lanes, uint8_t *out, const uint8_t *text, int size)
{
    int n = 0;
    if (size == 0 || size % 4)
        return -1;
    for (int i = 0; i < size; i += 4) {
        int last = i + 4 == size, pad = last ? (text[i + 3] == '=') + (text[i + 3] == '=' && text[i + 2] == '=') : 0;
        int a = lanes->values[text[i]], b = lanes->values[text[i + 1]];
        int c = pad > 1 ? 0 : lanes->values[text[i + 2]], d = pad ? 0 : lanes->values[text[i + 3]];
        if ((a | b | c | d) < 0 || (pad == 2 && (b & 15)) || (pad == 1 && (c & 3)))
            return -1;
        out[n++] = (uint8_t)(a << 2 | b >> 4);
        if (pad < 2)
            out[n++] = (uint8_t)(b << 4 | c >> 2);
        if (!pad)
            out[n++] = (uint8_t)(c << 6 | d);
    }
    return n;
}

/* Counts the message if it is the lane's next audio; 0 if it is anything else. */
static int count(struct lanes *lanes, struct lane *lane, const uint8_t *frame, int head, int size, double at)
{
    uint8_t text[4096], audio[4096];
    int body = size - head, payload = body - lane->prefix_size - lane->suffix_size;
    if (lane->handing_over || lane->countdown <= 0 || frame[0] != 0x81 || frame[1] != (lane->masked ? 0xfe : 0x7e) ||
        body < 126 || body > (int)sizeof text || payload <= 0)
        return 0;
    if (lane->masked) {
        const uint8_t *key = frame + head - 4;
        for (int i = 0; i < body; i++)
            text[i] = frame[head + i] ^ key[i & 3];
    } else {
        memcpy(text, frame + head, (size_t)body);
    }
    if (memcmp(text, lane->prefix, (size_t)lane->prefix_size) ||
        memcmp(text + body - lane->suffix_size, lane->suffix, (size_t)lane->suffix_size))
        return 0;
    int samples = decode(lanes, audio, text + lane->prefix_size, payload);
    if (samples < 0 || lane->position + samples > lane->limit ||
        memcmp(audio, lanes->tape + (lane->origin + lane->position) % lanes->period, (size_t)samples))
        return 0;
    record(lanes, lane, COUNTED, at, lane->position, samples);
    lanes->offset[lanes->count - 1] = size; /* nothing lies in the arena; how long the frame was */
    lane->position += samples;
    lane->countdown--;
    if (lane->masked) {
        lane->repeated_keys += !memcmp(lane->last_key, frame + head - 4, 4);
        memcpy(lane->last_key, frame + head - 4, 4);
    }
    return 1;
}

static void take(struct lanes *lanes, struct lane *lane, double at)
{
    int start = 0;
    while (lane->size - start >= 2 && !lane->is_lost) {
        const uint8_t *frame = lane->buffer + start;
        int left = lane->size - start, head = 2;
        int64_t body = frame[1] & 0x7f;
        if (body == 126) {
            head = 4;
            if (left >= 4)
                body = frame[2] << 8 | frame[3];
        } else if (body == 127) {
            head = 10;
            body = 0;
            for (int i = 2; left >= 10 && i < 10; i++)
                body = (int64_t)((uint64_t)body << 8 | frame[i]);
        }
        head += frame[1] & 0x80 ? 4 : 0;
        if (left < head)
            break;
        lane->is_lost = body < 0 || body > BUFFER - RECEIVED - head; /* more than is ever kept here */
        if (lane->is_lost)
            break;
        if (left < head + body)
            break;
        if (!count(lanes, lane, frame, head, head + (int)body, at))
            hand_over(lanes, lane, frame, head + (int)body, at);
        start += head + (int)body;
    }
    if (lane->is_lost) {
        hand_over(lanes, lane, lane->buffer + start, lane->size - start, at);
        start = lane->size;
    }
    lane->size -= start;
    memmove(lane->buffer, lane->buffer + start, (size_t)lane->size);
}

static double monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Whether the lane still stands. */
static int receive(struct lanes *lanes, struct lane *lane)
{
    union {
        struct cmsghdr align;
        uint8_t bytes[CMSG_SPACE(sizeof(struct timespec))];
    } control;
    struct iovec part = {lane->buffer + lane->size, RECEIVED};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(lane->fd, &message, MSG_DONTWAIT);
    double at = monotonic();
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 1;
    if (n <= 0) {
        record(lanes, lane, CLOSED, at, 0, 0);
        epoll_ctl(lanes->epoll, EPOLL_CTL_DEL, lane->fd, NULL);
        return 0;
    }
    struct cmsghdr *stamp = CMSG_FIRSTHDR(&message);
    if (stamp && stamp->cmsg_level == SOL_SOCKET && stamp->cmsg_type == SO_TIMESTAMPNS) {
        struct timespec wall;
        memcpy(&wall, CMSG_DATA(stamp), sizeof wall);
        double stamped_at = (double)wall.tv_sec + (double)wall.tv_nsec * 1e-9 - lanes->wall_ahead_s;
        if (stamped_at < at)
            at = stamped_at;
    }
    lane->size += (int)n;
    take(lanes, lane, at);
    return 1;
}

/* Receives what has arrived on all lanes; the number of records. More may wait if it is large. */
int lanes_turn(struct lanes *lanes, double wall_ahead_s)
{
    struct epoll_event events[EVENTS];
    lanes->count = lanes->arena_size = 0;
    lanes->wall_ahead_s = wall_ahead_s;
    int ready = epoll_wait(lanes->epoll, events, EVENTS, 0);
    for (int i = 0; i < ready && !is_full(lanes); i++)
        receive(lanes, events[i].data.ptr);
    return lanes->count;
}

const int32_t *lanes_lane(const struct lanes *lanes) { return lanes->lane; }
const int32_t *lanes_kind(const struct lanes *lanes) { return lanes->kind; }
const int32_t *lanes_size(const struct lanes *lanes) { return lanes->size; }
const int32_t *lanes_offset(const struct lanes *lanes) { return lanes->offset; }
const int64_t *lanes_position(const struct lanes *lanes) { return lanes->position; }
const double *lanes_at(const struct lanes *lanes) { return lanes->at; }
const uint8_t *lanes_arena(const struct lanes *lanes) { return lanes->arena; }
