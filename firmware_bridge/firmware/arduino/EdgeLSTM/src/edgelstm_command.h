/*
 * Commands of the host, from the bytes of a serial line in the frames of PROTOCOL.md, version 1.
 *
 * It never holds more than one command, and after garbage it is in step again at the next 0x00.
 */
#ifndef EDGELSTM_COMMAND_H
#define EDGELSTM_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What edgelstm_command_feed() has found. */
enum {
  EDGELSTM_NOTHING = 0, /* so far */
  EDGELSTM_BAD = 1,     /* a frame that is damaged, too long, malformed or of an unknown type */
  EDGELSTM_STOP = 0x11,
  EDGELSTM_START = 0x12,
  EDGELSTM_PING = 0x13, /* argument: token */
  EDGELSTM_RATE = 0x14, /* argument: sample_period_us, at least 1 */
  EDGELSTM_REPORT = 0x15
};

#define EDGELSTM_MAX_COMMAND 18 /* payload and CRC */

/* Private. All zeros at first. */
typedef struct {
  uint8_t size;       /* bytes of the body so far */
  uint8_t block_left; /* bytes of the COBS block that are still to come */
  bool zero_due;      /* the end of the block stands for a 0x00 */
  bool too_long;
  uint8_t body[EDGELSTM_MAX_COMMAND];
} edgelstm_receiver;

/* Takes one byte and returns what it completes; a ping or a rate sets `argument`. */
uint8_t edgelstm_command_feed(edgelstm_receiver *receiver, uint8_t byte, uint32_t *argument);

#ifdef __cplusplus
}
#endif

#endif
