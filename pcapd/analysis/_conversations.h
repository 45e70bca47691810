/*
 * The table of conversations: _conversations.py, compiled; layouts as in _facts.py.
 *
 * _conversations.py says what must come out; the property tests compare the two.
 */
#ifndef PCAPD_CONVERSATIONS_H
#define PCAPD_CONVERSATIONS_H

#include "_table.h"

enum { FIN_FLAG = 1, SYN_FLAG = 2, RST_FLAG = 4, ACK_FLAG = 16 };
#define DNS_PORT 53
#define NEVER (-1)
#define NO_OFFSET (-((int64_t)1 << 62))
#define TWIN_US 5000
#define OVERTAKEN_US 3000
#define HOLES 4u
#define RECENT 8192u
#define PLACE_FACTOR 0x9E3779B97F4A7C15u
#define PLACES_OF_ONE 8u
#define SEEN_AT 4u
#define BINS 256u
#define BIN_US 20000

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

typedef struct {
    HalfFacts facts;
    uint64_t digest;
    int64_t again_at, timed, timed_at, wanted;
    uint32_t pending, hole_count;
    bool started;
    Hole *holes; /* HOLES of them once there was one */
} Half;

typedef struct {
    SeenFacts facts;
    Half halves[2];
} Seen;

typedef struct {
    uint32_t a, b; /* indices of sightings */
    BetweenFacts facts[2];
    int64_t last[2];
    bool known[2], settled;
} Pair;

typedef struct Conversation {
    ConversationKey key;
    bool syn_known[2], open;
    uint8_t seen_count, pair_count; /* of these there is room for a power of two */
    uint32_t syn_seq[2];
    uint32_t references; /* of packets that are remembered */
    struct Conversation *older, *newer;
    Seen **seen;
    Pair **pairs;
} Conversation;

typedef struct {
    uint32_t index, frame;
    int64_t us;
    bool again;
} SeenAt;

typedef struct {
    uint64_t number;
    Conversation *conversation;
    int64_t us;
    uint32_t seen_count, side;
    SeenAt seen[SEEN_AT];
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
    PyObject_HEAD
    uint64_t most, waiting_max;
    int64_t window, idle;
    PyObject *closed, *payload, *lost;
    uint64_t seed;
    Conversation **slots; /* open addressing */
    uint64_t slot_count, live, seen_count;
    uint64_t *recent; /* packets with payload, by digest */
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

/* ---- which conversation ----------------------------------------------------------- */

static inline bool
is_loopback(const Row *row)
{
    static const uint8_t one[16] = {[15] = 1};
    if (row->family == 4)
        return row->source[0] == 127 && row->destination[0] == 127;
    return row->family == 6 && !memcmp(row->source, one, 16) && !memcmp(row->destination, one, 16);
}

/* The bytes of a key behind its serial, and two that are always zero. */
typedef struct {
    uint8_t bytes[48];
} KeyWords;

static inline KeyWords
words_of(const ConversationKey *key)
{
    KeyWords words = {{0}};
    memcpy(words.bytes, (const uint8_t *)key + 8, sizeof *key - 8);
    return words;
}

static inline uint64_t
slot_of(const ConversationTable *self, const ConversationKey *key)
{
    const KeyWords words = words_of(key);
    uint64_t at = hash_of(self->seed, &words, sizeof words) & (self->slot_count - 1);
    while (self->slots[at] && memcmp((const uint8_t *)&self->slots[at]->key + 8, (const uint8_t *)key + 8,
                                     sizeof *key - 8))
        at = (at + 1) & (self->slot_count - 1);
    return at;
}

/* Takes an item out and moves up those that were displaced by it (Knuth, 6.4, algorithm R). */
static void
free_slot(ConversationTable *self, uint64_t hole)
{
    uint64_t mask = self->slot_count - 1;
    self->slots[hole] = NULL;
    for (uint64_t at = (hole + 1) & mask; self->slots[at]; at = (at + 1) & mask) {
        Conversation *moved = self->slots[at];
        const KeyWords words = words_of(&moved->key);
        uint64_t home = hash_of(self->seed, &words, sizeof words) & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            self->slots[hole] = moved;
            self->slots[at] = NULL;
            hole = at;
        }
    }
}

static bool
grow_slots(ConversationTable *self)
{
    if (2 * self->live < self->slot_count)
        return true;
    Conversation **old = self->slots;
    uint64_t count = self->slot_count;
    Conversation **slots = new_array(2 * count, sizeof *slots);
    if (!slots)
        return false;
    self->slots = slots;
    self->slot_count = 2 * count;
    for (uint64_t at = 0; at < count; at++)
        if (old[at])
            slots[slot_of(self, &old[at]->key)] = old[at];
    PyMem_Free(old);
    return true;
}

static void
unlink_used(ConversationTable *self, Conversation *one)
{
    *(one->older ? &one->older->newer : &self->oldest_used) = one->newer;
    *(one->newer ? &one->newer->older : &self->newest_used) = one->older;
    one->older = one->newer = NULL;
}

static void
link_used(ConversationTable *self, Conversation *one)
{
    one->older = self->newest_used;
    one->newer = NULL;
    *(self->newest_used ? &self->newest_used->newer : &self->oldest_used) = one;
    self->newest_used = one;
}

static void
empty_conversation(Conversation *one)
{
    for (uint32_t i = 0; i < one->seen_count; i++) {
        for (int side = 0; side < 2; side++)
            PyMem_Free(one->seen[i]->halves[side].holes);
        PyMem_Free(one->seen[i]);
    }
    for (uint32_t i = 0; i < one->pair_count; i++)
        PyMem_Free(one->pairs[i]);
    PyMem_Free(one->seen);
    PyMem_Free(one->pairs);
    one->seen = NULL;
    one->pairs = NULL;
    one->seen_count = one->pair_count = 0;
}

/* A list of what each place saw: bytes; NULL with an error. */
static PyObject *
sightings_of(const Conversation *one)
{
    PyObject *list = PyList_New(one->seen_count);
    for (uint32_t i = 0; list && i < one->seen_count; i++) {
        const Seen *seen = one->seen[i];
        PyObject *bytes = new_bytes(sizeof seen->facts + 2 * sizeof(HalfFacts));
        if (!bytes) {
            Py_CLEAR(list);
            break;
        }
        uint8_t *to = data_of(bytes);
        memcpy(to, &seen->facts, sizeof seen->facts);
        memcpy(to + sizeof seen->facts, &seen->halves[0].facts, sizeof(HalfFacts));
        memcpy(to + sizeof seen->facts + sizeof(HalfFacts), &seen->halves[1].facts, sizeof(HalfFacts));
        PyList_SET_ITEM(list, i, bytes);
    }
    return list;
}

static int
order_of_pairs(const void *left, const void *right)
{
    const Pair *a = *(Pair *const *)left, *b = *(Pair *const *)right;
    return a->a != b->a ? (a->a < b->a ? -1 : 1) : (a->b > b->b) - (a->b < b->b);
}

static PyObject *
pairs_of(Conversation *one)
{
    if (one->pair_count)
        qsort(one->pairs, one->pair_count, sizeof *one->pairs, order_of_pairs);
    PyObject *list = PyList_New(one->pair_count);
    for (uint32_t i = 0; list && i < one->pair_count; i++) {
        const Pair *pair = one->pairs[i];
        PyObject *item = Py_BuildValue("IIy#", one->seen[pair->a]->facts.place, one->seen[pair->b]->facts.place,
                                       (const char *)pair->facts, (Py_ssize_t)sizeof pair->facts);
        if (!item)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, item);
    }
    return list;
}

/* Gives out what a conversation came to, and forgets it.  False: an error is set. */
static bool
close_conversation(ConversationTable *self, Conversation *one)
{
    free_slot(self, slot_of(self, &one->key));
    unlink_used(self, one);
    self->live--;
    self->seen_count -= one->seen_count;
    PyObject *seen = sightings_of(one), *pairs = seen ? pairs_of(one) : NULL;
    PyObject *answer = pairs ? PyObject_CallFunction(self->closed, "y#OO", (const char *)&one->key,
                                                     (Py_ssize_t)sizeof one->key, seen, pairs) : NULL;
    Py_XDECREF(seen);
    Py_XDECREF(pairs);
    Py_XDECREF(answer);
    empty_conversation(one);
    one->open = false;
    if (!one->references)
        PyMem_Free(one);
    return answer != NULL;
}

static ConversationKey
key_of(const Row *row, uint32_t place, uint32_t *side)
{
    ConversationKey key = {.scope = is_loopback(row) ? place + 1 : 0, .family = row->family,
                           .protocol = row->protocol};
    int order = memcmp(row->source, row->destination, 16);
    *side = order ? order > 0 : row->source_port > row->destination_port;
    memcpy(key.address[*side], row->source, 16);
    memcpy(key.address[!*side], row->destination, 16);
    key.port[*side] = row->source_port;
    key.port[!*side] = row->destination_port;
    return key;
}

static Conversation *
open_conversation(ConversationTable *self, const ConversationKey *key)
{
    if (!grow_slots(self))
        return NULL;
    Conversation *one = new_array(1, sizeof *one);
    if (!one)
        return NULL;
    one->key = *key;
    one->key.serial = ++self->serial;
    one->open = true;
    self->slots[slot_of(self, key)] = one;
    self->live++;
    link_used(self, one);
    return one;
}

/* The conversation that a SYN belongs to: a new one where these ends had another before. */
static Conversation *
begun(ConversationTable *self, Conversation *one, uint32_t side, uint32_t place, uint32_t seq)
{
    if (one->syn_known[side] && one->syn_seq[side] == seq)
        return one;
    bool before = one->syn_known[side];
    for (uint32_t i = 0; i < one->seen_count; i++)
        before |= one->seen[i]->facts.place == place && one->seen[i]->halves[side].facts.packets;
    if (before) {
        const ConversationKey key = one->key;
        if (!close_conversation(self, one) || !(one = open_conversation(self, &key)))
            return NULL;
    }
    one->syn_known[side] = true;
    one->syn_seq[side] = seq;
    return one;
}

/* The index of what a place saw; NONE when there are too many places.  False: an error is set. */
static bool
seen_at(ConversationTable *self, Conversation *one, uint32_t place, uint32_t *index)
{
    for (*index = 0; *index < one->seen_count; ++*index)
        if (one->seen[*index]->facts.place == place)
            return true;
    if (one->seen_count == PLACES_OF_ONE) {
        *index = NONE;
        return true;
    }
    while (self->seen_count >= self->most && self->oldest_used != one) {
        self->evicted++;
        if (!close_conversation(self, self->oldest_used))
            return false;
    }
    Seen *seen = NULL;
    if (!grow_array((void **)&one->seen, one->seen_count, sizeof *one->seen)
        || !(seen = new_array(1, sizeof *seen)))
        return false;
    self->seen_count++;
    seen->facts.place = place;
    for (int side = 0; side < 2; side++)
        seen->halves[side].again_at = seen->halves[side].timed = NO_OFFSET;
    one->seen[one->seen_count++] = seen;
    return true;
}

/* ---- what an end sends --------------------------------------------------------------- */

/* The value of a TCP option.  False: it is not there. */
static bool
option_of(const Now *now, uint8_t kind, uint64_t size, uint32_t *value)
{
    const Row *row = now->row;
    uint64_t begin = (uint64_t)row->at + row->transport_at + 20;
    uint64_t end = (uint64_t)row->at + (row->payload_at < row->captured ? row->payload_at : row->captured);
    if (end > now->size)
        end = now->size;
    while (begin + 2 <= end) {
        const uint8_t *at = now->data + begin;
        if (at[0] == 1) {
            begin++;
            continue;
        }
        uint64_t length = at[1];
        if (!at[0] || length < 2 || begin + length > end)
            return false;
        if (at[0] == kind && length >= 2 + size) {
            *value = size == 2 ? get_be16(at + 2) : get_be32(at + 2);
            return true;
        }
        begin += length;
    }
    return false;
}

static void
note_frame(HalfFacts *facts, uint32_t frame)
{
    for (int i = 0; i < 4; i++)
        if (!facts->frame[i]) {
            facts->frame[i] = frame;
            return;
        }
}

static void
repeated(Half *half, const Now *now, int64_t offset, int64_t end)
{
    HalfFacts *facts = &half->facts;
    int64_t us = now->row->us;
    if (!facts->retransmitted)
        facts->retransmitted_first_us = us;
    facts->retransmitted_last_us = us;
    facts->retransmitted++;
    facts->retransmitted_bytes += now->row->payload;
    facts->needless += end <= facts->acked;
    note_frame(facts, now->frame);
    if (offset == half->again_at)
        facts->again_count++;
    else {
        half->again_at = offset;
        facts->again_count = 1;
        facts->again_us = us;
    }
    facts->again_length = now->row->payload;
}

static void
drop_hole(Half *half, uint32_t index)
{
    memmove(half->holes + index, half->holes + index + 1, (--half->hole_count - index) * sizeof(Hole));
}

static void
fill(Half *half, const Half *peer, uint32_t index, const Now *now, int64_t offset, int64_t end)
{
    Hole *hole = &half->holes[index];
    uint32_t stamp;
    int64_t newer = 0;
    if (option_of(now, 8, 4, &stamp) && hole->stamped)
        newer = signed_of(stamp - hole->stamp);
    int64_t least = greater(OVERTAKEN_US, peer->facts.rtt_least_us);
    if (newer > 0 || (newer == 0 && now->row->us - hole->us >= least)) {
        half->facts.late++;
        half->facts.late_us = now->row->us;
        note_frame(&half->facts, now->frame);
    } else
        half->facts.reordered++;
    half->timed = NO_OFFSET;
    if (offset <= hole->begin && end >= hole->end)
        drop_hole(half, index);
    else if (offset <= hole->begin)
        hole->begin = end;
    else if (end >= hole->end || half->hole_count == HOLES)
        hole->end = offset;
    else {
        memmove(hole + 2, hole + 1, (half->hole_count - index - 1) * sizeof(Hole));
        half->hole_count++;
        hole[1] = *hole;
        hole[1].begin = end;
        hole->end = offset;
    }
}

static bool
add_hole(Half *half, const Now *now, int64_t begin, int64_t end)
{
    if (!half->holes && !(half->holes = new_array(HOLES, sizeof(Hole))))
        return false;
    if (half->hole_count == HOLES)
        drop_hole(half, 0);
    Hole hole = {begin, end, now->row->us, 0, false};
    hole.stamped = option_of(now, 8, 4, &hole.stamp);
    half->holes[half->hole_count++] = hole;
    return true;
}

/* Whether its place saw an equal packet a little before; it is remembered. */
static bool
seen_again(ConversationTable *self, const Row *row)
{
    uint64_t own = row->digest + row->interface * PLACE_FACTOR, *slot = &self->recent[own % RECENT];
    bool known = *slot == own;
    *slot = own;
    return known;
}

/* Sets whether it has bytes that were not seen, and whether it is sent again.  False: an error is set. */
static bool
segment(ConversationTable *self, Half *half, const Half *peer, const Now *now, int64_t offset, int64_t end, bool *fresh, bool *again)
{
    const Row *row = now->row;
    HalfFacts *facts = &half->facts;
    if (seen_again(self, row) && offset < facts->next) {
        facts->duplicates++;
        *fresh = false;
        return true;
    }
    *fresh = true;
    if (offset >= facts->next) {
        if (offset > facts->next && !add_hole(half, now, facts->next, offset))
            return false;
        facts->next = end;
        if (row->payload > half->pending)
            half->pending = row->payload;
        if (half->timed == NO_OFFSET) {
            half->timed = end;
            half->timed_at = row->us;
        }
        return true;
    }
    if (row->payload <= 1 && end == facts->next && !(row->flags & FIN_FLAG)) {
        facts->keepalives++;
        *fresh = false;
        return true;
    }
    for (uint32_t i = 0; i < half->hole_count; i++)
        if (offset < half->holes[i].end && half->holes[i].begin < end) {
            fill(half, peer, i, now, offset, end);
            return true;
        }
    *fresh = end > facts->next;
    *again = true;
    facts->next = greater(facts->next, end);
    half->timed = NO_OFFSET;
    repeated(half, now, offset, end);
    return true;
}

/* The other end has all that `peer` sent before the offset `acked`. */
static void
confirm(Half *peer, int64_t acked, int64_t us)
{
    HalfFacts *facts = &peer->facts;
    if (acked > facts->next) {
        facts->unseen++;
        facts->next = acked;
    }
    if (acked <= facts->acked)
        return;
    facts->acked = acked;
    if (peer->timed != NO_OFFSET && acked >= peer->timed) {
        int64_t rtt = greater(0, us - peer->timed_at);
        facts->rtt_least_us = facts->rtt_count ? lesser(facts->rtt_least_us, rtt) : rtt;
        facts->rtt_greatest_us = greater(facts->rtt_greatest_us, rtt);
        facts->rtt_sum_us += rtt;
        facts->rtt_count++;
        peer->timed = NO_OFFSET;
    }
    if (acked >= facts->next) {
        if (peer->pending > facts->largest_acked)
            facts->largest_acked = peer->pending;
        peer->pending = 0;
    }
    if (peer->again_at != NO_OFFSET && acked > peer->again_at) {
        peer->again_at = NO_OFFSET;
        facts->again_count = 0;
    }
    for (uint32_t i = 0; i < peer->hole_count;)
        if (peer->holes[i].end <= acked) {
            drop_hole(peer, i);
            facts->unseen++;
        } else
            i++;
}

static void
see_window(HalfFacts *facts, const Now *now)
{
    if (!now->row->window) {
        if (!facts->zero_since_us) {
            facts->zero_since_us = now->row->us;
            facts->zero_count++;
            if (!facts->zero_frame)
                facts->zero_frame = now->frame;
        }
    } else if (facts->zero_since_us) {
        int64_t shut = greater(0, now->row->us - facts->zero_since_us);
        facts->zero_us += shut;
        facts->zero_longest_us = greater(facts->zero_longest_us, shut);
        facts->zero_since_us = 0;
    }
}

static void
reset(HalfFacts *facts, const HalfFacts *peer, const Now *now, int64_t silence)
{
    facts->rst_count++;
    if (facts->rst_count > 1)
        return;
    facts->rst_us = now->row->us;
    facts->rst_frame = now->frame;
    facts->rst_idle_us = silence;
    facts->rst_unacked_own = (uint32_t)lesser(UINT32_MAX, greater(0, facts->next - greater(facts->acked, 0)));
    facts->rst_unacked_peer = (uint32_t)lesser(UINT32_MAX, greater(0, peer->next - greater(peer->acked, 0)));
}

static inline int64_t
offset_of(const HalfFacts *facts, uint32_t seq)
{
    return facts->next + signed_of(seq - facts->base - (uint32_t)facts->next);
}

static void
see_syn(Half *half, const Now *now)
{
    HalfFacts *facts = &half->facts;
    facts->syn_count++;
    if (facts->syn_count > 1) {
        half->timed = NO_OFFSET;
        return;
    }
    facts->syn_us = now->row->us;
    facts->syn_frame = now->frame;
    half->timed = 0;
    half->timed_at = now->row->us;
    uint32_t mss;
    facts->mss = option_of(now, 2, 2, &mss) ? mss : 0;
}

static bool
follow_tcp(ConversationTable *self, Half *half, Half *peer, const Now *now, int64_t silence, int64_t *offset, bool *fresh, bool *again)
{
    const Row *row = now->row;
    HalfFacts *facts = &half->facts;
    facts->flags |= row->flags;
    if (row->flags & RST_FLAG) {
        reset(facts, &peer->facts, now, silence);
        *fresh = false;
        return true;
    }
    uint32_t syn = row->flags >> 1 & 1, fin = row->flags & 1;
    if (!half->started) {
        half->started = true;
        facts->base = row->seq + syn;
        facts->acked = -(int64_t)syn;
    }
    *offset = offset_of(facts, row->seq + syn);
    if (syn) {
        *again = facts->syn_count > 0;
        see_syn(half, now);
    } else if (row->payload || fin) {
        if (fin && !facts->fin_us) {
            facts->fin_us = row->us;
            facts->fin_frame = now->frame;
            facts->fin_idle_us = silence;
        }
        if (!segment(self, half, peer, now, *offset, *offset + row->payload + fin, fresh, again))
            return false;
        if (fin && facts->fin_us == row->us && row->flags & ACK_FLAG && peer->started)
            facts->fin_acked = offset_of(&peer->facts, row->ack);
        if (row->payload && *fresh && peer->facts.fin_us) {
            facts->after_fin++;
            if (!facts->after_fin_frame)
                facts->after_fin_frame = now->frame;
        }
    } else if (*offset == facts->next - 1)
        facts->keepalives++;
    if (row->flags & ACK_FLAG) {
        if (peer->started)
            confirm(peer, offset_of(&peer->facts, row->ack), row->us);
        if (!syn)
            see_window(facts, now);
    }
    return true;
}

static bool
is_error(const Now *now)
{
    uint64_t at = (uint64_t)now->row->at + now->row->transport_at;
    if (!now->row->transport_at || at >= now->size)
        return false;
    uint8_t type = now->data[at];
    if (now->row->family == 4)
        return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
    return now->row->family == 6 && type >= 1 && type < 128;
}

/* False: an error is set. */
static bool
give_payload(ConversationTable *self, const Conversation *one, uint32_t place, Half *half, const Now *now,
             int64_t offset)
{
    const Row *row = now->row;
    bool icmp = one->key.protocol == ICMP || one->key.protocol == ICMPV6; /* with its header */
    uint64_t start = (uint64_t)row->at + (icmp ? row->transport_at : row->payload_at);
    uint64_t end = (uint64_t)row->at + row->captured, behind = (uint64_t)row->at + row->payload_at + row->payload;
    if (behind < end)
        end = behind;
    if (end > now->size)
        end = now->size;
    uint64_t size = start < end ? end - start : 0;
    PyObject *answer = PyObject_CallFunction(
        self->payload, "KIIILILIIy#", (unsigned long long)one->key.serial, (unsigned int)one->key.protocol, place,
        now->side, (long long)row->us, now->frame, (long long)offset, row->seq, row->payload,
        size ? (const char *)now->data + start : "", (Py_ssize_t)size);
    if (!answer)
        return false;
    bool known = number("wanted", answer, INT64_MIN, INT64_MAX, &half->wanted);
    Py_DECREF(answer);
    return known;
}

static bool
follow(ConversationTable *self, Conversation *one, Seen *seen, const Now *now, bool *again)
{
    const Row *row = now->row;
    Half *half = &seen->halves[now->side];
    HalfFacts *facts = &half->facts;
    SeenFacts *both = &seen->facts;
    int64_t us = row->us, since = us - facts->last_us;
    bool twin = facts->packets && row->digest == half->digest && since >= 0 && since < TWIN_US;
    int64_t silence = both->last_us ? us - both->last_us : 0;
    if (both->last_us && silence >= self->idle) {
        both->idle_from_us = both->last_us;
        both->idle_to_us = us;
        both->idle_count++;
        both->idle_side = now->side;
        both->idle_frame = now->frame;
    }
    both->last_us = greater(both->last_us, us);
    if (!facts->packets) {
        facts->first_us = us;
        facts->first_frame = now->frame;
    }
    facts->packets++;
    facts->last_us = us;
    facts->last_frame = now->frame;
    half->digest = row->digest;
    facts->bytes += row->payload;
    *again = false;
    if (twin) {
        facts->duplicates++;
        return true;
    }
    if (row->payload) {
        facts->payload_us = us;
        facts->payload_packets++;
    }
    int64_t offset = 0;
    bool fresh = true;
    if (row->has & HAS_TCP) {
        if (!follow_tcp(self, half, &seen->halves[!now->side], now, silence, &offset, &fresh, again))
            return false;
    } else if (one->key.protocol == ICMP || one->key.protocol == ICMPV6)
        fresh = is_error(now);
    else if (one->key.protocol == UDP)
        fresh = row->source_port == DNS_PORT || row->destination_port == DNS_PORT;
    return !row->payload || !fresh || row->has & HAS_LATER_FRAGMENT || half->wanted == NEVER
        || offset + row->payload <= half->wanted
        || give_payload(self, one, both->place, half, now, offset);
}

/* ---- the same packet at several places ------------------------------------------------- */

static inline Awaited *
awaited_at(const ConversationTable *self, uint64_t sequence)
{
    return &self->ring[sequence & (self->room - 1)];
}

static inline uint64_t *
number_slot(const ConversationTable *self, uint64_t *slots, uint64_t count, uint64_t packet)
{
    uint64_t at = hash_of(self->seed, &packet, sizeof packet) & (count - 1);
    while (slots[at] && (slots[at] < self->oldest || awaited_at(self, slots[at])->number != packet))
        at = (at + 1) & (count - 1);
    return &slots[at];
}

static bool
make_numbers(ConversationTable *self)
{
    uint64_t count = 1024;
    while (count < 2 * (self->next - self->oldest))
        count *= 2;
    uint64_t *slots = new_array(count, sizeof *slots);
    if (!slots)
        return false;
    for (uint64_t sequence = self->oldest; sequence < self->next; sequence++)
        *number_slot(self, slots, count, awaited_at(self, sequence)->number) = sequence;
    PyMem_Free(self->numbers);
    self->numbers = slots;
    self->number_count = count;
    self->numbers_used = self->next - self->oldest;
    return true;
}

static bool
grow_awaited(ConversationTable *self)
{
    uint64_t room = 2 * self->room;
    Awaited *ring = new_array(room, sizeof *ring);
    if (!ring)
        return false;
    for (uint64_t sequence = self->oldest; sequence < self->next; sequence++)
        ring[sequence & (room - 1)] = *awaited_at(self, sequence);
    PyMem_Free(self->ring);
    self->ring = ring;
    self->room = room;
    return true;
}

static const SeenAt *
seen_by(const Awaited *packet, uint32_t index)
{
    for (uint32_t i = 0; i < packet->seen_count; i++)
        if (packet->seen[i].index == index)
            return &packet->seen[i];
    return NULL;
}

static void
settle(Pair *pair, const Awaited *packet)
{
    BetweenFacts *own = &pair->facts[packet->side];
    const SeenAt *first = seen_by(packet, pair->a), *second = seen_by(packet, pair->b);
    if (first && second) {
        pair->settled = true;
        own->only_first += own->since_first;
        own->only_second += own->since_second;
        own->since_first = own->since_second = 0;
    } else if ((first || second) && pair->settled) {
        const SeenAt *seen = first ? first : second;
        if (!own->lost_first_us)
            own->lost_first_us = seen->us;
        own->lost_last_us = seen->us;
        uint32_t *frame = first ? &own->frame_first : &own->frame_second;
        ++*(first ? &own->since_first : &own->since_second);
        if (!*frame)
            *frame = seen->frame;
    }
}

static void
expire(ConversationTable *self)
{
    Awaited *gone = awaited_at(self, self->oldest++);
    Conversation *one = gone->conversation;
    one->references--;
    if (one->open)
        for (uint32_t i = 0; i < one->pair_count; i++)
            settle(one->pairs[i], gone);
    else if (!one->references)
        PyMem_Free(one);
}

static void
add_best(Best *best, Best now, bool least)
{
    if (!best->there || (least ? now.delta < best->delta : now.delta > best->delta))
        *best = now;
}

static void
halve(Clock *clock)
{
    clock->width *= 2;
    for (int way = 0; way < 2; way++)
        for (uint32_t i = 0; i < BINS; i++) {
            Best best = {0, 0, false};
            for (uint32_t j = 2 * i; i < BINS / 2 && j < 2 * i + 2; j++)
                if (clock->bins[way][j].there)
                    add_best(&best, clock->bins[way][j], way == 0);
            clock->bins[way][i] = best;
        }
}

/* A packet travelled from the first to the second place (`there`), or back.  False: an error is set. */
static bool
see_clock(ConversationTable *self, uint32_t a, uint32_t b, int64_t us, int64_t delta, bool there)
{
    uint32_t i = 0;
    while (i < self->clock_count && (self->clocks[i].a != a || self->clocks[i].b != b))
        i++;
    if (i == self->clock_count) {
        if (!grow_array((void **)&self->clocks, self->clock_count, sizeof(Clock)))
            return false;
        memset(&self->clocks[i], 0, sizeof(Clock));
        self->clocks[i].a = a;
        self->clocks[i].b = b;
        self->clocks[i].start = us;
        self->clocks[i].width = BIN_US;
        self->clock_count++;
    }
    Clock *clock = &self->clocks[i];
    int64_t index = greater(0, us - clock->start) / clock->width;
    for (; index >= BINS; index /= 2)
        halve(clock);
    add_best(&clock->bins[there ? 0 : 1][index], (Best){us, delta, true}, there);
    return true;
}

/* What happened between two of a conversation's sightings; NULL with an error. */
static Pair *
pair_between(Conversation *one, uint32_t a, uint32_t b)
{
    for (uint32_t i = 0; i < one->pair_count; i++)
        if (one->pairs[i]->a == a && one->pairs[i]->b == b)
            return one->pairs[i];
    Pair *pair = NULL;
    if (grow_array((void **)&one->pairs, one->pair_count, sizeof *one->pairs)
        && (pair = new_array(1, sizeof *pair))) {
        pair->a = a;
        pair->b = b;
        one->pairs[one->pair_count++] = pair;
    }
    return pair;
}

static bool
seen_twice(ConversationTable *self, Conversation *one, uint32_t side, SeenAt before, SeenAt now)
{
    const SeenAt first = before.index < now.index ? before : now, second = before.index < now.index ? now : before;
    Pair *pair = pair_between(one, first.index, second.index);
    if (!pair)
        return false;
    BetweenFacts *own = &pair->facts[side];
    int64_t delta = second.us - first.us;
    own->least_us = own->both ? lesser(own->least_us, delta) : delta;
    own->greatest_us = own->both ? greater(own->greatest_us, delta) : delta;
    own->both++;
    if (first.again && second.again)
        own->again_each++;
    else if (first.again || second.again) {
        const SeenAt again = first.again ? first : second;
        if (!own->again_frame)
            own->again_frame = again.frame;
        if (!own->lost_first_us)
            own->lost_first_us = again.us;
        own->lost_last_us = again.us;
        own->again_first += first.again;
        own->again_second += second.again;
    }
    pair->last[side] = delta;
    pair->known[side] = true;
    if (!pair->known[!side] || pair->last[!side] == delta)
        return true;
    bool there = delta > pair->last[!side];
    uint32_t a = one->seen[first.index]->facts.place, b = one->seen[second.index]->facts.place;
    if (a > b)
        return see_clock(self, b, a, second.us, -delta, !there);
    return see_clock(self, a, b, first.us, delta, there);
}

/* False: an error is set. */
static bool
see_packet(ConversationTable *self, uint64_t packet, Conversation *one, uint32_t side, SeenAt now)
{
    self->newest_us = greater(self->newest_us, now.us);
    int64_t oldest_us = self->newest_us - self->window;
    while (self->oldest < self->next
           && (awaited_at(self, self->oldest)->us < oldest_us
               || self->next - self->oldest >= self->waiting_max)) {
        const Awaited *gone = awaited_at(self, self->oldest);
        self->forgotten += gone->us >= oldest_us && gone->seen_count == 1;
        expire(self);
    }
    if (self->next - self->oldest == self->room && !grow_awaited(self))
        return false;
    if (4 * self->numbers_used >= 3 * self->number_count && !make_numbers(self))
        return false;
    uint64_t *slot = number_slot(self, self->numbers, self->number_count, packet);
    if (!*slot) {
        *awaited_at(self, self->next) =
            (Awaited){.number = packet, .conversation = one, .us = now.us, .seen_count = 1, .side = side, .seen = {now}};
        one->references++;
        self->numbers_used++;
        *slot = self->next++;
        return true;
    }
    Awaited *awaited = awaited_at(self, *slot);
    if (awaited->conversation != one || awaited->side != side || awaited->seen_count == SEEN_AT
        || seen_by(awaited, now.index))
        return true;
    for (uint32_t i = 0; i < awaited->seen_count; i++)
        if (!seen_twice(self, one, side, awaited->seen[i], now))
            return false;
    awaited->seen[awaited->seen_count++] = now;
    return true;
}

/* ---- packets --------------------------------------------------------------------------- */

static bool
count_packet(ConversationTable *self, const Row *row)
{
    Place *place = &self->places[row->interface];
    self->packets++;
    self->frames[place->file]++;
    place->first = place->packets ? lesser(place->first, row->us) : row->us;
    place->last = place->packets ? greater(place->last, row->us) : row->us;
    place->packets++;
    if (!row->drops)
        return true;
    PyObject *answer = PyObject_CallFunction(self->lost, "ILI", row->interface, (long long)row->us, row->drops);
    Py_XDECREF(answer);
    return answer != NULL;
}

static bool
take_row(ConversationTable *self, const Row *row, const Py_buffer *parts, size_t part_count)
{
    if (row->interface >= self->place_count || self->places[row->interface].file >= part_count) {
        PyErr_SetString(PyExc_ValueError, "a row is of an unknown place");
        return false;
    }
    if (row->us < -US_MAX || row->us > US_MAX) {
        PyErr_SetString(PyExc_ValueError, "a row's time is out of range");
        return false;
    }
    if (!count_packet(self, row))
        return false;
    if (!(row->has & HAS_IP)) {
        self->others++;
        return true;
    }
    uint32_t side, index, file = self->places[row->interface].file;
    const ConversationKey key = key_of(row, row->interface, &side);
    Conversation *one = self->slots[slot_of(self, &key)];
    if (!one && !(one = open_conversation(self, &key)))
        return false;
    if (row->has & HAS_TCP && (row->flags & (SYN_FLAG | ACK_FLAG | RST_FLAG)) == SYN_FLAG
        && !(one = begun(self, one, side, row->interface, row->seq)))
        return false;
    if (self->newest_used != one) {
        unlink_used(self, one);
        link_used(self, one);
    }
    if (!seen_at(self, one, row->interface, &index))
        return false;
    if (index == NONE) {
        self->beyond++;
        return true;
    }
    const Now now = {row, parts[file].buf, (uint64_t)parts[file].len, self->frames[file], side};
    bool again;
    if (!follow(self, one, one->seen[index], &now, &again))
        return false;
    return self->place_count < 2 || !(row->has & HAS_NUMBER)
        || see_packet(self, row->number, one, side, (SeenAt){index, now.frame, row->us, again});
}

static bool
take_rows(ConversationTable *self, const Py_buffer *in, const Py_buffer *parts, size_t part_count)
{
    if ((size_t)in->len % sizeof(Row)) {
        PyErr_Format(PyExc_ValueError, "%zd bytes are not whole rows", in->len);
        return false;
    }
    for (size_t at = 0; at < (size_t)in->len; at += sizeof(Row)) {
        Row row;
        memcpy(&row, (const uint8_t *)in->buf + at, sizeof row);
        if (!take_row(self, &row, parts, part_count))
            return false;
    }
    return true;
}

static PyObject *
conversation_table_add(ConversationTable *self, PyObject *args)
{
    Py_buffer in;
    PyObject *given;
    if (!PyArg_ParseTuple(args, "y*O:add", &in, &given))
        return NULL;
    PyObject *parts = PySequence_Tuple(given);
    size_t count = parts ? (size_t)PyTuple_GET_SIZE(parts) : 0, held = 0;
    Py_buffer *buffers = parts ? new_array(count, sizeof *buffers) : NULL;
    while (buffers && held < count
           && PyObject_GetBuffer(PyTuple_GET_ITEM(parts, held), &buffers[held], PyBUF_SIMPLE) == 0)
        held++;
    bool taken = buffers && held == count && take_rows(self, &in, buffers, count);
    while (held)
        PyBuffer_Release(&buffers[--held]);
    PyMem_Free(buffers);
    Py_XDECREF(parts);
    PyBuffer_Release(&in);
    if (!taken)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
conversation_table_open_place(ConversationTable *self, PyObject *arg)
{
    int64_t file;
    if (!number("file", arg, 0, self->file_count, &file))
        return NULL;
    if ((uint32_t)file == self->file_count) {
        if (!grow_array((void **)&self->frames, self->file_count, sizeof *self->frames))
            return NULL;
        self->frames[self->file_count++] = 0;
    }
    if (!grow_array((void **)&self->places, self->place_count, sizeof(Place)))
        return NULL;
    self->places[self->place_count] = (Place){.file = (uint32_t)file};
    return PyLong_FromUnsignedLong(self->place_count++);
}

static PyObject *
conversation_table_places(ConversationTable *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *list = PyList_New(self->place_count);
    for (uint32_t i = 0; list && i < self->place_count; i++) {
        const Place *place = &self->places[i];
        PyObject *item = Py_BuildValue("LLL", (long long)place->packets, (long long)place->first,
                                       (long long)place->last);
        if (!item)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, item);
    }
    return list;
}

static int
order_of_clocks(const void *left, const void *right)
{
    const Clock *a = left, *b = right;
    return a->a != b->a ? (a->a < b->a ? -1 : 1) : (a->b > b->b) - (a->b < b->b);
}

static PyObject *
list_of_bins(const Best *bins)
{
    PyObject *list = PyList_New(0);
    for (uint32_t i = 0; list && i < BINS; i++) {
        if (!bins[i].there)
            continue;
        PyObject *item = Py_BuildValue("LL", (long long)bins[i].us, (long long)bins[i].delta);
        if (!item || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

static PyObject *
conversation_table_clocks(ConversationTable *self, PyObject *Py_UNUSED(ignored))
{
    if (self->clock_count)
        qsort(self->clocks, self->clock_count, sizeof(Clock), order_of_clocks);
    PyObject *list = PyList_New(self->clock_count);
    for (uint32_t i = 0; list && i < self->clock_count; i++) {
        const Clock *clock = &self->clocks[i];
        PyObject *there = list_of_bins(clock->bins[0]), *back = there ? list_of_bins(clock->bins[1]) : NULL;
        PyObject *item = back ? Py_BuildValue("IIOO", clock->a, clock->b, there, back) : NULL;
        Py_XDECREF(there);
        Py_XDECREF(back);
        if (!item)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, item);
    }
    return list;
}

static PyObject *
conversation_table_close(ConversationTable *self, PyObject *Py_UNUSED(ignored))
{
    while (self->oldest < self->next)
        expire(self);
    /* In the order of their last packets, as the reference's dictionary. */
    while (self->oldest_used)
        if (!close_conversation(self, self->oldest_used))
            return NULL;
    Py_RETURN_NONE;
}

/* ---- the type ---------------------------------------------------------------------------- */

static PyObject *
conversation_table_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"conversations", "waiting", "window_us", "idle_us", "closed", "payload", "lost", NULL};
    PyObject *given[4], *closed, *payload, *lost;
    int64_t most, waiting, window, idle;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOOO:ConversationTable", names, &given[0], &given[1],
                                     &given[2], &given[3], &closed, &payload, &lost)
        || !number("conversations", given[0], 1, INT32_MAX, &most)
        || !number("waiting", given[1], 1, INT32_MAX, &waiting)
        || !number("window_us", given[2], 0, US_MAX, &window)
        || !number("idle_us", given[3], 1, US_MAX, &idle))
        return NULL;
    ConversationTable *self = (ConversationTable *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->most = (uint64_t)most;
    self->waiting_max = (uint64_t)waiting;
    self->window = window;
    self->idle = idle;
    self->closed = Py_NewRef(closed);
    self->payload = Py_NewRef(payload);
    self->lost = Py_NewRef(lost);
    self->oldest = self->next = 1;
    self->room = self->slot_count = 1024;
    self->ring = new_array(self->room, sizeof *self->ring);
    self->slots = self->ring ? new_array(self->slot_count, sizeof *self->slots) : NULL;
    self->recent = self->slots ? new_array(RECENT, sizeof *self->recent) : NULL;
    if (!self->recent || !secret_seed(&self->seed) || !make_numbers(self))
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int
conversation_table_traverse(ConversationTable *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->closed);
    Py_VISIT(self->payload);
    Py_VISIT(self->lost);
    return 0;
}

static int
conversation_table_clear(ConversationTable *self)
{
    Py_CLEAR(self->closed);
    Py_CLEAR(self->payload);
    Py_CLEAR(self->lost);
    return 0;
}

static void
conversation_table_dealloc(ConversationTable *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    while (self->ring && self->oldest < self->next)
        expire(self);
    while (self->oldest_used) {
        Conversation *one = self->oldest_used;
        self->oldest_used = one->newer;
        empty_conversation(one);
        PyMem_Free(one);
    }
    conversation_table_clear(self);
    PyMem_Free(self->slots);
    PyMem_Free(self->recent);
    PyMem_Free(self->ring);
    PyMem_Free(self->numbers);
    PyMem_Free(self->places);
    PyMem_Free(self->frames);
    PyMem_Free(self->clocks);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
conversation_table_count(ConversationTable *self, void *offset)
{
    return PyLong_FromUnsignedLongLong(*(uint64_t *)((char *)self + (uintptr_t)offset));
}

#define CONVERSATIONS_DOC "See pcapd.analysis._conversations."
#define COUNT_OF(name) \
    {#name, (getter)conversation_table_count, NULL, CONVERSATIONS_DOC, (void *)offsetof(ConversationTable, name)}
#define METHOD(name, how) \
    {#name, (PyCFunction)(void (*)(void))conversation_table_##name, how, CONVERSATIONS_DOC}

static PyMethodDef conversation_table_methods[] = {
    METHOD(add, METH_VARARGS),
    METHOD(open_place, METH_O),
    METHOD(places, METH_NOARGS),
    METHOD(clocks, METH_NOARGS),
    METHOD(close, METH_NOARGS),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef conversation_table_attributes[] = {
    COUNT_OF(packets), COUNT_OF(others), COUNT_OF(beyond), COUNT_OF(evicted), COUNT_OF(forgotten),
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot conversation_table_slots[] = {
    {Py_tp_new, (void *)conversation_table_new},
    {Py_tp_dealloc, (void *)conversation_table_dealloc},
    {Py_tp_traverse, (void *)conversation_table_traverse},
    {Py_tp_clear, (void *)conversation_table_clear},
    {Py_tp_methods, conversation_table_methods},
    {Py_tp_getset, conversation_table_attributes},
    {0, NULL},
};

static PyType_Spec conversation_table_spec = {
    .name = "pcapd.analysis._native.ConversationTable",
    .basicsize = sizeof(ConversationTable),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = conversation_table_slots,
};

#endif
