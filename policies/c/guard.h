/* The world guard of wit/1.0.0 for C: its records as they lie in memory by the canonical ABI, and the names of its
 * functions. Freestanding: no libc, no startup code. Only the layouts of a 32-bit target fit, which is checked below. */
#ifndef BULL_GUARD_H
#define BULL_GUARD_H

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef __SIZE_TYPE__ size_t;

/* UTF-8, not ended by a zero. */
typedef struct { const u8 *at; u32 bytes; } text;

/* An option<u32> and an option<u64>. */
typedef struct { u8 is_some; u32 value; } maybe_u32;
typedef struct { u8 is_some; u64 value; } maybe_u64;

typedef struct { u64 now_ms, used_memory, max_memory; u32 queues; } node_facts;

typedef struct { maybe_u32 priority, concurrency; maybe_u64 max_jobs, max_bytes, max_job_bytes; } limit_facts;

typedef struct {
  text name;
  u64 waiting, active, delayed, prioritized, waiting_children, completed, failed;
  u8 paused;
  u64 oldest_waiting_ms, bytes, retained_bytes;
  double added_per_sec;
  u64 failed_last_hour;
  limit_facts limits;
} queue_facts;

typedef struct {
  text name;
  u64 bytes, delay_ms;
  u32 priority, attempts;
  u8 child, scheduled, source;
} job_facts;

/* The arguments of admit: too many for the stack of the machine, so they come as one record. */
typedef struct { node_facts node; queue_facts queue; job_facts job; } admit_facts;

typedef enum { ADMIT, REJECT, DEFER, DISPLACE, ADMIT_WHILE } verdict_kind;

typedef struct { maybe_u64 backlog_below, job_bytes, queue_bytes, used_memory_below, until_ms; } terms;


typedef struct {
  u8 kind; /* a verdict_kind */
  union { text reason; u64 ms; u32 jobs; terms terms; } as;
} verdict;

typedef struct { text name, version, summary, config_schema; } description;

/* result<_, string> */
typedef struct { u8 is_error; text error; } outcome;

typedef struct { void *at; u32 count; } list;

_Static_assert(sizeof(void *) == 4, "wasm32");
_Static_assert(sizeof(node_facts) == 32, "record node");
_Static_assert(sizeof(limit_facts) == 64, "record limits");
_Static_assert(__builtin_offsetof(queue_facts, paused) == 64, "record queue");
_Static_assert(__builtin_offsetof(queue_facts, added_per_sec) == 96, "record queue");
_Static_assert(sizeof(queue_facts) == 176, "record queue");
_Static_assert(sizeof(job_facts) == 40, "record job");
_Static_assert(__builtin_offsetof(admit_facts, job) == 208, "arguments of admit");
_Static_assert(sizeof(terms) == 80, "record terms");
_Static_assert(sizeof(verdict) == 88, "variant verdict");

#define EXPORT(name) __attribute__((export_name(name)))

/* What a policy defines. What they return must live until the next call. */
EXPORT("describe") const description *describe(void);
EXPORT("configure") const outcome *configure(const u8 *config, u32 bytes);
EXPORT("admit") const verdict *admit(const admit_facts *facts);
EXPORT("tick") const list *tick(u64 now_ms, u64 used_memory, u64 max_memory, u32 node_queues, const queue_facts *queues,
                               u32 count);

/* Where the host puts the arguments of the next call. The policy defines the room; an argument that does not fit is a
 * trap, which the server answers with ONERROR. */
EXPORT("cabi_realloc") void *cabi_realloc(void *old, size_t old_bytes, size_t align, size_t bytes);

#endif
