/* What the benchmark's runs execute: sleeps, and appends "NAME SLOT STARTED ENDED", in nanoseconds since boot, to a file.

   recorder FILE SECONDS NAME SLOT */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long long now(void) {
    struct timespec at;
    clock_gettime(CLOCK_BOOTTIME, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

int main(int argc, char **argv) {
    long long started = now();
    if (argc != 5)
        return 2;
    double seconds = atof(argv[2]);
    struct timespec left = {(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9)};
    while (nanosleep(&left, &left) != 0)
        ;
    int file = open(argv[1], O_WRONLY | O_APPEND | O_CREAT, 0666);
    char line[512];
    int length = snprintf(line, sizeof line, "%s %s %lld %lld\n", argv[3], argv[4], started, now());
    return write(file, line, length) == length ? 0 : 1; /* one write of less than a page: lines do not mix */
}
