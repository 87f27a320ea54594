/* Read before each file of QuickJS. It has no limit of its stack where __wasi__ is defined, so that a recursion would end
   in a trap and not in a RangeError. libc's headers want it to be defined, so they come first. */
#include <assert.h>
#include <ctype.h>
#include <fcntl.h>
#include <fenv.h>
#include <float.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#undef __wasi__
/* With this it still asks malloc how large its blocks are, to know how much memory it has. */
#define __GLIBC__ 2
