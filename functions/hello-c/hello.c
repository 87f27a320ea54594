/* The smallest function in C: a WASI command that speaks CGI/1.1.
 *
 *     clang --target=wasm32-wasi -O2 -Wl,--strip-all -o hello-c.wasm hello.c
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

int main(void) {
    fputs("Content-Type: text/plain; charset=utf-8\n\n", stdout);
    if (strcmp(variable("QUERY_STRING"), "stream") != 0) {
        printf("Hello from C, %s\n", variable("REMOTE_ADDR"));
        return 0;
    }
    const struct timespec pause = {.tv_nsec = 100 * 1000 * 1000};
    for (int n = 1; n <= 3; n++) {
        printf("line %d\n", n);
        /* stdout is buffered when it is no terminal: the client sees a line when it is flushed. */
        fflush(stdout);
        nanosleep(&pause, NULL);
    }
    return 0;
}
