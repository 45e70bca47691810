/* The same packet at several places: _places.py, compiled. */
#ifndef PCAPD_PLACES_H
#define PCAPD_PLACES_H

#include "_facts.h"

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

static SeenAt
sighting_of(const Awaited *packet, uint32_t i)
{
    return (SeenAt){packet->index[i], packet->frame[i], packet->us + packet->after[i], packet->again >> i & 1};
}

/* Which of its sightings was that of a conversation's `index`; NONE: it was not seen there. */
static uint32_t
seen_by(const Awaited *packet, uint32_t index)
{
    for (uint32_t i = 0; i < packet->seen_count; i++)
        if (packet->index[i] == index)
            return i;
    return NONE;
}

static void
add_sighting(Awaited *packet, SeenAt now)
{
    uint32_t i = packet->seen_count++;
    packet->index[i] = (uint8_t)now.index;
    packet->frame[i] = now.frame;
    packet->after[i] = (int32_t)(now.us - packet->us);
    packet->again |= (uint8_t)(now.again << i);
}

/* NULL with an error. */
static BetweenFacts *
lost_of(PairHalf *half)
{
    if (!half->lost)
        half->lost = new_array(1, sizeof *half->lost);
    return half->lost;
}

static void
note_lost(BetweenFacts *lost, int64_t us)
{
    if (!lost->lost_first_us)
        lost->lost_first_us = us;
    lost->lost_last_us = us;
}

/* The longest time between two sightings of a packet of this end so far. */
static inline int64_t
reach_of(const PairHalf *half)
{
    return half->both ? greater(llabs(half->least_us), llabs(half->greatest_us)) : 0;
}

/* False: an error is set. */
static bool
miss(PairHalf *own, SeenAt seen, bool at_first)
{
    BetweenFacts *lost = lost_of(own);
    if (!lost)
        return false;
    note_lost(lost, seen.us);
    uint32_t *frame = at_first ? &lost->frame_first : &lost->frame_second;
    ++*(at_first ? &lost->since_first : &lost->since_second);
    if (!*frame)
        *frame = seen.frame;
    return true;
}

/* How old a packet is whose other sightings are not awaited any longer: NOT_EARLY, or less than the window. */
static const int64_t NOT_EARLY = INT64_MAX;

/* False: an error is set. */
static bool
settle(Pair *pair, const Awaited *packet, int64_t age, bool *unsure)
{
    PairHalf *own = &pair->halves[packet->side];
    uint32_t first = seen_by(packet, pair->a), second = seen_by(packet, pair->b);
    BetweenFacts *lost = own->lost;
    if (first != NONE && second != NONE) {
        pair->settled = true;
        if (!lost)
            return true;
        lost->only_first += lost->since_first;
        lost->only_second += lost->since_second;
        lost->since_first = lost->since_second = 0;
    } else if (first != NONE || second != NONE) {
        if (age <= greater(reach_of(&pair->halves[0]), reach_of(&pair->halves[1])) + JITTER_US)
            *unsure = true;
        else if (pair->settled && packet->us > packet->conversation->unsure_us)
            return miss(own, sighting_of(packet, first != NONE ? first : second), first != NONE);
    }
    return true;
}

/* False: an error is set. */
static bool
expire(ConversationTable *self, int64_t age)
{
    Awaited *gone = awaited_at(self, self->oldest++);
    Conversation *one = gone->conversation;
    bool settled = true, unsure = age != NOT_EARLY && !one->pair_count;
    one->references--;
    if (one->open) {
        for (uint32_t i = 0; i < one->pair_count; i++)
            settled = settled && settle(one->pairs[i], gone, age, &unsure);
        self->forgotten += unsure && gone->seen_count == 1;
        if (unsure)
            one->unsure_us = greater(one->unsure_us, gone->us + self->window);
    } else if (!one->references)
        PyMem_Free(one);
    return settled;
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
        pair->a = (uint8_t)a;
        pair->b = (uint8_t)b;
        one->pairs[one->pair_count++] = pair;
    }
    return pair;
}

/* A packet that at least one of two places had seen before.  False: an error is set. */
static bool
sent_again(PairHalf *own, SeenAt first, SeenAt second)
{
    BetweenFacts *lost = lost_of(own);
    if (!lost)
        return false;
    if (first.again && second.again) {
        lost->again_each++;
        return true;
    }
    const SeenAt again = first.again ? first : second;
    if (!lost->again_frame)
        lost->again_frame = again.frame;
    note_lost(lost, again.us);
    lost->again_first += first.again;
    lost->again_second += second.again;
    return true;
}

static bool
seen_twice(ConversationTable *self, Conversation *one, uint32_t side, SeenAt before, SeenAt now)
{
    const SeenAt first = before.index < now.index ? before : now, second = before.index < now.index ? now : before;
    Pair *pair = pair_between(one, first.index, second.index);
    if (!pair)
        return false;
    PairHalf *own = &pair->halves[side], *other = &pair->halves[!side];
    int64_t delta = second.us - first.us;
    own->least_us = own->both ? lesser(own->least_us, delta) : delta;
    own->greatest_us = own->both ? greater(own->greatest_us, delta) : delta;
    own->both++;
    own->last = delta;
    if ((first.again || second.again) && !sent_again(own, first, second))
        return false;
    if (!other->both || other->last == delta)
        return true;
    bool there = delta > other->last;
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
        if (!expire(self, gone->us >= oldest_us ? self->newest_us - gone->us : NOT_EARLY))
            return false;
    }
    if (self->next - self->oldest == self->room && !grow_awaited(self))
        return false;
    if (4 * self->numbers_used >= 3 * self->number_count && !make_numbers(self))
        return false;
    uint64_t *slot = number_slot(self, self->numbers, self->number_count, packet);
    if (!*slot) {
        Awaited *first = awaited_at(self, self->next);
        *first = (Awaited){.number = packet, .conversation = one, .us = now.us, .side = (uint8_t)side};
        add_sighting(first, now);
        one->references++;
        self->numbers_used++;
        *slot = self->next++;
        return true;
    }
    Awaited *awaited = awaited_at(self, *slot);
    int64_t apart = now.us > awaited->us ? now.us - awaited->us : awaited->us - now.us;
    if (awaited->conversation != one || awaited->side != side || awaited->seen_count == SEEN_AT
        || apart > self->window || seen_by(awaited, now.index) != NONE)
        return true;
    for (uint32_t i = 0; i < awaited->seen_count; i++)
        if (!seen_twice(self, one, side, sighting_of(awaited, i), now))
            return false;
    add_sighting(awaited, now);
    return true;
}

#endif
