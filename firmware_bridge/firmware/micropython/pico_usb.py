"""main.py of a Raspberry Pi Pico: three analogue inputs and the chip's temperature, over USB."""

import time

import machine

import edgelstm

inputs = [machine.ADC(pin) for pin in (26, 27, 28)]
thermometer = machine.ADC(4)

# StdioPort takes Ctrl-C away: this is the time to press it, to get the prompt back.
time.sleep(2)

device = edgelstm.Device(
    edgelstm.StdioPort(),
    channels=(
        ("adc0", "V", 1.0),
        ("adc1", "V", 1.0),
        ("adc2", "V", 1.0),
        ("temperature", "degC", 1.0),
    ),
    sample_period_us=10_000,
    firmware_version="pico_usb 1",
)
values = [0.0] * 4
while True:
    if device.poll():
        for i in range(3):
            values[i] = inputs[i].read_u16() * 3.3 / 65535
        # The sensor gives 0.706 V at 27 degC and 1.721 mV less for each degree above.
        values[3] = 27 - (thermometer.read_u16() * 3.3 / 65535 - 0.706) / 0.001721
        device.sample(values)
