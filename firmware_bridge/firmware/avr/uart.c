#include "uart.h"

#include <avr/interrupt.h>
#include <avr/io.h>

#ifndef BAUD_RATE
#define BAUD_RATE 115200UL
#endif

#define DIVISOR ((F_CPU / 4 / BAUD_RATE - 1) / 2) /* with U2X0, rounded */

#define IN_SIZE 64 /* a power of two */

/*
 * Each index has one writer and is one byte, so that no lock is needed. That of the 256 bytes wraps
 * by itself; one byte stays free, which tells a full ring from an empty one.
 */
static volatile uint8_t out[256], out_head, out_tail;
static volatile uint8_t in[IN_SIZE], in_head, in_tail;

ISR(USART_UDRE_vect) {
  if (out_head == out_tail) {
    UCSR0B &= (uint8_t)~_BV(UDRIE0);
  } else {
    UDR0 = out[out_tail];
    out_tail++;
  }
}

/* A byte that finds no room is lost; the command that it belonged to fails its CRC. */
ISR(USART_RX_vect) {
  const uint8_t byte = UDR0;
  const uint8_t next = (in_head + 1) % IN_SIZE;
  if (next != in_tail) {
    in[in_head] = byte;
    in_head = next;
  }
}

void uart_begin(void) {
  UCSR0A = _BV(U2X0);
  UBRR0 = DIVISOR;
  UCSR0C = _BV(UCSZ01) | _BV(UCSZ00);
  UCSR0B = _BV(RXEN0) | _BV(TXEN0) | _BV(RXCIE0);
}

bool uart_has_input(void) { return in_head != in_tail; }

bool uart_read(uint8_t *byte) {
  if (!uart_has_input()) return false;
  *byte = in[in_tail];
  in_tail = (in_tail + 1) % IN_SIZE;
  return true;
}

uint8_t uart_room(void) { return (uint8_t)(out_tail - out_head - 1); }

void uart_write(uint8_t byte) {
  out[out_head] = byte;
  out_head++;
  UCSR0B |= _BV(UDRIE0); /* the interrupt may clear it, but not change this register halfway */
}
