/* Requests and answers of the test programs on the host: words on a line, bytes in hexadecimal. */
#ifndef HOST_LINES_H
#define HOST_LINES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline void give_up(const char *why) {
  fprintf(stderr, "bad request: %s\n", why);
  exit(2);
}

/* The next word of the request that strtok() has begun. */
static inline const char *word(void) {
  const char *next = strtok(NULL, " \n");
  if (!next) give_up("a word is missing");
  return next;
}

static inline uint32_t number(void) { return (uint32_t)strtoll(word(), NULL, 0); }

/* "-" is no byte at all. The bytes are exactly as long as they are, so that a sanitizer sees more. */
static inline uint8_t *bytes(size_t *size) {
  const char *text = word();
  *size = strcmp(text, "-") == 0 ? 0 : strlen(text) / 2;
  uint8_t *data = malloc(*size ? *size : 1);
  for (size_t i = 0; i < *size; i++) {
    unsigned value;
    if (sscanf(text + 2 * i, "%2x", &value) != 1) give_up(text);
    data[i] = (uint8_t)value;
  }
  return data;
}

static inline char *text(void) {
  size_t size;
  uint8_t *data = bytes(&size);
  char *string = malloc(size + 1);
  memcpy(string, data, size);
  string[size] = 0;
  free(data);
  return string;
}

static inline float real(void) {
  const uint32_t bits = number();
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

#endif
