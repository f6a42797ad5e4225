/* What a real run of the campaign does: it says in the ledger that it began, lives and ended, with a child that has left
 * its session, as programs do. usage: working LEDGER KEY SECONDS */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_BOOTTIME, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static void say(int ledger, const char *kind, const char *key)
{
    char line[512];
    const char *job = getenv("LABMGR_JOB_ID");
    int length = snprintf(line, sizeof line, "{\"kind\": \"%s\", \"key\": \"%s\", \"job\": %s, \"pid\": %d, \"at\": %.3f}\n",
                          kind, key, job ? job : "0", getpid(), now());
    if (write(ledger, line, length) != length) /* one write: lines of several never mix */
        exit(2);
}

static void leave_a_child(int done[2])
{
    char byte;
    if (fork() != 0)
        return;
    setsid();
    if (fork() != 0)
        _exit(0);
    close(done[1]);
    while (read(done[0], &byte, 1) > 0) /* until its parent ends */
        ;
    _exit(0);
}

int main(int argc, char **argv)
{
    struct timespec tenth = {0, 100000000};
    int done[2], ledger = argc == 4 ? open(argv[1], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : -1;
    if (ledger < 0 || pipe(done) != 0)
        return 2;
    double ends_at = now() + atof(argv[3]);
    say(ledger, "begin", argv[2]);
    leave_a_child(done);
    while (now() < ends_at) {
        nanosleep(&tenth, NULL);
        say(ledger, "alive", argv[2]);
    }
    say(ledger, "end", argv[2]);
    return 0;
}
