/* What one end sends, as one place sees it: _halves.py, compiled. */
#ifndef PCAPD_HALVES_H
#define PCAPD_HALVES_H

#include "_facts.h"

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

/* For reading. */
static inline const Trouble *
trouble_of(const Half *half)
{
    static const Trouble none = {.again_at = NO_OFFSET};
    return half->trouble ? half->trouble : &none;
}

/* For writing; NULL with an error. */
static Trouble *
in_trouble(Half *half)
{
    if (!half->trouble && (half->trouble = new_array(1, sizeof *half->trouble)))
        half->trouble->again_at = NO_OFFSET;
    return half->trouble;
}

static void
note_frame(Trouble *trouble, uint32_t frame)
{
    for (int i = 0; i < 4; i++)
        if (!trouble->frame[i]) {
            trouble->frame[i] = frame;
            return;
        }
}

/* Adds one to a counter of an end's trouble.  False: an error is set. */
#define COUNT_TROUBLE(half, name) (in_trouble(half) && ++(half)->trouble->name)

static bool
repeated(Half *half, const Now *now, int64_t offset, int64_t end)
{
    Trouble *trouble = in_trouble(half);
    int64_t us = now->row->us;
    if (!trouble)
        return false;
    if (!trouble->retransmitted)
        trouble->retransmitted_first_us = us;
    trouble->retransmitted_last_us = us;
    trouble->retransmitted++;
    trouble->retransmitted_bytes += now->row->payload;
    trouble->needless += end <= half->acked;
    note_frame(trouble, now->frame);
    if (offset == trouble->again_at)
        trouble->again_count++;
    else {
        trouble->again_at = offset;
        trouble->again_count = 1;
        trouble->again_us = us;
    }
    trouble->again_length = now->row->payload;
    return true;
}

static void
drop_hole(Trouble *trouble, uint32_t index)
{
    memmove(trouble->holes + index, trouble->holes + index + 1, (--trouble->hole_count - index) * sizeof(Hole));
}

static void
fill(Half *half, const Half *peer, uint32_t index, const Now *now, int64_t offset, int64_t end)
{
    Trouble *trouble = half->trouble;
    Hole *hole = &trouble->holes[index];
    uint32_t stamp;
    int64_t newer = 0;
    if (option_of(now, 8, 4, &stamp) && hole->stamped)
        newer = signed_of(stamp - hole->stamp);
    int64_t least = greater(OVERTAKEN_US, peer->rtt_least_us);
    if (newer > 0 || (newer == 0 && now->row->us - hole->us >= least)) {
        trouble->late++;
        trouble->late_us = now->row->us;
        note_frame(trouble, now->frame);
    } else
        trouble->reordered++;
    half->timed = NO_OFFSET;
    if (offset <= hole->begin && end >= hole->end)
        drop_hole(trouble, index);
    else if (offset <= hole->begin)
        hole->begin = end;
    else if (end >= hole->end || trouble->hole_count == HOLES)
        hole->end = offset;
    else {
        memmove(hole + 2, hole + 1, (trouble->hole_count - index - 1) * sizeof(Hole));
        trouble->hole_count++;
        hole[1] = *hole;
        hole[1].begin = end;
        hole->end = offset;
    }
}

static bool
add_hole(Half *half, const Now *now, int64_t begin, int64_t end)
{
    Trouble *trouble = in_trouble(half);
    if (!trouble || (!trouble->holes && !(trouble->holes = new_array(HOLES, sizeof(Hole)))))
        return false;
    if (trouble->hole_count == HOLES)
        drop_hole(trouble, 0);
    Hole hole = {begin, end, now->row->us, 0, false};
    hole.stamped = option_of(now, 8, 4, &hole.stamp);
    trouble->holes[trouble->hole_count++] = hole;
    return true;
}

/* Sets whether its place saw an equal packet before; it is remembered. */
static void
seen_again(ConversationTable *self, Now *now)
{
    const Row *row = now->row;
    uint64_t own = row->digest + row->interface * PLACE_FACTOR;
    Recent *set = &self->recent[own % RECENT * RECENT_WAYS];
    uint32_t way = 0;
    while (way < RECENT_WAYS - 1 && set[way].digest != own)
        way++;
    int64_t since = row->us - set[way].us;
    now->known = set[way].digest == own;
    now->twin = now->known && since >= 0 && since < TWIN_US;
    memmove(set + 1, set, way * sizeof *set); /* the newest first */
    *set = (Recent){own, row->us};
}

/* Whether retransmissions differ, by their identification or time stamp: an equal packet is the same one. */
static bool
told_apart(const Now *now)
{
    uint32_t stamp;
    return now->row->family == 4 || option_of(now, 8, 4, &stamp);
}

/* Sets whether it has bytes that were not seen, and whether it is sent again.  False: an error is set. */
static bool
segment(Half *half, const Half *peer, const Now *now, int64_t offset, int64_t end, bool *fresh, Sending *sending)
{
    const Row *row = now->row;
    if (now->known && offset < half->next && told_apart(now)) {
        *fresh = false;
        *sending = SEEN_TWICE;
        return COUNT_TROUBLE(half, duplicates);
    }
    *fresh = true;
    if (offset >= half->next) {
        if (offset > half->next && !add_hole(half, now, half->next, offset))
            return false;
        half->next = end;
        if (row->payload > half->pending)
            half->pending = row->payload;
        if (half->timed == NO_OFFSET) {
            half->timed = end;
            half->timed_at = row->us;
        }
        return true;
    }
    if (row->payload <= 1 && end == half->next && !(row->flags & FIN_FLAG)) {
        *fresh = false;
        return COUNT_TROUBLE(half, keepalives);
    }
    const Trouble *trouble = trouble_of(half);
    for (uint32_t i = 0; i < trouble->hole_count; i++)
        if (offset < trouble->holes[i].end && trouble->holes[i].begin < end) {
            fill(half, peer, i, now, offset, end);
            return true;
        }
    *fresh = end > half->next;
    *sending = SENT_AGAIN;
    half->next = greater(half->next, end);
    half->timed = NO_OFFSET;
    return repeated(half, now, offset, end);
}

static void
measure_round_trip(Half *peer, int64_t us)
{
    int64_t rtt = greater(0, us - peer->timed_at);
    peer->rtt_least_us = peer->rtt_count ? lesser(peer->rtt_least_us, rtt) : rtt;
    peer->rtt_greatest_us = greater(peer->rtt_greatest_us, rtt);
    peer->rtt_sum_us += rtt;
    peer->rtt_count++;
    peer->timed = NO_OFFSET;
}

/* The other end has all that `peer` sent before the offset `acked`.  False: an error is set. */
static bool
confirm(Half *peer, int64_t acked, int64_t us)
{
    if (acked > peer->next) {
        if (!COUNT_TROUBLE(peer, unseen))
            return false;
        peer->next = acked;
    }
    if (acked <= peer->acked)
        return true;
    peer->acked = acked;
    if (peer->timed != NO_OFFSET && acked >= peer->timed)
        measure_round_trip(peer, us);
    if (acked >= peer->next) {
        if (peer->pending > peer->largest_acked)
            peer->largest_acked = peer->pending;
        peer->pending = 0;
    }
    Trouble *trouble = peer->trouble;
    if (!trouble)
        return true;
    if (trouble->again_at != NO_OFFSET && acked > trouble->again_at) {
        trouble->again_at = NO_OFFSET;
        trouble->again_count = 0;
    }
    for (uint32_t i = 0; i < trouble->hole_count;)
        if (trouble->holes[i].end <= acked) {
            drop_hole(trouble, i);
            trouble->unseen++;
        } else
            i++;
    return true;
}

/* False: an error is set. */
static bool
see_window(Half *half, const Now *now)
{
    Trouble *trouble = half->trouble;
    if (!now->row->window) {
        if (!(trouble = in_trouble(half)))
            return false;
        if (!trouble->zero_since_us) {
            trouble->zero_since_us = now->row->us;
            trouble->zero_count++;
            if (!trouble->zero_frame)
                trouble->zero_frame = now->frame;
        }
    } else if (trouble && trouble->zero_since_us) {
        int64_t shut = greater(0, now->row->us - trouble->zero_since_us);
        trouble->zero_us += shut;
        trouble->zero_longest_us = greater(trouble->zero_longest_us, shut);
        trouble->zero_since_us = 0;
    }
    return true;
}

static inline uint32_t
unacked(const Half *half)
{
    return (uint32_t)lesser(UINT32_MAX, greater(0, half->next - greater(half->acked, 0)));
}

/* False: an error is set. */
static bool
reset(Half *half, const Half *peer, const Now *now, int64_t silence)
{
    Trouble *trouble = in_trouble(half);
    if (!trouble)
        return false;
    trouble->rst_count++;
    if (trouble->rst_count > 1)
        return true;
    trouble->rst_us = now->row->us;
    trouble->rst_frame = now->frame;
    trouble->rst_idle_us = silence;
    trouble->rst_unacked_own = unacked(half);
    trouble->rst_unacked_peer = unacked(peer);
    return true;
}

static inline int64_t
offset_of(const Half *half, uint32_t seq)
{
    return half->next + signed_of(seq - half->base - (uint32_t)half->next);
}

static void
see_syn(Half *half, const Now *now)
{
    half->syn_count++;
    if (half->syn_count > 1) {
        half->timed = NO_OFFSET;
        return;
    }
    half->syn_us = now->row->us;
    half->syn_frame = now->frame;
    half->timed = 0;
    half->timed_at = now->row->us;
    uint32_t mss;
    half->mss = option_of(now, 2, 2, &mss) ? (uint16_t)mss : 0;
}

static bool
see_segment(Half *half, const Half *peer, const Now *now, int64_t silence, int64_t offset,
            bool *fresh, Sending *sending)
{
    const Row *row = now->row;
    uint32_t fin = row->flags & FIN_FLAG;
    if (fin && !half->fin_us) {
        half->fin_us = row->us;
        half->fin_frame = now->frame;
        half->fin_idle_us = silence;
    }
    if (!segment(half, peer, now, offset, offset + row->payload + fin, fresh, sending))
        return false;
    if (fin && half->fin_us == row->us && row->flags & ACK_FLAG && peer->started)
        half->fin_acked = offset_of(peer, row->ack);
    if (!row->payload || !*fresh || !peer->fin_us)
        return true;
    if (!COUNT_TROUBLE(half, after_fin))
        return false;
    if (!half->trouble->after_fin_frame)
        half->trouble->after_fin_frame = now->frame;
    return true;
}

static bool
follow_tcp(Half *half, Half *peer, const Now *now, int64_t silence, int64_t *offset, bool *fresh, Sending *sending)
{
    const Row *row = now->row;
    half->flags |= row->flags;
    if (row->flags & RST_FLAG) {
        *fresh = false;
        return reset(half, peer, now, silence);
    }
    uint32_t syn = row->flags >> 1 & 1;
    if (!half->started) {
        half->started = true;
        half->base = row->seq + syn;
        half->acked = -(int64_t)syn;
    }
    *offset = offset_of(half, row->seq + syn);
    if (syn) {
        *sending = half->syn_count ? SENT_AGAIN : SENT_FIRST;
        see_syn(half, now);
    } else if (row->payload || row->flags & FIN_FLAG) {
        if (!see_segment(half, peer, now, silence, *offset, fresh, sending))
            return false;
    } else if (*offset == half->next - 1 && !COUNT_TROUBLE(half, keepalives))
        return false;
    if (!(row->flags & ACK_FLAG))
        return true;
    return (!peer->started || confirm(peer, offset_of(peer, row->ack), row->us)) && (syn || see_window(half, now));
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
follow(ConversationTable *self, Conversation *one, Seen *seen, Now *now, Sending *sending)
{
    const Row *row = now->row;
    Half *half = &seen->halves[now->side];
    SeenFacts *both = &seen->facts;
    int64_t us = row->us, since = us - half->last_us;
    seen_again(self, now);
    now->twin |= half->packets && row->digest == half->digest && since >= 0 && since < TWIN_US;
    int64_t silence = both->last_us ? us - both->last_us : 0;
    if (both->last_us && silence >= self->idle) {
        both->idle_from_us = both->last_us;
        both->idle_to_us = us;
        both->idle_count++;
        both->idle_side = now->side;
        both->idle_frame = now->frame;
    }
    both->last_us = greater(both->last_us, us);
    if (!half->packets) {
        half->first_us = us;
        half->first_frame = now->frame;
    }
    half->packets++;
    half->last_us = us;
    half->last_frame = now->frame;
    half->digest = row->digest;
    half->bytes += row->payload;
    *sending = now->twin ? SEEN_TWICE : SENT_FIRST;
    if (now->twin)
        return COUNT_TROUBLE(half, duplicates);
    if (row->payload) {
        half->payload_us = us;
        half->payload_packets++;
    }
    int64_t offset = 0;
    bool fresh = true;
    if (row->has & HAS_TCP) {
        if (!follow_tcp(half, &seen->halves[!now->side], now, silence, &offset, &fresh, sending))
            return false;
    } else if (one->key.protocol == ICMP || one->key.protocol == ICMPV6)
        fresh = is_error(now);
    else if (one->key.protocol == UDP)
        fresh = row->source_port == DNS_PORT || row->destination_port == DNS_PORT;
    if (*sending == SENT_FIRST && now->known && told_apart(now))
        *sending = SEEN_TWICE;
    /* A retransmission may fill a hole that is no longer remembered. */
    return !row->payload || !(fresh || *sending == SENT_AGAIN) || row->has & HAS_LATER_FRAGMENT || half->wanted == NEVER
        || offset + row->payload <= half->wanted
        || give_payload(self, one, both->place, half, now, offset);
}


/* ---- what an end comes to -------------------------------------------------------- */

static HalfFacts
facts_of(const Half *half)
{
    const Trouble *trouble = trouble_of(half);
#define OWN(name) .name = half->name
#define TROUBLE(name) .name = trouble->name
    HalfFacts facts = {
        OWN(first_us), OWN(last_us), OWN(payload_us), OWN(bytes), OWN(next), OWN(acked), OWN(syn_us), OWN(fin_us),
        OWN(fin_acked), OWN(fin_idle_us), OWN(rtt_least_us), OWN(rtt_sum_us), OWN(rtt_greatest_us), OWN(packets),
        OWN(payload_packets), OWN(first_frame), OWN(last_frame), OWN(flags), OWN(base), OWN(syn_count),
        OWN(syn_frame), OWN(fin_frame), OWN(rtt_count), OWN(largest_acked), OWN(mss),
        TROUBLE(rst_us), TROUBLE(rst_idle_us), TROUBLE(retransmitted_first_us), TROUBLE(retransmitted_last_us),
        TROUBLE(zero_us), TROUBLE(zero_longest_us), TROUBLE(zero_since_us), TROUBLE(again_us), TROUBLE(late_us),
        TROUBLE(rst_count), TROUBLE(rst_frame), TROUBLE(retransmitted), TROUBLE(retransmitted_bytes),
        TROUBLE(needless), TROUBLE(late), TROUBLE(reordered), TROUBLE(duplicates), TROUBLE(keepalives),
        TROUBLE(unseen), TROUBLE(zero_count), TROUBLE(zero_frame), TROUBLE(again_count), TROUBLE(again_length),
        TROUBLE(after_fin), TROUBLE(after_fin_frame), TROUBLE(rst_unacked_own), TROUBLE(rst_unacked_peer),
    };
#undef OWN
#undef TROUBLE
    memcpy(facts.frame, trouble->frame, sizeof facts.frame);
    return facts;
}

static void
empty_half(Half *half)
{
    if (half->trouble)
        PyMem_Free(half->trouble->holes);
    PyMem_Free(half->trouble);
    half->trouble = NULL;
}

#endif
