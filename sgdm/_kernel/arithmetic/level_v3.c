/* x86-64-v3: AVX2. */
#include "compiler.h"

#ifdef SGDM_X86
#define LEVEL v3
#define FOR_LEVEL __attribute__((target("avx2")))
#define VECTOR_BYTES 32
#define REGISTER_GROUPS 0
#define PANEL 4
#define TARGETS SGDM_TARGETS
#include "both_types.h"
#endif
