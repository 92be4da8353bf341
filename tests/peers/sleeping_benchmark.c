/* A benchmark_model whose models take a known time: an inference sleeps.
 *
 * 0.5 ms, or what the --graph file says when it starts with "sleep_us=". It costs next to nothing
 * under qemu, so that what is left of a run's time is the tool's own.
 */
#include "benchmark_common.h"

static struct timespec duration = {.tv_nsec = 500000};

static int load_model(const Flags *flags) {
  char text[64] = "";
  FILE *file = fopen(flags->graph, "rb");
  if (file == NULL) {
    fprintf(stderr, "ERROR: Could not open '%s'.\n", flags->graph);
    return 1;
  }
  size_t length = fread(text, 1, sizeof text - 1, file);
  text[length] = '\0';
  fclose(file);
  const char *label = "sleep_us=";
  if (strncmp(text, label, strlen(label)) == 0) {
    long us = strtol(text + strlen(label), NULL, 10);
    duration = (struct timespec){.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
  }
  return 0;
}

static int run_model(void) { return nanosleep(&duration, NULL); }
