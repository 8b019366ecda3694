/* UART0 with interrupts on both sides: 8 data bits, no parity, one stop bit. */
#ifndef UART_H
#define UART_H

#include <stdbool.h>
#include <stdint.h>

void uart_begin(void);

/* Gives the next byte that came in; false when there is none. */
bool uart_read(uint8_t *byte);
bool uart_has_input(void);

/* How many bytes uart_write() takes now: it must not be called for more. */
uint8_t uart_room(void);
void uart_write(uint8_t byte);

#endif
