/* The script of a library that does as it is told: key=value lines, read afresh at every call. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 4096 };

/* The key's value in the file that the environment variable names; aborts where there is none. */
static int scripted(const char *variable, const char *key, char *value) {
  const char *path = getenv(variable);
  FILE *file = path == NULL ? NULL : fopen(path, "r");
  char line[LINE];
  int found = 0;
  if (file == NULL) {
    fprintf(stderr, "scripted library: %s names no file\n", variable);
    abort();
  }
  while (!found && fgets(line, LINE, file) != NULL) {
    size_t length = strlen(key);
    if (strncmp(line, key, length) == 0 && line[length] == '=') {
      line[strcspn(line, "\n")] = 0;
      strcpy(value, line + length + 1);
      found = 1;
    }
  }
  fclose(file);
  return found;
}
