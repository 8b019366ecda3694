/*
 * Messages of a device as frames, one byte at a time: payload, CRC-16, COBS, 0x00.
 *
 * A frame is described, not stored: edgelstm_frame_next() computes each byte when it is asked for,
 * so that neither the payload nor the encoded frame needs a buffer, however long it is. What a
 * frame points at (texts, values) must stay as it is until its last byte was taken.
 *
 * The format is that of PROTOCOL.md, version 1. Portable C99; `float` must be an IEEE 754 binary32.
 */
#ifndef EDGELSTM_FRAME_H
#define EDGELSTM_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EDGELSTM_PROTOCOL_VERSION 1
#define EDGELSTM_MAX_CHANNELS 64
#define EDGELSTM_MAX_PAYLOAD 1024
#define EDGELSTM_MAX_TEXT 255 /* bytes of one text in a hello; the rest is not sent */

/* How a sample carries its values, and the C type of the array they come in. */
enum {
  EDGELSTM_INT16 = 0,  /* int16_t */
  EDGELSTM_INT32 = 1,  /* int32_t */
  EDGELSTM_FLOAT32 = 2 /* float */
};

enum { EDGELSTM_DEBUG = 0, EDGELSTM_INFO = 1, EDGELSTM_WARNING = 2, EDGELSTM_ERROR = 3 };

typedef struct {
  const char *name; /* UTF-8, not empty, different from the others */
  const char *unit; /* UTF-8, may be empty */
  float scale;      /* physical value = value * scale; finite, not 0 */
} edgelstm_channel;

/* What does not change about a device while it runs. */
typedef struct {
  const char *device_id;
  const char *firmware_version;
  const edgelstm_channel *channels;
  uint8_t channel_count;       /* 1 to EDGELSTM_MAX_CHANNELS */
  uint8_t value_type;          /* EDGELSTM_INT16, ... */
  uint32_t clock_tick_us;      /* at least 1 */
  int64_t clock_epoch_ms;      /* Unix time at device clock 0; 0 = no wall clock */
  uint32_t shortest_period_us; /* the fastest rate that the device can do */
} edgelstm_description;

/* A place in the payload and CRC of a frame. */
typedef struct {
  const uint8_t *next; /* the bytes of this piece that are still to come: `left` of them, ... */
  uint32_t number;     /* ... or the lower bytes of a number: `number_left` of them */
  uint16_t left;
  uint8_t number_left;
  uint8_t piece;
  uint8_t channel;
} edgelstm_place;

#define EDGELSTM_HEAD_SIZE 27 /* the fields of a hello before its texts */

/* One frame on its way out; not to be copied. Private, but for its size: 60 bytes on an AVR. */
typedef struct {
  edgelstm_place place; /* of the next byte */
  edgelstm_place ahead; /* after the COBS block that it is in */
  uint16_t crc;         /* of the payload before that */
  const edgelstm_description *texts; /* of a hello: what follows the head, ... */
  const uint8_t *body;               /* ... or of another message, if anything */
  uint16_t body_size;
  uint8_t stage;
  uint8_t block_left; /* bytes of the COBS block that are still to come */
  uint8_t head_size;
  uint8_t head[EDGELSTM_HEAD_SIZE];
} edgelstm_frame;

/*
 * CRC-16/CCITT-FALSE, from EDGELSTM_CRC_START on. Compiled with EDGELSTM_SMALL_CRC it goes bit by
 * bit: on an AVR 22 bytes smaller, and half as fast.
 */
#define EDGELSTM_CRC_START 0xFFFFu
uint16_t edgelstm_crc16(uint16_t crc, uint8_t byte);

/*
 * True when the description keeps the rules of the protocol: the number of channels, names, scales,
 * texts, and a hello and a sample that fit into one payload. For a check at start or in a test.
 */
bool edgelstm_description_is_valid(const edgelstm_description *description);

/* Bytes of the values of one sample. */
uint16_t edgelstm_packed_size(const edgelstm_description *description);
/* Writes values as they travel. `values` is an array of the value type, one for each channel. */
void edgelstm_pack(const edgelstm_description *description, const void *values, uint8_t *packed);

void edgelstm_frame_hello(edgelstm_frame *frame, const edgelstm_description *description,
                          uint32_t sample_period_us, uint32_t boot_id, uint32_t sample_count);
/* `packed`: of edgelstm_pack(). */
void edgelstm_frame_sample(edgelstm_frame *frame, const edgelstm_description *description,
                           uint16_t sequence_number, uint32_t device_clock, const uint8_t *packed);
void edgelstm_frame_end(edgelstm_frame *frame, uint32_t sample_count);
/* `text` ends with 0x00, which is not sent; it is cut where the payload is full. */
void edgelstm_frame_log(edgelstm_frame *frame, uint8_t level, const char *text);
void edgelstm_frame_pong(edgelstm_frame *frame, uint32_t token, uint32_t device_clock);
void edgelstm_frame_statistics(edgelstm_frame *frame, uint32_t sample_count, uint32_t dropped,
                               uint32_t overruns, uint32_t bad_commands);
/* Any payload of 1 to EDGELSTM_MAX_PAYLOAD bytes; hosts ignore types that they do not know. */
void edgelstm_frame_payload(edgelstm_frame *frame, const uint8_t *payload, uint16_t size);

/* Gives the next byte of the frame; false, and no byte, after the 0x00 that ends it. */
bool edgelstm_frame_next(edgelstm_frame *frame, uint8_t *byte);

#ifdef __cplusplus
}
#endif

#endif
