/* TFLite's benchmark_model from outside: its flags, its loop and its lines (interpreter build).
 *
 * A program includes this and defines load_model, which runs once, and run_model, which is timed.
 * Both return 0, or say on stderr what is wrong and return anything else.
 */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

typedef struct {
  const char *graph;
  int num_runs, warmup_runs, num_threads;
  double min_secs, max_secs, warmup_min_secs;
  bool use_xnnpack;
} Flags;

static int load_model(const Flags *flags);
static int run_model(void);

static double now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

/* Flags ----------------------------------------------------------------------------------- */

static bool parse_int(const char *text, int *value) {
  char *end;
  *value = (int)strtol(text, &end, 10);
  return *text != '\0' && *end == '\0';
}

static bool parse_seconds(const char *text, double *value) {
  char *end;
  *value = strtod(text, &end);
  return *text != '\0' && *end == '\0';
}

static bool parse_bool(const char *text, bool *value) {
  *value = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;
  return *value || strcmp(text, "false") == 0 || strcmp(text, "0") == 0;
}

/* The text after "--NAME=", or NULL when the argument is another flag. */
static const char *value_of(const char *argument, const char *name) {
  size_t length = strlen(name);
  bool is_flag = strncmp(argument, "--", 2) == 0 && strncmp(argument + 2, name, length) == 0;
  return is_flag && argument[2 + length] == '=' ? argument + 3 + length : NULL;
}

typedef enum { UNKNOWN, GOOD, BAD } Parsed;

static Parsed parse_flag(const char *argument, Flags *flags) {
  struct { const char *name; int *value; } ints[] = {
      {"num_runs", &flags->num_runs},
      {"warmup_runs", &flags->warmup_runs},
      {"num_threads", &flags->num_threads}};
  struct { const char *name; double *value; } seconds[] = {
      {"min_secs", &flags->min_secs},
      {"max_secs", &flags->max_secs},
      {"warmup_min_secs", &flags->warmup_min_secs}};
  const char *text;
  for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
    if ((text = value_of(argument, ints[i].name)))
      return parse_int(text, ints[i].value) ? GOOD : BAD;
  for (size_t i = 0; i < sizeof seconds / sizeof *seconds; i++)
    if ((text = value_of(argument, seconds[i].name)))
      return parse_seconds(text, seconds[i].value) ? GOOD : BAD;
  if ((text = value_of(argument, "use_xnnpack")))
    return parse_bool(text, &flags->use_xnnpack) ? GOOD : BAD;
  if ((text = value_of(argument, "graph"))) {
    flags->graph = text;
    return GOOD;
  }
  return UNKNOWN;
}

/* An unknown flag is no error: the real program measures without it, too. */
static int parse_flags(int count, char **arguments, Flags *flags) {
  bool warned = false;
  for (int i = 1; i < count; i++) {
    Parsed parsed = parse_flag(arguments[i], flags);
    if (parsed == BAD) {
      fprintf(stderr, "ERROR: Couldn't interpret value of flag %s.\n", arguments[i]);
      return 1;
    }
    if (parsed == UNKNOWN) {
      printf("%s %s", warned ? "" : "WARN: Unconsumed cmdline flags:", arguments[i]);
      warned = true;
    }
  }
  if (warned) printf("\n");
  if (flags->graph == NULL) {
    fprintf(stderr, "ERROR: Please specify the name of your TF Lite input file with --graph\n");
    return 1;
  }
  return 0;
}

/* Measuring ------------------------------------------------------------------------------- */

/* Whole microseconds, as the real program keeps them. */
typedef struct {
  int64_t *values;
  size_t count, room;
} Times;

static int append(Times *times, int64_t value) {
  if (times->count == times->room) {
    size_t room = times->room ? 2 * times->room : 1024;
    int64_t *values = realloc(times->values, room * sizeof *values);
    if (values == NULL) {
      fprintf(stderr, "ERROR: out of memory\n");
      return 1;
    }
    times->values = values;
    times->room = room;
  }
  times->values[times->count++] = value;
  return 0;
}

static int measure(int runs, double min_secs, double max_secs, Times *times) {
  printf("INFO: Running benchmark for at least %d iterations and at least %g seconds but terminate"
         " if exceeding %g seconds.\n", runs, min_secs, max_secs);
  fflush(stdout);
  double now = now_us(), enough = now + min_secs * 1e6, limit = now + max_secs * 1e6;
  for (int run = 0; (run < runs || now < enough) && now <= limit; run++) {
    double start = now_us();
    if (run_model() != 0) return 1;
    now = now_us();
    if (append(times, (int64_t)(now - start)) != 0) return 1;
  }
  return 0;
}

static double average(const Times *times) {
  double sum = 0;
  for (size_t i = 0; i < times->count; i++) sum += times->values[i];
  return times->count ? sum / times->count : 0;
}

static int ascending(const void *left, const void *right) {
  int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
  return (a > b) - (a < b);
}

static void print_times(Times *times) {
  size_t count = times->count;
  if (count == 0) {
    printf("INFO: count=0\n\n");
    return;
  }
  int64_t first = times->values[0], last = times->values[count - 1];
  double mean = average(times), squares = 0;
  for (size_t i = 0; i < count; i++) squares += pow(times->values[i] - mean, 2);
  qsort(times->values, count, sizeof *times->values, ascending);
  const int64_t *sorted = times->values;
  if (sorted[0] == sorted[count - 1])
    printf("INFO: count=%zu curr=%lld%s\n\n", count, (long long)last,
           count > 1 ? "(all same)" : "");
  else
    printf("INFO: count=%zu first=%lld curr=%lld min=%lld max=%lld avg=%g std=%lld"
           " p5=%lld median=%lld p95=%lld\n\n",
           count, (long long)first, (long long)last, (long long)sorted[0],
           (long long)sorted[count - 1], mean, (long long)sqrt(squares / count),
           (long long)sorted[count * 5 / 100], (long long)sorted[count / 2],
           (long long)sorted[count * 95 / 100]);
}

static int benchmark(const Flags *flags) {
  double start = now_us();
  if (load_model(flags) != 0) return 1;
  int64_t init = (int64_t)(now_us() - start);
  struct stat status;
  if (stat(flags->graph, &status) == 0)
    printf("INFO: The input model file size (MB): %g\n", status.st_size / 1e6);
  printf("INFO: Initialized session in %gms.\n", init / 1e3);

  Times warmup = {0}, inference = {0};
  if (measure(flags->warmup_runs, flags->warmup_min_secs, flags->max_secs, &warmup) != 0) return 1;
  int64_t first = warmup.count ? warmup.values[0] : 0;
  print_times(&warmup);
  if (measure(flags->num_runs, flags->min_secs, flags->max_secs, &inference) != 0) return 1;
  print_times(&inference);
  printf("INFO: Inference timings in us: Init: %lld, First inference: %lld, Warmup (avg): %g,"
         " Inference (avg): %g\n",
         (long long)init, (long long)first, average(&warmup), average(&inference));
  free(warmup.values);
  free(inference.values);
  return 0;
}

int main(int count, char **arguments) {
  Flags flags = {.num_runs = 50, .warmup_runs = 1, .num_threads = 1, .min_secs = 1.0,
                 .max_secs = 150.0, .warmup_min_secs = 0.5, .use_xnnpack = true};
  printf("INFO: STARTING!\n");
  if (parse_flags(count, arguments, &flags) != 0) return 1;
  printf("INFO: Log parameter values verbosely: [0]\nINFO: Min num runs: [%d]\n"
         "INFO: Min runs duration (seconds): [%g]\nINFO: Num threads: [%d]\nINFO: Graph: [%s]\n",
         flags.num_runs, flags.min_secs, flags.num_threads, flags.graph);
  fflush(stdout);
  if (benchmark(&flags) != 0) {
    fflush(stdout);
    fprintf(stderr, "ERROR: Benchmarking failed.\n");
    return 1;
  }
  return 0;
}
