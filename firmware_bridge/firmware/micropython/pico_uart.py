"""main.py of a Raspberry Pi Pico: three analogue inputs over UART 0, on the pins GP0 and GP1."""

import machine

import edgelstm

inputs = [machine.ADC(pin) for pin in (26, 27, 28)]
uart = machine.UART(0, baudrate=115200, tx=machine.Pin(0), rx=machine.Pin(1), txbuf=512)

device = edgelstm.Device(
    edgelstm.UartPort(uart, chunk=128),
    # The raw values are sent; the host multiplies them by the scale.
    channels=[(name, "V", 3.3 / 65535) for name in ("adc0", "adc1", "adc2")],
    sample_period_us=10_000,
    value_type=edgelstm.INT32,
    firmware_version="pico_uart 1",
)
values = [0] * 3
while True:
    if device.poll():
        for i in range(3):
            values[i] = inputs[i].read_u16()
        device.sample(values)
