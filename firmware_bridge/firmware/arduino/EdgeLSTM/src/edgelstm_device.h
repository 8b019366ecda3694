/*
 * The device's half of PROTOCOL.md, version 1: which message when, and what is counted.
 *
 * Nothing here waits. Bytes go out as the port has room for them, and a message that is longer than
 * the port's buffer goes out in pieces. One sample may wait for the message before it; a sample
 * that finds that place taken is dropped and counted, its number used up. So a host always knows
 * what it did not get.
 *
 * The firmware gives the port three functions, and calls, from one place (not from interrupts):
 *
 *   edgelstm_device_receive()  for every byte that came in
 *   edgelstm_device_due()      often; when it says true, edgelstm_device_send() with the values
 *   edgelstm_device_poll()     often, so that bytes go out
 *
 * Firmware with a timer of its own leaves due() out, and says edgelstm_device_overrun() when it
 * came too late for a sample.
 */
#ifndef EDGELSTM_DEVICE_H
#define EDGELSTM_DEVICE_H

#include "edgelstm_command.h"
#include "edgelstm_frame.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What to write for another chip. */
typedef struct {
  /* How many bytes write() takes now without waiting. */
  uint16_t (*room)(void *context);
  void (*write)(void *context, uint8_t byte);
  /* The device clock: ticks of description.clock_tick_us that wrap at 2^32. */
  uint32_t (*clock)(void *context);
  void *context; /* given to the functions */
} edgelstm_port;

/* Private, but for the members under "to read". */
typedef struct {
  /* To read. */
  bool running;
  uint32_t period_ticks; /* between two samples, in ticks of the device clock */
  uint32_t sample_count; /* samples due since boot: the number of the next one */
  uint32_t dropped;
  uint32_t overruns;
  uint32_t bad_commands;

  const edgelstm_description *description;
  const edgelstm_port *port;
  uint32_t boot_id;
  bool is_starting;   /* no sample is due before the hello has gone out */
  uint32_t next_due;  /* device clock */
  bool sample_is_due; /* due() has said so, and no values came yet */

  uint8_t sending; /* what `frame` is, if anything */
  edgelstm_frame frame;
  edgelstm_receiver receiver;

  /* What is to be sent. */
  bool hello_wanted;
  bool statistics_wanted;
  bool end_wanted;
  bool pong_wanted;
  bool sample_waits; /* or is on its way out */
  uint8_t log_level;
  uint32_t ping_token;
  uint32_t waiting_number;
  uint32_t waiting_clock;
  uint8_t *waiting_values; /* packed */
  const char *log_text;
} edgelstm_device;

/*
 * Begins a boot: everything counts from 0, the device waits for `start`, and says hello.
 *
 * `description` and `port` must live as long as the device. `storage` too: it holds the values of
 * the sample that waits, edgelstm_packed_size() bytes. `boot_id` is a number that no earlier boot
 * had, or 0.
 */
void edgelstm_device_boot(edgelstm_device *device, const edgelstm_description *description,
                          const edgelstm_port *port, uint8_t *storage, uint32_t sample_period_us,
                          uint32_t boot_id);

/* Takes one byte of the host. The answer goes out in edgelstm_device_poll(). */
void edgelstm_device_receive(edgelstm_device *device, uint8_t byte);

/*
 * True when a sample is to be taken now. The values must then come by edgelstm_device_send();
 * when none have come before the next call, the sample counts as an overrun. So do the samples
 * between two calls that are too far apart.
 */
bool edgelstm_device_due(edgelstm_device *device);

/*
 * Sends or drops the sample that was taken at `device_clock`; false when it was dropped. Does
 * nothing while the device is stopped.
 */
bool edgelstm_device_send(edgelstm_device *device, uint32_t device_clock, const void *values);

/* Counts samples that were due next and were not taken. */
void edgelstm_device_overrun(edgelstm_device *device, uint32_t count);

/*
 * Sends a text to the host's log when there is time; false when another one still waits.
 * `text` must stay as it is until it was sent: a string literal does.
 */
bool edgelstm_device_log(edgelstm_device *device, uint8_t level, const char *text);

/* Writes what the port has room for; false when nothing is left to send. */
bool edgelstm_device_poll(edgelstm_device *device);

#ifdef __cplusplus
}
#endif

#endif
