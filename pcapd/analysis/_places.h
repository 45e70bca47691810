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

#endif
