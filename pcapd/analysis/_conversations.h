/*
 * The table of conversations: _conversations.py, compiled; layouts as in _facts.py.
 *
 * _conversations.py defines the results; the property tests compare the two.
 */
#ifndef PCAPD_CONVERSATIONS_H
#define PCAPD_CONVERSATIONS_H

#include "_facts.h"
#include "_halves.h"
#include "_places.h"

/* ---- which conversation ----------------------------------------------------------- */

static inline bool
is_loopback(const Row *row)
{
    static const uint8_t one[16] = {[15] = 1};
    if (row->family == 4)
        return row->source[0] == 127 && row->destination[0] == 127;
    return row->family == 6 && !memcmp(row->source, one, 16) && !memcmp(row->destination, one, 16);
}

/* The bytes of a key after its serial, and two zero bytes. */
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
            empty_half(&one->seen[i]->halves[side]);
        PyMem_Free(one->seen[i]);
    }
    for (uint32_t i = 0; i < one->pair_count; i++) {
        for (int side = 0; side < 2; side++)
            PyMem_Free(one->pairs[i]->halves[side].lost);
        PyMem_Free(one->pairs[i]);
    }
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
        for (int side = 0; side < 2; side++) {
            const HalfFacts half = facts_of(&seen->halves[side]);
            memcpy(to + sizeof seen->facts + (size_t)side * sizeof half, &half, sizeof half);
        }
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

static BetweenFacts
between_facts(const PairHalf *half)
{
    BetweenFacts facts = half->lost ? *half->lost : (BetweenFacts){0};
    facts.least_us = half->least_us;
    facts.greatest_us = half->greatest_us;
    facts.both = half->both;
    return facts;
}

static PyObject *
pairs_of(Conversation *one)
{
    if (one->pair_count)
        qsort(one->pairs, one->pair_count, sizeof *one->pairs, order_of_pairs);
    PyObject *list = PyList_New(one->pair_count);
    for (uint32_t i = 0; list && i < one->pair_count; i++) {
        const Pair *pair = one->pairs[i];
        const BetweenFacts facts[2] = {between_facts(&pair->halves[0]), between_facts(&pair->halves[1])};
        PyObject *item = Py_BuildValue("IIy#", one->seen[pair->a]->facts.place, one->seen[pair->b]->facts.place,
                                       (const char *)facts, (Py_ssize_t)sizeof facts);
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
    one->unsure_us = INT64_MIN;
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
        before |= one->seen[i]->facts.place == place && one->seen[i]->halves[side].packets;
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
        seen->halves[side].timed = NO_OFFSET;
    one->seen[one->seen_count++] = seen;
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
    Now now = {row, parts[file].buf, (uint64_t)parts[file].len, self->frames[file], side, false, false};
    Sending sending;
    if (!follow(self, one, one->seen[index], &now, &sending))
        return false;
    return self->place_count < 2 || !(row->has & HAS_NUMBER) || sending == SEEN_TWICE
        || see_packet(self, row->number, one, side, (SeenAt){index, now.frame, row->us, sending == SENT_AGAIN});
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
        if (!expire(self, NOT_EARLY))
            return NULL;
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
        || !number("window_us", given[2], 0, INT32_MAX, &window)
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
    self->recent = self->slots ? new_array(RECENT * RECENT_WAYS, sizeof *self->recent) : NULL;
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
    while (self->ring && self->oldest < self->next) {
        Conversation *one = awaited_at(self, self->oldest++)->conversation;
        if (!--one->references && !one->open)
            PyMem_Free(one);
    }
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
