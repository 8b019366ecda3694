/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * An Arduino Uno without the hardware, for tests: runs the ELF file of an ATmega328P in simavr, with
 * its serial port on a pseudo-terminal and waveforms on its analogue inputs. As simavr is under the
 * GPL, version 3 or later, so is this one file; it is no part of what is installed.
 *
 *   gcc simboard.c -lsimavr -lelf -lm -o simboard
 *   simboard [OPTION]... FIRMWARE.elf
 *
 *   --speed X          simulated seconds per second (1); 0: as fast as it goes, and nothing is lost
 *                      while nobody reads
 *   --seconds T        end after so many simulated seconds, once all is read
 *   --link PATH        a symbolic link to the port
 *   --drop-ppm N       bytes of the device that get lost, per million
 *   --garble-ppm N     bytes of the device of which one bit flips, per million
 *   --seed N           for these two
 *   --truth FILE       what the device sends, before damage
 *   --conversions FILE each measurement of an analogue input: "channel millivolts milliseconds"
 *   --anomaly-at T     from then on channel 0 is disturbed
 *   --restart-at T     a reset, as at each SIGUSR1; the EEPROM keeps its content
 *   --sensor           an MPU-6050 on the I2C pins; SIGUSR2 unplugs it, or plugs it in again
 *
 * The first line of output is {"port": PATH}; the last one, after the end or SIGTERM, a summary.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <simavr/avr_adc.h>
#include <simavr/avr_twi.h>
#include <simavr/avr_uart.h>
#include <simavr/sim_avr.h>
#include <simavr/sim_elf.h>

enum { CLOCK_HZ = 16000000, BYTES_PER_SECOND = 11520, INPUTS = 6, SUPPLY_MV = 5000 };
enum { IDLE_BYTE_TIMES = 10 }; /* how often to look for input while there is none */
enum { DRAIN_MS = 30000 };     /* how long to wait at the end for a reader */
enum { SETTLE_MS = 200 };      /* bytes may be on their way inside the kernel for so long */

static struct {
  double speed, seconds, anomaly_at, restart_at;
  long drop_ppm, garble_ppm;
  uint64_t seed;
  const char *link, *truth, *conversions, *firmware;
} options = {.speed = 1, .seconds = INFINITY, .anomaly_at = INFINITY, .restart_at = INFINITY,
             .seed = 1};
static bool has_sensor;

static struct {
  unsigned long sent, received, dropped, garbled, overflowed, restarts;
} counts;

static avr_t *avr;
static avr_irq_t *uart_input;
static int master = -1;
static FILE *truth, *conversions;
static bool uart_has_room = true;
static volatile sig_atomic_t stopped, reset_wanted, plug_wanted;

static void on_signal(int number) {
  if (number == SIGUSR1)
    reset_wanted = 1;
  else if (number == SIGUSR2)
    plug_wanted = 1;
  else
    stopped = 1;
}

static void fail(const char *what) {
  fprintf(stderr, "simboard: %s: %s\n", what, strerror(errno));
  exit(1);
}

/* What simavr has to say goes to stderr, and only when something is wrong. */
static void on_log(avr_t *device, const int level, const char *format, va_list arguments) {
  (void)device;
  if (level <= LOG_ERROR) vfprintf(stderr, format, arguments);
}

static double simulated(void) { return (double)avr->cycle / CLOCK_HZ; }

static double wall(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* True about `ppm` times in a million. */
static bool happens(long ppm) {
  options.seed = options.seed * 6364136223846793005u + 1442695040888963407u;
  return (long)((options.seed >> 33) % 1000000) < ppm;
}

/* --- from the device to the port --- */

static void put(uint8_t byte) {
  while (write(master, &byte, 1) != 1) {
    if (options.speed > 0) {
      counts.overflowed++; /* nobody reads: it is lost, as on a wire */
      return;
    }
    if (stopped) return;
    struct pollfd port = {.fd = master, .events = POLLOUT};
    poll(&port, 1, 100);
  }
}

static void on_output(avr_irq_t *irq, uint32_t value, void *context) {
  (void)irq, (void)context;
  uint8_t byte = (uint8_t)value;
  counts.sent++;
  if (truth) putc(byte, truth);
  if (happens(options.drop_ppm)) {
    counts.dropped++;
    return;
  }
  if (happens(options.garble_ppm)) {
    counts.garbled++;
    byte ^= (uint8_t)(1u << (options.seed >> 61));
  }
  put(byte);
}

/* --- from the port to the device: one byte in the time that it takes on a wire --- */

static void on_room(avr_irq_t *irq, uint32_t value, void *context) {
  (void)irq;
  if (value) uart_has_room = context != NULL;
}

static avr_cycle_count_t take_input(avr_t *device, avr_cycle_count_t when, void *context) {
  (void)device, (void)context;
  const avr_cycle_count_t byte_time = CLOCK_HZ / BYTES_PER_SECOND;
  uint8_t byte;
  if (uart_has_room && read(master, &byte, 1) == 1) {
    counts.received++;
    avr_raise_irq(uart_input, byte);
    return when + byte_time;
  }
  return when + byte_time * IDLE_BYTE_TIMES;
}

/* --- the analogue inputs --- */

/* A sine for each channel and a little noise, in millivolts: new values each millisecond. */
static uint32_t waveform(uint32_t channel, uint32_t ms) {
  static const double period_ms[INPUTS] = {700, 1100, 1700, 2300, 3100, 4300};
  static const double amplitude[INPUTS] = {1500, 1200, 1000, 800, 600, 400};
  uint32_t hash = (ms * INPUTS + channel) * 2654435761u;
  hash = (hash ^ hash >> 16) * 2246822519u;
  hash ^= hash >> 13;
  double mv = 2500 + amplitude[channel] * sin(2 * M_PI * ms / period_ms[channel] + channel);
  if (channel == 0 && ms >= options.anomaly_at * 1000)
    mv += 600 * sin(2 * M_PI * ms / 77) + (hash % 401) - 200;
  return (uint32_t)lround(mv + hash % 17 - 8);
}

static void on_conversion(avr_irq_t *irq, uint32_t value, void *context) {
  (void)irq;
  union {
    uint32_t value;
    avr_adc_mux_t mux;
  } input = {.value = value};
  const uint32_t channel = (uint32_t)input.mux.src;
  if (input.mux.kind != ADC_MUX_SINGLE || channel >= INPUTS) return;
  const uint32_t ms = (uint32_t)(avr->cycle / (CLOCK_HZ / 1000));
  const uint32_t mv = waveform(channel, ms);
  if (conversions) fprintf(conversions, "%u %u %u\n", channel, mv, ms);
  avr_raise_irq((avr_irq_t *)context + channel, mv);
}

/* --- the accelerometer: the few registers of an MPU-6050 that a sketch needs --- */

enum { SENSOR_ADDRESS = 0x68, ACCELERATION = 0x3B, POWER = 0x6B, ASLEEP = 0x40 };

static struct {
  bool is_plugged, is_selected, has_register;
  uint8_t at;
  uint8_t registers[128];
} sensor;

static void plug_sensor(bool plugged) {
  memset(&sensor, 0, sizeof sensor);
  sensor.is_plugged = plugged;
  sensor.registers[POWER] = ASLEEP;
}

/* Three waves, new values each millisecond; the sensor shows none while it sleeps. */
static void measure(void) {
  const double t = (double)(avr->cycle / (CLOCK_HZ / 1000));
  const double wave[3] = {4000 * sin(2 * M_PI * t / 900), -2000 * cos(2 * M_PI * t / 1300),
                          16384 + 500 * sin(2 * M_PI * t / 310)};
  for (int i = 0; i < 3; i++) {
    const int value = sensor.registers[POWER] & ASLEEP ? 0 : (int)lround(wave[i]);
    sensor.registers[ACCELERATION + 2 * i] = (uint8_t)(value >> 8);
    sensor.registers[ACCELERATION + 2 * i + 1] = (uint8_t)value;
  }
}

static void on_i2c(avr_irq_t *irq, uint32_t value, void *context) {
  (void)irq;
  avr_irq_t *answer = context;
  const avr_twi_msg_irq_t message = {.u.v = value};
  const uint8_t what = message.u.twi.msg;
  if (what & TWI_COND_STOP) sensor.is_selected = false;
  if (what & TWI_COND_START) {
    sensor.is_selected = sensor.is_plugged && message.u.twi.addr >> 1 == SENSOR_ADDRESS;
    sensor.has_register = false;
    if (sensor.is_selected)
      avr_raise_irq(answer, avr_twi_irq_msg(TWI_COND_ACK, message.u.twi.addr, 1));
  }
  if (!sensor.is_selected) return;
  if (what & TWI_COND_WRITE) {
    avr_raise_irq(answer, avr_twi_irq_msg(TWI_COND_ACK, message.u.twi.addr, 1));
    if (sensor.has_register)
      sensor.registers[sensor.at++ % sizeof sensor.registers] = message.u.twi.data;
    else
      sensor.at = message.u.twi.data;
    sensor.has_register = true;
  }
  if (what & TWI_COND_READ) {
    if (sensor.at == ACCELERATION) measure();
    const uint8_t data = sensor.registers[sensor.at++ % sizeof sensor.registers];
    avr_raise_irq(answer, avr_twi_irq_msg(TWI_COND_READ, message.u.twi.addr, data));
  }
}

/* --- the board --- */

static void keep_pace(void) {
  static double begun = -1;
  if (options.speed <= 0) return;
  const double ahead = simulated() / options.speed;
  if (begun < 0) begun = wall() - ahead;
  const double wait = begun + ahead - wall();
  if (wait < 0.0005) return;
  const struct timespec time = {(time_t)wait, (long)((wait - floor(wait)) * 1e9)};
  nanosleep(&time, NULL);
}

/* Called where the device sleeps; the main loop keeps the pace. */
static void on_sleep(avr_t *device, avr_cycle_count_t cycles) { (void)device, (void)cycles; }

static void make_device(void) {
  avr_global_logger_set(on_log);
  elf_firmware_t firmware;
  memset(&firmware, 0, sizeof firmware);
  if (elf_read_firmware(options.firmware, &firmware) != 0) {
    fprintf(stderr, "simboard: %s is not an ELF file of an AVR\n", options.firmware);
    exit(1);
  }
  strcpy(firmware.mmcu, "atmega328p");
  firmware.frequency = CLOCK_HZ;
  firmware.vcc = firmware.avcc = firmware.aref = SUPPLY_MV;
  avr = avr_make_mcu_by_name(firmware.mmcu);
  if (!avr) fail("no atmega328p");
  avr_init(avr);
  avr_load_firmware(avr, &firmware);
  avr->log = LOG_ERROR;
  avr->sleep = on_sleep;

  uint32_t flags = 0; /* no printing, and no sleeping while the device waits for a byte */
  avr_ioctl(avr, AVR_IOCTL_UART_SET_FLAGS('0'), &flags);
  avr_irq_t *uart = avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), 0);
  uart_input = uart + UART_IRQ_INPUT;
  avr_irq_register_notify(uart + UART_IRQ_OUTPUT, on_output, NULL);
  avr_irq_register_notify(uart + UART_IRQ_OUT_XON, on_room, avr);
  avr_irq_register_notify(uart + UART_IRQ_OUT_XOFF, on_room, NULL);
  avr_irq_t *adc = avr_io_getirq(avr, AVR_IOCTL_ADC_GETIRQ, 0);
  avr_irq_register_notify(adc + ADC_IRQ_OUT_TRIGGER, on_conversion, adc);
  avr_irq_t *i2c = avr_io_getirq(avr, AVR_IOCTL_TWI_GETIRQ(0), 0);
  avr_irq_register_notify(i2c + TWI_IRQ_OUTPUT, on_i2c, i2c + TWI_IRQ_INPUT);
  plug_sensor(has_sensor);
}

static void power_up(void) {
  avr_reset(avr);
  uart_has_room = true;
  avr_cycle_timer_register(avr, CLOCK_HZ / BYTES_PER_SECOND, take_input, NULL);
}

/* Returns the other side of the port, which is kept open: no hang-up between two readers. */
static int make_port(void) {
  char path[64];
  master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  if (master < 0 || grantpt(master) || unlockpt(master)) fail("no pseudo-terminal");
  if (ptsname_r(master, path, sizeof path)) fail("no pseudo-terminal");
  const int other = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
  struct termios settings;
  if (other < 0 || tcgetattr(other, &settings)) fail(path);
  cfmakeraw(&settings);
  tcsetattr(other, TCSANOW, &settings);
  if (options.link) {
    unlink(options.link);
    if (symlink(path, options.link)) fail(options.link);
  }
  printf("{\"port\": \"%s\"}\n", path);
  fflush(stdout);
  return other;
}

/* What waits in a pseudo-terminal is gone with it. */
static void wait_for_reader(int other) {
  int waiting = 0, empty_ms = 0;
  for (int ms = 0; ms < DRAIN_MS && empty_ms < SETTLE_MS && !stopped; ms += 10) {
    if (ioctl(other, FIONREAD, &waiting)) return;
    empty_ms = waiting ? 0 : empty_ms + 10;
    usleep(10000);
  }
}

static int run(void) {
  int state = cpu_Running;
  avr_cycle_count_t next_look = 0;
  while (!stopped && state != cpu_Done && state != cpu_Crashed) {
    state = avr_run(avr);
    if (avr->cycle < next_look) continue;
    next_look = avr->cycle + CLOCK_HZ / 1000;
    keep_pace();
    if (simulated() >= options.seconds) break;
    if (simulated() >= options.restart_at) {
      options.restart_at = INFINITY;
      reset_wanted = 1;
    }
    if (plug_wanted) {
      plug_wanted = 0;
      plug_sensor(!sensor.is_plugged);
    }
    if (reset_wanted) {
      reset_wanted = 0;
      counts.restarts++;
      power_up();
    }
  }
  return state;
}

/* How far down from the end of the RAM it was written to: below there are only zeros for long. */
static unsigned stack_size(void) {
  unsigned deepest = avr->ramend, zeros = 0;
  for (unsigned at = avr->ramend; at > avr->ioend && zeros < 128; at--) {
    zeros = avr->data[at] ? 0 : zeros + 1;
    if (avr->data[at]) deepest = at;
  }
  return avr->ramend - deepest + 1;
}

static FILE *create(const char *path) {
  FILE *file = path ? fopen(path, "w") : NULL;
  if (path && !file) fail(path);
  return file;
}

static void parse(int argc, char **argv) {
  enum { SPEED = 1, SECONDS, LINK, DROP, GARBLE, SEED, TRUTH, CONVERSIONS, ANOMALY, RESTART, SENSOR };
  static const struct option names[] = {
      {"speed", 1, NULL, SPEED},           {"seconds", 1, NULL, SECONDS},
      {"link", 1, NULL, LINK},             {"drop-ppm", 1, NULL, DROP},
      {"garble-ppm", 1, NULL, GARBLE},     {"seed", 1, NULL, SEED},
      {"truth", 1, NULL, TRUTH},           {"conversions", 1, NULL, CONVERSIONS},
      {"anomaly-at", 1, NULL, ANOMALY},    {"restart-at", 1, NULL, RESTART},
      {"sensor", 0, NULL, SENSOR},         {NULL, 0, NULL, 0},
  };
  int name;
  while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
    switch (name) {
      case SPEED: options.speed = atof(optarg); break;
      case SECONDS: options.seconds = atof(optarg); break;
      case LINK: options.link = optarg; break;
      case DROP: options.drop_ppm = atol(optarg); break;
      case GARBLE: options.garble_ppm = atol(optarg); break;
      case SEED: options.seed = (uint64_t)atoll(optarg) * 2 + 1; break;
      case TRUTH: options.truth = optarg; break;
      case CONVERSIONS: options.conversions = optarg; break;
      case ANOMALY: options.anomaly_at = atof(optarg); break;
      case RESTART: options.restart_at = atof(optarg); break;
      case SENSOR: has_sensor = true; break;
      default: exit(2);
    }
  }
  if (optind != argc - 1) {
    fprintf(stderr, "simboard: one firmware file, please\n");
    exit(2);
  }
  options.firmware = argv[optind];
}

int main(int argc, char **argv) {
  parse(argc, argv);
  prctl(PR_SET_PDEATHSIG, SIGTERM); /* a test that dies leaves no board behind */
  const struct sigaction action = {.sa_handler = on_signal};
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGUSR1, &action, NULL);
  sigaction(SIGUSR2, &action, NULL);
  truth = create(options.truth);
  conversions = create(options.conversions);
  make_device();
  const int other = make_port();
  power_up();
  const double begun = wall();
  const int state = run();
  wait_for_reader(other);
  printf("{\"crashed\": %s, \"simulated\": %.3f, \"wall\": %.3f, \"sent\": %lu, \"received\": %lu, "
         "\"dropped\": %lu, \"garbled\": %lu, \"overflowed\": %lu, \"restarts\": %lu, "
         "\"stack\": %u}\n",
         state == cpu_Crashed ? "true" : "false", simulated(), wall() - begun, counts.sent,
         counts.received, counts.dropped, counts.garbled, counts.overflowed, counts.restarts,
         stack_size());
  if (truth) fclose(truth);
  if (conversions) fclose(conversions);
  if (options.link) unlink(options.link);
  avr_terminate(avr);
  return state == cpu_Crashed;
}
