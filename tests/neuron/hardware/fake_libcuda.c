/* A stand-in for libcuda.so.1, the part of NVIDIA's driver that computes: it says that there is a GPU, and can do nothing with it.
 *
 * As the driver does when it compiles for a GPU, it makes a folder below $CUDA_CACHE_PATH, and a file in that.
 * With $FAKE_CUDA_ERROR every call ends with that number.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static int told(void) {
  const char *error = getenv("FAKE_CUDA_ERROR");
  return error ? atoi(error) : 0;
}

int cuInit(unsigned flags) {
  char path[4096];
  const char *cache = getenv("CUDA_CACHE_PATH");
  (void)flags;
  if (cache) {
    snprintf(path, sizeof path, "%s/a", cache);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/a/kernel", cache);
    FILE *file = fopen(path, "w");
    if (file) fclose(file);
  }
  return told();
}

int cuDeviceGetCount(int *count) {
  *count = 1;
  return told();
}

int cuGetErrorString(int code, const char **text) {
  *text = code == 100 ? "no CUDA-capable device is detected" : "unknown error";
  return 0;
}
