/*
 * pcapd.merge._native: _reference.py, compiled.
 *
 * _reference.py defines the results; the property tests compare every
 * result and every error of the two.  Batches come from other machines, so no
 * byte is read before its place was checked, and no size is added up in fewer
 * than 64 bits.
 *
 * Inputs are any bytes-like objects.  While we hold a buffer its memory stays,
 * but another thread may change the bytes of a bytearray whenever we let go of
 * the GIL.  What bounds a copy is therefore never read twice across such a gap.
 */
#include "../packet/_row.h"
#include "../savefile/_block.h"

typedef struct {
    PyObject *record_error;
    PyObject *merged;
    PyTypeObject *matcher;
} State;

/* Packets that a source lost: reported with its first record after a time. */
typedef struct {
    int64_t after;
    uint64_t count;
} Gap;

/* As in _reference.py. */
#define DELAYS 256u
#define JITTER_US 50000

/* ---- matcher --------------------------------------------------------------- */

/* Sightings of one packet.  Sequence numbers begin at 1, so that 0 is none. */
typedef struct {
    uint64_t digest;
    uint64_t number;
    int64_t us;
    uint64_t older;     /* sequence of the one before with the same digest */
    uint64_t seen;      /* a bit for each of the first 64 places */
    uint32_t *more;     /* the others */
    uint32_t more_count;
    uint32_t sightings;
    uint32_t place;     /* which saw it first */
} Seen;

/* How much later than at place `a` the last packet was seen at place `b`. */
typedef struct {
    uint32_t a, b;
    int64_t delta;
} Delay;

/* Where the newest sighting of a digest is. */
typedef struct {
    uint64_t digest;
    uint64_t newest; /* 0: the slot was never used */
} Slot;

typedef struct {
    PyObject_HEAD
    uint64_t number;    /* of the next packet */
    int64_t window;
    uint64_t packets;
    int64_t newest_us;
    uint64_t forgotten;
    Seen *ring;         /* by sequence, a power of two of them */
    uint64_t room;
    uint64_t oldest;    /* sequences [oldest, next) are remembered */
    uint64_t next;
    Slot *slots;        /* open addressing, a power of two of them */
    uint64_t slot_count;
    uint64_t slots_used;
    Delay delays[DELAYS];
} Matcher;

#define ROOM_MIN 1024u
/* As MATCH_REPEATS_MAX in limits.py. */
#define REPEATS_MAX 256

static inline Seen *
at_sequence(const Matcher *self, uint64_t sequence)
{
    return &self->ring[sequence & (self->room - 1)];
}

static inline Slot *
find_slot(Slot *slots, uint64_t count, uint64_t digest)
{
    uint64_t index = digest & (count - 1);
    while (slots[index].newest && slots[index].digest != digest)
        index = (index + 1) & (count - 1);
    return &slots[index];
}

/* New slots for what is remembered, with as many free ones. */
static bool
make_slots(Matcher *self)
{
    uint64_t count = ROOM_MIN;
    while (count < 2 * (self->next - self->oldest))
        count *= 2;
    Slot *slots = new_array(count, sizeof *slots);
    if (!slots)
        return false;
    PyMem_Free(self->slots);
    self->slots = slots;
    self->slot_count = count;
    self->slots_used = 0;
    for (uint64_t sequence = self->oldest; sequence < self->next; sequence++) {
        uint64_t digest = at_sequence(self, sequence)->digest;
        Slot *slot = find_slot(slots, count, digest);
        self->slots_used += !slot->newest;
        *slot = (Slot){digest, sequence};
    }
    return true;
}

static bool
grow_ring(Matcher *self)
{
    uint64_t room = 2 * self->room;
    Seen *ring = new_array(room, sizeof *ring);
    if (!ring)
        return false;
    for (uint64_t sequence = self->oldest; sequence < self->next; sequence++)
        ring[sequence & (room - 1)] = *at_sequence(self, sequence);
    PyMem_Free(self->ring);
    self->ring = ring;
    self->room = room;
    return true;
}

/* Drops what is too old or too much. */
static void
forget(Matcher *self)
{
    int64_t oldest_us = self->newest_us - self->window;
    while (self->oldest < self->next) {
        Seen *seen = at_sequence(self, self->oldest);
        if (seen->us >= oldest_us && self->next - self->oldest < self->packets)
            return;
        self->forgotten += seen->us >= oldest_us && seen->sightings == 1;
        PyMem_Free(seen->more);
        seen->more = NULL;
        self->oldest++;
    }
}

static inline bool
was_seen_at(const Seen *seen, uint32_t place)
{
    if (place < 64)
        return seen->seen >> place & 1u;
    for (uint32_t i = 0; i < seen->more_count; i++)
        if (seen->more[i] == place)
            return true;
    return false;
}

/* A place is here once at most. */
static bool
mark_seen_at(Seen *seen, uint32_t place)
{
    seen->sightings++;
    if (place < 64) {
        seen->seen |= (uint64_t)1 << place;
        return true;
    }
    if (!(seen->more_count & (seen->more_count - 1))) { /* room for a power of two */
        size_t room = seen->more_count ? 2 * (size_t)seen->more_count : 1;
        uint32_t *more = PyMem_Realloc(seen->more, room * sizeof *more);
        if (!more) {
            PyErr_NoMemory();
            return false;
        }
        seen->more = more;
    }
    seen->more[seen->more_count++] = place;
    return true;
}

static inline Delay *
delay_between(Matcher *self, uint32_t a, uint32_t b)
{
    Delay *delay = &self->delays[(31 * (uint64_t)a + b) % DELAYS];
    if (delay->a != a || delay->b != b)
        *delay = (Delay){.a = a, .b = b};
    return delay;
}

/* The packet of a digest that this place has not seen: of several equal ones, the oldest with a delay as
   usual between the two places, if there is one.  Packets older than one that this place has seen are not it. */
static Seen *
find_seen(Matcher *self, uint64_t newest, uint32_t place, int64_t us)
{
    Seen *oldest = NULL, *likely = NULL;
    int count = 0;
    for (int looked = 0; newest >= self->oldest && newest && looked < REPEATS_MAX; looked++) {
        Seen *seen = at_sequence(self, newest);
        if (was_seen_at(seen, place))
            break;
        int64_t apart = us - seen->us;
        if (apart <= self->window && -apart <= self->window) {
            const Delay *delay = delay_between(self, seen->place, place);
            int64_t unusual = apart - delay->delta;
            if (unusual <= JITTER_US && -unusual <= JITTER_US)
                likely = seen;
            oldest = seen;
            count++;
        }
        newest = seen->older;
    }
    Seen *found = count < 2 ? oldest : likely;
    if (found)
        delay_between(self, found->place, place)->delta = us - found->us;
    return found;
}

/* A place saw a packet.  False: an error is set. */
static bool
see_packet(Matcher *self, uint32_t place, int64_t us, uint64_t digest, uint64_t *packet_number, bool *again)
{
    if (us > self->newest_us)
        self->newest_us = us;
    forget(self);
    if (self->next - self->oldest == self->room && !grow_ring(self))
        return false;
    if (4 * self->slots_used >= 3 * self->slot_count && !make_slots(self))
        return false;
    Slot *slot = find_slot(self->slots, self->slot_count, digest);
    Seen *seen = find_seen(self, slot->newest, place, us);
    *again = seen != NULL;
    if (!seen) {
        seen = at_sequence(self, self->next);
        *seen = (Seen){.digest = digest, .number = self->number++, .us = us, .older = slot->newest,
                       .place = place};
        self->slots_used += !slot->newest;
        *slot = (Slot){digest, self->next++};
    }
    *packet_number = seen->number;
    return mark_seen_at(seen, place);
}

/* Times are far from the ends of int64_t, so that differences of two stay in range. */
#define US_MAX (INT64_MAX / 4)

static PyObject *
matcher_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"first", "window_us", "packets", NULL};
    PyObject *first_arg, *window_arg, *packets_arg;
    int64_t first, window, packets;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO:Matcher", names, &first_arg, &window_arg, &packets_arg)
        || !number("first", first_arg, 0, INT64_MAX, &first)
        || !number("window_us", window_arg, 0, US_MAX, &window)
        || !number("packets", packets_arg, 1, UINT32_MAX, &packets))
        return NULL;
    Matcher *self = (Matcher *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->number = (uint64_t)first;
    self->window = window;
    self->packets = (uint64_t)packets;
    self->oldest = self->next = 1;
    self->room = ROOM_MIN;
    self->ring = new_array(self->room, sizeof *self->ring);
    if (!self->ring || !make_slots(self))
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void
matcher_dealloc(Matcher *self)
{
    PyTypeObject *type = Py_TYPE(self);
    for (uint64_t sequence = self->oldest; self->ring && sequence < self->next; sequence++)
        PyMem_Free(at_sequence(self, sequence)->more);
    PyMem_Free(self->ring);
    PyMem_Free(self->slots);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
matcher_see(Matcher *self, PyObject *args)
{
    PyObject *place_arg, *us_arg, *digest_arg;
    int64_t place, us;
    uint64_t packet_number;
    bool again;
    if (!PyArg_ParseTuple(args, "OOO:see", &place_arg, &us_arg, &digest_arg)
        || !number("place", place_arg, 0, UINT32_MAX, &place)
        || !number("us", us_arg, -US_MAX, US_MAX, &us))
        return NULL;
    uint64_t digest = PyLong_AsUnsignedLongLong(digest_arg);
    if (PyErr_Occurred() || !see_packet(self, (uint32_t)place, us, digest, &packet_number, &again))
        return NULL;
    return Py_BuildValue("KO", (unsigned long long)packet_number, again ? Py_True : Py_False);
}

static bool
number_rows(Matcher *self, uint8_t *rows, size_t count)
{
    for (size_t index = 0; index < count; index++) {
        Row row;
        bool again;
        memcpy(&row, rows + index * sizeof row, sizeof row);
        if (!(row.has & HAS_IP) || row.has & HAS_NUMBER)
            continue;
        if (row.us < -US_MAX || row.us > US_MAX) {
            PyErr_SetString(PyExc_ValueError, "a row's time is out of range");
            return false;
        }
        if (!see_packet(self, row.interface, row.us, row.digest, &row.number, &again))
            return false;
        row.has |= HAS_NUMBER;
        memcpy(rows + index * sizeof row, &row, sizeof row);
    }
    return true;
}

static PyObject *
matcher_number(Matcher *self, PyObject *arg)
{
    Py_buffer in;
    if (PyObject_GetBuffer(arg, &in, PyBUF_SIMPLE) < 0)
        return NULL;
    PyObject *rows = NULL;
    if ((size_t)in.len % sizeof(Row))
        PyErr_Format(PyExc_ValueError, "%zd bytes are not whole rows", in.len);
    else
        rows = PyBytes_FromStringAndSize(in.buf, in.len);
    PyBuffer_Release(&in);
    if (rows && !number_rows(self, data_of(rows), (size_t)PyBytes_GET_SIZE(rows) / sizeof(Row)))
        Py_CLEAR(rows);
    return rows;
}

static PyObject *
matcher_forgotten(Matcher *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(self->forgotten);
}

static PyMethodDef matcher_methods[] = {
    {"see", (PyCFunction)(void (*)(void))matcher_see, METH_VARARGS, "See pcapd.merge._reference."},
    {"number", (PyCFunction)(void (*)(void))matcher_number, METH_O, "See pcapd.merge._reference."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef matcher_attributes[] = {
    {"forgotten", (getter)matcher_forgotten, NULL, "See pcapd.merge._reference.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot matcher_slots[] = {
    {Py_tp_new, (void *)matcher_new},
    {Py_tp_dealloc, (void *)matcher_dealloc},
    {Py_tp_methods, matcher_methods},
    {Py_tp_getset, matcher_attributes},
    {0, NULL},
};

static PyType_Spec matcher_spec = {
    .name = "pcapd.merge._native.Matcher",
    .basicsize = sizeof(Matcher),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = matcher_slots,
};

/* What is lost before a record, of the gaps from `*next` on; moves `*next` past them. */
static inline uint64_t
drops_before(const Gap *gaps, size_t end, int64_t us, size_t *next)
{
    uint64_t drops = 0;
    for (; UNLIKELY(*next < end) && us > gaps[*next].after; ++*next) {
        uint64_t count = gaps[*next].count;
        drops = drops > UINT64_MAX - count ? UINT64_MAX : drops + count;
    }
    return drops;
}

/* ---- gaps ----------------------------------------------------------------- */

/* `object` as a tuple of ours, so that it cannot change while we read it. */
static PyObject *
tuple_of(PyObject *object, Py_ssize_t least, Py_ssize_t most, const char *problem)
{
    PyObject *tuple = PySequence_Tuple(object);
    if (tuple && (PyTuple_GET_SIZE(tuple) < least || PyTuple_GET_SIZE(tuple) > most)) {
        PyErr_SetString(PyExc_ValueError, problem);
        Py_CLEAR(tuple);
    }
    return tuple;
}

/* Appends the gaps that a sequence holds to `*gaps`, which has `*count`. */
static bool
add_gaps(PyObject *object, Gap **gaps, size_t *count)
{
    PyObject *given = PySequence_Tuple(object);
    if (!given)
        return false;
    size_t more = (size_t)PyTuple_GET_SIZE(given);
    bool added = false;
    if (more > PY_SSIZE_T_MAX / sizeof(Gap) - *count) {
        PyErr_NoMemory();
        goto done;
    }
    if (more) {
        Gap *grown = PyMem_Realloc(*gaps, (*count + more) * sizeof(Gap));
        if (!grown) {
            PyErr_NoMemory();
            goto done;
        }
        *gaps = grown;
    }
    for (size_t i = 0; i < more; i++) {
        PyObject *pair = tuple_of(PyTuple_GET_ITEM(given, i), 2, 2, "a gap is a time and a count");
        int64_t after, lost;
        bool valid = pair && number("after_us", PyTuple_GET_ITEM(pair, 0), INT64_MIN, INT64_MAX, &after)
                  && number("drops", PyTuple_GET_ITEM(pair, 1), 0, INT64_MAX, &lost);
        Py_XDECREF(pair);
        if (!valid)
            goto done;
        (*gaps)[(*count)++] = (Gap){after, (uint64_t)lost};
    }
    added = true;
done:
    Py_DECREF(given);
    return added;
}

/* ---- merge: its limits ----------------------------------------------------- */

typedef struct {
    int64_t form;
    int64_t max_packets;
    int64_t max_bytes;
} Output;

static bool
output_of(PyObject *form, PyObject *max_packets, PyObject *max_bytes, Output *output)
{
    return number("form", form, FORM_PCAP, FORM_PCAPNG, &output->form)
        && number("max_packets", max_packets, 0, INT64_MAX, &output->max_packets)
        && number("max_bytes", max_bytes, 0, INT64_MAX, &output->max_bytes);
}

/* ---- merge: its sources --------------------------------------------------- */

typedef struct {
    uint32_t interface;
    int64_t link_type;
    uint32_t place;     /* the place that saw its packets, for the matcher */
    size_t first_chunk; /* its chunks are [first_chunk, end_chunk) of the call's */
    size_t end_chunk;
    uint64_t bytes;     /* of all its records */
    uint64_t written;   /* bytes of its records that this call writes or leaves out */
    int64_t packets;    /* that this call writes */
    int64_t left_out;   /* of it, because another place saw them before */
    int64_t late;       /* of those, before something that an earlier call wrote */
    size_t first_gap;   /* its gaps are [first_gap, end_gap) of the call's */
    size_t end_gap;
    size_t next_gap;    /* the first of them that is not reported yet */
} Source;

/* One record whose time has come.  `captured` bounds the copy and is not read again. */
typedef struct {
    int64_t us;
    const uint8_t *from;
    uint32_t captured;
    uint32_t source;
} Entry;

typedef struct {
    Source *sources;
    size_t source_count;
    Py_buffer *chunks;
    size_t chunk_count;
    Gap *gaps;
    size_t gap_count;
    Entry *entries;
    size_t entry_count;
    size_t entry_room;
    size_t run_count;  /* stretches of entries that are in time order already */
} Merge;

static void
release(Merge *merge)
{
    for (size_t i = 0; i < merge->chunk_count; i++)
        PyBuffer_Release(&merge->chunks[i]);
    PyMem_Free(merge->chunks);
    PyMem_Free(merge->sources);
    PyMem_Free(merge->gaps);
    PyMem_Free(merge->entries);
}

/* Takes the buffers of one source's batches. */
static bool
hold_chunks(Merge *merge, Source *source, PyObject *object)
{
    PyObject *chunks = PySequence_Tuple(object);
    if (!chunks)
        return false;
    size_t count = (size_t)PyTuple_GET_SIZE(chunks);
    bool held = false;
    if (count > PY_SSIZE_T_MAX / sizeof(Py_buffer) - merge->chunk_count) {
        PyErr_NoMemory();
        goto done;
    }
    if (count) {
        Py_buffer *grown = PyMem_Realloc(merge->chunks,
                                         (merge->chunk_count + count) * sizeof(Py_buffer));
        if (!grown) {
            PyErr_NoMemory();
            goto done;
        }
        merge->chunks = grown;
    }
    source->first_chunk = source->end_chunk = merge->chunk_count;
    for (size_t i = 0; i < count; i++) {
        Py_buffer *chunk = &merge->chunks[merge->chunk_count];
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(chunks, i), chunk, PyBUF_SIMPLE) < 0)
            goto done;
        merge->chunk_count++;
        source->end_chunk++;
        source->bytes += (uint64_t)chunk->len;
    }
    held = true;
done:
    Py_DECREF(chunks);
    return held;
}

/* Takes the buffers of all sources and keeps their interfaces' numbers in `numbers`. */
static bool
hold_sources(Merge *merge, PyObject *sources, PyObject *numbers)
{
    merge->source_count = (size_t)PyTuple_GET_SIZE(sources);
    if (merge->source_count > UINT32_MAX) {
        PyErr_NoMemory();
        return false;
    }
    merge->sources = new_array(merge->source_count, sizeof(Source));
    if (!merge->sources)
        return false;
    for (size_t i = 0; i < merge->source_count; i++) {
        PyObject *given = tuple_of(PyTuple_GET_ITEM(sources, i), 2, 5,
                                   "a source is an interface, batches, gaps, a link type and a place");
        if (!given)
            return false;
        Source *source = &merge->sources[i];
        source->first_gap = source->next_gap = merge->gap_count;
        Py_ssize_t fields = PyTuple_GET_SIZE(given);
        int64_t place = 0;
        source->link_type = -1;
        bool held = hold_chunks(merge, source, PyTuple_GET_ITEM(given, 1))
                 && PyList_Append(numbers, PyTuple_GET_ITEM(given, 0)) == 0
                 && (fields < 3 || add_gaps(PyTuple_GET_ITEM(given, 2), &merge->gaps, &merge->gap_count))
                 && (fields < 4 || number("link type", PyTuple_GET_ITEM(given, 3), -1, UINT32_MAX,
                                          &source->link_type))
                 && (fields < 5 || number("place", PyTuple_GET_ITEM(given, 4), 0, UINT32_MAX, &place));
        source->place = (uint32_t)place;
        source->end_gap = merge->gap_count;
        Py_DECREF(given);
        if (!held)
            return false;
    }
    for (size_t i = 0; i < merge->source_count; i++) {
        int64_t interface;
        if (!number("interface", PyList_GET_ITEM(numbers, i), 0, UINT32_MAX, &interface))
            return false;
        merge->sources[i].interface = (uint32_t)interface;
    }
    return true;
}

/* ---- merge: which records, in which order --------------------------------- */

static bool
add_entry(Merge *merge, Entry entry)
{
    if (UNLIKELY(merge->entry_count == merge->entry_room)) {
        size_t room = merge->entry_room ? 2 * merge->entry_room : 1024;
        if (room > PY_SSIZE_T_MAX / sizeof(Entry)) {
            PyErr_NoMemory();
            return false;
        }
        Entry *grown = PyMem_Realloc(merge->entries, room * sizeof(Entry));
        if (!grown) {
            PyErr_NoMemory();
            return false;
        }
        merge->entries = grown;
        merge->entry_room = room;
    }
    if (!merge->entry_count || entry.us < merge->entries[merge->entry_count - 1].us)
        merge->run_count++;
    merge->entries[merge->entry_count++] = entry;
    return true;
}

/* Checks all records, and enters those whose time has come. */
static bool
gather(const State *state, Merge *merge, int64_t until)
{
    for (size_t s = 0; s < merge->source_count; s++) {
        const Source *source = &merge->sources[s];
        for (size_t c = source->first_chunk; c < source->end_chunk; c++) {
            const Py_buffer *in = &merge->chunks[c];
            size_t offset = 0;
            while (offset < (size_t)in->len) {
                Record record;
                if (!read_record(state->record_error, in, offset, CAPTURED_MAX, &record))
                    return false;
                if (record.us <= until
                    && !add_entry(merge, (Entry){record.us, (const uint8_t *)in->buf + offset,
                                                 record.captured, (uint32_t)s}))
                    return false;
                offset += (size_t)size_of(record.captured);
            }
        }
    }
    return true;
}

/* Merges the neighbouring runs [left, right) and [right, end); equal times keep their order. */
static void
merge_runs(const Entry *left, const Entry *right, const Entry *end, Entry *to)
{
    const Entry *middle = right;
    while (left < middle && right < end)
        *to++ = right->us < left->us ? *right++ : *left++;
    memcpy(to, left, (size_t)(middle - left) * sizeof(Entry));
    to += middle - left;
    memcpy(to, right, (size_t)(end - right) * sizeof(Entry));
}

/* Natural merge sort: O(entries * log runs).  `starts` has room for run_count + 1,
   `spare` for all entries; the result is in one of the two arrays, and returned. */
static Entry *
sort_entries(const Merge *merge, size_t *starts, Entry *spare)
{
    Entry *from = merge->entries, *to = spare;
    size_t runs = 0;
    for (size_t i = 0; i < merge->entry_count; i++)
        if (!i || from[i].us < from[i - 1].us)
            starts[runs++] = i;
    starts[runs] = merge->entry_count;

    while (runs > 1) {
        size_t merged = 0;
        for (size_t i = 0; i < runs; i += 2) {
            size_t begin = starts[i];
            size_t middle = starts[i + 1];
            size_t end = i + 2 <= runs ? starts[i + 2] : middle;
            merge_runs(from + begin, from + middle, from + end, to + begin);
            starts[merged++] = begin;
        }
        starts[merged] = merge->entry_count;
        runs = merged;
        Entry *swap = from;
        from = to;
        to = swap;
    }
    return from;
}

/* ---- merge: what is written, and what is left ----------------------------- */

/* What becomes of a sorted entry. */
typedef struct {
    Remarks remarks;
    bool left_out; /* another place saw this packet before */
} Plan;

/* The matcher that numbers packets, and whether only the first sighting of each is kept. */
typedef struct {
    Matcher *matcher; /* or NULL */
    int dedupe;
} Matching;

/* Finds out which packet an entry is.  False: an error is set. */
static bool
match_entry(const Merge *merge, const Entry *entry, const Matching *matching, Plan *plan)
{
    const Source *source = &merge->sources[entry->source];
    const Packet packet = {entry->from + HEADER_SIZE, entry->captured};
    const Headers headers = walk(source->link_type, &packet);
    uint64_t digest;
    bool again;
    if (!headers.family)
        return true;
    if (!digest_of(&packet, &headers, &digest)
        || !see_packet(matching->matcher, source->place, entry->us, digest, &plan->remarks.number, &again))
        return false;
    plan->remarks.numbered = true;
    plan->left_out = again && matching->dedupe;
    return true;
}

/* Plans as many of the sorted entries as fit; `*size` is what they take when written.  False: an error is set. */
static bool
plan_entries(const Merge *merge, const Entry *entries, const Output *output, const Matching *matching,
             Plan *plans, size_t *planned, uint64_t *size)
{
    int64_t packets = 0;
    *size = 0;
    for (*planned = 0; *planned < merge->entry_count && packets < output->max_packets; ++*planned) {
        const Entry *entry = &entries[*planned];
        Source *source = &merge->sources[entry->source];
        Plan plan = {0};
        if (matching->matcher && !match_entry(merge, entry, matching, &plan))
            return false;
        size_t next_gap = source->next_gap;
        if (!plan.left_out) {
            plan.remarks.drops = drops_before(merge->gaps, source->end_gap, entry->us, &next_gap);
            uint64_t more = written_size((int)output->form, entry->captured, plan.remarks);
            if (more > (uint64_t)output->max_bytes - *size)
                return true;
            *size += more;
            packets++;
        }
        source->next_gap = next_gap;
        if (plans)
            plans[*planned] = plan;
    }
    return true;
}

static void
write_entries(const Merge *merge, const Entry *entries, const Plan *plans, size_t count, int form,
              int64_t last_us, uint8_t *to)
{
    for (size_t i = 0; i < count; i++) {
        const Entry *entry = &entries[i];
        const Plan plan = plans ? plans[i] : (Plan){0};
        Source *source = &merge->sources[entry->source];
        source->written += size_of(entry->captured);
        if (plan.left_out) {
            source->left_out++;
            continue;
        }
        source->packets++;
        source->late += entry->us < last_us;
        to = write_record(to, form, source->interface, entry->us, entry->captured, entry->from, plan.remarks);
    }
}

/* Where the order was cut off: everything before is written.  Earlier than `us`
   is; of `us` itself the sources before `source` are, and of `source` the first
   `ties` that arrived. */
typedef struct {
    int64_t us;
    size_t source;
    size_t ties;
} Boundary;

static Boundary
boundary_of(const Entry *entries, size_t written, size_t count, int64_t until)
{
    if (written == count) /* no timestamp reaches INT64_MAX */
        return (Boundary){until < INT64_MAX ? until + 1 : until, 0, 0};
    const Entry *next = &entries[written];
    Boundary boundary = {next->us, next->source, 0};
    while (written > 0 && entries[written - 1].us == next->us
           && entries[written - 1].source == next->source) {
        boundary.ties++;
        written--;
    }
    return boundary;
}

static inline bool
was_written(const Boundary *boundary, size_t source, int64_t us, size_t *ties)
{
    if (us != boundary->us)
        return us < boundary->us;
    if (source != boundary->source)
        return source < boundary->source;
    if (!*ties)
        return false;
    --*ties;
    return true;
}

/* Copies the `size` bytes of source `s` that were not written to `to`. */
static bool
copy_rest(const State *state, const Merge *merge, size_t s, const Boundary *boundary, uint8_t *to,
          uint64_t size)
{
    const Source *source = &merge->sources[s];
    size_t ties = boundary->ties;
    for (size_t c = source->first_chunk; c < source->end_chunk; c++) {
        const Py_buffer *in = &merge->chunks[c];
        size_t offset = 0;
        while (offset < (size_t)in->len) {
            Record record;
            if (!read_record(state->record_error, in, offset, CAPTURED_MAX, &record))
                return false;
            size_t length = (size_t)size_of(record.captured);
            if (!was_written(boundary, s, record.us, &ties)) {
                if (length > size)
                    goto changed;
                memcpy(to, (const uint8_t *)in->buf + offset, length);
                to += length;
                size -= length;
            }
            offset += length;
        }
    }
    if (!size)
        return true;
changed: /* only another thread can do that, and only to a bytearray */
    PyErr_SetString(PyExc_RuntimeError, "a batch changed while it was merged");
    return false;
}

static PyObject *
rest_of(const State *state, const Merge *merge, size_t s, const Boundary *boundary)
{
    const Source *source = &merge->sources[s];
    uint64_t size = source->bytes - source->written;
    if (size && !source->written && source->end_chunk - source->first_chunk == 1) {
        PyObject *batch = merge->chunks[source->first_chunk].obj;
        if (batch && PyBytes_CheckExact(batch)) { /* is its own rest */
            Py_INCREF(batch);
            return batch;
        }
    }
    PyObject *rest = new_bytes(size);
    if (rest && size && !copy_rest(state, merge, s, boundary, data_of(rest), size))
        Py_CLEAR(rest);
    return rest;
}

static PyObject *
rests_of(const State *state, const Merge *merge, const Boundary *boundary)
{
    PyObject *rests = PyList_New((Py_ssize_t)merge->source_count);
    if (!rests)
        return NULL;
    for (size_t s = 0; s < merge->source_count; s++) {
        PyObject *rest = rest_of(state, merge, s, boundary);
        if (!rest) {
            Py_DECREF(rests);
            return NULL;
        }
        PyList_SET_ITEM(rests, (Py_ssize_t)s, rest);
    }
    return rests;
}

enum Count { PACKETS, LATE, REPORTED, LEFT_OUT };

/* A number of each source. */
static PyObject *
counts_of(const Merge *merge, enum Count which)
{
    PyObject *counts = PyTuple_New((Py_ssize_t)merge->source_count);
    if (!counts)
        return NULL;
    for (size_t s = 0; s < merge->source_count; s++) {
        const Source *source = &merge->sources[s];
        int64_t value = which == PACKETS    ? source->packets
                      : which == LATE       ? source->late
                      : which == LEFT_OUT   ? source->left_out
                                            : (int64_t)(source->next_gap - source->first_gap);
        PyObject *count = PyLong_FromLongLong(value);
        if (!count) {
            Py_DECREF(counts);
            return NULL;
        }
        PyTuple_SET_ITEM(counts, (Py_ssize_t)s, count);
    }
    return counts;
}

static PyObject *
result_of(const State *state, const Merge *merge, PyObject *data, const Boundary *boundary,
          int64_t last_us, bool full)
{
    PyObject *packets = counts_of(merge, PACKETS);
    PyObject *late = packets ? counts_of(merge, LATE) : NULL;
    PyObject *reported = late ? counts_of(merge, REPORTED) : NULL;
    PyObject *left_out = reported ? counts_of(merge, LEFT_OUT) : NULL;
    PyObject *rests = left_out ? rests_of(state, merge, boundary) : NULL;
    PyObject *merged = NULL;
    if (rests)
        merged = PyObject_CallFunction(state->merged, "OOOOLOOO", data, packets, late, rests,
                                       (long long)last_us, full ? Py_True : Py_False, reported, left_out);
    Py_XDECREF(left_out);
    Py_XDECREF(packets);
    Py_XDECREF(late);
    Py_XDECREF(reported);
    Py_XDECREF(rests);
    return merged;
}

static PyObject *
merge_held(const State *state, Merge *merge, int64_t until, int64_t last_us, const Output *output,
           const Matching *matching)
{
    PyObject *merged = NULL, *data = NULL;
    Plan *plans = NULL;
    Entry *spare = NULL, *sorted = merge->entries;
    size_t *starts = NULL;

    if (!gather(state, merge, until))
        return NULL;
    sorted = merge->entries;
    if (merge->run_count > 1) { /* else a single pass was enough */
        starts = new_array(merge->run_count + 1, sizeof *starts);
        spare = starts ? PyMem_Malloc(merge->entry_count * sizeof(Entry)) : NULL;
        if (!spare) {
            PyErr_NoMemory();
            goto done;
        }
        Py_BEGIN_ALLOW_THREADS
        sorted = sort_entries(merge, starts, spare);
        Py_END_ALLOW_THREADS
    }

    if ((merge->gap_count || matching->matcher)
        && !(plans = new_array(merge->entry_count, sizeof *plans)))
        goto done;
    uint64_t size;
    size_t written;
    if (!plan_entries(merge, sorted, output, matching, plans, &written, &size) || !(data = new_bytes(size)))
        goto done;
    Py_BEGIN_ALLOW_THREADS
    write_entries(merge, sorted, plans, written, (int)output->form, last_us, data_of(data));
    Py_END_ALLOW_THREADS

    Boundary boundary = boundary_of(sorted, written, merge->entry_count, until);
    if (written && sorted[written - 1].us > last_us)
        last_us = sorted[written - 1].us;
    merged = result_of(state, merge, data, &boundary, last_us, written < merge->entry_count);
done:
    Py_XDECREF(data);
    PyMem_Free(plans);
    PyMem_Free(spare);
    PyMem_Free(starts);
    return merged;
}

static PyObject *
merge(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"sources", "until_us", "last_us", "form", "max_packets", "max_bytes",
                            "matcher", "dedupe", NULL};
    const State *state = PyModule_GetState(module);
    PyObject *sources_arg, *until_arg, *last_us_arg, *form, *max_packets, *max_bytes, *matcher = Py_None;
    Matching matching = {0};

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOO|Op:merge", names, &sources_arg, &until_arg,
                                     &last_us_arg, &form, &max_packets, &max_bytes, &matcher,
                                     &matching.dedupe))
        return NULL;
    if (matcher != Py_None) {
        if (!PyObject_TypeCheck(matcher, state->matcher)) {
            PyErr_SetString(PyExc_TypeError, "matcher must be a Matcher");
            return NULL;
        }
        matching.matcher = (Matcher *)matcher;
    }
    PyObject *sources = PySequence_Tuple(sources_arg);
    if (!sources)
        return NULL;
    PyObject *numbers = PyList_New(0), *merged = NULL;
    Merge held = {0};
    int64_t until, last_us;
    Output output;
    if (numbers && hold_sources(&held, sources, numbers)
        && number("until_us", until_arg, INT64_MIN, INT64_MAX, &until)
        && number("last_us", last_us_arg, INT64_MIN, INT64_MAX, &last_us)
        && output_of(form, max_packets, max_bytes, &output))
        merged = merge_held(state, &held, until, last_us, &output, &matching);
    release(&held);
    Py_XDECREF(numbers);
    Py_DECREF(sources);
    return merged;
}

/* ---- the module ----------------------------------------------------------- */

static PyObject *
attribute(const char *module_name, const char *name)
{
    PyObject *module = PyImport_ImportModule(module_name);
    if (!module)
        return NULL;
    PyObject *value = PyObject_GetAttrString(module, name);
    Py_DECREF(module);
    return value;
}

static int
execute(PyObject *module)
{
    State *state = PyModule_GetState(module);
    state->record_error = attribute("pcapd.errors", "RecordError");
    state->merged = attribute("pcapd.merge._types", "Merged");
    state->matcher = (PyTypeObject *)PyType_FromModuleAndSpec(module, &matcher_spec, NULL);
    if (!state->record_error || !state->merged || !state->matcher)
        return -1;
    return PyModule_AddType(module, state->matcher);
}

static int
traverse(PyObject *module, visitproc visit, void *arg)
{
    State *state = PyModule_GetState(module);
    Py_VISIT(state->record_error);
    Py_VISIT(state->merged);
    Py_VISIT(state->matcher);
    return 0;
}

static int
clear(PyObject *module)
{
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->record_error);
    Py_CLEAR(state->merged);
    Py_CLEAR(state->matcher);
    return 0;
}

static PyMethodDef methods[] = {
    /* By way of void (*)(void), which a compiler takes as "I know". */
    {"merge", (PyCFunction)(void (*)(void))merge, METH_VARARGS | METH_KEYWORDS,
     "See pcapd.merge._reference."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)execute},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pcapd.merge._native",
    .m_doc = "pcapd.merge, compiled.",
    .m_size = sizeof(State),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
