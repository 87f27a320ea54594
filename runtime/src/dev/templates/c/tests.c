/* Run in the sandbox by `mayfly test`. */
#include <assert.h>

#include "main.c"

int main(void) {
    assert(strcmp(greeting(""), "Hello from C\n") == 0);
    assert(strcmp(greeting("name=Ada"), "Hello Ada, from C\n") == 0);
    puts("2 greetings are right");
    return 0;
}
