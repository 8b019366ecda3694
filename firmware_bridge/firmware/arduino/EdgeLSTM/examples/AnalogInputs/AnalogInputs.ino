// Streams the six analogue inputs A0 to A5 in volts, 100 times a second.

#include <EdgeLSTM.h>

const float VOLT = 5.0 / 1023;  // of one step, with the board's own 5 V as reference

const EdgeLSTMChannel channels[] = {
    {"a0", "V", VOLT}, {"a1", "V", VOLT}, {"a2", "V", VOLT},
    {"a3", "V", VOLT}, {"a4", "V", VOLT}, {"a5", "V", VOLT},
};

EdgeLSTM<int16_t, 6> device(Serial, "analog-inputs", "1.0.0", channels);

void setup() {
  Serial.begin(115200);
  device.begin(10000);  // microseconds between two samples
}

void loop() {
  if (device.due()) {
    int16_t values[6];
    for (int i = 0; i < 6; i++) values[i] = analogRead(A0 + i);
    device.send(values);
  }
}
