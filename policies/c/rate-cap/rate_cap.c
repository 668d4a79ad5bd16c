/* rate-cap: a policy in C. It refuses jobs of a queue that took in more than max-per-second jobs a second over the last
 * minute. The configuration is {"max-per-second": N}, N from 1 to 1000000; 1000 without it.
 *
 * What it never does: look at a job, remember a queue, allocate beyond the room below. */
#include "../guard.h"

#define LITERAL(string) { (const u8 *)(string), sizeof(string) - 1 }
#define DEFAULT_CAP 1000
#define MOST 1000000

static u32 cap = DEFAULT_CAP;

/* One call's arguments. A tick brings up to 8 queues of 176 bytes, and their names. */
static _Alignas(8) u8 room[256 * 1024];
static u32 taken;

void *cabi_realloc(void *old, size_t old_bytes, size_t align, size_t bytes) {
  (void)old;
  /* The host asks for new room only: nothing here grows. */
  if (old_bytes != 0) __builtin_trap();
  u32 start = (taken + (u32)align - 1) & ~((u32)align - 1);
  if (start > sizeof room || bytes > sizeof room - start) __builtin_trap();
  taken = start + (u32)bytes;
  return room + start;
}

const description *describe(void) {
  static const description said = {
    LITERAL("rate-cap"),
    LITERAL("1.0.0"),
    LITERAL("Refuses jobs of queues that took in more than max-per-second over the last minute."),
    LITERAL("{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"max-per-second\":{\"type\":"
            "\"integer\",\"minimum\":1,\"maximum\":1000000,\"default\":1000}}}"),
  };
  return &said;
}

static const u8 *blanks(const u8 *at, const u8 *end) {
  while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
  return at;
}

/* Goes past blanks and a word; stays where the word is another. */
static int skip(const u8 **at, const u8 *end, const char *word) {
  const u8 *now = blanks(*at, end);
  for (; *word; word++, now++)
    if (now >= end || *now != (u8)*word) return 0;
  *at = now;
  return 1;
}

/* Reads a whole number from 1 to MOST. */
static int number(const u8 **at, const u8 *end, u32 *value) {
  const u8 *now = blanks(*at, end), *start = now;
  u32 sum = 0;
  for (; now < end && *now >= '0' && *now <= '9' && sum <= MOST; now++) sum = sum * 10 + (u32)(*now - '0');
  if (now == start || *start == '0' || sum > MOST) return 0;
  *at = now;
  *value = sum;
  return 1;
}

const outcome *configure(const u8 *config, u32 bytes) {
  static const outcome good = { 0, LITERAL("") };
  static const outcome bad = { 1, LITERAL("expected {} or {\"max-per-second\": N} with N from 1 to 1000000") };
  const u8 *at = config, *end = config + bytes;
  u32 wanted = DEFAULT_CAP;
  taken = 0;
  if (!skip(&at, end, "{")) return &bad;
  if (!skip(&at, end, "}")) {
    if (!skip(&at, end, "\"max-per-second\"") || !skip(&at, end, ":") || !number(&at, end, &wanted) ||
        !skip(&at, end, "}"))
      return &bad;
  }
  if (blanks(at, end) != end) return &bad;
  cap = wanted;
  return &good;
}

/* Appends a number in digits. */
static u8 *digits(u8 *to, u64 value) {
  u8 turned[20];
  u32 count = 0;
  do turned[count++] = (u8)('0' + value % 10);
  while (value /= 10);
  while (count) *to++ = turned[--count];
  return to;
}

static u8 *words(u8 *to, const char *from) {
  while (*from) *to++ = (u8)*from++;
  return to;
}

const verdict *admit(const admit_facts *facts) {
  static verdict said;
  static u8 reason[96];
  taken = 0;
  double pace = facts->queue.added_per_sec;
  if (pace <= (double)cap) {
    said.kind = ADMIT;
    return &said;
  }
  u8 *end = words(reason, "took in ");
  end = digits(end, pace < 1e18 ? (u64)pace : (u64)1e18);
  end = words(end, " jobs a second of at most ");
  end = digits(end, cap);
  said.kind = REJECT;
  said.as.reason = (text){ reason, (u32)(end - reason) };
  return &said;
}

const list *tick(u64 now_ms, u64 used_memory, u64 max_memory, u32 node_queues, const queue_facts *queues, u32 count) {
  static const list nothing = { room, 0 };
  (void)now_ms, (void)used_memory, (void)max_memory, (void)node_queues, (void)queues, (void)count;
  taken = 0;
  return &nothing;
}
