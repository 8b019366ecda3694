/*
 * The device's half of the protocol, on the host: one request a line on stdin, and on stdout a
 * result and the bytes that the device has written since the last one, or "-".
 *
 *   boot TYPE CHANNELS TICK SHORTEST PERIOD BOOT   -> 0; clock and room begin at 0
 *   clock TICKS         the device clock is now    -> 0
 *   room N              there is room for N bytes  -> 1 if there is more to send
 *   receive BYTES                                  -> 0
 *   due                                            -> 1 or 0
 *   send CLOCK VALUE    in all channels            -> 1 if it was not dropped
 *   overrun N                                      -> 0
 *   log LEVEL                                      -> 1 if it was taken
 *   state                                          -> running:count:dropped:overruns:bad:period
 */
#include "edgelstm_device.h"
#include "host_lines.h"

static edgelstm_channel channels[EDGELSTM_MAX_CHANNELS];
static char names[EDGELSTM_MAX_CHANNELS][16];
static edgelstm_description description;
static edgelstm_device device;
static uint8_t *storage;
static uint32_t now;
static uint16_t space;
static size_t written;

static uint16_t room(void *context) {
  (void)context;
  return space;
}

static void write_byte(void *context, uint8_t byte) {
  (void)context;
  if (space == 0) {
    fprintf(stderr, "written without room\n");
    exit(3);
  }
  space--;
  written++;
  printf("%02x", byte);
}

static uint32_t read_clock(void *context) {
  (void)context;
  return now;
}

static const edgelstm_port port = {room, write_byte, read_clock, NULL};

static void boot(void) {
  memset(&description, 0, sizeof description);
  now = 0;
  space = 0;
  description.device_id = "host";
  description.firmware_version = "1";
  description.channels = channels;
  description.value_type = (uint8_t)number();
  description.channel_count = (uint8_t)number();
  description.clock_tick_us = number();
  description.shortest_period_us = number();
  for (int i = 0; i < description.channel_count; i++) {
    snprintf(names[i], sizeof names[i], "c%d", i);
    channels[i].name = names[i];
    channels[i].unit = "";
    channels[i].scale = 1;
  }
  free(storage);
  storage = malloc(edgelstm_packed_size(&description));
  const uint32_t period = number();
  edgelstm_device_boot(&device, &description, &port, storage, period, number());
}

static bool send(void) {
  const uint32_t clock = number();
  const int32_t value = (int32_t)number();
  /* Gone after the call, as in a sketch. */
  uint8_t *values = malloc(edgelstm_packed_size(&description));
  for (int i = 0; i < description.channel_count; i++) {
    if (description.value_type == EDGELSTM_INT16)
      ((int16_t *)values)[i] = (int16_t)value;
    else if (description.value_type == EDGELSTM_INT32)
      ((int32_t *)values)[i] = value;
    else
      ((float *)values)[i] = (float)value;
  }
  const bool sent = edgelstm_device_send(&device, clock, values);
  free(values);
  return sent;
}

static void receive(void) {
  size_t size;
  uint8_t *data = bytes(&size);
  for (size_t i = 0; i < size; i++) edgelstm_device_receive(&device, data[i]);
  free(data);
}

/* Writes the bytes on the way, and then a space and the result. */
static void answer(const char *request) {
  bool result = false;
  written = 0;
  if (strcmp(request, "state") == 0) {
    printf("- %d:%lu:%lu:%lu:%lu:%lu\n", device.running, (unsigned long)device.sample_count,
           (unsigned long)device.dropped, (unsigned long)device.overruns,
           (unsigned long)device.bad_commands, (unsigned long)device.period_ticks);
    fflush(stdout);
    return;
  }
  if (strcmp(request, "boot") == 0) {
    boot();
  } else if (strcmp(request, "clock") == 0) {
    now = number();
  } else if (strcmp(request, "room") == 0) {
    space = (uint16_t)number();
    result = edgelstm_device_poll(&device);
  } else if (strcmp(request, "receive") == 0) {
    receive();
  } else if (strcmp(request, "due") == 0) {
    result = edgelstm_device_due(&device);
  } else if (strcmp(request, "send") == 0) {
    result = send();
  } else if (strcmp(request, "overrun") == 0) {
    edgelstm_device_overrun(&device, number());
  } else if (strcmp(request, "log") == 0) {
    result = edgelstm_device_log(&device, (uint8_t)number(), "a line");
  } else {
    give_up(request);
  }
  if (!written) printf("-");
  printf(" %d\n", result);
  fflush(stdout);
}

int main(void) {
  static char line[1 << 20];
  while (fgets(line, sizeof line, stdin)) {
    const char *request = strtok(line, " \n");
    if (request) answer(request);
  }
  free(storage);
  return 0;
}
