/* NVIDIA's libnvidia-ml.so.1 from outside: what lutra asks of it, answered from a script.
 *
 * $NVML_SCRIPT names a file of key=value lines that is read afresh at every call, so a card changes
 * its state when the file is replaced. For GPU 1, key_1 goes before key. A card does not support
 * what has no key. A function's own name as key is the code that it returns.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "script.h"

enum {
  SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
  GPU_IS_LOST = 15, VERSION_MISMATCH = 25,
};
enum { SYSTEM = -1, MOST_PROCESSES = 64, GRAPHICS = 0, SM, MEMORY };
static const unsigned TEMPERATURE_V1 = 0x100000C;

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned version, sensor; int temperature; } Temperature;
typedef struct { unsigned pid; unsigned long long used; unsigned instance, compute; } Process;

static int users; /* nvmlInit less nvmlShutdown */

static int look_up(const char *key, char *value) {
  return scripted("NVML_SCRIPT", key, value);
}

static int get(int index, const char *key, char *value) {
  char own[128];
  snprintf(own, sizeof own, "%s_%d", key, index);
  return (index != SYSTEM && look_up(own, value)) || look_up(key, value);
}

static unsigned long long number(int index, const char *key, int base) {
  char value[LINE];
  return get(index, key, value) ? strtoull(value, NULL, base) : 0;
}

/* Whether a comma-separated list names the function, with or without its version. */
static int listed(const char *list, const char *function) {
  for (const char *name = list; *name; name += *name == ',') {
    size_t length = strcspn(name, ",");
    const char *rest = function + length;
    if (length && strncmp(name, function, length) == 0 && (!*rest || !strncmp(rest, "_v", 2)))
      return 1;
    name += length;
  }
  return 0;
}

/* The code with which the function fails before it looks at anything else, or SUCCESS. */
static int refused(const char *function, int index) {
  char value[LINE];
  if (!users)
    return UNINITIALIZED;
  if (get(index, function, value))
    return atoi(value);
  if (get(index, "unsupported", value) && listed(value, function))
    return NOT_SUPPORTED;
  return index != SYSTEM && number(index, "lost", 10) ? GPU_IS_LOST : SUCCESS;
}

static int at(void *device) { return (int)(uintptr_t)device - 1; }

static int give_text(const char *function, int index, const char *key, char *to, unsigned size) {
  char value[LINE];
  int code = refused(function, index);
  if (code != SUCCESS)
    return code;
  if (!get(index, key, value))
    return NOT_SUPPORTED;
  if (strlen(value) >= size)
    return INSUFFICIENT_SIZE;
  strcpy(to, value);
  return SUCCESS;
}

static int give_wide(const char *function, int index, const char *key, int base,
                     unsigned long long *to) {
  char value[LINE];
  int code = refused(function, index);
  if (code != SUCCESS)
    return code;
  if (!get(index, key, value))
    return NOT_SUPPORTED;
  *to = strtoull(value, NULL, base);
  return SUCCESS;
}

static int give(const char *function, int index, const char *key, unsigned *to) {
  unsigned long long wide;
  int code = give_wide(function, index, key, 10, &wide);
  if (code == SUCCESS)
    *to = (unsigned)wide;
  return code;
}

static int start(const char *function) {
  char value[LINE];
  int code = look_up(function, value) ? atoi(value) : (int)number(SYSTEM, "init", 10);
  users += code == SUCCESS;
  return code;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return start(__func__); }

int nvmlInit_v2(void) { return start(__func__); }

int nvmlShutdown(void) {
  int code = refused(__func__, SYSTEM);
  users -= code == SUCCESS;
  return code;
}

const char *nvmlErrorString(int code) {
  static char text[64];
  snprintf(text, sizeof text, "scripted error %d", code);
  return text;
}

int nvmlSystemGetDriverVersion(char *to, unsigned size) {
  return give_text(__func__, SYSTEM, "driver", to, size);
}

int nvmlSystemGetCudaDriverVersion(int *to) {
  return give(__func__, SYSTEM, "cuda_version", (unsigned *)to);
}

/* names=pid:name,pid:name */
int nvmlSystemGetProcessName(unsigned pid, char *to, unsigned size) {
  char value[LINE], start_of_name[32];
  int code = refused(__func__, SYSTEM);
  if (code != SUCCESS)
    return code;
  snprintf(start_of_name, sizeof start_of_name, "%u:", pid);
  if (get(SYSTEM, "names", value))
    for (char *name = strtok(value, ","); name != NULL; name = strtok(NULL, ","))
      if (strncmp(name, start_of_name, strlen(start_of_name)) == 0) {
        snprintf(to, size, "%s", name + strlen(start_of_name));
        return SUCCESS;
      }
  return NOT_FOUND;
}

int nvmlDeviceGetCount_v2(unsigned *to) { return give(__func__, SYSTEM, "gpus", to); }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
  int code = refused(__func__, (int)index);
  if (code != SUCCESS)
    return code;
  if (index >= number(SYSTEM, "gpus", 10))
    return INVALID_ARGUMENT;
  *device = (void *)((uintptr_t)index + 1);
  return SUCCESS;
}

int nvmlDeviceGetName(void *device, char *to, unsigned size) {
  return give_text(__func__, at(device), "name", to, size);
}

int nvmlDeviceGetUUID(void *device, char *to, unsigned size) {
  return give_text(__func__, at(device), "uuid", to, size);
}

int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
  char value[LINE];
  int code = give_text(__func__, at(device), "compute_capability", value, LINE);
  return code != SUCCESS || sscanf(value, "%d.%d", major, minor) == 2 ? code : NOT_SUPPORTED;
}

int nvmlDeviceGetNumGpuCores(void *device, unsigned *to) {
  return give(__func__, at(device), "cores", to);
}

int nvmlDeviceGetMemoryInfo(void *device, Memory *to) {
  int code = give_wide(__func__, at(device), "memory_total", 10, &to->total);
  if (code == SUCCESS)
    code = give_wide(__func__, at(device), "memory_free", 10, &to->free);
  to->used = to->total - to->free;
  return code;
}

int nvmlDeviceGetMaxClockInfo(void *device, unsigned type, unsigned *to) {
  const char *key = type == MEMORY ? "memory_clock_mhz" : "max_clock_mhz";
  return type > MEMORY ? INVALID_ARGUMENT : give(__func__, at(device), key, to);
}

int nvmlDeviceGetClockInfo(void *device, unsigned type, unsigned *to) {
  const char *key = type == MEMORY ? "memory_clock_mhz" : "clock_mhz";
  return type > MEMORY ? INVALID_ARGUMENT : give(__func__, at(device), key, to);
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *to) {
  return give(__func__, at(device), "power_mw", to);
}

int nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *to) {
  return give(__func__, at(device), "power_limit_mw", to);
}

int nvmlDeviceGetPowerManagementLimit(void *device, unsigned *to) {
  return give(__func__, at(device), "power_limit_mw", to);
}

int nvmlDeviceGetTemperatureV(void *device, Temperature *to) {
  if (to->version != TEMPERATURE_V1)
    return VERSION_MISMATCH;
  return give(__func__, at(device), "temperature_c", (unsigned *)&to->temperature);
}

int nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *to) {
  return sensor ? INVALID_ARGUMENT : give(__func__, at(device), "temperature_c", to);
}

int nvmlDeviceGetUtilizationRates(void *device, Utilization *to) {
  to->memory = 0;
  return give(__func__, at(device), "utilization_percent", &to->gpu);
}

int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *to) {
  return give_wide(__func__, at(device), "throttle", 16, to);
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *to) {
  return give_wide(__func__, at(device), "throttle", 16, to);
}

/* processes=pid:bytes,pid:- where "-" is memory that the driver does not know. */
static int give_processes(const char *function, int index, unsigned *count, Process *to) {
  Process found[MOST_PROCESSES];
  char value[LINE];
  unsigned seen = 0;
  int code = give_text(function, index, "processes", value, LINE);
  if (code != SUCCESS)
    return code;
  if (number(index, "own", 10) || getenv("NVML_OWN") != NULL)
    found[seen++] = (Process){(unsigned)getpid(), 512ULL << 20, ~0U, ~0U};
  for (char *one = strtok(value, ","); one != NULL && seen < MOST_PROCESSES;
       one = strtok(NULL, ",")) {
    char *used = strchr(one, ':');
    int known = used != NULL && used[1] != '-';
    unsigned long long bytes = known ? strtoull(used + 1, NULL, 10) : ~0ULL;
    found[seen++] = (Process){(unsigned)strtoul(one, NULL, 10), bytes, ~0U, ~0U};
  }
  int fits = *count >= seen;
  *count = seen;
  if (!fits)
    return INSUFFICIENT_SIZE;
  if (seen)
    memcpy(to, found, seen * sizeof *to);
  return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, Process *to) {
  return give_processes(__func__, at(device), count, to);
}

int nvmlDeviceGetComputeRunningProcesses_v2(void *device, unsigned *count, Process *to) {
  return give_processes(__func__, at(device), count, to);
}
