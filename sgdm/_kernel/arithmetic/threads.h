/* A team of threads that shares the parts of one task after another: whoever calls sgdm_share leads, and threads that
 * are in sgdm_help meanwhile take parts too. The leader waits only for parts already claimed, so a helper that starts
 * late or never cannot delay it. Waiting threads spin for up to about 0.1 ms, then yield.
 */
#ifndef SGDM_THREADS_H
#define SGDM_THREADS_H

#include <stddef.h>
#ifdef _WIN32
#include <windows.h>
#define SGDM_YIELD() SwitchToThread()
#else
#include <sched.h>
#define SGDM_YIELD() sched_yield()
#endif
#if defined(__x86_64__) || defined(__i386__)
#define SGDM_PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__) && !defined(_MSC_VER)
#define SGDM_PAUSE() __asm__ __volatile__("yield")
#else
#define SGDM_PAUSE() ((void)0)
#endif
#define SGDM_SPINS 2000 /* up to about 0.1 ms, as long as an epoch takes where two threads pay */
#define SGDM_PARTS 64   /* of a task, at most */

#if defined(_MSC_VER) && !defined(__clang__)
typedef volatile LONG64 sgdm_count;
#define SGDM_GET(address) InterlockedOr64(address, 0)
#define SGDM_SET(address, value) InterlockedExchange64(address, value)
#define SGDM_ADD(address, value) (InterlockedExchangeAdd64(address, value) + (value))
#define SGDM_SWAP(address, old, value) (InterlockedCompareExchange64(address, value, old) == (old))
#else
typedef long long sgdm_count;
#define SGDM_GET(address) __atomic_load_n(address, __ATOMIC_ACQUIRE)
#define SGDM_SET(address, value) __atomic_store_n(address, value, __ATOMIC_RELEASE)
#define SGDM_ADD(address, value) __atomic_add_fetch(address, value, __ATOMIC_ACQ_REL)
static inline int SGDM_SWAP(sgdm_count *address, long long old, long long value) {
    return __atomic_compare_exchange_n(address, &old, value, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}
#endif

typedef void (*sgdm_part)(void *task, int part, int member);

/* Members: the leader is 0. claims[i] is 2 * round while part i of that round's task is free, one more once taken:
 * a thread that slept through a round can't mistake another's parts for its own. */
struct sgdm_team {
    int members;
    sgdm_count round, done, closed, parts, claims[SGDM_PARTS];
    sgdm_part run;
    void *task;
};

static inline void sgdm_wait(int *spins) {
    *spins += *spins < SGDM_SPINS; /* stops there */
    if (*spins < SGDM_SPINS)
        SGDM_PAUSE();
    else
        SGDM_YIELD();
}

/* Takes what is free of a round, from a member's own share on: it finds its rows in its cache from the round before. */
static inline void sgdm_take_parts(struct sgdm_team *team, long long round, int member) {
    const int parts = (int)SGDM_GET(&team->parts), first = (int)((long long)parts * member / team->members);
    for (int i = 0; i < parts; i++) {
        const int part = (first + i) % parts;
        if (!SGDM_SWAP(&team->claims[part], 2 * round, 2 * round + 1)) continue;
        team->run(team->task, part, member);
        SGDM_ADD(&team->done, 1);
    }
}

/* Runs all parts of a task, at most SGDM_PARTS; returns when they are done. Only the leader calls it. */
static inline void sgdm_share(struct sgdm_team *team, sgdm_part run, void *task, int parts) {
    const long long round = SGDM_GET(&team->round) + 1;
    int spins = 0;
    team->run = run;
    team->task = task;
    SGDM_SET(&team->done, 0);
    SGDM_SET(&team->parts, parts);
    for (int i = 0; i < parts; i++) SGDM_SET(&team->claims[i], 2 * round);
    SGDM_SET(&team->round, round);
    sgdm_take_parts(team, round, 0);
    while (SGDM_GET(&team->done) < parts) sgdm_wait(&spins);
}

/* Takes parts of every round until the team is closed. */
static inline void sgdm_help(struct sgdm_team *team, int member) {
    long long seen = 0;
    int spins = 0;
    while (!SGDM_GET(&team->closed)) {
        const long long round = SGDM_GET(&team->round);
        if (round == seen) {
            sgdm_wait(&spins);
            continue;
        }
        seen = round;
        spins = 0;
        sgdm_take_parts(team, round, member);
    }
}

#endif
