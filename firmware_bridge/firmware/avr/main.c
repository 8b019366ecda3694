/*
 * Streams the six analogue inputs of an ATmega328P at 16 MHz (an Arduino Uno or Nano, or the bare
 * chip) without the Arduino core. Timer 1 begins each sample at its exact time, whatever else goes
 * on; 256 bytes of output wait for the UART, and what finds no room is dropped and counted.
 */
#include <avr/interrupt.h>
#include <avr/sleep.h>

#include "edgelstm_device.h"
#include "edgelstm_eeprom.h"
#include "sampler.h"
#include "uart.h"

#define SAMPLE_PERIOD_US 10000
#define VOLT (5.0f / 1023) /* of one step of the ADC, with a supply of 5 V */

static const edgelstm_channel channels[SAMPLER_CHANNELS] = {
    {"a0", "V", VOLT}, {"a1", "V", VOLT}, {"a2", "V", VOLT},
    {"a3", "V", VOLT}, {"a4", "V", VOLT}, {"a5", "V", VOLT},
};

static const edgelstm_description description = {
    .device_id = "avr-analog",
    .firmware_version = "1.0.0",
    .channels = channels,
    .channel_count = SAMPLER_CHANNELS,
    .value_type = EDGELSTM_INT16,
    .clock_tick_us = SAMPLER_TICK_US,
    .shortest_period_us = SAMPLER_SHORTEST_PERIOD_US,
};

/* So that no message keeps the next sample waiting, however long it is. */
#define BYTES_AT_ONCE 32

static uint16_t port_room(void *context) {
  (void)context;
  const uint8_t room = uart_room();
  return room < BYTES_AT_ONCE ? room : BYTES_AT_ONCE;
}

static void port_write(void *context, uint8_t byte) {
  (void)context;
  uart_write(byte);
}

static uint32_t port_clock(void *context) {
  (void)context;
  return sampler_clock();
}

static const edgelstm_port port = {port_room, port_write, port_clock, 0};

static edgelstm_device device;
static uint8_t waiting[sizeof(int16_t) * SAMPLER_CHANNELS];

static void take_commands(void) {
  uint8_t byte;
  while (uart_read(&byte)) edgelstm_device_receive(&device, byte);
}

static void follow_commands(void) {
  static uint32_t sampled_period;
  const uint32_t period = device.running ? device.period_ticks : 0;
  if (period == sampled_period) return;
  sampler_set_period(period);
  sampled_period = period;
}

static void send_sample(void) {
  sampler_sample sample;
  if (!sampler_take(&sample)) return;
  edgelstm_device_overrun(&device, sample.missed);
  edgelstm_device_send(&device, sample.clock, sample.values);
}

/* Until the next interrupt: each of them may give something to do. */
static void sleep(void) {
  cli();
  if (!uart_has_input() && !sampler_is_ready()) {
    sleep_enable();
    sei(); /* takes effect after the next instruction: no interrupt gets in between */
    sleep_cpu();
    sleep_disable();
  }
  sei();
}

int main(void) {
  uart_begin();
  sampler_begin();
  sei();
  edgelstm_device_boot(&device, &description, &port, waiting, SAMPLE_PERIOD_US,
                       edgelstm_next_boot_id(EDGELSTM_EEPROM_ADDRESS));
  uart_write(0); /* ends whatever a boot loader has left on the line */
  set_sleep_mode(SLEEP_MODE_IDLE);
  for (;;) {
    send_sample();
    take_commands();
    follow_commands();
    const bool has_more = edgelstm_device_poll(&device);
    if (!has_more || uart_room() == 0) sleep();
  }
}
