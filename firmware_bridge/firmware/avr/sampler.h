/* The inputs ADC0 to ADC5, measured one after the other whenever timer 1 says so. */
#ifndef SAMPLER_H
#define SAMPLER_H

#include <stdbool.h>
#include <stdint.h>

enum { SAMPLER_CHANNELS = 6 };

/* One tick of the clock: timer 1 counts every 64th cycle. */
#define SAMPLER_TICK_US (64000000UL / F_CPU)

/* Each of the six conversions takes 13 cycles of the ADC's clock of 125 kHz: 624 us in all. */
#ifndef SAMPLER_SHORTEST_PERIOD_US
#define SAMPLER_SHORTEST_PERIOD_US 1000
#endif

typedef struct {
  uint32_t clock;  /* when the first conversion began */
  uint16_t missed; /* samples that were due before this one and were not taken */
  int16_t values[SAMPLER_CHANNELS]; /* 0 to 1023 */
} sampler_sample;

/* Starts the clock. */
void sampler_begin(void);

/* Ticks since sampler_begin(), modulo 2^32. */
uint32_t sampler_clock(void);

/* Takes a sample every `period_ticks`, the first one after that time; 0 stops it. */
void sampler_set_period(uint32_t period_ticks);

/* Gives the sample that is ready; false when there is none. */
bool sampler_take(sampler_sample *sample);
bool sampler_is_ready(void);

#endif
