// Streams the acceleration that an MPU-6050 on the I2C pins measures, 100 times a second.
// While the sensor does not answer, nothing is sent: the host sees the samples as overruns.

#include <EdgeLSTM.h>
#include <Wire.h>

const uint8_t SENSOR = 0x68;
const uint8_t ACCELERATION = 0x3B;  // six bytes: x, y, z, the high byte first
const uint8_t POWER = 0x6B;

const float STEP = 9.80665 / 16384;  // m/s2 of one step, in the range of 2 g

const EdgeLSTMChannel channels[] = {
    {"x", "m/s2", STEP}, {"y", "m/s2", STEP}, {"z", "m/s2", STEP},
};

EdgeLSTM<int16_t, 3> device(Serial, "accelerometer", "1.0.0", channels);
bool awake = false;
bool answered = true;

bool wake() {
  Wire.beginTransmission(SENSOR);
  Wire.write(POWER);
  Wire.write((uint8_t)0);  // it sleeps when it gets power
  return Wire.endTransmission() == 0;
}

bool measure(int16_t (&values)[3]) {
  Wire.beginTransmission(SENSOR);
  Wire.write(ACCELERATION);
  if (Wire.endTransmission(false) != 0 || Wire.requestFrom(SENSOR, (uint8_t)6) != 6) return false;
  for (int16_t &value : values) {
    const uint8_t high = Wire.read();
    value = (int16_t)((uint16_t)high << 8 | (uint8_t)Wire.read());
  }
  return true;
}

void setup() {
  Serial.begin(115200);
  Wire.begin();
  Wire.setClock(400000);
#ifdef WIRE_HAS_TIMEOUT
  Wire.setWireTimeout(3000, true);  // microseconds: a loose wire must not stop the board
#endif
  device.begin(10000);  // microseconds between two samples
}

void loop() {
  if (device.due()) {
    int16_t values[3];
    if (!awake) awake = wake();
    const bool answers = awake && measure(values);
    if (answers) device.send(values);
    if (answered && !answers) device.log(EDGELSTM_ERROR, "the MPU-6050 does not answer");
    awake = answered = answers;  // it may have lost its power: wake it again
  }
}
