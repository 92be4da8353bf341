/* A benchmark_model that runs real inference through libLiteRt.so of ai-edge-litert 2.3.0.
 *
 * The wheel has the library and no headers, so what is used of it is declared here, for that
 * version.
 */
#include "benchmark_common.h"

typedef int Status;
typedef void *Handle; /* every LiteRT object */

enum { CPU = 1, LOCK_TO_WRITE = 1, FLOAT32 = 1, MAX_TENSORS = 32 };

typedef struct {
  int32_t element_type;
  uint32_t rank_and_flags;
  int32_t dimensions[8];
  uint32_t strides[8];
} TensorType;

extern Status LiteRtCreateEnvironment(int options_count, const void *options, Handle *environment);
extern Status LiteRtCreateModelFromFile(Handle environment, const char *path, Handle *model);
extern Status LiteRtCreateOptions(Handle *options);
extern Status LiteRtSetOptionsHardwareAccelerators(Handle options, int accelerators);
extern Status LiteRtCreateOpaqueOptions(const char *identifier, void *data,
                                        void (*destroy)(void *), Handle *opaque);
extern Status LiteRtAddOpaqueOptions(Handle options, Handle opaque);
extern Status LiteRtCreateCompiledModel(Handle environment, Handle model, Handle options,
                                        Handle *compiled);
extern Status LiteRtGetModelSignature(Handle model, size_t index, Handle *signature);
extern Status LiteRtGetNumSignatureInputs(Handle signature, size_t *count);
extern Status LiteRtGetNumSignatureOutputs(Handle signature, size_t *count);
extern Status LiteRtGetSignatureInputTensorByIndex(Handle signature, size_t index, Handle *tensor);
extern Status LiteRtGetSignatureOutputTensorByIndex(Handle signature, size_t index,
                                                    Handle *tensor);
extern Status LiteRtGetRankedTensorType(Handle tensor, TensorType *type);
extern Status LiteRtGetCompiledModelInputBufferRequirements(Handle compiled, size_t signature,
                                                            size_t index, Handle *requirements);
extern Status LiteRtGetCompiledModelOutputBufferRequirements(Handle compiled, size_t signature,
                                                             size_t index, Handle *requirements);
extern Status LiteRtCreateManagedTensorBufferFromRequirements(Handle environment,
                                                              const TensorType *type,
                                                              Handle requirements, Handle *buffer);
extern Status LiteRtGetTensorBufferSize(Handle buffer, size_t *bytes);
extern Status LiteRtLockTensorBuffer(Handle buffer, void **data, int mode);
extern Status LiteRtUnlockTensorBuffer(Handle buffer);
extern Status LiteRtRunCompiledModel(Handle compiled, size_t signature, size_t inputs_count,
                                     Handle *inputs, size_t outputs_count, Handle *outputs);

static Handle environment, compiled_model;
static Handle inputs[MAX_TENSORS], outputs[MAX_TENSORS];
static size_t inputs_count, outputs_count;

#define CHECK(call)                                                       \
  do {                                                                    \
    Status status = (call);                                               \
    if (status != 0) {                                                    \
      fprintf(stderr, "ERROR: %s failed with status %d\n", #call, status); \
      return 1;                                                           \
    }                                                                     \
  } while (0)

/* LiteRT takes a delegate's options as text, which it frees. */
static int make_options(const Flags *flags, Handle *options) {
  const char *mode = flags->use_xnnpack ? "xnnpack" : "builtin";
  char text[80];
  snprintf(text, sizeof text, "num_threads = %d\nkernel_mode = \"%s\"\n", flags->num_threads,
           mode);
  Handle opaque;
  CHECK(LiteRtCreateOptions(options));
  CHECK(LiteRtSetOptionsHardwareAccelerators(*options, CPU));
  CHECK(LiteRtCreateOpaqueOptions("xnnpack", strdup(text), free, &opaque));
  CHECK(LiteRtAddOpaqueOptions(*options, opaque));
  return 0;
}

/* Zeros and denormal numbers can be faster or slower than what a model sees in earnest. */
static int fill(Handle buffer, const TensorType *type) {
  size_t bytes;
  void *data;
  CHECK(LiteRtGetTensorBufferSize(buffer, &bytes));
  CHECK(LiteRtLockTensorBuffer(buffer, &data, LOCK_TO_WRITE));
  if (type->element_type == FLOAT32)
    for (size_t i = 0; i < bytes / sizeof(float); i++) ((float *)data)[i] = (i * 37 % 101) / 101.0f;
  else
    memset(data, 1, bytes);
  CHECK(LiteRtUnlockTensorBuffer(buffer));
  return 0;
}

static int make_input(Handle signature, size_t index) {
  Handle tensor, requirements;
  TensorType type;
  CHECK(LiteRtGetSignatureInputTensorByIndex(signature, index, &tensor));
  CHECK(LiteRtGetRankedTensorType(tensor, &type));
  CHECK(LiteRtGetCompiledModelInputBufferRequirements(compiled_model, 0, index, &requirements));
  CHECK(LiteRtCreateManagedTensorBufferFromRequirements(environment, &type, requirements,
                                                        &inputs[index]));
  return fill(inputs[index], &type);
}

static int make_output(Handle signature, size_t index) {
  Handle tensor, requirements;
  TensorType type;
  CHECK(LiteRtGetSignatureOutputTensorByIndex(signature, index, &tensor));
  CHECK(LiteRtGetRankedTensorType(tensor, &type));
  CHECK(LiteRtGetCompiledModelOutputBufferRequirements(compiled_model, 0, index, &requirements));
  CHECK(LiteRtCreateManagedTensorBufferFromRequirements(environment, &type, requirements,
                                                        &outputs[index]));
  return 0;
}

static int load_model(const Flags *flags) {
  Handle model, options, signature;
  CHECK(LiteRtCreateEnvironment(0, NULL, &environment));
  CHECK(LiteRtCreateModelFromFile(environment, flags->graph, &model));
  printf("INFO: Loaded model %s\n", flags->graph);
  if (make_options(flags, &options) != 0) return 1;
  CHECK(LiteRtCreateCompiledModel(environment, model, options, &compiled_model));
  CHECK(LiteRtGetModelSignature(model, 0, &signature));
  CHECK(LiteRtGetNumSignatureInputs(signature, &inputs_count));
  CHECK(LiteRtGetNumSignatureOutputs(signature, &outputs_count));
  if (inputs_count > MAX_TENSORS || outputs_count > MAX_TENSORS) {
    fprintf(stderr, "ERROR: more than %d inputs or outputs\n", MAX_TENSORS);
    return 1;
  }
  for (size_t i = 0; i < inputs_count; i++)
    if (make_input(signature, i) != 0) return 1;
  for (size_t i = 0; i < outputs_count; i++)
    if (make_output(signature, i) != 0) return 1;
  return 0;
}

static int run_model(void) {
  CHECK(LiteRtRunCompiledModel(compiled_model, 0, inputs_count, inputs, outputs_count, outputs));
  return 0;
}
