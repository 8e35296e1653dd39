/* zstd's decoder as one unit, in the order in which its files need one another. Nuitka brings these sources (BSD-3-Clause). */

#define ZSTD_DISABLE_ASM 1
#define ZSTDERRORLIB_VISIBILITY
#define ZSTDLIB_VISIBILITY

#include "zstd.h"

#include "common/error_private.c"
#include "common/fse_decompress.c"
#include "common/xxhash.c"
#include "common/zstd_common.c"

#include "common/entropy_common.c"

#include "decompress/huf_decompress.c"
#include "decompress/zstd_ddict.c"
#include "decompress/zstd_decompress.c"
#include "decompress/zstd_decompress_block.c"
