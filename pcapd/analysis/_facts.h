/* Layouts of a conversation, as in _facts.py, and what the table keeps. */
#ifndef PCAPD_FACTS_H
#define PCAPD_FACTS_H

#include "_table.h"

/* Whether a packet is a retransmission, or a second sighting by an interface that sees it coming and going. */
typedef enum { SENT_FIRST, SENT_AGAIN, SEEN_TWICE } Sending;
enum { FIN_FLAG = 1, SYN_FLAG = 2, RST_FLAG = 4, ACK_FLAG = 16 };
#define DNS_PORT 53
#define NEVER (-1)
#define NO_OFFSET (-((int64_t)1 << 62))
#define TWIN_US 5000
#define OVERTAKEN_US 3000
#define HOLES 4u
#define RECENT 4096u
#define RECENT_WAYS 8u
#define PLACE_FACTOR 0x9E3779B97F4A7C15u
#define PLACES_OF_ONE 8u
#define SEEN_AT 4u
#define BINS 256u
#define BIN_US 20000
#define JITTER_US 50000

/* ---- layouts ------------------------------------------------------------------ */

typedef struct {
    uint64_t serial;
    uint32_t scope;
    uint8_t family, protocol;
    uint16_t port[2];
    uint8_t address[2][16];
} __attribute__((packed)) ConversationKey;

typedef struct {
    int64_t first_us, last_us, payload_us, bytes, next, acked, syn_us, fin_us, rst_us, fin_acked, fin_idle_us,
        rst_idle_us, retransmitted_first_us, retransmitted_last_us, zero_us, zero_longest_us, zero_since_us,
        rtt_least_us, rtt_sum_us, rtt_greatest_us, again_us, late_us;
    uint32_t packets, payload_packets, first_frame, last_frame, flags, base, syn_count, syn_frame, fin_frame,
        rst_count, rst_frame, retransmitted, retransmitted_bytes, needless, late, reordered, duplicates,
        keepalives, unseen, zero_count, zero_frame, rtt_count, again_count, again_length, largest_acked,
        after_fin, after_fin_frame, rst_unacked_own, rst_unacked_peer, mss, frame[4];
} HalfFacts;

typedef struct {
    int64_t last_us, idle_from_us, idle_to_us;
    uint32_t place, idle_count, idle_side, idle_frame;
} SeenFacts;

typedef struct {
    int64_t least_us, greatest_us, lost_first_us, lost_last_us;
    uint32_t both, again_first, again_second, again_each, only_first, only_second, since_first, since_second,
        frame_first, frame_second, again_frame, unused;
} BetweenFacts;

_Static_assert(sizeof(ConversationKey) == 50, "as KEY");
_Static_assert(sizeof(HalfFacts) == 22 * 8 + 34 * 4, "as HALF");
_Static_assert(sizeof(SeenFacts) == 40, "as SIGHTING");
_Static_assert(sizeof(BetweenFacts) == 80, "as BETWEEN");

typedef struct {
    int64_t begin, end, us;
    uint32_t stamp;
    bool stamped;
} Hole;

/* The facts of HalfFacts that a healthy end does not have: allocated with the first of them. */
typedef struct {
    int64_t rst_us, rst_idle_us, retransmitted_first_us, retransmitted_last_us, zero_us, zero_longest_us,
        zero_since_us, again_us, late_us, again_at;
    uint32_t rst_count, rst_frame, retransmitted, retransmitted_bytes, needless, late, reordered, duplicates,
        keepalives, unseen, zero_count, zero_frame, again_count, again_length, after_fin, after_fin_frame,
        rst_unacked_own, rst_unacked_peer, frame[4], hole_count;
    Hole *holes; /* HOLES of them once there was one */
} Trouble;

/* A hundred thousand conversations have four of these each: every byte counts. */
typedef struct {
    int64_t first_us, last_us, payload_us, bytes, next, acked, syn_us, fin_us, fin_acked, fin_idle_us,
        rtt_least_us, rtt_sum_us, rtt_greatest_us;
    uint32_t packets, payload_packets, first_frame, last_frame, base, syn_count, syn_frame, fin_frame, rtt_count,
        largest_acked, pending;
    uint16_t mss;
    uint8_t flags;
    bool started;
    uint64_t digest;
    int64_t timed, timed_at, wanted;
    Trouble *trouble; /* NULL: none yet */
} Half;

typedef struct {
    SeenFacts facts;
    Half halves[2];
} Seen;

/* What happened between two places to the packets of one end. */
typedef struct {
    int64_t least_us, greatest_us, last; /* last: of the newest packet, if `both` > 0 */
    uint32_t both;
    BetweenFacts *lost; /* the other facts; NULL: there are none */
} PairHalf;

typedef struct {
    uint8_t a, b; /* indices of sightings */
    bool settled;
    PairHalf halves[2];
} Pair;

typedef struct Conversation {
    ConversationKey key;
    bool syn_known[2], open;
    uint8_t seen_count, pair_count; /* of these there is room for a power of two */
    uint32_t syn_seq[2];
    uint32_t references; /* of packets that are remembered */
    int64_t unsure_us;   /* packets up to this time may be second sightings of packets forgotten early */
    struct Conversation *older, *newer;
    Seen **seen;
    Pair **pairs;
} Conversation;

typedef struct {
    uint32_t index, frame;
    int64_t us;
    bool again;
} SeenAt;

/* A packet until all places may have seen it: SeenAt in less space. */
typedef struct {
    uint64_t number;
    Conversation *conversation;
    int64_t us; /* where it was seen first */
    uint32_t frame[SEEN_AT];
    int32_t after[SEEN_AT]; /* microseconds; the window is shorter than 2**31 of them */
    uint8_t index[SEEN_AT], seen_count;
    uint8_t again; /* a bit for each */
    uint8_t side;
} Awaited;

typedef struct {
    int64_t us, delta;
    bool there;
} Best;

typedef struct {
    uint32_t a, b;
    int64_t start, width;
    Best bins[2][BINS]; /* there, back */
} Clock;

typedef struct {
    uint32_t file;
    int64_t packets, first, last;
} Place;

typedef struct {
    uint64_t digest;
    int64_t us;
} Recent;

typedef struct {
    PyObject_HEAD
    uint64_t most, waiting_max;
    int64_t window, idle;
    PyObject *closed, *payload, *lost;
    uint64_t seed;
    Conversation **slots; /* open addressing */
    uint64_t slot_count, live, seen_count;
    Recent *recent; /* packets, by digest */
    Conversation *oldest_used, *newest_used;
    Awaited *ring;
    uint64_t room, oldest, next;
    uint64_t *numbers;
    uint64_t number_count, numbers_used;
    int64_t newest_us;
    uint64_t serial;
    Place *places;
    uint32_t place_count;
    uint32_t *frames;
    uint32_t file_count;
    Clock *clocks;
    uint32_t clock_count;
    uint64_t packets, others, beyond, evicted, forgotten;
} ConversationTable;

/* One packet on its way through. */
typedef struct {
    const Row *row;
    const uint8_t *data;
    uint64_t size;
    uint32_t frame, side;
    bool known, twin; /* its place saw an equal packet before, or just before */
} Now;

static inline int64_t
signed_of(uint32_t difference)
{
    return (int32_t)difference;
}

static inline int64_t
greater(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static inline int64_t
lesser(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

#endif
