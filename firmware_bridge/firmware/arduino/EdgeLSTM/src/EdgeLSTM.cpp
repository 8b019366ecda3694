#include "EdgeLSTM.h"

EdgeLSTMDevice::EdgeLSTMDevice(Stream &stream, const edgelstm_description &description,
                               uint8_t *storage)
    : stream_(stream), storage_(storage), due_at_(0), begun_(false), description_(description),
      port_(), device_() {
  port_.room = room;
  port_.write = write;
  port_.clock = clock;
  port_.context = this;
}

bool EdgeLSTMDevice::begin(uint32_t sample_period_us) {
#ifdef __AVR__
  return begin(sample_period_us, edgelstm_next_boot_id(EDGELSTM_EEPROM_ADDRESS));
#else
  return begin(sample_period_us, 0);
#endif
}

bool EdgeLSTMDevice::begin(uint32_t sample_period_us, uint32_t boot_id) {
  begun_ = edgelstm_description_is_valid(&description_);
  if (begun_) {
    edgelstm_device_boot(&device_, &description_, &port_, storage_, sample_period_us, boot_id);
    // Ends whatever a boot loader or an earlier program has left on the line.
    stream_.write((uint8_t)0);
    poll();
  }
  return begun_;
}

void EdgeLSTMDevice::poll() {
  if (!begun_) return;
  int byte;
  while ((byte = stream_.read()) >= 0) edgelstm_device_receive(&device_, (uint8_t)byte);
  edgelstm_device_poll(&device_);
}

bool EdgeLSTMDevice::due() {
  poll();
  if (!begun_ || !edgelstm_device_due(&device_)) return false;
  due_at_ = micros();
  return true;
}

bool EdgeLSTMDevice::sendValues(const void *values) {
  return begun_ && edgelstm_device_send(&device_, due_at_, values);
}

uint16_t EdgeLSTMDevice::room(void *context) {
  const int room = static_cast<EdgeLSTMDevice *>(context)->stream_.availableForWrite();
  return room > 0 ? (uint16_t)room : 0;
}

void EdgeLSTMDevice::write(void *context, uint8_t byte) {
  static_cast<EdgeLSTMDevice *>(context)->stream_.write(byte);
}

uint32_t EdgeLSTMDevice::clock(void *) { return micros(); }
