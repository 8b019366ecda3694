#include "edgelstm_command.h"

#include <string.h>

#include "edgelstm_frame.h"

enum { CRC_SIZE = 2, SHORT_SIZE = 1, LONG_SIZE = 5 };

static void keep(edgelstm_receiver *receiver, uint8_t byte) {
  if (receiver->size < EDGELSTM_MAX_COMMAND)
    receiver->body[receiver->size++] = byte;
  else
    receiver->too_long = true;
}

static bool is_intact(const edgelstm_receiver *receiver) {
  if (receiver->too_long || receiver->block_left || receiver->size <= CRC_SIZE) return false;
  const uint8_t size = (uint8_t)(receiver->size - CRC_SIZE);
  uint16_t crc = EDGELSTM_CRC_START;
  for (uint8_t i = 0; i < size; i++) crc = edgelstm_crc16(crc, receiver->body[i]);
  return receiver->body[size] == (uint8_t)crc && receiver->body[size + 1] == (uint8_t)(crc >> 8);
}

static uint8_t interpret(const edgelstm_receiver *receiver, uint32_t *argument) {
  if (!is_intact(receiver)) return EDGELSTM_BAD;
  const uint8_t size = (uint8_t)(receiver->size - CRC_SIZE);
  const uint8_t *body = receiver->body;
  switch (body[0]) {
    case EDGELSTM_STOP:
    case EDGELSTM_START:
    case EDGELSTM_REPORT:
      return size == SHORT_SIZE ? body[0] : (uint8_t)EDGELSTM_BAD;
    case EDGELSTM_PING:
    case EDGELSTM_RATE:
      if (size != LONG_SIZE) return EDGELSTM_BAD;
      *argument = (uint32_t)body[1] | (uint32_t)body[2] << 8 | (uint32_t)body[3] << 16 |
                  (uint32_t)body[4] << 24;
      return body[0] == EDGELSTM_RATE && *argument == 0 ? (uint8_t)EDGELSTM_BAD : body[0];
    default:
      return EDGELSTM_BAD;
  }
}

uint8_t edgelstm_command_feed(edgelstm_receiver *receiver, uint8_t byte, uint32_t *argument) {
  if (byte == 0) {
    /* Nothing between two 0x00 means nothing. */
    const bool empty = !receiver->size && !receiver->block_left && !receiver->zero_due;
    const uint8_t found = empty ? (uint8_t)EDGELSTM_NOTHING : interpret(receiver, argument);
    memset(receiver, 0, sizeof *receiver);
    return found;
  }
  if (receiver->block_left > 0) {
    receiver->block_left--;
    keep(receiver, byte);
  } else {
    if (receiver->zero_due) keep(receiver, 0);
    /* A full block, after which there would be no 0x00, is longer than any command. */
    receiver->block_left = (uint8_t)(byte - 1);
    receiver->zero_due = true;
  }
  return EDGELSTM_NOTHING;
}
