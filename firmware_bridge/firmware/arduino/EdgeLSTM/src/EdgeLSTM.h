/*
 * Streams samples to edgelstm over a serial port, at an even rate, with everything that is lost
 * counted. See the examples; the wire format is PROTOCOL.md.
 *
 *   const EdgeLSTMChannel channels[] = {{"temperature", "degC", 0.1}, {"light", "", 1}};
 *   EdgeLSTM<int16_t, 2> device(Serial, "greenhouse", "1.0.0", channels);
 *
 * setup(): Serial.begin(115200); device.begin(10000);
 * loop():  if (device.due()) { int16_t values[2] = {...}; device.send(values); }
 */
#ifndef EDGELSTM_H
#define EDGELSTM_H

#include <Arduino.h>

#include "edgelstm_device.h"
#include "edgelstm_eeprom.h"

/* name, unit (may be ""), scale: physical value = value * scale. */
typedef edgelstm_channel EdgeLSTMChannel;

/* All but what depends on the type and number of the values. */
class EdgeLSTMDevice {
 public:
  /*
   * Begins: the device says hello and waits for the host. The host may ask for another period.
   * False, and nothing is ever sent, when the description breaks a rule of the protocol, such as
   * two channels of one name. On AVR boards the number of the boot is counted in EEPROM, so that
   * the host recognises a restart; elsewhere give a `boot_id` that no boot had before: a random
   * number, or 0 when there is none.
   */
  bool begin(uint32_t sample_period_us);
  bool begin(uint32_t sample_period_us, uint32_t boot_id);

  /* Call it often: true when it is time to take a sample. Never waits. */
  bool due();

  /* Takes bytes in and lets bytes out. due() and send() do it too. Never waits. */
  void poll();

  /*
   * Sends a text to the host's log: EDGELSTM_INFO, ... False when another one still waits. Use
   * string literals only: the text is read when there is time to send it.
   */
  bool log(uint8_t level, const char *text) { return edgelstm_device_log(&device_, level, text); }

  bool running() const { return device_.running; }
  /* Microseconds between two samples. */
  uint32_t samplePeriod() const { return device_.period_ticks; }
  /* Samples since the start: not sent for want of room, not taken for want of time. */
  uint32_t dropped() const { return device_.dropped; }
  uint32_t overruns() const { return device_.overruns; }

 protected:
  EdgeLSTMDevice(Stream &stream, const edgelstm_description &description, uint8_t *storage);
  bool sendValues(const void *values);

 private:
  static uint16_t room(void *context);
  static void write(void *context, uint8_t byte);
  static uint32_t clock(void *context);

  Stream &stream_;
  uint8_t *storage_;
  uint32_t due_at_;
  bool begun_;
  edgelstm_description description_;
  edgelstm_port port_;
  edgelstm_device device_;
};

template <typename Value> struct EdgeLSTMValueType;
template <> struct EdgeLSTMValueType<int16_t> { enum { code = EDGELSTM_INT16 }; };
template <> struct EdgeLSTMValueType<int32_t> { enum { code = EDGELSTM_INT32 }; };
template <> struct EdgeLSTMValueType<float> { enum { code = EDGELSTM_FLOAT32 }; };

/* `Value` is int16_t, int32_t or float. The stream must have availableForWrite(). */
template <typename Value, uint8_t Channels> class EdgeLSTM : public EdgeLSTMDevice {
 public:
  /*
   * The texts and channels must stay as they are. `shortestPeriod`, in microseconds, bounds what
   * the host may ask for.
   */
  EdgeLSTM(Stream &stream, const char *deviceId, const char *firmwareVersion,
           const EdgeLSTMChannel (&channels)[Channels], uint32_t shortestPeriod = 1000)
      : EdgeLSTMDevice(stream, describe(deviceId, firmwareVersion, channels, shortestPeriod),
                       waiting_) {}

  /* Sends one sample, or drops and counts it, which gives false. Never waits. */
  bool send(const Value (&values)[Channels]) { return sendValues(values); }

 private:
  static edgelstm_description describe(const char *deviceId, const char *firmwareVersion,
                                       const EdgeLSTMChannel *channels, uint32_t shortestPeriod) {
    const edgelstm_description description = {
        deviceId, firmwareVersion, channels, Channels, EdgeLSTMValueType<Value>::code,
        1,  // micros()
        0,  // no wall clock
        shortestPeriod,
    };
    return description;
  }

  uint8_t waiting_[sizeof(Value) * Channels];
};

#endif
