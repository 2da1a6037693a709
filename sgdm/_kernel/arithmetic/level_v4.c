/* x86-64-v4: AVX-512. */
#include "compiler.h"
#include "rows.h"

#ifdef SGDM_X86
#define LEVEL v4
#define FOR_LEVEL __attribute__((target("avx512f,avx512dq,avx512vl,avx512bw")))
#define VECTOR_BYTES 64
#define REGISTER_GROUPS 8
#define PANEL 8
#define TARGETS SGDM_TARGETS
#include "both_types.h"
#endif
