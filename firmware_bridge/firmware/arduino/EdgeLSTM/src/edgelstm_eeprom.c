#include "edgelstm_eeprom.h"

#ifdef __AVR__

#include <avr/eeprom.h>

uint32_t edgelstm_next_boot_id(uint16_t address) {
  uint8_t *cells = (uint8_t *)address;
  uint32_t boot_id = 0;
  for (uint8_t i = 0; i < 4; i++)
    boot_id |= (uint32_t)eeprom_read_byte(cells + i) << (8u * i);
  boot_id++;
  if (boot_id == 0) boot_id = 1; /* an erased EEPROM holds 0xFFFFFFFF */
  /* The highest byte first: cut off in the middle, the count is too high, and none comes twice. */
  for (uint8_t i = 4; i-- > 0;)
    eeprom_update_byte(cells + i, (uint8_t)(boot_id >> (8u * i)));
  return boot_id;
}

#else

typedef int edgelstm_eeprom_is_for_avr; /* C wants something in every file */

#endif
