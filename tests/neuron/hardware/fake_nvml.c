/* A stand-in for libnvidia-ml.so.1, so that pynvml itself runs where there is no GPU, and machines can misbehave on purpose.
 *
 * The file named by $FAKE_NVML says what the machine is, and is read anew at every call: `key=value` lines, where a value
 * "!N" makes the call return the error code N, and what is not there is NVML_ERROR_NOT_SUPPORTED. Keys of a card begin
 * with its index ("0.name"), those of an instance of a partitioned card with "0.mig1.". While the file has "hang", every
 * call blocks, and the file "$FAKE_NVML.hung" exists. "driver_load" counts the loads of the driver: a session that was
 * opened under an earlier one is dead. Without $FAKE_NVML no driver is loaded.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK 0
#define UNINITIALIZED 1
#define INVALID_ARGUMENT 2
#define NOT_SUPPORTED 3
#define NOT_FOUND 6
#define INSUFFICIENT_SIZE 7
#define DRIVER_NOT_LOADED 9
#define UNKNOWN 999

typedef const char *Handle; /* its prefix in the file */
typedef unsigned long long u64;

static int sessions;
static char session_driver_load[512];
static char prefixes[512][16]; /* 32 cards, each with up to 15 instances */

static int look_up(const char *prefix, const char *key, char *value) {
  const char *path = getenv("FAKE_NVML");
  FILE *file = path ? fopen(path, "r") : NULL;
  if (!file) return DRIVER_NOT_LOADED;
  char wanted[64], line[512];
  int length = snprintf(wanted, sizeof wanted, "%s%s=", prefix, key), found = NOT_SUPPORTED;
  while (found == NOT_SUPPORTED && fgets(line, sizeof line, file)) {
    if (strncmp(line, wanted, length)) continue;
    line[strcspn(line, "\n")] = 0;
    strcpy(value, line + length);
    found = value[0] == '!' ? atoi(value + 1) : OK;
  }
  fclose(file);
  return found;
}

static void hang_while_told(void) {
  char value[512], marker[512];
  snprintf(marker, sizeof marker, "%s.hung", getenv("FAKE_NVML") ? getenv("FAKE_NVML") : "/nowhere");
  for (int first = 1; look_up("", "hang", value) == OK; first = 0, usleep(2000))
    if (first) {
      FILE *file = fopen(marker, "w");
      if (file) fclose(file);
    }
  unlink(marker);
}

static int ask(const char *prefix, const char *key, char *value) {
  char load[512] = "";
  hang_while_told();
  if (!sessions) return UNINITIALIZED;
  look_up("", "driver_load", load);
  if (strcmp(load, session_driver_load)) return UNKNOWN;
  return look_up(prefix, key, value);
}

static int number(const char *prefix, const char *key, u64 *out) {
  char value[512];
  int code = ask(prefix, key, value);
  if (code == OK) *out = strtoull(value, NULL, 0);
  return code;
}

static int small(const char *prefix, const char *key, unsigned *out) {
  u64 value = 0;
  int code = number(prefix, key, &value);
  if (code == OK) *out = (unsigned)value;
  return code;
}

static int text(const char *prefix, const char *key, char *out, unsigned size) {
  char value[512];
  int code = ask(prefix, key, value);
  if (code == OK) snprintf(out, size, "%s", value);
  return code;
}

static int pair(const char *prefix, const char *key, u64 *first, u64 *second) {
  char value[512];
  int code = ask(prefix, key, value);
  if (code == OK && sscanf(value, "%llu %llu", first, second) != 2) code = UNKNOWN;
  return code;
}

int nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  hang_while_told();
  char value[512] = "", load[512] = "";
  int code = look_up("", "init", value);
  if (code != OK) return code == NOT_SUPPORTED ? DRIVER_NOT_LOADED : code;
  look_up("", "driver_load", load);
  snprintf(session_driver_load, sizeof session_driver_load, "%s", load);
  sessions++;
  return OK;
}

int nvmlShutdown(void) {
  hang_while_told();
  if (!sessions) return UNINITIALIZED;
  sessions--;
  return OK;
}

const char *nvmlErrorString(int code) {
  switch (code) {
    case 1: return "Uninitialized";
    case 3: return "Not Supported";
    case 4: return "Insufficient Permissions";
    case 9: return "Driver Not Loaded";
    case 15: return "GPU is lost";
    case 18: return "Driver/library version mismatch";
    default: return "Unknown Error";
  }
}

int nvmlSystemGetDriverVersion(char *out, unsigned size) { return text("", "driver", out, size); }
int nvmlSystemGetCudaDriverVersion(int *out) { return small("", "cuda", (unsigned *)out); }
int nvmlDeviceGetCount_v2(unsigned *out) { return small("", "count", out); }

static int open_device(const char *prefix, int slot, Handle *out) {
  char value[512];
  int code = ask(prefix, "handle", value);
  if (code == NOT_SUPPORTED) code = ask(prefix, "name", value) == OK ? OK : NOT_FOUND;
  if (code != OK) return code;
  strcpy(prefixes[slot], prefix);
  *out = prefixes[slot];
  return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Handle *out) {
  char prefix[16];
  if (index >= 32) return INVALID_ARGUMENT;
  snprintf(prefix, sizeof prefix, "%u.", index);
  return open_device(prefix, index * 16, out);
}

int nvmlDeviceGetMigMode(Handle device, unsigned *current, unsigned *pending) {
  int code = small(device, "mig_mode", current);
  if (code == OK) *pending = *current;
  return code;
}
int nvmlDeviceGetMaxMigDeviceCount(Handle device, unsigned *out) { return small(device, "mig_most", out); }
int nvmlDeviceGetMigDeviceHandleByIndex(Handle device, unsigned index, Handle *out) {
  char prefix[16];
  if (index >= 15) return INVALID_ARGUMENT;
  snprintf(prefix, sizeof prefix, "%.8smig%u.", device, index);
  return open_device(prefix, atoi(device) * 16 + 1 + index, out);
}

int nvmlDeviceGetName(Handle device, char *out, unsigned size) { return text(device, "name", out, size); }
int nvmlDeviceGetUUID(Handle device, char *out, unsigned size) { return text(device, "uuid", out, size); }

typedef struct { u64 total, free, used; } Memory;
int nvmlDeviceGetMemoryInfo(Handle device, Memory *out) { /* "total used", in MiB */
  int code = pair(device, "memory", &out->total, &out->used);
  out->free = (out->total - out->used) << 20, out->total <<= 20, out->used <<= 20;
  return code;
}

typedef struct { unsigned gpu, memory; } Utilization;
int nvmlDeviceGetUtilizationRates(Handle device, Utilization *out) {
  u64 gpu = 0, memory = 0;
  int code = pair(device, "utilization", &gpu, &memory);
  out->gpu = gpu, out->memory = memory;
  return code;
}

int nvmlDeviceGetCudaComputeCapability(Handle device, int *major, int *minor) {
  u64 first = 0, second = 0;
  int code = pair(device, "capability", &first, &second);
  *major = first, *minor = second;
  return code;
}

int nvmlDeviceGetTemperature(Handle device, int sensor, unsigned *out) { (void)sensor; return small(device, "temperature", out); }
int nvmlDeviceGetPowerUsage(Handle device, unsigned *out) { return small(device, "power", out); }
int nvmlDeviceGetEnforcedPowerLimit(Handle device, unsigned *out) { return small(device, "power_limit", out); }
int nvmlDeviceGetClockInfo(Handle device, int clock, unsigned *out) { return small(device, clock == 1 ? "sm_clock" : "memory_clock", out); }
int nvmlDeviceGetCurrentClocksEventReasons(Handle device, u64 *out) { return number(device, "throttle", out); }
int nvmlDeviceGetCurrentClocksThrottleReasons(Handle device, u64 *out) { return number(device, "throttle_until_535", out); }
int nvmlDeviceGetPersistenceMode(Handle device, unsigned *out) { return small(device, "persistence", out); }
int nvmlDeviceGetNumaNodeId(Handle device, unsigned *out) { return small(device, "numa", out); }
int nvmlDeviceGetEccMode(Handle device, unsigned *current, unsigned *pending) {
  int code = small(device, "ecc", current);
  if (code == OK) *pending = *current;
  return code;
}
int nvmlDeviceGetTotalEccErrors(Handle device, int kind, int counter, u64 *out) { (void)kind, (void)counter; return number(device, "ecc_errors", out); }

typedef struct { unsigned pid; u64 memory; unsigned gpu_instance, compute_instance; } Process;
int nvmlDeviceGetComputeRunningProcesses_v3(Handle device, unsigned *count, Process *out) { /* "pid:MiB pid:-" */
  char value[512];
  int code = ask(device, "processes", value);
  unsigned found = 0;
  if (code != OK) return code;
  for (char *word = strtok(value, " "); word; word = strtok(NULL, " "), found++)
    if (out && found < *count) {
      char *amount = strchr(word, ':') + 1;
      out[found] = (Process){strtoul(word, NULL, 10), *amount == '-' ? ~0ULL : strtoull(amount, NULL, 10) << 20, 0, 0};
    }
  code = found > (out ? *count : 0) ? INSUFFICIENT_SIZE : OK;
  *count = found;
  return code;
}
