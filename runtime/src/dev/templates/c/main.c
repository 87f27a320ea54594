#include "mayfly.h"

/* "Hello Ada, from C" for the query name=Ada. */
static const char *greeting(const char *query) {
    static char text[256];
    if (strncmp(query, "name=", 5) != 0) return "Hello from C\n";
    snprintf(text, sizeof text, "Hello %.200s, from C\n", query + 5);
    return text;
}

/* A request's body as the response's: it goes out as it comes in. */
static void echo(void) {
    static char bytes[16384];
    mayfly_response head = mayfly_head(200);
    if (mayfly_send(&head, NULL, 0) != 0) return;
    for (int32_t n; (n = mayfly_read(bytes, sizeof bytes)) > 0;)
        if (mayfly_write(bytes, (size_t)n) != 0) return;
}

static void lines(void) {
    mayfly_response head = mayfly_head(200);
    mayfly_set(&head, "content-type", "text/plain; charset=utf-8");
    if (mayfly_send(&head, NULL, 0) != 0) return;
    for (int n = 1; n <= 3; n++) {
        char line[16];
        int len = snprintf(line, sizeof line, "line %d\n", n);
        if (mayfly_write(line, (size_t)len) != 0) return;
    }
}

static void handle(mayfly_request *request) {
    bool root = strcmp(request->path, "/") == 0;
    if (root && strcmp(request->method, "POST") == 0)
        echo();
    else if (root)
        mayfly_text(200, greeting(request->query));
    else if (strcmp(request->path, "/lines") == 0)
        lines();
    else
        mayfly_error(404, "no such page");
}

MAYFLY_EXPORT(handle)
