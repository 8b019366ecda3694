#include "edgelstm_frame.h"

#include <string.h>

enum { HELLO = 0x01, SAMPLE = 0x02, END = 0x03, LOG = 0x04, PONG = 0x05, STATISTICS = 0x06 };

/*
 * A payload is read piece by piece: the head, and one body or, of a hello, many texts and numbers.
 * A text is two pieces, its length and its bytes.
 */
enum {
  HEAD,
  BODY,
  ID_SIZE = BODY,
  ID,
  VERSION_SIZE,
  VERSION,
  CHANNEL_COUNT,
  NAME_SIZE, /* from here on once for each channel */
  NAME,
  UNIT_SIZE,
  UNIT,
  SCALE,
  CRC, /* after all others */
  END_OF_FRAME
};

/* How the block ends that is on its way out. */
enum { NEXT_BLOCK, LAST_BLOCK, ZERO_FOLLOWS, FULL_BLOCK, DONE };

enum { MAX_CODE = 0xFF };

/* What is done for each byte stays small when the compiler does not mix in what is done rarely. */
#ifdef __GNUC__
#define APART __attribute__((noinline))
#else
#define APART
#endif

#ifdef EDGELSTM_SMALL_CRC

uint16_t edgelstm_crc16(uint16_t crc, uint8_t byte) {
  crc = (uint16_t)(crc ^ ((uint16_t)byte << 8));
  for (uint8_t bit = 0; bit < 8; bit++)
    crc = (uint16_t)((crc << 1) ^ (crc & 0x8000u ? 0x1021 : 0));
  return crc;
}

#else

/* All eight steps at once, which with this polynomial takes no table. */
uint16_t edgelstm_crc16(uint16_t crc, uint8_t byte) {
  uint8_t quotient = (uint8_t)((crc >> 8) ^ byte);
  quotient = (uint8_t)(quotient ^ (quotient >> 4));
  const uint16_t q = quotient;
  return (uint16_t)((crc << 8) ^ (q << 12) ^ (q << 5) ^ q);
}

#endif

static uint8_t text_size(const char *text) {
  uint8_t size = 0;
  while (size < EDGELSTM_MAX_TEXT && text[size]) size++;
  return size;
}

static uint8_t value_size(const edgelstm_description *description) {
  return description->value_type == EDGELSTM_INT16 ? 2 : 4;
}

bool edgelstm_description_is_valid(const edgelstm_description *description) {
  if (description->channel_count < 1 || description->channel_count > EDGELSTM_MAX_CHANNELS)
    return false;
  if (description->value_type > EDGELSTM_FLOAT32 || description->clock_tick_us < 1) return false;
  size_t hello = EDGELSTM_HEAD_SIZE + 3;
  const char *texts[4] = {description->device_id, description->firmware_version, NULL, NULL};
  for (uint8_t i = 0; i <= description->channel_count; i++) {
    if (i > 0) {
      const edgelstm_channel *channel = &description->channels[i - 1];
      /* Neither 0, nor infinite, nor not a number. */
      if (!(channel->scale > 0 || channel->scale < 0) || channel->scale - channel->scale != 0)
        return false;
      if (!channel->name[0]) return false;
      for (uint8_t k = 1; k < i; k++)
        if (strcmp(channel->name, description->channels[k - 1].name) == 0) return false;
      texts[0] = channel->name;
      texts[1] = channel->unit;
      hello += 6;
    }
    for (uint8_t k = 0; k < 2; k++) {
      const size_t size = strlen(texts[k]);
      if (size > EDGELSTM_MAX_TEXT) return false;
      hello += size;
    }
  }
  return hello <= EDGELSTM_MAX_PAYLOAD;
}

uint16_t edgelstm_packed_size(const edgelstm_description *description) {
  return (uint16_t)(value_size(description) * description->channel_count);
}

static uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

void edgelstm_pack(const edgelstm_description *description, const void *values, uint8_t *packed) {
  for (uint8_t i = 0; i < description->channel_count; i++) {
    uint32_t bits;
    if (description->value_type == EDGELSTM_INT16)
      bits = (uint16_t)((const int16_t *)values)[i];
    else if (description->value_type == EDGELSTM_INT32)
      bits = (uint32_t)((const int32_t *)values)[i];
    else
      bits = bits_of(((const float *)values)[i]);
    for (uint8_t k = value_size(description); k > 0; k--) {
      *packed++ = (uint8_t)bits;
      bits >>= 8;
    }
  }
}

static void begin(edgelstm_frame *frame, uint8_t type) {
  memset(frame, 0, sizeof *frame);
  frame->stage = NEXT_BLOCK;
  frame->head[0] = type;
  frame->head_size = 1;
  frame->crc = EDGELSTM_CRC_START;
  frame->place.next = frame->ahead.next = frame->head;
  frame->place.left = frame->ahead.left = 1;
}

static void set_body(edgelstm_frame *frame, const void *body, uint16_t size) {
  frame->body = (const uint8_t *)body;
  frame->body_size = size;
}

static void add_u8(edgelstm_frame *frame, uint8_t value) {
  frame->head[frame->head_size++] = value;
  frame->place.left = frame->ahead.left = frame->head_size;
}

static void add_u16(edgelstm_frame *frame, uint16_t value) {
  add_u8(frame, (uint8_t)value);
  add_u8(frame, (uint8_t)(value >> 8));
}

static void add_u32(edgelstm_frame *frame, uint32_t value) {
  add_u16(frame, (uint16_t)value);
  add_u16(frame, (uint16_t)(value >> 16));
}

void edgelstm_frame_hello(edgelstm_frame *frame, const edgelstm_description *description,
                          uint32_t sample_period_us, uint32_t boot_id, uint32_t sample_count) {
  const uint64_t epoch = (uint64_t)description->clock_epoch_ms;
  begin(frame, HELLO);
  add_u8(frame, EDGELSTM_PROTOCOL_VERSION);
  add_u8(frame, description->value_type);
  add_u32(frame, sample_period_us);
  add_u32(frame, description->clock_tick_us);
  add_u32(frame, (uint32_t)epoch);
  add_u32(frame, (uint32_t)(epoch >> 32));
  add_u32(frame, boot_id);
  add_u32(frame, sample_count);
  frame->texts = description;
}

void edgelstm_frame_sample(edgelstm_frame *frame, const edgelstm_description *description,
                           uint16_t sequence_number, uint32_t device_clock, const uint8_t *packed) {
  begin(frame, SAMPLE);
  add_u16(frame, sequence_number);
  add_u32(frame, device_clock);
  set_body(frame, packed, edgelstm_packed_size(description));
}

void edgelstm_frame_end(edgelstm_frame *frame, uint32_t sample_count) {
  begin(frame, END);
  add_u32(frame, sample_count);
}

void edgelstm_frame_log(edgelstm_frame *frame, uint8_t level, const char *text) {
  const size_t room = EDGELSTM_MAX_PAYLOAD - 2;
  const size_t size = strlen(text);
  begin(frame, LOG);
  add_u8(frame, level);
  set_body(frame, text, (uint16_t)(size < room ? size : room));
}

void edgelstm_frame_pong(edgelstm_frame *frame, uint32_t token, uint32_t device_clock) {
  begin(frame, PONG);
  add_u32(frame, token);
  add_u32(frame, device_clock);
}

void edgelstm_frame_statistics(edgelstm_frame *frame, uint32_t sample_count, uint32_t dropped,
                               uint32_t overruns, uint32_t bad_commands) {
  begin(frame, STATISTICS);
  add_u32(frame, sample_count);
  add_u32(frame, dropped);
  add_u32(frame, overruns);
  add_u32(frame, bad_commands);
}

void edgelstm_frame_payload(edgelstm_frame *frame, const uint8_t *payload, uint16_t size) {
  begin(frame, payload[0]);
  set_body(frame, payload + 1, (uint16_t)(size - 1));
}

static void go_to_bytes(edgelstm_place *place, const void *bytes, uint16_t size) {
  place->next = (const uint8_t *)bytes;
  place->left = size;
}

static void go_to_number(edgelstm_place *place, uint32_t number, uint8_t size) {
  place->number = number;
  place->number_left = size;
}

static void go_to_text(edgelstm_place *place, const char *text) {
  go_to_bytes(place, text, text_size(text));
}

static void go_to_size(edgelstm_place *place, const char *text) {
  go_to_number(place, text_size(text), 1);
}

static uint8_t piece_after(const edgelstm_frame *frame, edgelstm_place *place) {
  if (place->piece >= CRC) return END_OF_FRAME;
  if (place->piece == BODY && !frame->texts) return CRC;
  if (place->piece < SCALE) return (uint8_t)(place->piece + 1);
  place->channel++;
  return place->channel < frame->texts->channel_count ? NAME_SIZE : CRC;
}

/* Goes to the next piece; false at the end. */
APART static bool go_on(const edgelstm_frame *frame, edgelstm_place *place) {
  const edgelstm_description *texts = frame->texts;
  place->piece = piece_after(frame, place);
  if (place->piece == END_OF_FRAME) return false;
  if (place->piece == CRC) {
    go_to_number(place, frame->crc, 2);
    return true;
  }
  if (!texts) {
    go_to_bytes(place, frame->body, frame->body_size);
    return true;
  }
  const edgelstm_channel *channel = &texts->channels[place->channel];
  switch (place->piece) {
    case ID_SIZE: go_to_size(place, texts->device_id); break;
    case ID: go_to_text(place, texts->device_id); break;
    case VERSION_SIZE: go_to_size(place, texts->firmware_version); break;
    case VERSION: go_to_text(place, texts->firmware_version); break;
    case CHANNEL_COUNT: go_to_number(place, texts->channel_count, 1); break;
    case NAME_SIZE: go_to_size(place, channel->name); break;
    case NAME: go_to_text(place, channel->name); break;
    case UNIT_SIZE: go_to_size(place, channel->unit); break;
    case UNIT: go_to_text(place, channel->unit); break;
    default: go_to_number(place, bits_of(channel->scale), 4); break;
  }
  return true;
}

enum { NO_BYTE = -1 };

/* Returns the byte at `place` of the payload and its CRC, and moves on; NO_BYTE at their end. */
static int16_t take(const edgelstm_frame *frame, edgelstm_place *place) {
  for (;;) {
    if (place->left > 0) {
      place->left--;
      return *place->next++;
    }
    if (place->number_left > 0) {
      const uint8_t byte = (uint8_t)place->number;
      place->number_left--;
      place->number >>= 8;
      return byte;
    }
    if (!go_on(frame, place)) return NO_BYTE;
  }
}

/*
 * Begins the next COBS block and returns its code, which says how far it is to the next 0x00. To
 * find that out every byte is looked at once ahead of its time, and then its CRC is computed too.
 */
APART static uint8_t begin_block(edgelstm_frame *frame) {
  uint8_t code = 1;
  frame->stage = FULL_BLOCK;
  while (code < MAX_CODE) {
    const int16_t byte = take(frame, &frame->ahead);
    if (byte == NO_BYTE) {
      frame->stage = LAST_BLOCK;
      break;
    }
    if (frame->ahead.piece != CRC) frame->crc = edgelstm_crc16(frame->crc, (uint8_t)byte);
    if (byte == 0) {
      frame->stage = ZERO_FOLLOWS;
      break;
    }
    code++;
  }
  frame->block_left = (uint8_t)(code - 1);
  return code;
}

/* Gives what comes between two blocks: the code of the next one, or the 0x00 at the end. */
APART static bool end_block(edgelstm_frame *frame, uint8_t *byte) {
  const uint8_t ended = frame->stage;
  if (ended == DONE) return false;
  if (ended == ZERO_FOLLOWS) take(frame, &frame->place); /* the end of the block stands for it */
  if (ended != LAST_BLOCK) {
    *byte = begin_block(frame);
    /* A full block that ends the data says so by itself: no empty block follows it. */
    if (!(ended == FULL_BLOCK && frame->stage == LAST_BLOCK && frame->block_left == 0)) return true;
  }
  frame->stage = DONE;
  *byte = 0;
  return true;
}

bool edgelstm_frame_next(edgelstm_frame *frame, uint8_t *byte) {
  if (frame->block_left == 0) return end_block(frame, byte);
  frame->block_left--;
  *byte = (uint8_t)take(frame, &frame->place);
  return true;
}
