/*
 * pcapd.analysis._native: _reference.py and _conversations.py, compiled.
 *
 * _reference.py defines the results; the property tests compare the two.
 * Rows may be made from anybody's file.  The GIL is held all the time.
 */
#include "_conversations.h"

/* ---- flows ------------------------------------------------------------------- */

typedef struct {
    uint8_t source[16], destination[16];
    uint16_t source_port, destination_port;
    uint8_t family, protocol, ports, unused;
} FlowKey;

_Static_assert(sizeof(FlowKey) == 40, "a key has no gaps, and whole words");

/* Packets of a flow at a place, or of a flow between two places. */
typedef struct {
    uint32_t flow, first, second, unused;
} PairKey;

typedef struct {
    PairKey key; /* second: NONE */
    uint64_t packets;
} Count;

/* Times at the second place minus those at the first. */
typedef struct {
    PairKey key;
    uint64_t count;
    int64_t least, greatest;
    int64_t *sample;
    uint32_t sampled;
    uint64_t stride;
} Delays;

typedef struct {
    uint32_t place;
    int64_t us;
} Sighting;

/* The sightings of a packet so far. */
typedef struct {
    uint64_t number;
    uint32_t flow;
    uint32_t seen_count;
    int64_t us;
    Sighting first; /* most packets have no other */
    Sighting *others;
} Waiting;

typedef struct {
    PyObject_HEAD
    uint64_t flows_max, pairs_max, delays_max, waiting_max;
    int64_t window;
    FlowKey *flows;
    uint64_t flow_count;
    Table flow_table;
    Count *counts;
    uint64_t count_count;
    Table count_table;
    Delays *pairs;
    uint64_t pair_count;
    Table pair_table;
    Waiting *ring; /* by sequence, a power of two of them */
    uint64_t room, oldest, next;
    uint64_t seed;
    uint64_t *slots; /* sequence of the newest with a number, or 0 */
    uint64_t slot_count, slots_used;
    int64_t newest_us;
    uint64_t packets, others, beyond, forgotten;
} FlowTable;

#define ROOM_MIN 1024u

static inline Waiting *
at_sequence(const FlowTable *self, uint64_t sequence)
{
    return &self->ring[sequence & (self->room - 1)];
}

static inline uint64_t *
waiting_slot(const FlowTable *self, const uint64_t *slots, uint64_t count, uint64_t number)
{
    uint64_t at = hash_of(self->seed, &number, sizeof number) & (count - 1);
    /* A number may still lead to a forgotten packet, whose place in the ring is reused. */
    while (slots[at] && (slots[at] < self->oldest || at_sequence(self, slots[at])->number != number))
        at = (at + 1) & (count - 1);
    return (uint64_t *)&slots[at];
}

static bool
make_slots(FlowTable *self)
{
    uint64_t count = ROOM_MIN;
    while (count < 2 * (self->next - self->oldest))
        count *= 2;
    uint64_t *slots = new_array(count, sizeof *slots);
    if (!slots)
        return false;
    for (uint64_t sequence = self->oldest; sequence < self->next; sequence++)
        *waiting_slot(self, slots, count, at_sequence(self, sequence)->number) = sequence;
    PyMem_Free(self->slots);
    self->slots = slots;
    self->slot_count = count;
    self->slots_used = self->next - self->oldest;
    return true;
}

static bool
grow_ring(FlowTable *self)
{
    uint64_t room = 2 * self->room;
    Waiting *ring = new_array(room, sizeof *ring);
    if (!ring)
        return false;
    for (uint64_t sequence = self->oldest; sequence < self->next; sequence++)
        ring[sequence & (room - 1)] = *at_sequence(self, sequence);
    PyMem_Free(self->ring);
    self->ring = ring;
    self->room = room;
    return true;
}

static void
forget(FlowTable *self)
{
    int64_t oldest_us = self->newest_us - self->window;
    while (self->oldest < self->next) {
        Waiting *waiting = at_sequence(self, self->oldest);
        if (waiting->us >= oldest_us && self->next - self->oldest < self->waiting_max)
            return;
        self->forgotten += waiting->us >= oldest_us && waiting->seen_count == 1;
        PyMem_Free(waiting->others);
        waiting->others = NULL;
        self->oldest++;
    }
}

/* The index of a flow; NONE when there are too many.  False: an error is set. */
static bool
flow_of(FlowTable *self, const Row *row, uint32_t *index)
{
    FlowKey key = {.source_port = row->source_port, .destination_port = row->destination_port,
                   .family = row->family, .protocol = row->protocol, .ports = row->has & HAS_PORTS};
    memcpy(key.source, row->source, sizeof key.source);
    memcpy(key.destination, row->destination, sizeof key.destination);
    if (!grow_table(&self->flow_table, self->flows, sizeof key, sizeof key))
        return false;
    uint32_t *slot = find_slot(&self->flow_table, self->flows, sizeof key, &key, sizeof key);
    if (*slot == NONE && self->flow_count < self->flows_max) {
        if (!grow_array((void **)&self->flows, self->flow_count, sizeof key))
            return false;
        self->flows[self->flow_count] = key;
        *slot = (uint32_t)self->flow_count++;
        self->flow_table.used++;
    }
    *index = *slot;
    return true;
}

static bool
count_at(FlowTable *self, uint32_t flow, uint32_t place)
{
    const PairKey key = {flow, place, NONE, 0};
    if (!grow_table(&self->count_table, self->counts, sizeof(Count), sizeof key))
        return false;
    uint32_t *slot = find_slot(&self->count_table, self->counts, sizeof(Count), &key, sizeof key);
    if (*slot == NONE) {
        if (!grow_array((void **)&self->counts, self->count_count, sizeof(Count)))
            return false;
        self->counts[self->count_count] = (Count){key, 0};
        *slot = (uint32_t)self->count_count++;
        self->count_table.used++;
    }
    self->counts[*slot].packets++;
    return true;
}

static bool
add_delay(FlowTable *self, Delays *delays, int64_t us)
{
    if (!delays->count || us < delays->least)
        delays->least = us;
    if (!delays->count || us > delays->greatest)
        delays->greatest = us;
    if (delays->count % delays->stride == 0) {
        if (delays->sampled == self->delays_max) {
            for (uint32_t i = 0; 2 * i < delays->sampled; i++)
                delays->sample[i] = delays->sample[2 * i];
            delays->sampled = (delays->sampled + 1) / 2;
            delays->stride *= 2;
        }
        if (delays->count % delays->stride == 0) {
            if (!delays->sample
                && !(delays->sample = PyMem_Calloc(self->delays_max, sizeof *delays->sample))) {
                PyErr_NoMemory();
                return false;
            }
            delays->sample[delays->sampled++] = us;
        }
    }
    delays->count++;
    return true;
}

/* A packet of a flow was seen at two places. */
static bool
pair_of(FlowTable *self, uint32_t flow, Sighting before, Sighting now)
{
    bool ordered = before.place < now.place;
    const PairKey key = {flow, ordered ? before.place : now.place, ordered ? now.place : before.place, 0};
    if (!grow_table(&self->pair_table, self->pairs, sizeof(Delays), sizeof key))
        return false;
    uint32_t *slot = find_slot(&self->pair_table, self->pairs, sizeof(Delays), &key, sizeof key);
    if (*slot == NONE) {
        if (self->pair_count >= self->pairs_max) {
            self->beyond++;
            return true;
        }
        if (!grow_array((void **)&self->pairs, self->pair_count, sizeof(Delays)))
            return false;
        self->pairs[self->pair_count] = (Delays){.key = key, .stride = 1};
        *slot = (uint32_t)self->pair_count++;
        self->pair_table.used++;
    }
    return add_delay(self, &self->pairs[*slot], ordered ? now.us - before.us : before.us - now.us);
}

static inline Sighting *
sighting_at(Waiting *waiting, uint32_t index)
{
    return index ? &waiting->others[index - 1] : &waiting->first;
}

/* A packet was seen at another place: its delays from where it was seen before. */
static bool
see_again(FlowTable *self, Waiting *waiting, uint32_t flow, Sighting now)
{
    int64_t apart = now.us > waiting->us ? now.us - waiting->us : waiting->us - now.us;
    if (waiting->flow != flow || apart > self->window)
        return true;
    for (uint32_t i = 0; i < waiting->seen_count; i++)
        if (sighting_at(waiting, i)->place == now.place)
            return true;
    for (uint32_t i = 0; i < waiting->seen_count; i++)
        if (!pair_of(self, flow, *sighting_at(waiting, i), now))
            return false;
    if (!grow_array((void **)&waiting->others, waiting->seen_count - 1, sizeof(Sighting)))
        return false;
    waiting->others[waiting->seen_count++ - 1] = now;
    return true;
}

static bool
see(FlowTable *self, uint64_t number, uint32_t flow, Sighting now)
{
    if (now.us > self->newest_us)
        self->newest_us = now.us;
    forget(self);
    if (self->next - self->oldest == self->room && !grow_ring(self))
        return false;
    if (4 * self->slots_used >= 3 * self->slot_count && !make_slots(self))
        return false;
    uint64_t *slot = waiting_slot(self, self->slots, self->slot_count, number);
    if (*slot)
        return see_again(self, at_sequence(self, *slot), flow, now);
    *at_sequence(self, self->next) = (Waiting){number, flow, 1, now.us, now, NULL};
    self->slots_used++;
    *slot = self->next++;
    return true;
}

static bool
add_row(FlowTable *self, const Row *row)
{
    uint32_t flow;
    self->packets++;
    if (!(row->has & HAS_IP)) {
        self->others++;
        return true;
    }
    if (!flow_of(self, row, &flow))
        return false;
    if (flow == NONE) {
        self->beyond++;
        return true;
    }
    return count_at(self, flow, row->interface)
        && (!(row->has & HAS_NUMBER)
            || see(self, row->number, flow, (Sighting){row->interface, row->us}));
}

/* ---- flows: what they come to -------------------------------------------------- */

static PyObject *
flow_object(const FlowKey *key)
{
    Py_ssize_t size = key->family == 4 ? 4 : 16;
    PyObject *ports = key->ports ? Py_BuildValue("II", key->source_port, key->destination_port)
                                 : Py_NewRef(Py_None);
    PyObject *seen = PyDict_New(), *delays = PyDict_New(), *flow = NULL;
    if (ports && seen && delays)
        flow = Py_BuildValue("y#y#IOOO", (const char *)key->source, size, (const char *)key->destination, size,
                             (unsigned int)key->protocol, ports, seen, delays);
    Py_XDECREF(ports);
    Py_XDECREF(seen);
    Py_XDECREF(delays);
    return flow;
}

/* Sets an item and lets go of both; NULL for either is an error that is set. */
static bool
set_item(PyObject *dict, PyObject *key, PyObject *value)
{
    bool set = key && value && PyDict_SetItem(dict, key, value) == 0;
    Py_XDECREF(key);
    Py_XDECREF(value);
    return set;
}

static PyObject *
flow_table_flows(FlowTable *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *flows = PyList_New((Py_ssize_t)self->flow_count);
    for (uint64_t i = 0; flows && i < self->flow_count; i++) {
        PyObject *flow = flow_object(&self->flows[i]);
        if (!flow)
            Py_CLEAR(flows);
        else
            PyList_SET_ITEM(flows, (Py_ssize_t)i, flow);
    }
    for (uint64_t i = 0; flows && i < self->count_count; i++) {
        const Count *count = &self->counts[i];
        PyObject *seen = PyTuple_GET_ITEM(PyList_GET_ITEM(flows, (Py_ssize_t)count->key.flow), 4);
        if (!set_item(seen, PyLong_FromUnsignedLong(count->key.first),
                      PyLong_FromUnsignedLongLong(count->packets)))
            Py_CLEAR(flows);
    }
    for (uint64_t i = 0; flows && i < self->pair_count; i++) {
        const Delays *pair = &self->pairs[i];
        PyObject *delays = PyTuple_GET_ITEM(PyList_GET_ITEM(flows, (Py_ssize_t)pair->key.flow), 5);
        if (!set_item(delays, Py_BuildValue("II", pair->key.first, pair->key.second),
                      Py_BuildValue("KLLy#", (unsigned long long)pair->count, (long long)pair->least,
                                    (long long)pair->greatest, (const char *)pair->sample,
                                    (Py_ssize_t)(pair->sampled * sizeof *pair->sample))))
            Py_CLEAR(flows);
    }
    return flows;
}

static PyObject *
flow_table_add(FlowTable *self, PyObject *arg)
{
    Py_buffer in;
    if (PyObject_GetBuffer(arg, &in, PyBUF_SIMPLE) < 0)
        return NULL;
    bool added = (size_t)in.len % sizeof(Row) == 0;
    if (!added)
        PyErr_Format(PyExc_ValueError, "%zd bytes are not whole rows", in.len);
    for (size_t at = 0; added && at < (size_t)in.len; at += sizeof(Row)) {
        Row row;
        memcpy(&row, (const uint8_t *)in.buf + at, sizeof row);
        added = row.us >= -US_MAX && row.us <= US_MAX;
        if (!added)
            PyErr_SetString(PyExc_ValueError, "a row's time is out of range");
        else
            added = add_row(self, &row);
    }
    PyBuffer_Release(&in);
    if (!added)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
flow_table_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"flows", "pairs", "delays", "waiting", "window_us", NULL};
    PyObject *given[5];
    int64_t flows, pairs, delays, waiting, window;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOO:FlowTable", names, &given[0], &given[1], &given[2],
                                     &given[3], &given[4])
        || !number("flows", given[0], 1, INT32_MAX, &flows) || !number("pairs", given[1], 1, INT32_MAX, &pairs)
        || !number("delays", given[2], 1, INT32_MAX, &delays)
        || !number("waiting", given[3], 1, UINT32_MAX, &waiting)
        || !number("window_us", given[4], 0, US_MAX, &window))
        return NULL;
    FlowTable *self = (FlowTable *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->flows_max = (uint64_t)flows;
    self->pairs_max = (uint64_t)pairs;
    self->delays_max = (uint64_t)delays;
    self->waiting_max = (uint64_t)waiting;
    self->window = window;
    self->oldest = self->next = 1;
    self->room = ROOM_MIN;
    self->ring = new_array(self->room, sizeof *self->ring);
    if (!self->ring || !secret_seed(&self->seed) || !make_slots(self)
        || !make_table(&self->flow_table, self->seed, ROOM_MIN)
        || !make_table(&self->count_table, self->seed, ROOM_MIN)
        || !make_table(&self->pair_table, self->seed, ROOM_MIN))
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void
flow_table_dealloc(FlowTable *self)
{
    PyTypeObject *type = Py_TYPE(self);
    for (uint64_t sequence = self->oldest; self->ring && sequence < self->next; sequence++)
        PyMem_Free(at_sequence(self, sequence)->others);
    for (uint64_t i = 0; i < self->pair_count; i++)
        PyMem_Free(self->pairs[i].sample);
    PyMem_Free(self->ring);
    PyMem_Free(self->slots);
    PyMem_Free(self->flows);
    PyMem_Free(self->flow_table.slots);
    PyMem_Free(self->counts);
    PyMem_Free(self->count_table.slots);
    PyMem_Free(self->pairs);
    PyMem_Free(self->pair_table.slots);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
flow_table_count(FlowTable *self, void *offset)
{
    return PyLong_FromUnsignedLongLong(*(uint64_t *)((char *)self + (uintptr_t)offset));
}

#define COUNT(name) \
    {#name, (getter)flow_table_count, NULL, "See pcapd.analysis._reference.", (void *)offsetof(FlowTable, name)}

static PyMethodDef flow_table_methods[] = {
    {"add", (PyCFunction)(void (*)(void))flow_table_add, METH_O, "See pcapd.analysis._reference."},
    {"flows", (PyCFunction)(void (*)(void))flow_table_flows, METH_NOARGS, "See pcapd.analysis._reference."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef flow_table_attributes[] = {
    COUNT(packets), COUNT(others), COUNT(beyond), COUNT(forgotten), {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot flow_table_slots[] = {
    {Py_tp_new, (void *)flow_table_new},
    {Py_tp_dealloc, (void *)flow_table_dealloc},
    {Py_tp_methods, flow_table_methods},
    {Py_tp_getset, flow_table_attributes},
    {0, NULL},
};

static PyType_Spec flow_table_spec = {
    .name = "pcapd.analysis._native.FlowTable",
    .basicsize = sizeof(FlowTable),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = flow_table_slots,
};

/* ---- rows of several files ------------------------------------------------------ */

/* Takes the rows that are not later than `until` from the front of each, one after the other. */
static PyObject *
merge_fronts(Py_buffer *in, size_t *ends, size_t *at, size_t count, size_t rows)
{
    PyObject *merged = new_bytes((uint64_t)rows * sizeof(Row));
    if (!merged)
        return NULL;
    uint8_t *to = data_of(merged);
    while (rows--) {
        size_t first = count;
        int64_t first_us = 0;
        for (size_t i = 0; i < count; i++) {
            int64_t us;
            if (at[i] >= ends[i])
                continue;
            memcpy(&us, (const uint8_t *)in[i].buf + at[i], sizeof us);
            if (first == count || us < first_us) {
                first = i;
                first_us = us;
            }
        }
        memcpy(to, (const uint8_t *)in[first].buf + at[first], sizeof(Row));
        at[first] += sizeof(Row);
        to += sizeof(Row);
    }
    return merged;
}

/* The least of the latest times of chunks that have rows: all of them go on after it. */
static int64_t
common_end(const Py_buffer *in, size_t count)
{
    int64_t until = INT64_MAX;
    for (size_t i = 0; i < count; i++) {
        int64_t latest = INT64_MIN, us;
        for (size_t at = 0; at + sizeof(Row) <= (size_t)in[i].len; at += sizeof(Row)) {
            memcpy(&us, (const uint8_t *)in[i].buf + at, sizeof us);
            if (us > latest)
                latest = us;
        }
        if ((size_t)in[i].len >= sizeof(Row) && latest < until)
            until = latest;
    }
    return until;
}

/* Where the front of rows ends: before the first one that is later than `until`. */
static size_t
front_of(const Py_buffer *in, int64_t until)
{
    size_t end = 0;
    for (; end + sizeof(Row) <= (size_t)in->len; end += sizeof(Row)) {
        int64_t us;
        memcpy(&us, (const uint8_t *)in->buf + end, sizeof us);
        if (us > until)
            break;
    }
    return end;
}

static PyObject *
merge_held(Py_buffer *in, size_t count)
{
    int64_t until = common_end(in, count);
    size_t rows = 0;
    PyObject *merged = NULL, *used = PyList_New((Py_ssize_t)count), *result = NULL;
    size_t *ends = new_array(count, sizeof *ends), *at = ends ? new_array(count, sizeof *at) : NULL;
    for (size_t i = 0; used && at && i < count; i++) {
        ends[i] = front_of(&in[i], until);
        rows += ends[i] / sizeof(Row);
        PyObject *end = PyLong_FromSize_t(ends[i]);
        if (!end)
            Py_CLEAR(used);
        else
            PyList_SET_ITEM(used, (Py_ssize_t)i, end);
    }
    if (used && at && (merged = merge_fronts(in, ends, at, count, rows)))
        result = Py_BuildValue("OO", merged, used);
    Py_XDECREF(merged);
    Py_XDECREF(used);
    PyMem_Free(ends);
    PyMem_Free(at);
    return result;
}

static PyObject *
merge_rows(PyObject *Py_UNUSED(module), PyObject *arg)
{
    PyObject *chunks = PySequence_Tuple(arg), *result = NULL;
    if (!chunks)
        return NULL;
    size_t count = (size_t)PyTuple_GET_SIZE(chunks), held = 0;
    Py_buffer *in = new_array(count, sizeof *in);
    while (in && held < count && PyObject_GetBuffer(PyTuple_GET_ITEM(chunks, held), &in[held], PyBUF_SIMPLE) == 0)
        held++;
    if (in && held == count)
        result = merge_held(in, count);
    while (held)
        PyBuffer_Release(&in[--held]);
    PyMem_Free(in);
    Py_DECREF(chunks);
    return result;
}

/* ---- the module ------------------------------------------------------------------ */

static int
add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    int status = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
    Py_XDECREF(type);
    return status;
}

static int
execute(PyObject *module)
{
    return add_type(module, &flow_table_spec) < 0 ? -1 : add_type(module, &conversation_table_spec);
}

static PyMethodDef methods[] = {
    {"merge_rows", merge_rows, METH_O, "See pcapd.analysis._reference."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)execute},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pcapd.analysis._native",
    .m_doc = "pcapd.analysis, compiled.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
