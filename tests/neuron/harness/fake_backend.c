/* A ggml backend that misbehaves in the way its macros say; no model ever runs on it.

   NAME         what it calls itself
   SCORE        its rating of this processor; without it there is none, as in a backend for GPUs
   API_VERSION  of ggml's structures
   COMPLAINT    what it says when it begins
   VARIABLE     of its environment, whose value it complains of
   MISSING      it wants a function that nobody has
   NEEDED       it wants the function of a library that somebody else has to load
   ABORT        it ends the process that loads it

   The structures are those of ggml-backend-impl.h, api_version 3. */

#include <stddef.h>
#include <stdlib.h>

struct reg {
    int api_version;
    const char *(*get_name)(struct reg *);
    size_t (*get_device_count)(struct reg *);
    void *(*get_device)(struct reg *, size_t);
    void *(*get_proc_address)(struct reg *, const char *);
    void *context;
};

void ggml_log_internal(int level, const char *format, ...); /* of the engine's library: it is found where its symbols are everybody's */

#ifdef MISSING
void nobody_has_this(void);
#endif
#ifdef NEEDED
void of_a_needed_library(void);
#endif
#ifdef ABORT
__attribute__((constructor)) static void end(void) { abort(); }
#endif

static const char *get_name(struct reg *reg) { (void)reg; return NAME; }
static size_t get_device_count(struct reg *reg) { (void)reg; return 0; }
static void *get_device(struct reg *reg, size_t index) { (void)reg, (void)index; abort(); }
static void *get_proc_address(struct reg *reg, const char *name) { (void)reg, (void)name; return NULL; }

#ifdef SCORE
int ggml_backend_score(void) { return SCORE; }
#endif

struct reg *ggml_backend_init(void) {
    static struct reg reg = {API_VERSION, get_name, get_device_count, get_device, get_proc_address, NULL};
#ifdef COMPLAINT
    ggml_log_internal(4, "%s\n", COMPLAINT);
#endif
#ifdef VARIABLE
    ggml_log_internal(4, "failed with %s=%s\n", VARIABLE, getenv(VARIABLE));
#endif
#ifdef MISSING
    nobody_has_this();
#endif
#ifdef NEEDED
    of_a_needed_library();
#endif
    return &reg;
}
