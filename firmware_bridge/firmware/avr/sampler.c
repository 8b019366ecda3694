#include "sampler.h"

#include <avr/interrupt.h>
#include <avr/io.h>
#include <util/atomic.h>

/*
 * The timer counts from 0 to OCR1A, over and over: that is one round. A period is one round, or,
 * when it is longer than the timer can count, several. The clock is the sum of all rounds.
 */
#define LONGEST_ROUND 0x10000UL
#define LONG_ROUND 0x8000UL /* leaves a last round that is not too short */

static uint32_t rounds_end; /* the clock at the beginning of this round */
static uint32_t period;     /* 0: no samples */
static uint32_t ticks_left; /* of the period, after this round */

/*
 * One sample is measured while the one before waits to be taken: whoever takes them has a whole
 * period to come. What is due while one is measured, or done while one still waits, is missed.
 */
static volatile bool is_measuring, is_ready;
static uint8_t channel;
static uint16_t missed; /* since the sample that is measured, or the last one */
static sampler_sample current, ready;

static uint32_t round_size(uint32_t ticks) { return ticks <= LONGEST_ROUND ? ticks : LONG_ROUND; }

static void convert(uint8_t input) {
  ADMUX = (uint8_t)(_BV(REFS0) | input); /* against the supply voltage */
  ADCSRA = _BV(ADEN) | _BV(ADSC) | _BV(ADIE) | _BV(ADPS2) | _BV(ADPS1) | _BV(ADPS0);
}

static void begin_sample(void) {
  if (is_measuring) {
    missed++;
    return;
  }
  is_measuring = true;
  current.clock = rounds_end;
  current.missed = missed;
  missed = 0;
  channel = 0;
  convert(channel);
}

static void finish_sample(void) {
  is_measuring = false;
  if (is_ready) {
    missed = (uint16_t)(missed + current.missed + 1);
    return;
  }
  ready = current;
  is_ready = true;
}

/* The next round counts `ticks`. Writes the register only when it changes. */
static void set_round(uint32_t ticks) {
  const uint16_t top = (uint16_t)(ticks - 1);
  if (OCR1A != top) OCR1A = top;
}

ISR(TIMER1_COMPA_vect) {
  rounds_end += OCR1A + 1UL;
  if (!period) return;
  const bool is_due = ticks_left == 0;
  if (is_due) ticks_left = period;
  if (is_due || period > LONGEST_ROUND) {
    const uint32_t next = round_size(ticks_left);
    ticks_left -= next;
    set_round(next);
  }
  if (is_due) begin_sample();
}

ISR(ADC_vect) {
  current.values[channel++] = (int16_t)ADC;
  if (channel < SAMPLER_CHANNELS)
    convert(channel);
  else
    finish_sample();
}

void sampler_begin(void) {
  TCCR1A = 0;
  TCCR1B = _BV(WGM12);
  OCR1A = (uint16_t)(LONGEST_ROUND - 1);
  TIMSK1 = _BV(OCIE1A);
  TCCR1B = _BV(WGM12) | _BV(CS11) | _BV(CS10);
}

uint32_t sampler_clock(void) {
  uint32_t clock = 0;
  ATOMIC_BLOCK(ATOMIC_RESTORESTATE) {
    uint16_t count = TCNT1;
    clock = rounds_end;
    if (TIFR1 & _BV(OCF1A)) { /* a round has ended, and its interrupt waits */
      count = TCNT1;
      clock += OCR1A + 1UL;
    }
    clock += count;
  }
  return clock;
}

void sampler_set_period(uint32_t period_ticks) {
  ATOMIC_BLOCK(ATOMIC_RESTORESTATE) {
    rounds_end = sampler_clock();
    period = period_ticks;
    ticks_left = period;
    const uint32_t first = round_size(period_ticks ? period_ticks : LONGEST_ROUND);
    if (period) ticks_left -= first;
    TCNT1 = 0;
    set_round(first);
    TIFR1 = _BV(OCF1A);
    missed = 0;
    is_ready = false;
  }
}

bool sampler_is_ready(void) { return is_ready; }

bool sampler_take(sampler_sample *sample) {
  if (!is_ready) return false;
  *sample = ready;
  is_ready = false;
  return true;
}
