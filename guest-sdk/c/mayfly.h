/* The SDK for C: one file, to be included once. What each call does is in docs/abi.md.
 *
 *     static void hello(mayfly_request *request) {
 *         mayfly_text(200, "Hello from a fresh sandbox\n");
 *     }
 *     MAYFLY_EXPORT(hello)
 *
 *     clang --target=wasm32-wasi -O2 -mexec-model=reactor -Wl,--strip-all -o hello.wasm main.c
 *
 * Nothing is ever freed: an instance ends with its request, and its memory with it. stdout and stderr are the log.
 */
#ifndef MAYFLY_H
#define MAYFLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAYFLY_IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#define MAYFLY_EXPORTED(name) __attribute__((export_name(name), used))

MAYFLY_IMPORT("mayfly_http_v1", "request_head") int32_t mayfly_import_head(void *to, size_t cap);
MAYFLY_IMPORT("mayfly_http_v1", "request_body_read") int32_t mayfly_import_read(void *to, size_t cap);
MAYFLY_IMPORT("mayfly_http_v1", "response_start")
int32_t mayfly_import_start(const void *head, size_t head_len, const void *body, size_t len);
MAYFLY_IMPORT("mayfly_http_v1", "response_write") int32_t mayfly_import_write(const void *from, size_t len);
/* Notes the time since the request's arrival under an id, 0 to 7, for `Server-Timing`. */
MAYFLY_IMPORT("mayfly_http_v1", "mark") void mayfly_mark(int32_t id);

MAYFLY_IMPORT("mayfly_fetch_v1", "fetch")
int32_t mayfly_import_fetch(const void *call, size_t call_len, const void *body, size_t len);
MAYFLY_IMPORT("mayfly_fetch_v1", "head") int32_t mayfly_import_answer(int32_t call, void *to, size_t cap);
MAYFLY_IMPORT("mayfly_fetch_v1", "read") int32_t mayfly_fetch_read(int32_t call, void *to, size_t cap);
MAYFLY_IMPORT("mayfly_fetch_v1", "pipe") int32_t mayfly_fetch_pipe(int32_t call);
MAYFLY_IMPORT("mayfly_fetch_v1", "drop") void mayfly_fetch_drop(int32_t call);
MAYFLY_IMPORT("mayfly_fetch_v1", "fetch_error") int32_t mayfly_import_words(int32_t call, void *to, size_t cap);

/* The client is gone; every other negative answer is a mistake in the order of calls. */
#define MAYFLY_CLOSED (-2)
#define MAYFLY_MAX_HEAD (96 * 1024)

typedef struct {
    const char *name; /* In lower case. */
    const char *value;
} mayfly_header;

/* The request, and what the host knows beyond it. `query` is empty if there is none. */
typedef struct {
    const char *method, *path, *query;
    const char *base, *scheme, *authority, *remote, *request_id;
    int version; /* 10, 11 or 20 */
    size_t header_count;
    const mayfly_header *headers;
} mayfly_request;

/* The head of a response, as it goes to the host. */
typedef struct {
    size_t len;
    bool full; /* A header did not fit. */
    uint8_t bytes[2048];
} mayfly_response;

/* The value of a header, named in lower case; NULL if there is none. */
static inline const char *mayfly_get(const mayfly_request *request, const char *name) {
    for (size_t i = 0; i < request->header_count; i++)
        if (strcmp(request->headers[i].name, name) == 0) return request->headers[i].value;
    return NULL;
}

/* Waits for bytes of the request's body and copies up to `cap`; 0 is the end, -1 says that the client broke off. */
static inline int32_t mayfly_read(void *to, size_t cap) { return mayfly_import_read(to, cap); }

/* The whole body, with a NUL behind it; NULL if it has more than `cap` bytes, or the client broke off. */
static inline char *mayfly_body(size_t cap, size_t *len) {
    size_t size = 4096, used = 0;
    char *bytes = malloc(size + 1);
    for (int32_t n = 1; bytes; used += (size_t)n) {
        if (used == size) bytes = realloc(bytes, (size *= 2) + 1);
        if (!bytes || (n = mayfly_import_read(bytes + used, size - used)) < 0) return NULL;
        if (n == 0) break;
        if (used + (size_t)n > cap) return NULL;
    }
    if (!bytes) return NULL;
    bytes[used] = 0;
    if (len) *len = used;
    return bytes;
}

static inline void mayfly_put16(uint8_t *to, size_t value) {
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
}

static inline mayfly_response mayfly_head(int status) {
    mayfly_response head = {.len = 4, .full = false, .bytes = {0}};
    mayfly_put16(head.bytes, (size_t)status);
    return head;
}

/* Adds a header; its name is in lower case. */
static inline void mayfly_set(mayfly_response *head, const char *name, const char *value) {
    size_t lengths[2] = {strlen(name), strlen(value)};
    if (head->len + 4 + lengths[0] + lengths[1] > sizeof head->bytes) {
        head->full = true;
        return;
    }
    const char *texts[2] = {name, value};
    for (int i = 0; i < 2; i++) {
        mayfly_put16(head->bytes + head->len, lengths[i]);
        memcpy(head->bytes + head->len + 2, texts[i], lengths[i]);
        head->len += 2 + lengths[i];
    }
    mayfly_put16(head->bytes + 2, (head->bytes[2] | (size_t)head->bytes[3] << 8) + 1);
}

/* Sends the head and the body's first bytes, or all of them; then mayfly_write sends more. 0, or why not. */
static inline int32_t mayfly_send(const mayfly_response *head, const void *body, size_t len) {
    if (head->full) {
        fputs("mayfly: the response's headers have more than 2 KiB\n", stderr);
        exit(1);
    }
    return mayfly_import_start(head->bytes, head->len, body, len);
}

/* Sends more of the body, at once; waits while the client is slow. 0, or MAYFLY_CLOSED: end then. */
static inline int32_t mayfly_write(const void *from, size_t len) { return mayfly_import_write(from, len); }

/* A whole response of text. */
static inline int32_t mayfly_text(int status, const char *text) {
    mayfly_response head = mayfly_head(status);
    mayfly_set(&head, "content-type", "text/plain; charset=utf-8");
    return mayfly_send(&head, text, strlen(text));
}

/* A whole response of JSON. */
static inline int32_t mayfly_json(int status, const char *text) {
    mayfly_response head = mayfly_head(status);
    mayfly_set(&head, "content-type", "application/json");
    return mayfly_send(&head, text, strlen(text));
}

/* An error that the client sees, as RFC 9457 has it; the detail has neither quotation marks nor backslashes. */
static inline int32_t mayfly_error(int status, const char *detail) {
    char text[1024];
    snprintf(text, sizeof text, "{\"status\":%d,\"detail\":\"%s\"}", status, detail);
    mayfly_response head = mayfly_head(status);
    mayfly_set(&head, "content-type", "application/problem+json");
    return mayfly_send(&head, text, strlen(text));
}

/* The next text of a frame, which becomes a C string: the byte behind it is of a length that has been read. */
static inline const char *mayfly_next(uint8_t **at, uint8_t **end_of_last) {
    size_t len = (*at)[0] | (size_t)(*at)[1] << 8;
    if (*end_of_last) **end_of_last = 0;
    const char *text = (const char *)*at + 2;
    *at += 2 + len;
    *end_of_last = *at;
    return text;
}

/* Fetches the request's head. */
static inline mayfly_request mayfly_receive(void) {
    mayfly_request request = {.query = ""};
    size_t cap = 2048;
    uint8_t *frame = malloc(cap + 1);
    size_t len = (size_t)mayfly_import_head(frame, cap);
    if (len > cap) {
        frame = malloc(len + 1);
        mayfly_import_head(frame, len);
    }
    uint8_t *at = frame, *last = NULL;
    const char **fields[] = {&request.method, &request.path, &request.base, &request.scheme,
                             &request.authority, &request.remote, &request.request_id};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) *fields[i] = mayfly_next(&at, &last);
    request.version = *at;
    *last = 0;
    request.header_count = at[1] | (size_t)at[2] << 8;
    at += 3;
    last = NULL;
    mayfly_header *headers = malloc((request.header_count + 1) * sizeof *headers);
    for (size_t i = 0; i < request.header_count; i++) {
        headers[i].name = mayfly_next(&at, &last);
        headers[i].value = mayfly_next(&at, &last);
    }
    if (last) *last = 0;
    request.headers = headers;
    char *query = strchr(request.path, '?');
    if (query) {
        *query = 0;
        request.query = query + 1;
    }
    return request;
}

/* An answer to a call. */
typedef struct {
    int32_t call;
    int status;
    size_t header_count;
    const mayfly_header *headers;
} mayfly_answer;

/* Calls a URL that the deploy allows (`--outbound`); `headers` may be NULL. Starts the call and gives its number, or a
 * negative one that says why not. Several can be under way: start them, then ask for their answers. */
static inline int32_t mayfly_fetch(const char *method, const char *url, const mayfly_header *headers, size_t header_count,
                                   const void *body, size_t len, uint32_t timeout_ms) {
    size_t size = 16 + strlen(method) + strlen(url);
    for (size_t i = 0; i < header_count; i++) size += 4 + strlen(headers[i].name) + strlen(headers[i].value);
    uint8_t *frame = calloc(1, size), *at = frame;
    for (int i = 0; i < 2; i++) {
        const char *text = i ? url : method;
        mayfly_put16(at, strlen(text));
        memcpy(at + 2, text, strlen(text));
        at += 2 + strlen(text);
    }
    mayfly_put16(at, timeout_ms & 0xffff);
    mayfly_put16(at + 2, timeout_ms >> 16);
    mayfly_put16(at + 8, header_count);
    at += 10;
    for (size_t i = 0; i < 2 * header_count; i++) {
        const char *text = i % 2 ? headers[i / 2].value : headers[i / 2].name;
        mayfly_put16(at, strlen(text));
        memcpy(at + 2, text, strlen(text));
        at += 2 + strlen(text);
    }
    return mayfly_import_fetch(frame, (size_t)(at - frame), body, len);
}

/* Waits for the head of an answer. 0, or a negative number that says why there is none. */
static inline int32_t mayfly_fetch_answer(int32_t call, mayfly_answer *answer) {
    size_t cap = 2048;
    uint8_t *frame = malloc(cap + 1);
    int32_t len = mayfly_import_answer(call, frame, cap);
    if (len > (int32_t)cap) {
        frame = malloc((size_t)len + 1);
        len = mayfly_import_answer(call, frame, (size_t)len);
    }
    if (len < 0) return len;
    answer->call = call;
    answer->status = frame[0] | frame[1] << 8;
    answer->header_count = frame[2] | (size_t)frame[3] << 8;
    mayfly_header *headers = malloc((answer->header_count + 1) * sizeof *headers);
    uint8_t *at = frame + 4, *last = NULL;
    for (size_t i = 0; i < answer->header_count; i++) {
        headers[i].name = mayfly_next(&at, &last);
        headers[i].value = mayfly_next(&at, &last);
    }
    if (last) *last = 0;
    answer->headers = headers;
    return 0;
}

/* Why a call failed, in words; with -1, why the last one could not be started. */
static inline const char *mayfly_fetch_words(int32_t call) {
    char *words = calloc(1, 1024);
    mayfly_import_words(call, words, 1023);
    return words;
}

/* Makes a function, `void handle(mayfly_request *)`, what this module exports. Once in a module. */
#define MAYFLY_EXPORT(handle)                                       \
    MAYFLY_EXPORTED("mayfly_abi_1") void mayfly_abi_1(void) {}      \
    MAYFLY_EXPORTED("mayfly_handle") void mayfly_handle(void) {     \
        mayfly_request request = mayfly_receive();                  \
        handle(&request);                                           \
    }

/* Runs a function, `void init(void)`, once, at deploy: each request starts from a copy of the memory that it leaves. */
#define MAYFLY_INIT(init) \
    MAYFLY_EXPORTED("mayfly_init") void mayfly_init(void) { init(); }

#endif
