/* A number for each boot of an AVR, counted in its EEPROM. */
#ifndef EDGELSTM_EEPROM_H
#define EDGELSTM_EEPROM_H

#ifdef __AVR__

#include <avr/io.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The last four bytes: out of the way of programs that count from 0. */
#define EDGELSTM_EEPROM_ADDRESS (E2END - 3)

/*
 * Counts one boot in the four bytes at `address` and returns its number, never 0. Call it once per
 * boot. Each boot writes one byte, rarely more; a byte of EEPROM stands 100,000 writes, which is
 * ten years at 27 boots a day.
 */
uint32_t edgelstm_next_boot_id(uint16_t address);

#ifdef __cplusplus
}
#endif

#endif

#endif
