#include "edgelstm_device.h"

#include <string.h>

/* The host tells two samples apart only when they are less than 2^31 ticks apart. */
#define LONGEST_PERIOD_TICKS 0x40000000u
#define HALF_THE_CLOCK 0x80000000u

/* What is on its way out. */
enum { SENDING_NOTHING, SENDING_HELLO, SENDING_SAMPLE, SENDING_LOG, SENDING_OTHER };

static uint32_t clock_of(const edgelstm_device *device) {
  return device->port->clock(device->port->context);
}

/* Takes the nearest period that the device can do. */
static void set_period(edgelstm_device *device, uint32_t sample_period_us) {
  const uint32_t tick_us = device->description->clock_tick_us;
  const uint32_t shortest_us = device->description->shortest_period_us;
  uint32_t shortest = shortest_us / tick_us + (shortest_us % tick_us != 0);
  if (shortest < 1) shortest = 1;
  uint32_t longest = UINT32_MAX / tick_us; /* the hello says it in microseconds */
  if (longest > LONGEST_PERIOD_TICKS) longest = LONGEST_PERIOD_TICKS;
  uint32_t period = sample_period_us / tick_us;
  if (sample_period_us % tick_us >= tick_us - tick_us / 2) period++;
  if (period < shortest) period = shortest;
  if (period > longest) period = longest;
  device->period_ticks = period;
  device->next_due = clock_of(device) + period;
}

void edgelstm_device_boot(edgelstm_device *device, const edgelstm_description *description,
                          const edgelstm_port *port, uint8_t *storage, uint32_t sample_period_us,
                          uint32_t boot_id) {
  memset(device, 0, sizeof *device);
  device->description = description;
  device->port = port;
  device->waiting_values = storage;
  device->boot_id = boot_id;
  device->hello_wanted = true;
  set_period(device, sample_period_us);
}

static void obey(edgelstm_device *device, uint8_t command, uint32_t argument) {
  switch (command) {
    case EDGELSTM_START:
      if (!device->running) {
        device->running = true;
        device->is_starting = true;
      }
      device->hello_wanted = true;
      break;
    case EDGELSTM_STOP:
      if (device->sample_is_due) edgelstm_device_overrun(device, 1);
      device->running = false;
      device->is_starting = false;
      device->statistics_wanted = true;
      device->end_wanted = true;
      break;
    case EDGELSTM_PING:
      device->ping_token = argument;
      device->pong_wanted = true;
      break;
    case EDGELSTM_RATE:
      set_period(device, argument);
      device->hello_wanted = true;
      break;
    case EDGELSTM_REPORT:
      device->statistics_wanted = true;
      break;
    case EDGELSTM_BAD:
      device->bad_commands++;
      break;
    default:
      break;
  }
}

void edgelstm_device_receive(edgelstm_device *device, uint8_t byte) {
  uint32_t argument = 0;
  const uint8_t command = edgelstm_command_feed(&device->receiver, byte, &argument);
  obey(device, command, argument);
}

bool edgelstm_device_due(edgelstm_device *device) {
  if (!device->running || device->is_starting) return false;
  const uint32_t late = clock_of(device) - device->next_due;
  if (late >= HALF_THE_CLOCK) return false; /* it is still ahead */
  if (device->sample_is_due) edgelstm_device_overrun(device, 1);
  const uint32_t missed = late >= device->period_ticks ? late / device->period_ticks : 0;
  edgelstm_device_overrun(device, missed);
  device->next_due += (missed + 1) * device->period_ticks;
  device->sample_is_due = true;
  return true;
}

bool edgelstm_device_send(edgelstm_device *device, uint32_t device_clock, const void *values) {
  if (!device->running) return false;
  device->sample_is_due = false;
  const uint32_t number = device->sample_count++;
  /* No sample comes between a stop and its end, not even that of the next start. */
  if (device->sample_waits || device->end_wanted) {
    device->dropped++;
    return false;
  }
  device->sample_waits = true;
  device->waiting_number = number;
  device->waiting_clock = device_clock;
  edgelstm_pack(device->description, values, device->waiting_values);
  edgelstm_device_poll(device);
  return true;
}

void edgelstm_device_overrun(edgelstm_device *device, uint32_t count) {
  if (!device->running) return;
  device->sample_is_due = false;
  device->sample_count += count;
  device->overruns += count;
}

bool edgelstm_device_log(edgelstm_device *device, uint8_t level, const char *text) {
  if (device->log_text) return false;
  device->log_level = level;
  device->log_text = text;
  return true;
}

static uint8_t begin_pong(edgelstm_device *device) {
  device->pong_wanted = false;
  edgelstm_frame_pong(&device->frame, device->ping_token, clock_of(device));
  return SENDING_OTHER;
}

static uint8_t begin_hello(edgelstm_device *device) {
  device->hello_wanted = false;
  const uint32_t period_us = device->period_ticks * device->description->clock_tick_us;
  const uint32_t next = device->sample_waits ? device->waiting_number : device->sample_count;
  edgelstm_frame_hello(&device->frame, device->description, period_us, device->boot_id, next);
  return SENDING_HELLO;
}

static uint8_t begin_sample(edgelstm_device *device) {
  edgelstm_frame_sample(&device->frame, device->description, (uint16_t)device->waiting_number,
                        device->waiting_clock, device->waiting_values);
  return SENDING_SAMPLE;
}

static uint8_t begin_statistics(edgelstm_device *device) {
  device->statistics_wanted = false;
  edgelstm_frame_statistics(&device->frame, device->sample_count, device->dropped,
                            device->overruns, device->bad_commands);
  return SENDING_OTHER;
}

static uint8_t begin_end(edgelstm_device *device) {
  device->end_wanted = false;
  edgelstm_frame_end(&device->frame, device->sample_count);
  return SENDING_OTHER;
}

static uint8_t begin_log(edgelstm_device *device) {
  edgelstm_frame_log(&device->frame, device->log_level, device->log_text);
  return SENDING_LOG;
}

/* Begins the message whose turn it is. */
static uint8_t begin_next(edgelstm_device *device) {
  if (device->pong_wanted) return begin_pong(device);
  /* A device that was started again says the end of the run before first. */
  if (device->hello_wanted && !(device->end_wanted && device->running))
    return begin_hello(device);
  if (device->end_wanted) {
    if (device->sample_waits) return begin_sample(device);
    return device->statistics_wanted ? begin_statistics(device) : begin_end(device);
  }
  if (device->statistics_wanted) return begin_statistics(device);
  if (device->sample_waits) return begin_sample(device);
  if (device->log_text) return begin_log(device);
  return SENDING_NOTHING;
}

static void finish(edgelstm_device *device) {
  if (device->sending == SENDING_SAMPLE) device->sample_waits = false;
  if (device->sending == SENDING_LOG) device->log_text = NULL;
  if (device->sending == SENDING_HELLO && device->is_starting && !device->hello_wanted) {
    device->is_starting = false;
    device->next_due = clock_of(device) + device->period_ticks;
  }
  device->sending = SENDING_NOTHING;
}

bool edgelstm_device_poll(edgelstm_device *device) {
  const edgelstm_port *port = device->port;
  uint16_t room = port->room(port->context);
  for (;;) {
    if (device->sending == SENDING_NOTHING) {
      /* Only once there is room: the clock of a pong is read as late as possible. */
      if (room == 0) return true;
      device->sending = begin_next(device);
      if (device->sending == SENDING_NOTHING) return false;
    }
    while (room > 0) {
      uint8_t byte;
      if (!edgelstm_frame_next(&device->frame, &byte)) {
        finish(device);
        break;
      }
      port->write(port->context, byte);
      room--;
    }
    if (device->sending != SENDING_NOTHING) return true;
  }
}
