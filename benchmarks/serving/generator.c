/* A load generator for HTTP/1.1 and gRPC over lasting connections on this machine: one thread, one epoll loop.

   generator PROTOCOL PORT REQUESTS CONNECTIONS WARM SECONDS RATE LATE GRACE ANSWERS [JOURNAL]

   PROTOCOL is http or grpc. REQUESTS is a file of whole requests, each after its length (4 bytes, little endian); they
   are sent in turn. For gRPC a request is a sequence of HTTP/2 frames of one stream, whose number is put in here.
   ANSWERS is a file to write: the last good answer to each of them, in their order and form, to be checked: head and
   body, or, of gRPC, the message. One connection has one request under way; one that is answered before all of it was
   sent is sent to its end, as usual clients do. JOURNAL is a file to write too: every
   answer, counted or not, with when its request was due and when it was there, see write_journal.

   RATE 0 is a closed loop: each connection sends its next request when it has its last answer. Any other rate is an
   open loop: request i is due at its own time, i / RATE after the start, whatever the server does, and its latency
   counts from that time, so that waiting for a free connection is not left out; one for which there is no connection
   for LATE seconds is not sent at all. What falls into the SECONDS after the first WARM ones is counted: answers that
   arrived then (closed), requests that were due then (open). GRACE seconds are then given to the answers still missing.
   SIGTERM ends the counted time early. The result is one JSON object on standard output; latencies are histograms of
   nanoseconds with 128 steps to every doubling. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define BUCKETS 8192
#define READ_STEP 65536
#define EVENTS 256
#define RECONNECT_NS 20000000ull

typedef uint64_t nanos;

enum outcome { OK, REFUSED, OTHER, OUTCOMES };
static const char *const outcome_names[] = {"ok", "refused", "other"};

enum state { IDLE, CONNECTING, SENDING, RECEIVING, BROKEN };

struct message {
    char *bytes;
    uint32_t length;
    char *answer;           /* the last answer with a status of success, head and body */
    size_t answer_length, answer_room;
};

struct connection {
    int fd;
    enum state state;
    struct message *message;
    char *out;              /* what is being sent */
    size_t sent, out_length;
    nanos due, began, retry_at;
    int busy;               /* a request has been taken and is not answered */
    char *buffer;
    size_t held, room;
    uint32_t stream;        /* gRPC: the number of the stream, a copy of the request with it, and what it said */
    char *copy, *said;
    size_t copy_room, said_length, said_room;
};

static struct message *messages;
static uint32_t message_count, next_message;
static struct connection *connections;
static int connection_count, *idle, idle_count;
static int poller, port, grpc;
static double rate;
static nanos started, window_from, window_to, late;
static uint64_t arrivals, statuses[1000], lost_connect, lost_closed, lost_unreadable, sent_all, answered_all, in_window_sent, skipped;
static uint64_t latency[OUTCOMES][BUCKETS], service[OUTCOMES][BUCKETS];
static uint64_t retry_count;
static double retry_least = 1e18, retry_most, retry_sum;
static volatile sig_atomic_t told_to_stop;
static FILE *journal;

static nanos now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (nanos)t.tv_sec * 1000000000ull + (nanos)t.tv_nsec;
}

static void fail(const char *what) {
    fprintf(stderr, "generator: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void count(uint64_t *histogram, nanos value) {
    int shift = 0;
    while ((value >> shift) > 255) shift++;
    int at = shift * 128 + (int)(value >> shift);
    histogram[at < BUCKETS ? at : BUCKETS - 1]++;
}

static void grow(char **bytes, size_t *room, size_t wanted) {
    if (wanted <= *room) return;
    *room = wanted * 2;
    *bytes = realloc(*bytes, *room);
    if (!*bytes) fail("memory");
}

static void stop(int signal_number) { (void)signal_number; told_to_stop = 1; }

static void watch(struct connection *c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, operation, c->fd, &event) != 0) fail("epoll_ctl");
}

static int counted(nanos moment) { return moment >= window_from && moment < window_to; }

static void open_connection(struct connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int yes = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) fail("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    c->held = 0;
    c->state = CONNECTING;
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS) {
        close(c->fd);
        c->state = BROKEN;
        c->retry_at = now() + RECONNECT_NS;
        lost_connect++;
        return;
    }
    watch(c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

static void put_idle(struct connection *c) {
    c->state = IDLE;
    idle[idle_count++] = (int)(c - connections);
}

/* The connection is gone. A request that was under way on it is lost. */
static void drop(struct connection *c, uint64_t *reason) {
    if (c->busy) {
        if (counted(rate > 0 ? c->due : now())) (*reason)++;
        c->busy = 0;
    }
    if (c->state == IDLE)
        for (int i = 0; i < idle_count; i++)
            if (idle[i] == (int)(c - connections)) { idle[i] = idle[--idle_count]; break; }
    close(c->fd);
    c->state = BROKEN;
    c->retry_at = now() + (reason == &lost_connect ? RECONNECT_NS : 0);
}

static void pump_out(struct connection *c) {
    while (c->sent < c->out_length) {
        ssize_t n = send(c->fd, c->out + c->sent, c->out_length - c->sent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) {
                if (c->state != SENDING) watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
                c->state = SENDING;
                return;
            }
            drop(c, &lost_closed);
            return;
        }
        c->sent += (size_t)n;
    }
    if (c->state == SENDING) watch(c, EPOLL_CTL_MOD, EPOLLIN);
    c->state = RECEIVING;
    if (!c->busy) put_idle(c);
}

static uint32_t number(const unsigned char *bytes, int count) {
    uint32_t value = 0;
    for (int i = 0; i < count; i++) value = value << 8 | bytes[i];
    return value;
}

/* The request as frames of the connection's next stream. */
static void copy_frames(struct connection *c) {
    size_t length = c->message->length;
    grow(&c->copy, &c->copy_room, length);
    memcpy(c->copy, c->message->bytes, length);
    c->stream += 2;
    for (size_t at = 0; at + 9 <= length; at += 9 + number((unsigned char *)c->copy + at, 3)) {
        uint32_t stream = htonl(c->stream);
        memcpy(c->copy + at + 5, &stream, 4);
    }
    c->out = c->copy;
    c->said_length = 0;
}

static void begin(struct connection *c, nanos due, nanos moment) {
    c->message = &messages[next_message];
    next_message = (next_message + 1) % message_count;
    c->sent = 0;
    c->out = c->message->bytes;
    c->out_length = c->message->length;
    if (grpc) copy_frames(c);
    else c->held = 0;
    c->due = due;
    c->began = moment;
    c->busy = 1;
    c->state = IDLE;
    sent_all++;
    if (counted(due)) in_window_sent++;
    pump_out(c);
}

/* Requests that are due go out on connections that are free. */
static void send_due(nanos moment) {
    while (idle_count > 0 && moment < window_to) {
        nanos due = moment;
        if (rate > 0) {
            due = started + (nanos)((double)arrivals * 1e9 / rate);
            if (due > moment || due >= window_to) return;
            if (moment - due > late) {
                if (counted(due)) skipped++;
                arrivals++;
                continue;
            }
        }
        arrivals++;
        begin(&connections[idle[--idle_count]], due, moment);
    }
}

static const char *header(const char *head, const char *end, const char *name) {
    size_t length = strlen(name);
    for (const char *line = head; line && line < end;) {
        if ((size_t)(end - line) > length && strncasecmp(line, name, length) == 0) return line + length;
        line = memmem(line, (size_t)(end - line), "\r\n", 2);
        if (line) line += 2;
    }
    return NULL;
}

/* Length of the whole body once all of it is there, -1 while some is missing, -2 when it is unreadable. */
static ssize_t chunked_length(const char *body, size_t held) {
    size_t at = 0;
    for (;;) {
        char *line_end = memmem(body + at, held - at, "\r\n", 2);
        if (!line_end) return -1;
        char *digits_end;
        unsigned long size = strtoul(body + at, &digits_end, 16);
        if (digits_end == body + at) return -2;
        at = (size_t)(line_end - body) + 2 + size + 2;
        if (at > held) return -1;
        if (size == 0) return (ssize_t)at;
    }
}

static void keep_answer(struct message *m, const char *bytes, size_t length) {
    grow(&m->answer, &m->answer_room, length);
    memcpy(m->answer, bytes, length);
    m->answer_length = length;
}

/* Due and arrival (of the monotonic clock), number of the request, status, length of what follows: the answer. */
static void write_journal(struct connection *c, nanos moment, int status) {
    struct { uint64_t due, ended; uint32_t message, status, unused, length; } line = {
        c->due, moment, (uint32_t)(c->message - messages), (uint32_t)status, 0,
        (uint32_t)(grpc ? c->said_length : c->held)};
    fwrite(&line, sizeof line, 1, journal);
    if (fwrite(grpc ? c->said : c->buffer, 1, line.length, journal) != line.length) fail("the journal");
}

static void answered(struct connection *c, int status, double retry_after) {
    nanos moment = now();
    c->busy = 0;
    answered_all++;
    if (journal) write_journal(c, moment, status);
    if (status == 200) {
        if (grpc) keep_answer(c->message, c->said, c->said_length);
        else keep_answer(c->message, c->buffer, c->held);
    }
    if (!counted(rate > 0 ? c->due : moment)) return;
    enum outcome outcome = status >= 200 && status < 300 ? OK : status == 429 ? REFUSED : OTHER;
    statuses[status]++;
    count(latency[outcome], moment - c->due);
    count(service[outcome], moment - c->began);
    if (retry_after >= 0) {
        retry_count++;
        retry_sum += retry_after;
        if (retry_after < retry_least) retry_least = retry_after;
        if (retry_after > retry_most) retry_most = retry_after;
    }
}

/* Looks whether the whole answer is there. */
static void look(struct connection *c) {
    c->buffer[c->held] = 0;
    char *head_end = memmem(c->buffer, c->held, "\r\n\r\n", 4);
    if (!head_end) return;
    const char *body = head_end + 4, *length = header(c->buffer, body, "content-length:");
    size_t body_held = c->held - (size_t)(body - c->buffer);
    int status = c->held > 12 ? atoi(c->buffer + 9) : 0;
    if (strncmp(c->buffer, "HTTP/1.", 7) != 0 || status < 100 || status > 999) { drop(c, &lost_unreadable); return; }
    ssize_t whole = length ? (ssize_t)atoll(length) : -2;
    if (!length && header(c->buffer, body, "transfer-encoding:")) whole = chunked_length(body, body_held);
    if (whole == -2) { drop(c, &lost_unreadable); return; }
    if (whole < 0 || body_held < (size_t)whole) return;
    const char *retry = header(c->buffer, body, "retry-after:"), *keep = header(c->buffer, body, "connection:");
    answered(c, status, retry ? atof(retry) : -1);
    while (keep && *keep == ' ') keep++;
    if (keep && strncasecmp(keep, "close", 5) == 0) drop(c, &lost_closed);
    else if (c->sent == c->out_length) put_idle(c);
}

/* A frame about the connection, not about a stream; behind a request that is still being sent. */
static void send_frame(struct connection *c, unsigned char type, unsigned char flags, const void *payload, size_t size) {
    char frame[64] = {0, 0, (char)size, (char)type, (char)flags};
    memcpy(frame + 9, payload, size);
    if (c->state == SENDING) {
        grow(&c->copy, &c->copy_room, c->out_length + 9 + size);
        memcpy(c->copy + c->out_length, frame, 9 + size);
        c->out = c->copy;
        c->out_length += 9 + size;
    } else if (send(c->fd, frame, 9 + size, MSG_NOSIGNAL) != (ssize_t)(9 + size)) fail("a short frame cannot be sent");
}

/* The beginning of a connection for gRPC: windows that are never used up. */
static void greet(struct connection *c) {
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    static const unsigned char window[] = {0, 4, 0x7f, 0xff, 0xff, 0xff}, more[] = {0x7f, 0xf0, 0, 0};
    if (send(c->fd, preface, sizeof preface - 1, MSG_NOSIGNAL) != sizeof preface - 1) fail("greeting");
    c->stream = (uint32_t)-1;
    send_frame(c, 4, 0, window, sizeof window);
    send_frame(c, 8, 0, more, sizeof more);
}

/* Takes a frame; whether the stream has ended with it. */
static int take_frame(struct connection *c, const unsigned char *frame, uint32_t size) {
    enum { DATA, HEADERS, RESET = 3, SETTINGS, PING = 6, GOAWAY };
    int type = frame[3], flags = frame[4];
    if (type == SETTINGS && !(flags & 1)) send_frame(c, SETTINGS, 1, "", 0);
    if (type == PING && !(flags & 1)) send_frame(c, PING, 1, frame + 9, 8);
    if (type == GOAWAY) drop(c, &lost_closed);
    if (!c->busy || number(frame + 5, 4) != c->stream) return 0;
    if (type == DATA) {
        grow(&c->said, &c->said_room, c->said_length + size);
        memcpy(c->said + c->said_length, frame + 9, size);
        c->said_length += size;
    }
    return type == RESET || ((type == DATA || type == HEADERS) && flags & 1);
}

/* Looks what frames there are. A call that failed has no message, only a status, which is not read. */
static void look_at_frames(struct connection *c) {
    size_t at = 0;
    while (c->state != BROKEN && c->held - at >= 9) {
        const unsigned char *frame = (unsigned char *)c->buffer + at;
        uint32_t size = number(frame, 3);
        if (c->held - at < 9 + size) break;
        at += 9 + size;
        if (take_frame(c, frame, size)) {
            answered(c, c->said_length ? 200 : 500, -1);
            put_idle(c);
        }
    }
    if (c->state == BROKEN) return;
    memmove(c->buffer, c->buffer + at, c->held - at);
    c->held -= at;
}

static void pump_in(struct connection *c) {
    for (;;) {
        grow(&c->buffer, &c->room, c->held + READ_STEP + 1);
        ssize_t n = recv(c->fd, c->buffer + c->held, READ_STEP, 0);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) { drop(c, &lost_closed); return; }
        c->held += (size_t)n;
        if (grpc) { look_at_frames(c); if (n < READ_STEP) return; continue; }
        if (!c->busy) { drop(c, &lost_unreadable); return; }
        look(c);
        if (c->state != RECEIVING || n < READ_STEP) return;
    }
}

static void react(struct connection *c, uint32_t events) {
    if (c->state == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) { lost_connect++; drop(c, &lost_connect); return; }
        if (events & EPOLLOUT) {
            watch(c, EPOLL_CTL_MOD, EPOLLIN);
            if (grpc) greet(c);
            put_idle(c);
        }
        return;
    }
    if (c->state == SENDING && events & EPOLLOUT) pump_out(c);
    if (c->state != BROKEN && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) pump_in(c);
}

static int reopen(nanos moment) {
    int broken = 0;
    for (int i = 0; i < connection_count; i++)
        if (connections[i].state == BROKEN) {
            broken++;
            if (moment >= connections[i].retry_at) open_connection(&connections[i]);
        }
    return broken;
}

static int under_way(void) {
    int n = 0;
    for (int i = 0; i < connection_count; i++) n += connections[i].busy;
    return n;
}

static void read_messages(const char *path) {
    FILE *file = fopen(path, "rb");
    uint32_t length;
    if (!file) fail(path);
    while (fread(&length, 4, 1, file) == 1) {
        messages = realloc(messages, (message_count + 1) * sizeof *messages);
        if (!messages) fail("memory");
        messages[message_count] = (struct message){.bytes = malloc(length)};
        if (!messages[message_count].bytes) fail("memory");
        messages[message_count].length = length;
        if (fread(messages[message_count].bytes, 1, length, file) != length) fail("a request is cut off");
        message_count++;
    }
    fclose(file);
    if (!message_count) fail("no requests");
}

static void write_answers(const char *path) {
    FILE *file = fopen(path, "wb");
    if (!file) fail(path);
    for (uint32_t i = 0; i < message_count; i++) {
        uint32_t length = (uint32_t)messages[i].answer_length;
        fwrite(&length, 4, 1, file);
        fwrite(messages[i].answer, 1, length, file);
    }
    if (fclose(file) != 0) fail(path);
}

static void print_histograms(const char *name, uint64_t histograms[OUTCOMES][BUCKETS]) {
    printf(", \"%s\": {", name);
    for (int o = 0; o < OUTCOMES; o++) {
        const char *between = "";
        printf("%s\"%s\": [", o ? ", " : "", outcome_names[o]);
        for (int i = 0; i < BUCKETS; i++)
            if (histograms[o][i]) { printf("%s[%d, %lu]", between, i, (unsigned long)histograms[o][i]); between = ", "; }
        printf("]");
    }
    printf("}");
}

static void print_result(nanos ended, int unfinished) {
    struct rusage used;
    const char *between = "";
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double)used.ru_utime.tv_sec + (double)used.ru_stime.tv_sec
        + ((double)used.ru_utime.tv_usec + (double)used.ru_stime.tv_usec) / 1e6;
    uint64_t due = 0;
    if (rate > 0) {
        uint64_t before = (uint64_t)((double)(window_from - started) * rate / 1e9);
        due = (uint64_t)((double)(window_to - started) * rate / 1e9);
        due = due > before ? due - before : 0;
    }
    printf("{\"seconds\": %.6f, \"sent\": %lu, \"due\": %lu, \"skipped\": %lu, \"unfinished\": %d, \"all_sent\": %lu, \"all_answered\": %lu",
        (double)(ended - window_from) / 1e9, (unsigned long)in_window_sent, (unsigned long)due, (unsigned long)skipped, unfinished,
        (unsigned long)sent_all, (unsigned long)answered_all);
    printf(", \"lost\": {\"connect\": %lu, \"closed\": %lu, \"unreadable\": %lu}", (unsigned long)lost_connect,
        (unsigned long)lost_closed, (unsigned long)lost_unreadable);
    printf(", \"cpu_seconds\": %.6f, \"statuses\": {", cpu);
    for (int i = 0; i < 1000; i++)
        if (statuses[i]) { printf("%s\"%d\": %lu", between, i, (unsigned long)statuses[i]); between = ", "; }
    printf("}, \"retry_after\": {\"count\": %lu, \"least\": %g, \"most\": %g, \"sum\": %g}", (unsigned long)retry_count,
        retry_count ? retry_least : 0, retry_most, retry_sum);
    print_histograms("latency", latency);
    print_histograms("service", service);
    printf("}\n");
}

static void wait_for_events(int timer, nanos moment, nanos until, int broken) {
    static struct epoll_event events[EVENTS];
    nanos wake = until;
    if (rate > 0 && idle_count > 0 && moment < window_to) {
        nanos due = started + (nanos)((double)arrivals * 1e9 / rate);
        if (due < wake) wake = due;
    }
    if (broken && moment + RECONNECT_NS / 4 < wake) wake = moment + RECONNECT_NS / 4;
    int wait = -1;
    if (wake <= moment) wait = 0;
    else {
        struct itimerspec when = {.it_value = {(time_t)(wake / 1000000000ull), (long)(wake % 1000000000ull)}};
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
    }
    int n = epoll_wait(poller, events, EVENTS, wait);
    for (int i = 0; i < n; i++) {
        if (events[i].data.ptr) react(events[i].data.ptr, events[i].events);
        else {
            uint64_t expirations;
            if (read(timer, &expirations, sizeof expirations) < 0 && errno != EAGAIN) fail("timer");
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 11 && argc != 12) {
        fprintf(stderr, "usage: generator PROTOCOL PORT REQUESTS CONNECTIONS WARM SECONDS RATE LATE GRACE ANSWERS [JOURNAL]\n");
        return 2;
    }
    if (argc == 12) {
        journal = fopen(argv[11], "wb");
        /* Small pieces: while a large one is written, nothing is sent. */
        if (!journal || setvbuf(journal, NULL, _IOFBF, 1 << 16) != 0) fail(argv[11]);
    }
    grpc = strcmp(argv[1], "grpc") == 0;
    port = atoi(argv[2]);
    read_messages(argv[3]);
    connection_count = atoi(argv[4]);
    rate = atof(argv[7]);
    late = (nanos)(atof(argv[8]) * 1e9);
    nanos grace = (nanos)(atof(argv[9]) * 1e9);
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    connections = calloc((size_t)connection_count, sizeof *connections);
    idle = calloc((size_t)connection_count, sizeof *idle);
    if (!connections || !idle) fail("memory");
    poller = epoll_create1(EPOLL_CLOEXEC);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event ticking = {.events = EPOLLIN, .data.ptr = NULL};
    if (poller < 0 || timer < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, timer, &ticking) != 0) fail("epoll");
    for (int i = 0; i < connection_count; i++) open_connection(&connections[i]);
    started = now();
    window_from = started + (nanos)(atof(argv[5]) * 1e9);
    window_to = window_from + (nanos)(atof(argv[6]) * 1e9);
    for (;;) {
        nanos moment = now();
        if (told_to_stop && moment < window_to) window_to = moment > window_from ? moment : window_from + 1;
        if (moment >= window_to + grace || (moment >= window_to && !under_way())) break;
        int broken = reopen(moment);
        send_due(moment);
        wait_for_events(timer, moment, moment < window_to ? window_to : window_to + grace, broken);
    }
    write_answers(argv[10]);
    if (journal && fclose(journal) != 0) fail("the journal");
    print_result(window_to, under_way());
    return 0;
}
