/* What differs between compilers. gcc from 12 on and clang have vectors; elsewhere it is plain C, one element wide. */
#ifndef SGDM_COMPILER_H
#define SGDM_COMPILER_H

#if defined(__has_builtin) && !defined(SGDM_NO_VECTORS)
#if __has_builtin(__builtin_shufflevector)
#define SGDM_VECTORS 1
#endif
#endif
#ifdef SGDM_VECTORS
#define SGDM_INLINE static inline __attribute__((always_inline))
#define SGDM_UNROLL _Pragma("GCC unroll 8")
#define SGDM_BY_TWO _Pragma("GCC unroll 2")
#define SGDM_ROLLED _Pragma("GCC unroll 1")
#ifdef __clang__
#define SGDM_NO_OVERLAP _Pragma("clang loop vectorize(assume_safety)")
#else
#define SGDM_NO_OVERLAP _Pragma("GCC ivdep") /* the arrays of the loop don't overlap */
#endif
#define SGDM_PREFETCH(address) __builtin_prefetch(address)
#define SGDM_PREFETCH_FAR(address) __builtin_prefetch(address, 0, 2) /* not into L1 */
#define SGDM_RESTRICT __restrict__
#ifdef __clang__
#define SGDM_NOT_INLINE __attribute__((noinline))
#else
#define SGDM_NOT_INLINE __attribute__((noinline, noclone))
#endif
#else
#define SGDM_INLINE static inline
#define SGDM_UNROLL
#define SGDM_BY_TWO
#define SGDM_ROLLED
#define SGDM_NO_OVERLAP
#define SGDM_PREFETCH(address) ((void)0)
#define SGDM_PREFETCH_FAR(address) ((void)0)
#define SGDM_RESTRICT
#define SGDM_NOT_INLINE
#endif
#if defined(__x86_64__) && defined(SGDM_VECTORS)
#define SGDM_X86 1
#define SGDM_KEEP_IN_REGISTER(x) __asm__("" : "+v"(x)) /* a vector, which gcc would load again */
#include <emmintrin.h>
#define SGDM_COPY_PAST_CACHES(from, to) _mm_stream_pd(to, _mm_loadu_pd(from)) /* two numbers */
#define SGDM_FENCE() _mm_sfence() /* other threads see what was copied so */
#else
#define SGDM_KEEP_IN_REGISTER(x) ((void)0)
#define SGDM_COPY_PAST_CACHES(from, to) ((void)memcpy(to, from, 2 * sizeof(double)))
#define SGDM_FENCE() ((void)0)
#endif

#endif
