/* A stand-in for libnvidia-ml.so.1 under the real binding. What it says is in the text file that FAKE_NVML names, read
 * at every call; without one there is no driver. Lines, in any order:
 *
 *   init CODE                                          what nvmlInit returns
 *   gpu UUID TOTAL USED RESERVED UTIL TEMP MILLIWATTS ECC MIG       in MiB; the n-th such line is GPU n
 *   compute INDEX PID MIB                              a process; -1 MiB is "not available"
 *   graphics INDEX PID MIB
 *   fail INDEX WHAT CODE                               handle, uuid, memory, utilisation, temperature, power, ecc, mig, processes
 *
 * -DOLD_DRIVER leaves out what drivers of 2020 had not; -DNO_PROCESSES every list of processes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (1024ULL * 1024ULL)
#define NOT_AVAILABLE (~0ULL)
enum { OK = 0, INVALID = 2, NOT_FOUND = 6, SMALL = 7, NO_LIBRARY = 12 };

typedef struct { unsigned long long total, free, used; } memory_v1;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process;
typedef struct { unsigned gpu, memory; } utilisation;
typedef struct {
    char uuid[96];
    long long total, used, reserved, utilisation, temperature, milliwatts, ecc, mig;
} gpu;

static unsigned long index_of(void *handle) { return (unsigned long)handle - 1; }

static FILE *inventory(void) {
    const char *path = getenv("FAKE_NVML");
    return path ? fopen(path, "r") : NULL;
}

/* The code with which `what` of a GPU fails; of index -1: nvmlInit's. */
static int failure(long index, const char *what) {
    FILE *file = inventory();
    char line[512], named[64];
    long of;
    int code, found = OK;
    if (!file) return NO_LIBRARY;
    while (fgets(line, sizeof line, file)) {
        if (index < 0 && sscanf(line, "init %d", &code) == 1) found = code;
        if (sscanf(line, "fail %ld %63s %d", &of, named, &code) == 3 && of == index && !strcmp(named, what)) found = code;
    }
    fclose(file);
    return found;
}

static int read_gpu(unsigned long index, gpu *out) {
    FILE *file = inventory();
    char line[512];
    unsigned long count = 0;
    int found = NOT_FOUND;
    if (!file) return NO_LIBRARY;
    while (fgets(line, sizeof line, file)) {
        gpu one;
        if (sscanf(line, "gpu %95s %lld %lld %lld %lld %lld %lld %lld %lld", one.uuid, &one.total, &one.used, &one.reserved,
                   &one.utilisation, &one.temperature, &one.milliwatts, &one.ecc, &one.mig) == 9 && count++ == index) {
            *out = one;
            found = OK;
        }
    }
    fclose(file);
    return found;
}

static int told(void *handle, const char *what, gpu *out) {
    int code = failure(index_of(handle), what);
    return code ? code : read_gpu(index_of(handle), out);
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return failure(-1, "init"); }
int nvmlInit_v2(void) { return failure(-1, "init"); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { (void)code; return "an error of the fake library"; }

int nvmlSystemGetDriverVersion(char *version, unsigned length) { snprintf(version, length, "550.00"); return OK; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    gpu one;
    for (*count = 0; read_gpu(*count, &one) == OK; ++*count) {}
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    *handle = (void *)(unsigned long)(index + 1);
    gpu one;
    return told(*handle, "handle", &one);
}

int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    gpu one;
    for (unsigned long index = 0; read_gpu(index, &one) == OK; ++index)
        if (!strcmp(one.uuid, uuid)) return nvmlDeviceGetHandleByIndex_v2((unsigned)index, handle);
    return NOT_FOUND;
}

int nvmlDeviceGetIndex(void *handle, unsigned *index) { *index = (unsigned)index_of(handle); return OK; }
int nvmlDeviceGetName(void *handle, char *name, unsigned length) { (void)handle; snprintf(name, length, "NVIDIA H100 80GB HBM3"); return OK; }

int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned length) {
    gpu one;
    int code = told(handle, "uuid", &one);
    if (!code) snprintf(uuid, length, "%s", one.uuid);
    return code;
}

int nvmlDeviceGetMemoryInfo(void *handle, memory_v1 *memory) {
    gpu one;
    int code = told(handle, "memory", &one);
    if (code) return code;
    memory->total = one.total * MIB;
    memory->used = (one.used + one.reserved) * MIB;
    memory->free = memory->total - memory->used;
    return OK;
}

#ifndef OLD_DRIVER
int nvmlDeviceGetMemoryInfo_v2(void *handle, memory_v2 *memory) {
    gpu one;
    int code = told(handle, "memory", &one);
    if (code) return code;
    if (memory->version != 0x02000028) return 25;
    memory->total = one.total * MIB;
    memory->used = one.used * MIB;
    memory->reserved = one.reserved * MIB;
    memory->free = memory->total - memory->used - memory->reserved;
    return OK;
}

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    gpu one;
    int code = told(handle, "mig", &one);
    if (!code) *current = *pending = (unsigned)one.mig;
    return code;
}
#endif

int nvmlDeviceGetUtilizationRates(void *handle, utilisation *rates) {
    gpu one;
    int code = told(handle, "utilisation", &one);
    if (!code) rates->gpu = rates->memory = (unsigned)one.utilisation;
    return code;
}

int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *celsius) {
    gpu one;
    int code = told(handle, "temperature", &one);
    if (!code) *celsius = (unsigned)one.temperature;
    return sensor == 0 ? code : INVALID;
}

int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts) {
    gpu one;
    int code = told(handle, "power", &one);
    if (!code) *milliwatts = (unsigned)one.milliwatts;
    return code;
}

int nvmlDeviceGetTotalEccErrors(void *handle, int kind, int counter, unsigned long long *count) {
    gpu one;
    int code = told(handle, "ecc", &one);
    if (!code) *count = kind == 1 && counter == 0 ? (unsigned long long)one.ecc : 0;
    return code;
}

#ifndef NO_PROCESSES
static int list(void *handle, const char *kind, unsigned *count, process *out) {
    int code = failure(index_of(handle), "processes");
    char line[512], named[64];
    unsigned long of;
    unsigned found = 0, room = out ? *count : 0, pid;
    long long mib;
    if (code) return code;
    FILE *file = inventory();
    if (!file) return NO_LIBRARY;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%63s %lu %u %lld", named, &of, &pid, &mib) != 4 || strcmp(named, kind) || of != index_of(handle)) continue;
        if (found < room) out[found] = (process){pid, mib < 0 ? NOT_AVAILABLE : mib * MIB, ~0u, ~0u};
        found++;
    }
    fclose(file);
    *count = found;
    return found > room ? SMALL : OK;
}

int nvmlDeviceGetComputeRunningProcesses_v2(void *handle, unsigned *count, process *out) { return list(handle, "compute", count, out); }
int nvmlDeviceGetGraphicsRunningProcesses_v2(void *handle, unsigned *count, process *out) { return list(handle, "graphics", count, out); }
#ifndef OLD_DRIVER
int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, process *out) { return list(handle, "compute", count, out); }
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *count, process *out) { return list(handle, "graphics", count, out); }
#endif
#endif
