/*
 * The encoder and the command receiver of the firmware, on the host: one request a line on stdin,
 * one answer a line on stdout. Floats are given as the number that has their bits.
 *
 *   crc BYTES                                    -> the CRC
 *   payload BYTES                                -> its frame
 *   hello DEVICE PERIOD BOOT COUNT               -> its frame
 *   valid DEVICE                                 -> 1 or 0
 *   sample TYPE SEQUENCE CLOCK N VALUE...        -> its frame
 *   end COUNT | log LEVEL TEXT | pong TOKEN CLOCK | statistics A B C D  -> its frame
 *   commands BYTES                               -> what they are: "TYPE:ARGUMENT"...
 *   count N, and N raw bytes                     -> how many of each: "TYPE:COUNT"...
 *
 * DEVICE is TYPE TICK EPOCH_LOW EPOCH_HIGH ID VERSION N, then NAME UNIT SCALE for each channel.
 */
#include "edgelstm_command.h"
#include "edgelstm_frame.h"
#include "host_lines.h"

static edgelstm_description description;
static edgelstm_channel channels[256];

static void take_device(void) {
  description.value_type = (uint8_t)number();
  description.clock_tick_us = number();
  const uint64_t low = number();
  description.clock_epoch_ms = (int64_t)(low | (uint64_t)number() << 32);
  description.device_id = text();
  description.firmware_version = text();
  description.channel_count = (uint8_t)number();
  description.channels = channels;
  for (int i = 0; i < description.channel_count; i++) {
    channels[i].name = text();
    channels[i].unit = text();
    channels[i].scale = real();
  }
}

static void forget_device(void) {
  free((void *)(uintptr_t)description.device_id);
  free((void *)(uintptr_t)description.firmware_version);
  for (int i = 0; i < description.channel_count; i++) {
    free((void *)(uintptr_t)channels[i].name);
    free((void *)(uintptr_t)channels[i].unit);
  }
}

static void print(edgelstm_frame *frame) {
  uint8_t byte;
  while (edgelstm_frame_next(frame, &byte)) printf("%02x", byte);
  /* It has ended, and stays so. */
  if (edgelstm_frame_next(frame, &byte)) printf("??");
}

static void print_sample(void) {
  edgelstm_frame frame;
  description.value_type = (uint8_t)number();
  const uint16_t sequence_number = (uint16_t)number();
  const uint32_t clock = number();
  description.channel_count = (uint8_t)number();
  const size_t size = description.value_type == EDGELSTM_INT16 ? 2 : 4;
  uint8_t *values = malloc(size * description.channel_count);
  for (size_t i = 0; i < description.channel_count; i++) {
    if (description.value_type == EDGELSTM_INT16)
      ((int16_t *)values)[i] = (int16_t)number();
    else /* the bits of a float, or an int32 */
      ((uint32_t *)values)[i] = number();
  }
  uint8_t *packed = malloc(edgelstm_packed_size(&description));
  edgelstm_pack(&description, values, packed);
  edgelstm_frame_sample(&frame, &description, sequence_number, clock, packed);
  print(&frame);
  free(packed);
  free(values);
}

static void print_commands(void) {
  size_t size;
  uint8_t *data = bytes(&size);
  edgelstm_receiver receiver = {0};
  for (size_t i = 0; i < size; i++) {
    uint32_t argument = 0;
    const uint8_t found = edgelstm_command_feed(&receiver, data[i], &argument);
    if (found) printf("%u:%lu ", found, (unsigned long)argument);
  }
  free(data);
}

static void count_commands(void) {
  edgelstm_receiver receiver = {0};
  unsigned long counts[256] = {0};
  for (uint32_t left = number(); left > 0; left--) {
    uint32_t argument = 0;
    counts[edgelstm_command_feed(&receiver, (uint8_t)getchar(), &argument)]++;
  }
  for (int i = 1; i < 256; i++)
    if (counts[i]) printf("%d:%lu ", i, counts[i]);
}

static void answer(const char *request) {
  edgelstm_frame frame;
  if (strcmp(request, "crc") == 0) {
    size_t size;
    uint8_t *data = bytes(&size);
    uint16_t crc = EDGELSTM_CRC_START;
    for (size_t i = 0; i < size; i++) crc = edgelstm_crc16(crc, data[i]);
    printf("%u", crc);
    free(data);
  } else if (strcmp(request, "payload") == 0) {
    size_t size;
    uint8_t *data = bytes(&size);
    edgelstm_frame_payload(&frame, data, (uint16_t)size);
    print(&frame);
    free(data);
  } else if (strcmp(request, "hello") == 0) {
    take_device();
    const uint32_t period = number(), boot_id = number();
    edgelstm_frame_hello(&frame, &description, period, boot_id, number());
    print(&frame);
    forget_device();
  } else if (strcmp(request, "valid") == 0) {
    take_device();
    printf("%d", edgelstm_description_is_valid(&description));
    forget_device();
  } else if (strcmp(request, "sample") == 0) {
    print_sample();
  } else if (strcmp(request, "end") == 0) {
    edgelstm_frame_end(&frame, number());
    print(&frame);
  } else if (strcmp(request, "log") == 0) {
    const uint8_t level = (uint8_t)number();
    char *line = text();
    edgelstm_frame_log(&frame, level, line);
    print(&frame);
    free(line);
  } else if (strcmp(request, "pong") == 0) {
    const uint32_t token = number();
    edgelstm_frame_pong(&frame, token, number());
    print(&frame);
  } else if (strcmp(request, "statistics") == 0) {
    const uint32_t due = number(), dropped = number(), overruns = number();
    edgelstm_frame_statistics(&frame, due, dropped, overruns, number());
    print(&frame);
  } else if (strcmp(request, "commands") == 0) {
    print_commands();
  } else if (strcmp(request, "count") == 0) {
    count_commands();
  } else {
    give_up(request);
  }
  printf("\n");
  fflush(stdout);
}

int main(void) {
  static char line[1 << 20];
  while (fgets(line, sizeof line, stdin)) {
    const char *request = strtok(line, " \n");
    if (request) answer(request);
  }
  return 0;
}
