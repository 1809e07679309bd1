/* The load generator of the benchmark: many WebSocket clients in one thread.
 *
 * In: a mode and key=value settings on the command line, a running server.
 * Out: one JSON object per line on stdout: "held" (idle connections are open),
 * "start" and "stop" (edges of the measured window, so that whoever started us
 * can read the server's CPU time there) and at last "result".
 *
 * It has to be cheaper than what it measures: one epoll loop, one big buffer
 * for everybody through which frames are found by index, nothing allocated per
 * message, and of a message nothing is looked at unless somebody asked.
 *
 * modes
 *   talk     clients send lines and count what comes back
 *              window=W       closed loop, W lines under way in all: a line is
 *                             under way until its whole room has received it
 *              refill=N       … replaced at least N at once (1)
 *              window_each=W  closed loop, W unacknowledged sends per talker
 *              rate=R         open loop, R lines a second; latency counts from
 *                             the moment a line should have been sent
 *   storm    open `clients` connections, `at_once` under way, and hold them;
 *              tail=N joins with the last N, behind=N resumes N events behind
 *   hold     open `first`, report, wait for a line on stdin, open the rest,
 *              report, wait for a line, leave
 *   history  `rate` pages of `limit` a second at random places, open loop
 *
 * The JSON dialect is read by shape: an object starts with {"type":"…", and a
 * quote inside a string is escaped, so those bytes cannot be part of a text.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#else
typedef void SSL;
#endif

#define SECOND 1000000000ull
#define READ_SIZE (256u << 10)  /* of one read; stays in the second-level cache */
#define FRAME_ROOM (48u << 10)  /* of commands in one frame, below the servers' 64 KiB */
#define PATIENCE (20 * SECOND)  /* without any progress: the server stalls */
#define MASK 0x3d21fa37u        /* of our frames; constant and not zero */
#define FIRST_SEND_ID 10u       /* 1 is hello, 2 is join */

/* ------------------------------------------------------------- settings */

static struct {
    const char *mode, *host, *path, *room;
    unsigned port, clients, rooms, talkers, window, window_each, size, batch, at_once;
    unsigned check, tail, behind, limit, first;
    unsigned json, tls, ids, join, refill;
    double rate, warmup, seconds, drain, settle;
    uint64_t lines;
} opt = {
    .host = "127.0.0.1", .path = "/", .room = "lobby", .clients = 1, .rooms = 1, .size = 20,
    .batch = 1, .at_once = 64, .check = 2, .limit = 50, .join = 1, .refill = 1,
    .warmup = 0.5, .seconds = 2, .drain = 15, .settle = 0.4,
};

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("loadgen: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(2);
}

static void read_settings(int count, char **words) {
    const struct { const char *name; unsigned *value; } numbers[] = {
        {"port", &opt.port}, {"clients", &opt.clients}, {"rooms", &opt.rooms},
        {"talkers", &opt.talkers}, {"window", &opt.window}, {"window_each", &opt.window_each},
        {"size", &opt.size}, {"batch", &opt.batch}, {"at_once", &opt.at_once},
        {"check", &opt.check}, {"tail", &opt.tail}, {"behind", &opt.behind},
        {"limit", &opt.limit}, {"first", &opt.first}, {"json", &opt.json}, {"tls", &opt.tls},
        {"ids", &opt.ids}, {"join", &opt.join}, {"refill", &opt.refill},
    };
    const struct { const char *name; double *value; } reals[] = {
        {"rate", &opt.rate}, {"warmup", &opt.warmup}, {"seconds", &opt.seconds},
        {"drain", &opt.drain}, {"settle", &opt.settle},
    };
    const struct { const char *name; const char **value; } strings[] = {
        {"host", &opt.host}, {"path", &opt.path}, {"room", &opt.room},
    };
    if (count < 2) die("usage: loadgen talk|storm|hold|history port=N [setting=value …]");
    opt.mode = words[1];
    for (int i = 2; i < count; i++) {
        char *equals = strchr(words[i], '='), *end = "";
        bool known = false;
        if (!equals) die("%s: not of the form setting=value", words[i]);
        *equals = 0;
        const char *value = equals + 1;
        for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
            if (!strcmp(words[i], numbers[k].name))
                known = true, *numbers[k].value = (unsigned)strtoul(value, &end, 10);
        for (size_t k = 0; k < sizeof reals / sizeof *reals; k++)
            if (!strcmp(words[i], reals[k].name))
                known = true, *reals[k].value = strtod(value, &end);
        for (size_t k = 0; k < sizeof strings / sizeof *strings; k++)
            if (!strcmp(words[i], strings[k].name))
                known = true, *strings[k].value = value;
        if (!strcmp(words[i], "lines")) known = true, opt.lines = strtoull(value, &end, 10);
        if (!known || *end) die("%s=%s: no such setting or not a number", words[i], value);
    }
    if (!opt.talkers || opt.talkers > opt.clients) opt.talkers = opt.clients;
    if (opt.size < 17) die("size: a line needs 17 bytes for its sender and number");
    if (opt.size > 4096) die("size: at most 4096");
    if (opt.window_each && !opt.json) die("window_each: only the JSON dialect acknowledges");
    if (opt.window_each) opt.ids = 1;
    if (opt.clients % opt.rooms) die("clients: not a multiple of rooms");
#ifndef WITH_TLS
    if (opt.tls) die("tls: built without OpenSSL");
#endif
}

/* ---------------------------------------------------------------- state */

enum state { UNUSED, CONNECTING, SECURING, UPGRADING, GREETING, JOINING, CATCHING_UP, OPEN, GONE };

struct conn {
    int fd;
    enum state state;
    bool waits_to_write;
    uint32_t index, room;
    SSL *ssl;
    uint8_t *rest, *out; /* an incomplete frame; bytes the kernel did not take */
    size_t rest_len, rest_cap, out_start, out_len, out_cap;
    uint64_t sent, got, acked, begun, last_seq;
    uint32_t *next_of; /* of a checking member: the next number of each sender */
    uint64_t *stamps;  /* when the unacknowledged sends should have left, by number */
};

static struct conn *conns;
static uint64_t *room_sent;
static uint64_t sent_total, got_total, acked_total, fan, stamps_size;
static unsigned begun, opened, gone, refused, close_code;
static uint64_t disorder, errors, pages_wrong;
static char first_error[256], epoch[64], cursor[256]; /* cursor: where a resuming client says it was */
static uint64_t head_seq, last_progress, window_from, window_until, open_from;
static unsigned key_prefix;
static int poller, timer_fd;
static bool stdin_spoke, paging;
static uint8_t *inbox;
static size_t inbox_cap;
static uint8_t scratch[4 << 20];

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static uint64_t ns_of(double seconds) { return (uint64_t)(seconds * 1e9); }

static double cpu_seconds(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void keep_error(const uint8_t *text, size_t len) {
    errors++;
    if (first_error[0]) return;
    size_t n = len < sizeof first_error - 1 ? len : sizeof first_error - 1;
    for (size_t i = 0; i < n; i++)
        first_error[i] = text[i] < ' ' || text[i] > '~' || text[i] == '"' || text[i] == '\\' ? '\'' : (char)text[i];
}

/* -------------------------------------------------------------- latency
 * Log-linear counts: 64 steps per doubling, so a percentile is right to 1.6 %. */

#define STEPS 64
static uint64_t latency[48 * STEPS], latency_count, latency_max;

static void record(uint64_t ns) {
    unsigned shift = 0;
    for (uint64_t v = ns; v >= 2 * STEPS; v >>= 1) shift++;
    unsigned slot = shift * STEPS + (unsigned)(ns >> shift);
    if (slot >= sizeof latency / sizeof *latency) slot = sizeof latency / sizeof *latency - 1;
    latency[slot]++;
    latency_count++;
    if (ns > latency_max) latency_max = ns;
}

static double percentile_ms(double share) {
    uint64_t wanted = (uint64_t)(share * (double)latency_count), seen = 0;
    for (unsigned slot = 0; slot < sizeof latency / sizeof *latency; slot++) {
        seen += latency[slot];
        if (seen > wanted) {
            unsigned shift = slot < 2 * STEPS ? 0 : slot / STEPS - 1;
            uint64_t low = (uint64_t)(slot - shift * STEPS) << shift;
            double ns = (double)low + (double)(1ull << shift) / 2;
            return (ns < (double)latency_max ? ns : (double)latency_max) / 1e6;
        }
    }
    return (double)latency_max / 1e6;
}

/* ----------------------------------------------------------------- bytes */

static void leave(struct conn *c) {
    if (c->state == GONE) return;
    if (c->state != OPEN) {
        refused++;
        if (!first_error[0]) snprintf(first_error, sizeof first_error, "closed before it was open");
    }
    gone++;
    c->state = GONE;
    close(c->fd);
}

static void watch(struct conn *c, bool writes) {
    if (c->waits_to_write == writes) return;
    c->waits_to_write = writes;
    struct epoll_event e = {.events = EPOLLIN | (writes ? EPOLLOUT : 0u), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
}

/* Bytes written, 0 when the kernel takes none now, -1 when the peer is gone. */
static ssize_t write_some(struct conn *c, const uint8_t *p, size_t n) {
#ifdef WITH_TLS
    if (c->ssl) {
        int w = SSL_write(c->ssl, p, n > INT32_MAX ? INT32_MAX : (int)n);
        if (w > 0) return w;
        int why = SSL_get_error(c->ssl, w);
        return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
    }
#endif
    ssize_t w = send(c->fd, p, n, MSG_NOSIGNAL);
    if (w >= 0) return w;
    return errno == EAGAIN || errno == EINTR ? 0 : -1;
}

/* Bytes read, 0 when there are none now, -1 when the peer is gone. */
static ssize_t read_some(struct conn *c, uint8_t *p, size_t n) {
#ifdef WITH_TLS
    if (c->ssl) {
        size_t have = 0;
        while (have < n) {
            int r = SSL_read(c->ssl, p + have, (int)(n - have));
            if (r > 0) { have += (size_t)r; continue; }
            int why = SSL_get_error(c->ssl, r);
            if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) break;
            return have ? (ssize_t)have : -1;
        }
        return (ssize_t)have;
    }
#endif
    ssize_t r = recv(c->fd, p, n, 0);
    if (r > 0) return r;
    return r < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

static void flush_out(struct conn *c) {
    while (c->out_len) {
        ssize_t w = write_some(c, c->out + c->out_start, c->out_len);
        if (w < 0) { leave(c); return; }
        if (w == 0) break;
        c->out_start += (size_t)w;
        c->out_len -= (size_t)w;
    }
    if (!c->out_len) c->out_start = 0;
    watch(c, c->out_len > 0);
}

static void send_bytes(struct conn *c, const uint8_t *p, size_t n) {
    if (c->state == GONE) return;
    if (!c->out_len) {
        ssize_t w = write_some(c, p, n);
        if (w < 0) { leave(c); return; }
        p += w;
        n -= (size_t)w;
        if (!n) return;
    }
    if (c->out_start + c->out_len + n > c->out_cap) {
        memmove(c->out, c->out + c->out_start, c->out_len);
        c->out_start = 0;
        if (c->out_len + n > c->out_cap) {
            c->out_cap = 2 * (c->out_len + n);
            if (!(c->out = realloc(c->out, c->out_cap))) die("out of memory");
        }
    }
    memcpy(c->out + c->out_start + c->out_len, p, n);
    c->out_len += n;
    watch(c, true);
}

/* ---------------------------------------------------------------- frames */

/* Turns the payload at `payload` into a masked frame whose head ends there; returns its first byte.
 * There must be 14 bytes of room before the payload. */
static uint8_t *close_frame(uint8_t *payload, size_t n, uint8_t opcode) {
    uint32_t mask = MASK;
    uint64_t wide = (uint64_t)mask << 32 | mask, word;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        memcpy(&word, payload + i, 8);
        word ^= wide;
        memcpy(payload + i, &word, 8);
    }
    for (; i < n; i++) payload[i] ^= ((uint8_t *)&mask)[i & 3];
    uint8_t *p = payload - 4;
    memcpy(p, &mask, 4);
    if (n < 126) *--p = (uint8_t)(0x80 | n);
    else if (n < 65536) { *--p = (uint8_t)n; *--p = (uint8_t)(n >> 8); *--p = 0x80 | 126; }
    else die("a frame of %zu bytes is longer than any we mean to send", n);
    *--p = 0x80 | opcode;
    return p;
}

static void send_frame(struct conn *c, uint8_t opcode, const void *payload, size_t n) {
    static uint8_t frame[14 + FRAME_ROOM];
    if (n > FRAME_ROOM) die("a frame of %zu bytes is too long", n);
    memcpy(frame + 14, payload, n);
    uint8_t *start = close_frame(frame + 14, n, opcode);
    send_bytes(c, start, (size_t)(frame + 14 + n - start));
}

static void send_text(struct conn *c, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    send_frame(c, 1, text, (size_t)n);
}

static char *digits(char *p, uint64_t value, unsigned width) {
    for (unsigned i = width; i--; value /= 10) p[i] = (char)('0' + value % 10);
    return p + width;
}

/* "00031 0000012345 aaa": the sender, its number of the line, padding. */
static char *write_line(char *p, const struct conn *c, uint64_t number) {
    char *start = p;
    p = digits(p, c->index, 5);
    *p++ = ' ';
    p = digits(p, number, 10);
    *p++ = ' ';
    while (p < start + opt.size) *p++ = 'a';
    return p;
}

static void room_name(const struct conn *c, char *name, size_t size) {
    if (opt.rooms == 1) snprintf(name, size, "%s", opt.room);
    else snprintf(name, size, "%s%u", opt.room, c->room);
}

static void note_sent(struct conn *c, uint64_t when) {
    if (c->stamps) c->stamps[c->sent & (stamps_size - 1)] = when;
    c->sent++;
    sent_total++;
    room_sent[c->room]++;
}

static void send_plain_lines(struct conn *c, unsigned count) {
    uint8_t *end = scratch;
    while (count--) {
        uint8_t *payload = end + 14;
        write_line((char *)payload, c, c->sent);
        uint8_t *start = close_frame(payload, opt.size, 1);
        size_t n = (size_t)(payload + opt.size - start);
        memmove(end, start, n);
        end += n;
        note_sent(c, 0);
        if ((size_t)(end - scratch) > sizeof scratch - 8192) {
            send_bytes(c, scratch, (size_t)(end - scratch));
            end = scratch;
        }
    }
    send_bytes(c, scratch, (size_t)(end - scratch));
}

static char *write_command(char *p, const struct conn *c, const char *room) {
    p = stpcpy(p, "{\"type\":\"send\",");
    if (opt.ids) p += sprintf(p, "\"id\":%" PRIu64 ",", c->sent + FIRST_SEND_ID);
    p = stpcpy(stpcpy(stpcpy(p, "\"room\":\""), room), "\",\"key\":\"");
    p = digits(p, key_prefix, 6);
    *p++ = '-';
    p = digits(p, c->index, 5);
    *p++ = '-';
    p = digits(p, c->sent, 10);
    p = write_line(stpcpy(p, "\",\"text\":\""), c, c->sent);
    return stpcpy(p, "\"}");
}

static void send_json_lines(struct conn *c, unsigned count, uint64_t when) {
    char room[64];
    room_name(c, room, sizeof room);
    while (count) {
        unsigned together = count < opt.batch ? count : opt.batch, written = 0;
        char *payload = (char *)scratch + 14, *p = payload;
        if (together > 1) *p++ = '[';
        while (written < together && (size_t)(p - payload) < FRAME_ROOM - opt.size - 256) {
            if (written++) *p++ = ',';
            p = write_command(p, c, room);
            note_sent(c, when);
        }
        if (together > 1) *p++ = ']';
        uint8_t *start = close_frame((uint8_t *)payload, (size_t)(p - payload), 1);
        send_bytes(c, start, (size_t)((uint8_t *)p - start));
        count -= written;
    }
}

static void send_lines(struct conn *c, unsigned count, uint64_t when) {
    if (c->state != OPEN) return;
    if (opt.json) send_json_lines(c, count, when);
    else send_plain_lines(c, count);
}

/* ---------------------------------------------------------- what comes in */

static const uint8_t *find(const uint8_t *p, const uint8_t *end, const char *needle) {
    return memmem(p, (size_t)(end - p), needle, strlen(needle));
}

static uint64_t number_after(const uint8_t *p, const uint8_t *end, const char *needle, uint64_t otherwise) {
    const uint8_t *at = find(p, end, needle);
    if (!at) return otherwise;
    uint64_t value = 0;
    for (at += strlen(needle); at < end && *at >= '0' && *at <= '9'; at++) value = value * 10 + (*at - '0');
    return value;
}

static void string_after(const uint8_t *p, const uint8_t *end, const char *needle, char *value, size_t size) {
    const uint8_t *at = find(p, end, needle), *stop;
    *value = 0;
    if (!at) return;
    at += strlen(needle);
    if (!(stop = memchr(at, '"', (size_t)(end - at)))) return;
    snprintf(value, size, "%.*s", (int)(stop - at), (const char *)at);
}

/* A checking member: each sender's lines arrive in order, none missing, none twice. */
static void check_line(struct conn *c, const uint8_t *line, size_t n) {
    uint64_t sender = 0, number = 0;
    if (n < 16) { disorder++; return; }
    for (unsigned i = 0; i < 5; i++) sender = sender * 10 + (uint64_t)(line[i] - '0');
    for (unsigned i = 6; i < 16; i++) number = number * 10 + (uint64_t)(line[i] - '0');
    if (sender >= opt.clients || number != c->next_of[sender]) { disorder++; return; }
    c->next_of[sender]++;
}

/* Open loop: line k of talker t is number k * talkers + t of all, which tells when it was due. */
static void time_line(const uint8_t *line, size_t n, uint64_t now) {
    uint64_t sender = 0, number = 0;
    if (n < 16) return;
    for (unsigned i = 0; i < 5; i++) sender = sender * 10 + (uint64_t)(line[i] - '0');
    for (unsigned i = 6; i < 16; i++) number = number * 10 + (uint64_t)(line[i] - '0');
    uint64_t due = open_from + ns_of((double)(number * opt.talkers + sender) / opt.rate);
    if (due >= window_from && due < window_until) record(now - due);
}

static void become_open(struct conn *c) {
    c->state = OPEN;
    opened++;
    if (!strcmp(opt.mode, "storm")) record(now_ns() - c->begun);
}

/* How many events a new member gets before it counts as open; the probe reads one more. */
static uint64_t events_owed(const struct conn *c) {
    return c->index == opt.clients ? opt.behind + 1 : opt.tail + opt.behind;
}

static void catch_up(struct conn *c, const uint8_t *p, const uint8_t *end) {
    if (c->index == opt.clients && c->got == 1) {
        char id[64];
        string_after(p, end, "\"id\":\"", id, sizeof id);
        snprintf(cursor, sizeof cursor, "{\"epoch\":\"%s\",\"seq\":%" PRIu64 ",\"id\":\"%s\"}", epoch,
                 number_after(p, end, "\"seq\":", 0), id);
    }
    if (c->got == events_owed(c)) become_open(c);
}

static void on_event(struct conn *c, const uint8_t *p, const uint8_t *end, uint64_t now) {
    c->got++;
    got_total++;
    if (c->state == CATCHING_UP) { catch_up(c, p, end); return; }
    if (paging || (!c->next_of && opt.rate <= 0)) return;
    const uint8_t *text = find(p, end, "\"text\":\"");
    if (!text) { disorder++; return; }
    text += 8;
    if (opt.rate > 0) time_line(text, (size_t)(end - text), now);
    if (!c->next_of) return;
    check_line(c, text, (size_t)(end - text));
    uint64_t seq = number_after(p, end, "\"seq\":", 0);
    if (c->last_seq && seq != c->last_seq + 1) disorder++;
    c->last_seq = seq;
}

static void on_welcome(struct conn *c) {
    char room[64], since[300] = "";
    room_name(c, room, sizeof room);
    if (!opt.join) { become_open(c); return; }
    c->state = JOINING;
    if (c->index == opt.clients) snprintf(since, sizeof since, ",\"tail\":%u", opt.behind + 1);
    else if (opt.behind) snprintf(since, sizeof since, ",\"since\":%s", cursor);
    else if (opt.tail) snprintf(since, sizeof since, ",\"tail\":%u", opt.tail);
    send_text(c, "{\"type\":\"join\",\"id\":2,\"room\":\"%s\"%s}", room, since);
}

static void on_joined(struct conn *c, const uint8_t *p, const uint8_t *end) {
    head_seq = number_after(p, end, "\"head\":", 0);
    string_after(p, end, "\"epoch\":\"", epoch, sizeof epoch);
    if (opt.behind && c->index != opt.clients && !find(p, end, "\"recovered\":true")) {
        keep_error(p, (size_t)(end - p));
        leave(c);
        return;
    }
    if (head_seq < events_owed(c)) {
        const char *why = "the room holds fewer events than were asked for";
        keep_error((const uint8_t *)why, strlen(why));
        leave(c);
        return;
    }
    c->state = CATCHING_UP;
    if (!events_owed(c)) become_open(c);
}

static void on_ok(struct conn *c, const uint8_t *p, const uint8_t *end, uint64_t now) {
    uint64_t id = number_after(p, end, "\"id\":", 0);
    if (id < FIRST_SEND_ID) {
        if (c->state == JOINING) on_joined(c, p, end);
        return;
    }
    c->acked++;
    acked_total++;
    if (c->stamps) {
        uint64_t due = c->stamps[(id - FIRST_SEND_ID) & (stamps_size - 1)];
        if (due >= window_from && due < window_until) record(now - due);
    }
}

/* The answer to `history` holds the events of one page. */
static bool on_page(struct conn *c, const uint8_t *p, size_t n, uint64_t now) {
    if (n < 12 || memcmp(p, "{\"type\":\"ok\"", 12)) return false;
    const uint8_t *end = p + n, *at = p;
    unsigned events = 0;
    while ((at = find(at, end, "\"seq\":"))) at++, events++;
    if (events != opt.limit) pages_wrong++;
    on_ok(c, p, end, now);
    return true;
}

static void on_object(struct conn *c, const uint8_t *p, const uint8_t *end, uint64_t now) {
    const uint8_t *kind = p + 9;
    size_t n = (size_t)(end - kind);
    if (n > 6 && !memcmp(kind, "event\"", 6)) on_event(c, p, end, now);
    else if (n > 3 && !memcmp(kind, "ok\"", 3)) on_ok(c, p, end, now);
    else if (n > 8 && !memcmp(kind, "welcome\"", 8)) on_welcome(c);
    else if (n > 5 && !memcmp(kind, "ping\"", 5)) send_text(c, "{\"type\":\"pong\"}");
    else if (n > 6 && !memcmp(kind, "error\"", 6)) keep_error(p, (size_t)(end - p));
    else if (n > 4 && !memcmp(kind, "bye\"", 4)) keep_error(p, (size_t)(end - p));
}

static void on_json(struct conn *c, const uint8_t *p, size_t n, uint64_t now) {
    const uint8_t *end = p + n, *next;
    if (c->state == OPEN && paging && on_page(c, p, n, now)) return;
    if (!(p = memchr(p, '{', n))) return;
    do { /* an object reaches to the next one that has a type */
        for (next = p + 1; (next = memchr(next, '{', (size_t)(end - next))); next++)
            if (end - next > 12 && !memcmp(next, "{\"type\":\"", 9)) break;
        if (end - p > 12 && !memcmp(p, "{\"type\":\"", 9)) on_object(c, p, next ? next : end, now);
    } while ((p = next) && c->state != GONE);
}

static void on_plain(struct conn *c, const uint8_t *p, size_t n, uint64_t now) {
    c->got++;
    got_total++;
    if (opt.rate > 0) time_line(p, n, now);
    if (c->next_of) check_line(c, p, n);
}

static void on_control(struct conn *c, uint8_t opcode, const uint8_t *p, size_t n) {
    if (opcode == 9) send_frame(c, 10, p, n);
    if (opcode != 8) return;
    if (n >= 2) close_code = (unsigned)p[0] << 8 | p[1];
    leave(c);
}

static void greet(struct conn *c) {
    if (!opt.json) { become_open(c); return; }
    c->state = GREETING;
    send_text(c, "{\"type\":\"hello\",\"id\":1,\"name\":\"bench%u\",\"capabilities\":[\"batch\"]}", c->index);
}

/* The head of the answer to our upgrade; returns its length, 0 while it is incomplete. */
static size_t take_head(struct conn *c, const uint8_t *p, size_t n) {
    const uint8_t *end = memmem(p, n, "\r\n\r\n", 4);
    if (!end) return 0;
    if (n < 12 || memcmp(p, "HTTP/1.1 101", 12)) {
        keep_error(p, n < 120 ? n : 120);
        leave(c);
        return n;
    }
    greet(c);
    return (size_t)(end + 4 - p);
}

/* Takes the complete frames from `p`; returns how many bytes they were. */
static size_t take_frames(struct conn *c, const uint8_t *p, size_t n, uint64_t now) {
    size_t i = 0;
    const bool plain = !opt.json && !c->next_of && opt.rate <= 0;
    uint64_t counted = 0;
    while (n - i >= 2) {
        size_t head = 2, len = p[i + 1];
        uint8_t first = p[i];
        if (len >= 126) {
            size_t wide = len == 126 ? 2 : len == 127 ? 8 : 0;
            if (!wide) die("the server masks its frames");
            if (n - i < 2 + wide) break;
            len = 0;
            for (size_t k = 0; k < wide; k++) len = len << 8 | p[i + 2 + k];
            head += wide;
        }
        if (n - i < head + len) break;
        if (first == 0x81 || first == 0x82) {
            if (plain) counted++;
            else if (opt.json) on_json(c, p + i + head, len, now);
            else on_plain(c, p + i + head, len, now);
        } else if (first & 8) {
            on_control(c, first & 15, p + i + head, len);
            if (c->state == GONE) break;
        } else if (first & 0x70) die("the server sets reserved bits nobody negotiated");
        else if (opt.json) die("the server fragments its frames");
        else if (first & 0x80) counted++;
        i += head + len;
    }
    c->got += counted;
    got_total += counted;
    return i;
}

static void keep_rest(struct conn *c, const uint8_t *p, size_t n) {
    if (n > c->rest_cap) {
        c->rest_cap = 2 * n;
        if (!(c->rest = realloc(c->rest, c->rest_cap))) die("out of memory");
    }
    if (n) memcpy(c->rest, p, n);
    c->rest_len = n;
}

static void receive(struct conn *c) {
    do {
        size_t have = c->rest_len;
        if (have + READ_SIZE > inbox_cap) {
            inbox_cap = 2 * have + READ_SIZE;
            if (!(inbox = realloc(inbox, inbox_cap))) die("out of memory");
        }
        ssize_t r = read_some(c, inbox + have, READ_SIZE);
        if (r < 0) { leave(c); return; }
        if (r == 0) return;
        if (have) memcpy(inbox, c->rest, have);
        size_t n = have + (size_t)r, used = 0;
        uint64_t now = opt.rate > 0 || opt.ids ? now_ns() : 0;
        if (c->state == UPGRADING) used = take_head(c, inbox, n);
        if (c->state > UPGRADING && c->state != GONE) used += take_frames(c, inbox + used, n - used, now);
        if (c->state == GONE) return;
        keep_rest(c, inbox + used, n - used);
    } while (c->ssl); /* what OpenSSL has read ahead does not wake the poller */
}

/* ------------------------------------------------------------ connecting */

#ifdef WITH_TLS
static SSL_CTX *tls_context(void) {
    static SSL_CTX *context;
    if (context) return context;
    if (!(context = SSL_CTX_new(TLS_client_method()))) die("OpenSSL: no context");
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL); /* the certificate is the benchmark's own */
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, 64 << 10);
    return context;
}

static void secure(struct conn *c) {
    int r = SSL_connect(c->ssl);
    if (r == 1) { c->state = UPGRADING; return; }
    int why = SSL_get_error(c->ssl, r);
    if (why == SSL_ERROR_WANT_READ) watch(c, false);
    else if (why == SSL_ERROR_WANT_WRITE) watch(c, true);
    else { ERR_print_errors_fp(stderr); leave(c); }
}
#else
static void secure(struct conn *c) { leave(c); }
#endif

static void ask_upgrade(struct conn *c) {
    char request[512], path[160];
    if (opt.rooms == 1) snprintf(path, sizeof path, "%s", opt.path);
    else snprintf(path, sizeof path, "%s%u", opt.path, c->room);
    int n = snprintf(request, sizeof request,
                     "GET %s HTTP/1.1\r\nHost: %s:%u\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
                     path, opt.host, opt.port, opt.json ? "Sec-WebSocket-Protocol: chat.v1.json\r\n" : "");
    send_bytes(c, (uint8_t *)request, (size_t)n);
}

static void connected(struct conn *c) {
    int error = 0, one = 1;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        keep_error((uint8_t *)strerror(error), strlen(strerror(error)));
        leave(c);
        return;
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    watch(c, false);
    c->state = UPGRADING;
#ifdef WITH_TLS
    if (opt.tls) {
        if (!(c->ssl = SSL_new(tls_context()))) die("OpenSSL: no connection");
        SSL_set_fd(c->ssl, c->fd);
        c->state = SECURING;
    }
#endif
}

static void begin_connection(unsigned index) {
    struct conn *c = &conns[index];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
    inet_pton(AF_INET, opt.host, &address.sin_addr);
    c->index = index;
    c->room = index == opt.clients ? 0 : index % opt.rooms;
    c->begun = now_ns();
    c->state = CONNECTING;
    begun++;
    if ((c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) < 0) die("socket: %s", strerror(errno));
    if (index < opt.check && opt.rate <= 0)
        if (!(c->next_of = calloc(opt.clients, sizeof *c->next_of))) die("out of memory");
    if (stamps_size)
        if (!(c->stamps = calloc(stamps_size, sizeof *c->stamps))) die("out of memory");
    c->waits_to_write = true;
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e)) die("epoll_ctl: %s", strerror(errno));
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        die("connect: %s", strerror(errno));
}

static void on_ready(struct conn *c, uint32_t events) {
    if (c->state == GONE) return;
    if (c->state == CONNECTING) {
        connected(c);
        if (c->state == UPGRADING) ask_upgrade(c);
        if (c->state != SECURING) return;
    }
    if (c->state == SECURING) {
        secure(c);
        if (c->state == UPGRADING) ask_upgrade(c);
        return;
    }
    if (events & EPOLLOUT) flush_out(c);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(c);
}

/* One turn: wait for sockets, at most `wait_ns`, and let each be heard once. */
static void turn(uint64_t wait_ns) {
    static struct epoll_event events[1024];
    uint64_t before = got_total + acked_total + opened + refused;
    int n = epoll_wait(poller, events, 1024, (int)((wait_ns + 999999) / 1000000));
    for (int i = 0; i < n; i++) {
        if (events[i].data.ptr == &timer_fd) {
            uint64_t ticks;
            if (read(timer_fd, &ticks, sizeof ticks) < 0) continue;
        } else if (events[i].data.ptr == &stdin_spoke) {
            char line[64];
            ssize_t r = read(0, line, sizeof line);
            if (r <= 0) exit(0); /* nobody waits for us any more */
            stdin_spoke = true;
        } else on_ready(events[i].data.ptr, events[i].events);
    }
    if (before != got_total + acked_total + opened + refused) last_progress = now_ns();
}

static void listen_to_stdin(void) {
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &stdin_spoke};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, 0, &e)) die("stdin: %s", strerror(errno));
}

static void open_until(unsigned count) {
    last_progress = now_ns();
    while (opened + refused < count) {
        while (begun < count && begun - opened - refused < opt.at_once) begin_connection(begun);
        turn(SECOND / 10);
        if (now_ns() - last_progress > PATIENCE) die("only %u of %u connections opened; %s", opened, count, first_error);
    }
}

static void run_for(double seconds) {
    uint64_t until = now_ns() + ns_of(seconds);
    while (now_ns() < until) turn(until - now_ns() > SECOND ? SECOND : 1000000);
}

/* ------------------------------------------------------------ the report */

static void say(const char *what) {
    printf("{\"event\":\"%s\",\"open\":%u}\n", what, opened - gone);
    fflush(stdout);
}

struct mark { uint64_t at, sent, got, acked; double cpu; };

static struct mark mark_now(void) {
    return (struct mark){now_ns(), sent_total, got_total, acked_total, cpu_seconds()};
}

static void say_result(struct mark a, struct mark b, bool drained, bool stalled) {
    uint64_t missing = 0, extra = 0;
    for (unsigned i = 0; i < opt.clients && conns; i++) {
        const struct conn *c = &conns[i];
        uint64_t owed = opt.json && !opt.join ? 0 : room_sent[c->room];
        if (strcmp(opt.mode, "talk") || c->state == UNUSED) break;
        if (c->got < owed) missing += owed - c->got;
        else extra += c->got - owed;
    }
    double seconds = (double)(b.at - a.at) / 1e9;
    printf("{\"event\":\"result\",\"seconds\":%.6f,\"lines\":%" PRIu64 ",\"deliveries\":%" PRIu64
           ",\"acknowledged\":%" PRIu64 ",\"per_second\":%.1f,\"own_cpu\":%.4f,\"open\":%u,\"gone\":%u,\"refused\":%u,"
           "\"close_code\":%u,\"lines_in_all\":%" PRIu64 ",\"missing\":%" PRIu64 ",\"extra\":%" PRIu64
           ",\"unacknowledged\":%" PRIu64 ",\"disorder\":%" PRIu64 ",\"errors\":%" PRIu64 ",\"pages_wrong\":%" PRIu64
           ",\"drained\":%s,\"stalled\":%s,\"samples\":%" PRIu64,
           seconds, b.sent - a.sent, b.got - a.got, b.acked - a.acked,
           seconds > 0 ? (double)(opt.window_each || paging ? b.acked - a.acked : b.got - a.got) / seconds : 0, b.cpu - a.cpu,
           opened - gone, gone, refused, close_code, sent_total, missing, extra,
           opt.ids ? sent_total - acked_total : 0, disorder, errors, pages_wrong, drained ? "true" : "false",
           stalled ? "true" : "false", latency_count);
    const struct { const char *name; double share; } shares[] = {
        {"p50_ms", 0.5}, {"p90_ms", 0.9}, {"p99_ms", 0.99}, {"p999_ms", 0.999}, {"max_ms", 1},
    };
    for (unsigned i = 0; i < sizeof shares / sizeof *shares && latency_count; i++)
        printf(",\"%s\":%.4f", shares[i].name, percentile_ms(shares[i].share));
    printf(",\"first_error\":\"%s\"}\n", first_error);
    fflush(stdout);
}

/* ------------------------------------------------------------------ modes */

static unsigned speaker; /* whose turn it is to talk */

static void send_round_robin(uint64_t count) {
    uint64_t each = count / opt.talkers, more = count % opt.talkers;
    for (unsigned i = 0; i < opt.talkers && (each || more); i++) {
        send_lines(&conns[speaker], (unsigned)(each + (more > 0)), now_ns());
        if (more) more--;
        speaker = (speaker + 1) % opt.talkers;
    }
}

static void keep_window_full(void) {
    uint64_t heard = got_total / fan, under_way = sent_total > heard ? sent_total - heard : 0;
    uint64_t count = under_way < opt.window ? opt.window - under_way : 0;
    if (opt.lines && count > opt.lines - sent_total) count = opt.lines - sent_total;
    else if (count < opt.refill) return;
    if (count) send_round_robin(count);
}

static void keep_windows_full(void) {
    for (unsigned i = 0; i < opt.talkers; i++) {
        struct conn *c = &conns[i];
        uint64_t count = opt.window_each - (c->sent - c->acked);
        if (opt.lines && count > opt.lines - sent_total) count = opt.lines - sent_total;
        if (count) send_lines(c, (unsigned)count, now_ns());
    }
}

static uint64_t due_next(void) { return open_from + ns_of((double)sent_total / opt.rate); }

static void ask_page(struct conn *c, uint64_t when) {
    char room[64];
    static uint64_t dice = 88172645463325252ull;
    dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
    uint64_t before = opt.limit + 1 + dice % (head_seq - opt.limit);
    room_name(c, room, sizeof room);
    send_text(c, "{\"type\":\"history\",\"id\":%" PRIu64 ",\"room\":\"%s\",\"before\":%" PRIu64 ",\"limit\":%u}",
              c->sent + FIRST_SEND_ID, room, before, opt.limit);
    note_sent(c, when);
}

/* Sends what is due and sets the timer to the next. */
static void keep_pace(void) {
    for (uint64_t now = now_ns(); due_next() <= now;) {
        struct conn *c = &conns[sent_total % opt.talkers];
        if (c->state != OPEN) die("a talker has gone: %s", first_error);
        if (paging) ask_page(c, due_next());
        else send_lines(c, 1, due_next());
    }
    uint64_t next = due_next();
    struct itimerspec at = {.it_value = {(time_t)(next / SECOND), (long)(next % SECOND)}};
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static void keep_talking(void) {
    if (opt.rate > 0) keep_pace();
    else if (opt.window_each) keep_windows_full();
    else keep_window_full();
}

static bool stalls(void) { return now_ns() - last_progress > PATIENCE / 2; }

/* Talks until the moment, or until all lines are sent; false when the server stalls or somebody is thrown out. */
static bool talk_until(uint64_t until) {
    for (uint64_t now; (now = now_ns()) < until && !(opt.lines && sent_total >= opt.lines);) {
        keep_talking();
        turn(until - now < SECOND / 20 ? until - now : SECOND / 20);
        if (gone || stalls()) return false;
    }
    return true;
}

static bool all_heard(void) {
    uint64_t owed = 0;
    if (paging) return acked_total >= sent_total;
    if (!opt.json || opt.join)
        for (unsigned room = 0; room < opt.rooms; room++) owed += room_sent[room] * (opt.clients / opt.rooms);
    return got_total >= owed && (!opt.ids || acked_total >= sent_total);
}

static void talk(void) {
    open_until(opt.clients);
    if (gone) die("%u of %u connections were refused: %s", gone, opt.clients, first_error);
    if (paging && head_seq <= opt.limit) die("the room holds %" PRIu64 " events, less than a page", head_seq);
    run_for(opt.settle);
    got_total = acked_total = 0;
    for (unsigned i = 0; i < opt.clients; i++) conns[i].got = 0;
    fan = opt.json && !opt.join ? 1 : opt.clients / opt.rooms;
    last_progress = open_from = now_ns();
    window_from = open_from + ns_of(opt.warmup);
    window_until = opt.lines ? UINT64_MAX : window_from + ns_of(opt.seconds);
    bool going = opt.lines || talk_until(window_from);
    struct mark a = mark_now();
    window_from = a.at;
    say("start");
    going = going && talk_until(window_until);
    struct mark b = mark_now();
    if (!opt.lines) say("stop");
    uint64_t give_up = now_ns() + ns_of(opt.drain);
    while (going && !all_heard() && now_ns() < give_up && !gone && !stalls()) turn(SECOND / 50);
    if (opt.lines) {
        b = mark_now();
        say("stop");
    }
    run_for(0.05); /* a line too many would come now */
    say_result(a, b, all_heard(), !going);
}

static void storm(void) {
    if (opt.behind) { /* a client that has been there tells where the others were */
        begin_connection(opt.clients);
        begun = 0;
        while (conns[opt.clients].state != OPEN) {
            turn(SECOND / 10);
            if (gone || now_ns() - conns[opt.clients].begun > PATIENCE) die("the probe failed: %s", first_error);
        }
        opened = 0;
        got_total = latency_count = latency_max = 0;
        memset(latency, 0, sizeof latency);
    }
    say("start");
    struct mark a = mark_now();
    open_until(opt.clients);
    struct mark b = mark_now();
    say("stop");
    b.got = a.got + opened;
    say_result(a, b, opened == opt.clients, false);
}

static void hold(void) {
    listen_to_stdin();
    struct mark a = mark_now();
    const unsigned steps[] = {opt.first, opt.clients};
    for (unsigned i = 0; i < 2; i++) {
        open_until(steps[i]);
        say("held");
        for (stdin_spoke = false; !stdin_spoke;) turn(SECOND / 10);
    }
    say_result(a, mark_now(), true, false);
}

int main(int count, char **words) {
    struct rlimit files;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    prctl(PR_SET_TIMERSLACK, 1000);
    signal(SIGPIPE, SIG_IGN);
    read_settings(count, words);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < opt.clients + 32) die("%u clients need more than %lu open files", opt.clients, (unsigned long)files.rlim_cur);
    key_prefix = (unsigned)(now_ns() / 1000000 % 1000000);
    paging = !strcmp(opt.mode, "history");
    if (paging) opt.ids = 1, stamps_size = 4096;
    if (opt.window_each)
        for (stamps_size = 1; stamps_size < opt.window_each;) stamps_size *= 2;
    if (!(conns = calloc(opt.clients + 1, sizeof *conns))) die("out of memory");
    if (!(room_sent = calloc(opt.rooms, sizeof *room_sent))) die("out of memory");
    poller = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &timer_fd};
    epoll_ctl(poller, EPOLL_CTL_ADD, timer_fd, &e);
    if (!strcmp(opt.mode, "talk")) {
        if (!opt.window + !opt.window_each + !(opt.rate > 0) != 2) die("talk: one of window, window_each and rate");
        talk();
    } else if (paging) {
        if (!(opt.rate > 0) || !opt.json) die("history: needs rate and json=1");
        talk();
    } else if (!strcmp(opt.mode, "storm")) storm();
    else if (!strcmp(opt.mode, "hold")) hold();
    else die("%s: no such mode", opt.mode);
    return 0;
}
