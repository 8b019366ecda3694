"""main.py of an ESP32: an MPU-6050 accelerometer on I2C, over UART 2, on GPIO 17 and 16."""

import struct

import machine

import edgelstm

MPU6050 = 0x68
i2c = machine.I2C(0, scl=machine.Pin(22), sda=machine.Pin(21), freq=400_000)
i2c.writeto_mem(MPU6050, 0x6B, b"\0")  # wake it up: it then measures up to 2 g
uart = machine.UART(2, baudrate=115200, tx=17, rx=16, txbuf=512)

device = edgelstm.Device(
    edgelstm.UartPort(uart, chunk=128),
    channels=[(name, "g", 1 / 16384) for name in ("x", "y", "z")],
    sample_period_us=10_000,
    value_type=edgelstm.INT16,
    firmware_version="esp32_uart 1",
)
registers = bytearray(6)
while True:
    if device.poll():
        try:
            i2c.readfrom_mem_into(MPU6050, 0x3B, registers)
        except OSError:
            continue  # the sensor did not answer: the sample counts as an overrun
        device.sample(struct.unpack(">hhh", registers))
