/*
 * A stand-in for libedgetpu.so.1 and other TFLite delegates, for tests: gcc -shared -fPIC.
 *
 * It claims the operations "edgetpu-custom-op", which it computes as the identity. What goes wrong
 * is read from a file, at loading and at each step, so that a test can change it at any time:
 *
 *   ok              nothing; so does a file that is not there
 *   hang            the step never ends            hang-at-load    nor does loading
 *   crash           the step ends in SIGSEGV       crash-at-load   loading does
 *   error           the step fails                 refuse          there is no such device
 *   exit            the step ends the process
 *   wrong           the numbers are wrong
 *   chatter         a megabyte is printed at each step
 *
 * The file is named by the option "control", or by STANDIN_CONTROL in the environment: Coral's
 * library takes no options but "device". At loading the process id and the device are written to
 * FILE.loads, and at unloading the process id to FILE.unloads.
 *
 * The structures are those of tensorflow/lite/core/c/common.h as far as they are needed; those that
 * grew over time have room at their end.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, ERROR = 1 };
enum { ALLOW_DYNAMIC_TENSORS = 1 };

typedef struct Context Context;
typedef struct Delegate Delegate;

typedef struct {
  int size;
  int data[];
} Numbers;

typedef struct {
  int type;
  union {
    int8_t *bytes;
    int64_t room;
  } data;
  Numbers *shape;
  struct {
    float scale;
    int32_t zero_point;
  } params;
  int allocation_type;
  size_t size;
  const void *allocation;
  const char *name;
  Delegate *delegate;
  int buffer_handle;
  char data_is_stale, is_variable;
  struct {
    int type;
    void *params;
  } quantization;
  void *sparsity;
  Numbers *shape_signature;
} Tensor;

typedef struct {
  Numbers *inputs, *outputs;
} Node; /* longer in truth, but only ever seen through a pointer */

typedef struct {
  void *(*init)(Context *, const char *, size_t);
  void (*free)(Context *, void *);
  int (*prepare)(Context *, Node *);
  int (*invoke)(Context *, Node *);
  const char *(*profiling_string)(const Context *, const Node *);
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *room[8];
} Operation;

struct Context {
  size_t tensor_count;
  int (*get_execution_plan)(Context *, Numbers **);
  Tensor *tensors;
  void *impl;
  int (*resize_tensor)(Context *, Tensor *, Numbers *);
  void (*report_error)(Context *, const char *, ...);
  int (*add_tensors)(Context *, int, int *);
  int (*get_node)(Context *, int, Node **, Operation **);
  int (*replace_nodes)(Context *, Operation, const Numbers *, Delegate *);
};

struct Delegate {
  void *data;
  int (*prepare)(Context *, Delegate *);
  int (*copy_from)(Context *, Delegate *, int, Tensor *);
  int (*copy_to)(Context *, Delegate *, int, Tensor *);
  void (*free_handle)(Context *, Delegate *, int *);
  int64_t flags;
  void *room[8];
};

static char control[4096];

static int told_to(const char *what) {
  char word[32] = "ok";
  FILE *file = fopen(control, "r");
  if (file) {
    if (fscanf(file, "%31s", word) != 1) strcpy(word, "ok");
    fclose(file);
  }
  return strcmp(word, what) == 0;
}

static void note(const char *kind, const char *device) {
  char name[sizeof control + 16];
  snprintf(name, sizeof name, "%s.%s", control, kind);
  FILE *file = fopen(name, "a");
  if (file) {
    fprintf(file, "%d %s\n", (int)getpid(), device);
    fclose(file);
  }
}

static void hang(void) {
  for (;;) sleep(1000);
}

static void crash(void) {
  fprintf(stderr, "F standin.c:1 transfer failed\n");
  volatile int *nowhere = NULL;
  *nowhere = 1;
}

static int prepare_kernel(Context *context, Node *node) {
  (void)context, (void)node;
  return OK;
}

static int invoke_kernel(Context *context, Node *node) {
  printf("standin: a step\n");
  fflush(stdout);
  if (told_to("hang")) hang();
  if (told_to("crash")) crash();
  if (told_to("exit")) _exit(3);
  if (told_to("error")) {
    context->report_error(context, "the stand-in was told to fail");
    return ERROR;
  }
  static char page[65536]; /* zeros will do */
  for (int i = told_to("chatter") ? 16 : 0; i > 0; i--) fwrite(page, 1, sizeof page, stderr);
  const char flip = told_to("wrong") ? (char)0x80 : 0;
  for (int i = 0; i < node->outputs->size; i++) {
    const Tensor *in = &context->tensors[node->inputs->data[i]];
    const Tensor *out = &context->tensors[node->outputs->data[i]];
    for (size_t j = 0; j < out->size; j++) out->data.bytes[j] = in->data.bytes[j] ^ flip;
  }
  return OK;
}

static int prepare(Context *context, Delegate *delegate) {
  Numbers *plan;
  if (context->get_execution_plan(context, &plan) != OK) return ERROR;
  Numbers *mine = calloc(1, sizeof(Numbers) + sizeof(int) * (size_t)plan->size);
  for (int i = 0; i < plan->size; i++) {
    Node *node;
    Operation *operation;
    if (context->get_node(context, plan->data[i], &node, &operation) != OK) continue;
    if (operation->custom_name && strcmp(operation->custom_name, "edgetpu-custom-op") == 0)
      mine->data[mine->size++] = plan->data[i];
  }
  int status = OK;
  if (mine->size) {
    Operation kernel = {0};
    kernel.prepare = prepare_kernel;
    kernel.invoke = invoke_kernel;
    kernel.custom_name = "StandInDelegate";
    kernel.version = 1;
    status = context->replace_nodes(context, kernel, mine, delegate);
  }
  free(mine);
  return status;
}

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count,
                                        void (*report)(const char *)) {
  const char *device = "", *path = getenv("STANDIN_CONTROL");
  for (size_t i = 0; i < count; i++) {
    if (strcmp(keys[i], "device") == 0) {
      device = values[i];
    } else if (strcmp(keys[i], "control") == 0) {
      path = values[i];
    } else {
      report("unknown option");
      return NULL;
    }
  }
  snprintf(control, sizeof control, "%s", path ? path : "");
  note("loads", device);
  if (told_to("hang-at-load")) hang();
  if (told_to("crash-at-load")) crash();
  if (told_to("refuse")) {
    report("Failed to open device");
    return NULL;
  }
  Delegate *delegate = calloc(1, sizeof *delegate);
  delegate->prepare = prepare;
  delegate->flags = ALLOW_DYNAMIC_TENSORS;
  return delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) {
  note("unloads", "");
  free(delegate);
}
