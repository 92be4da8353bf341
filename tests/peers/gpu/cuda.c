/* NVIDIA's libcuda.so.1 from outside: what lutra asks of it, answered from a script.
 *
 * $CUDA_SCRIPT names a file of key=value lines that is read afresh at every call. A function's own
 * name as key is the code that it returns; with FUNCTION_after it does so only after that many
 * calls that succeeded. Every call is a line in the file `calls`. Events take CLOCK_MONOTONIC; with
 * `tick_ms` each one lies that much after the last. Other keys: version, devices, l2.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "script.h"

enum { SUCCESS, INVALID_VALUE, NOT_INITIALIZED = 3, INVALID_DEVICE = 101, INVALID_HANDLE = 400 };
enum { FUNCTIONS = 64, L2_CACHE_SIZE = 38, EVENT = 0x5eed, STREAM = 0x57ea };

typedef struct { int kind; int recorded; double ms; } Object;
typedef struct { char name[64]; long calls; } Count;

static int initialised, current;
static double ticked_ms;
static Count counts[FUNCTIONS];

static int look_up(const char *key, char *value) {
  return scripted("CUDA_SCRIPT", key, value);
}

static double number(const char *key, double otherwise) {
  char value[LINE];
  return look_up(key, value) ? strtod(value, NULL) : otherwise;
}

static void log_call(const char *function) {
  char path[LINE];
  FILE *file = look_up("calls", path) ? fopen(path, "a") : NULL;
  if (file != NULL) {
    fprintf(file, "%s\n", function);
    fclose(file);
  }
}

static long calls_of(const char *function) {
  Count *count = counts;
  while (count->name[0] && strcmp(count->name, function) != 0)
    if (++count == counts + FUNCTIONS)
      abort();
  snprintf(count->name, sizeof count->name, "%s", function);
  return ++count->calls;
}

/* Logs the call; the code with which it fails before it does anything, or SUCCESS. */
static int begin(const char *function) {
  char after[128];
  int code = (int)number(function, SUCCESS);
  long calls = calls_of(function);
  snprintf(after, sizeof after, "%s_after", function);
  log_call(function);
  if (code != SUCCESS && calls > (long)number(after, 0))
    return code;
  return initialised || strcmp(function, "cuInit") == 0 ? SUCCESS : NOT_INITIALIZED;
}

#define BEGIN() do { int code_ = begin(__func__); if (code_ != SUCCESS) return code_; } while (0)

int cuInit(unsigned flags) {
  BEGIN();
  initialised = flags == 0;
  return initialised ? SUCCESS : INVALID_VALUE;
}

int cuDriverGetVersion(int *version) {
  BEGIN();
  *version = (int)number("version", 13000);
  return SUCCESS;
}

int cuDeviceGetCount(int *count) {
  BEGIN();
  *count = (int)number("devices", 1);
  return SUCCESS;
}

int cuDeviceGet(int *device, int ordinal) {
  BEGIN();
  if (ordinal < 0 || ordinal >= (int)number("devices", 1))
    return INVALID_DEVICE;
  *device = ordinal;
  return SUCCESS;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
  BEGIN();
  (void)device;
  *value = (int)number("l2", 50 << 20);
  return attribute == L2_CACHE_SIZE ? SUCCESS : INVALID_VALUE;
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
  BEGIN();
  *context = (void *)((uintptr_t)device + 1);
  return SUCCESS;
}

int cuDevicePrimaryCtxRelease_v2(int device) {
  BEGIN();
  (void)device;
  return SUCCESS;
}

int cuCtxSetCurrent(void *context) {
  BEGIN();
  current = context != NULL;
  return SUCCESS;
}

static int make(void **made, int kind) {
  Object *object = calloc(1, sizeof *object);
  if (object == NULL || !current)
    return NOT_INITIALIZED;
  object->kind = kind;
  *made = object;
  return SUCCESS;
}

static int is(void *object, int kind) { return object != NULL && ((Object *)object)->kind == kind; }

static int drop(void *object, int kind) {
  if (!is(object, kind))
    return INVALID_HANDLE;
  ((Object *)object)->kind = 0; /* not freed: a use afterwards is to be seen */
  return SUCCESS;
}

int cuStreamCreate(void **stream, unsigned flags) {
  BEGIN();
  (void)flags;
  return make(stream, STREAM);
}

int cuStreamSynchronize(void *stream) {
  BEGIN();
  return is(stream, STREAM) ? SUCCESS : INVALID_HANDLE;
}

int cuStreamDestroy_v2(void *stream) {
  BEGIN();
  return drop(stream, STREAM);
}

int cuEventCreate(void **event, unsigned flags) {
  BEGIN();
  (void)flags;
  return make(event, EVENT);
}

int cuEventRecord(void *event, void *stream) {
  struct timespec now;
  double tick = number("tick_ms", 0);
  BEGIN();
  if (!is(event, EVENT) || !is(stream, STREAM))
    return INVALID_HANDLE;
  clock_gettime(CLOCK_MONOTONIC, &now);
  ticked_ms += tick;
  ((Object *)event)->ms = tick > 0 ? ticked_ms : now.tv_sec * 1e3 + now.tv_nsec / 1e6;
  ((Object *)event)->recorded = 1;
  return SUCCESS;
}

int cuEventSynchronize(void *event) {
  BEGIN();
  return is(event, EVENT) ? SUCCESS : INVALID_HANDLE;
}

static int elapsed(float *ms, void *start, void *end) {
  if (!is(start, EVENT) || !is(end, EVENT))
    return INVALID_HANDLE;
  if (!((Object *)start)->recorded || !((Object *)end)->recorded)
    return INVALID_HANDLE;
  *ms = (float)(((Object *)end)->ms - ((Object *)start)->ms);
  return SUCCESS;
}

int cuEventElapsedTime(float *ms, void *start, void *end) {
  BEGIN();
  return elapsed(ms, start, end);
}

#ifndef BEFORE_12_8
int cuEventElapsedTime_v2(float *ms, void *start, void *end) {
  BEGIN();
  return elapsed(ms, start, end);
}
#endif

int cuEventDestroy_v2(void *event) {
  BEGIN();
  return drop(event, EVENT);
}

/* As NVIDIA's header has them. */
static const struct { int code; const char *name, *text; } errors[] = {
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {34, "CUDA_ERROR_STUB_LIBRARY", "CUDA driver is a stub library"},
    {46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {214, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {802, "CUDA_ERROR_SYSTEM_NOT_READY", "system not yet initialized"},
    {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
     "system has unsupported display driver / cuda driver combination"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

static int find(int code) {
  for (size_t index = 0; index < sizeof errors / sizeof *errors; index++)
    if (errors[index].code == code)
      return (int)index;
  return -1;
}

int cuGetErrorName(int code, const char **name) {
  int index = find(code);
  *name = index < 0 ? NULL : errors[index].name;
  return index < 0 ? INVALID_VALUE : SUCCESS;
}

int cuGetErrorString(int code, const char **text) {
  int index = find(code);
  *text = index < 0 ? NULL : errors[index].text;
  return index < 0 ? INVALID_VALUE : SUCCESS;
}
