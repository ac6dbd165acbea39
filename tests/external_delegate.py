"""A real external delegate, built with gcc: it takes what it is told to, or fails as it is told to.

Options: ``take=CODE`` claims the operators of a builtin code and copies their first input to their
first output; ``make=nothing`` makes no delegate and reports why; ``prepare=fails`` reports an error
when it is applied. Without options it claims nothing.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from programs import require_program

__all__ = ["RELU", "built", "without_functions"]

#: BuiltinOperator of schema.fbs.
RELU = 19

#: Structures as in LiteRT's ``tflite/core/c/common.h``, up to the last field that is used.
_SOURCE = r"""
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct { int size; int data[]; } IntArray;
typedef struct { int type; void* data; IntArray* dims; float scale; int32_t zero_point;
                 int allocation; size_t bytes; } TensorHead;
typedef struct { IntArray *inputs, *outputs; } Node;
typedef struct Context Context;
typedef struct Delegate Delegate;
typedef struct {
  void* (*init)(Context*, const char*, size_t);
  void (*free)(Context*, void*);
  int (*prepare)(Context*, Node*);
  int (*invoke)(Context*, Node*);
  const char* (*profiling_string)(const Context*, const Node*);
  int32_t builtin_code;
  const char* custom_name;
  int version;
  void *external, *async_kernel;
  uint64_t inplace;
} Registration;
struct Context {
  size_t tensors_size;
  int (*GetExecutionPlan)(Context*, IntArray**);
  char* tensors;
  void* impl;
  int (*ResizeTensor)(Context*, TensorHead*, IntArray*);
  void (*ReportError)(Context*, const char*, ...);
  int (*AddTensors)(Context*, int, int*);
  int (*GetNodeAndRegistration)(Context*, int, Node**, Registration**);
  int (*Replace)(Context*, Registration, const IntArray*, Delegate*);
};
struct Delegate {
  void* data;
  int (*Prepare)(Context*, Delegate*);
  int (*CopyFrom)(Context*, Delegate*, int, TensorHead*);
  int (*CopyTo)(Context*, Delegate*, int, TensorHead*);
  void (*FreeHandle)(Context*, Delegate*, int*);
  int64_t flags;
  void* builder;
};
typedef struct { int take; int fails; } Settings;

static void* first_array(IntArray* all, Context* context, size_t* bytes) {
  /* sizeof(TfLiteTensor) is not known here: find the step by the size of the whole array. */
  extern size_t tensor_size;
  TensorHead* head = (TensorHead*)(context->tensors + tensor_size * all->data[0]);
  *bytes = head->bytes;
  return head->data;
}
size_t tensor_size = TENSOR_SIZE;

static void* init(Context* c, const char* b, size_t n) { return NULL; }
static void release(Context* c, void* data) {}
static int ready(Context* c, Node* node) { return 0; }
static int copy(Context* context, Node* node) {
  size_t from_bytes, to_bytes;
  void* from = first_array(node->inputs, context, &from_bytes);
  void* to = first_array(node->outputs, context, &to_bytes);
  if (from_bytes != to_bytes) return 1;
  memcpy(to, from, to_bytes);
  return 0;
}

static int prepare(Context* context, Delegate* delegate) {
  Settings* settings = delegate->data;
  if (settings->fails) {
    context->ReportError(context, "the accelerator is asleep");
    return 1;
  }
  IntArray* plan;
  if (context->GetExecutionPlan(context, &plan)) return 1;
  IntArray* taken = malloc(sizeof(int) * (plan->size + 1));
  taken->size = 0;
  for (int at = 0; at < plan->size; at++) {
    Node* node;
    Registration* registration;
    if (context->GetNodeAndRegistration(context, plan->data[at], &node, &registration)) return 1;
    if (registration->builtin_code == settings->take) taken->data[taken->size++] = plan->data[at];
  }
  Registration kernel = {init, release, ready, copy, NULL, 51, "Copier", 1, NULL, NULL, 0};
  int status = taken->size ? context->Replace(context, kernel, taken, delegate) : 0;
  free(taken);
  return status;
}

Delegate* tflite_plugin_create_delegate(char** keys, char** values, size_t count,
                                        void (*report)(const char*)) {
  Settings* settings = calloc(1, sizeof(Settings));
  settings->take = -1;
  for (size_t at = 0; at < count; at++) {
    if (!strcmp(keys[at], "take")) settings->take = atoi(values[at]);
    if (!strcmp(keys[at], "prepare")) settings->fails = 1;
    if (!strcmp(keys[at], "make")) {
      if (report) report("no such accelerator on the bus");
      free(settings);
      return NULL;
    }
  }
  Delegate* made = calloc(1, sizeof(Delegate));
  made->data = settings;
  made->Prepare = prepare;
  return made;
}

void tflite_plugin_destroy_delegate(Delegate* delegate) {
  if (!delegate) return;
  free(delegate->data);
  free(delegate);
}
"""


def built(folder: Path) -> Path:
    """Compile the delegate into this folder."""
    return _compiled(_SOURCE, folder / "libcopier.so")


def without_functions(folder: Path) -> Path:
    """Compile a library that is no delegate."""
    return _compiled("int answer(void) { return 42; }", folder / "libanswer.so")


def _compiled(source: str, library: Path) -> Path:
    compiler = require_program("gcc")
    code = library.with_suffix(".c")
    code.write_text(source)
    command = [compiler, "-shared", "-fPIC", "-O1", f"-DTENSOR_SIZE={_TENSOR_SIZE}"]
    subprocess.run([*command, "-o", str(library), str(code)], check=True)
    return library


#: sizeof(TfLiteTensor) on a 64-bit machine.
_TENSOR_SIZE = 112
