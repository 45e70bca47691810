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
    /* A retransmission may fill a hole that is no longer remembered. */
    return !row->payload || !(fresh || *again) || row->has & HAS_LATER_FRAGMENT || half->wanted == NEVER
        || offset + row->payload <= half->wanted
        || give_payload(self, one, both->place, half, now, offset);
}

#endif
