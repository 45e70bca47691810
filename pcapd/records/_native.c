/*
 * pcapd.records._native: _reference.py, _busiest.py and _savefile.py, compiled.
 *
 * These define the results; the property tests compare every
 * result and every error of the two.  Batches come from other machines, so no
 * byte is read before its place was checked, and no size is added up in fewer
 * than 64 bits.
 *
 * Inputs are any bytes-like objects.  While we hold a buffer its memory stays,
 * but another thread may change the bytes of a bytearray whenever we let go of
 * the GIL.  What bounds a copy is therefore never read twice across such a gap.
 */
#include "../packet/_row.h"
#include "_record.h"
#include "_savefile.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#define META_SIZE 16u

typedef struct {
    PyObject *record_error;
    PyObject *checked;
    PyObject *busy;
    PyObject *converted;
} State;

/* ---- pack ----------------------------------------------------------------- */

/* How much of a packet is kept. */
typedef struct {
    uint32_t snaplen;
    int64_t headers_of; /* LINKTYPE, or -1 for whole packets */
} Cut;

typedef struct {
    uint32_t seconds, micros, offset, length;
} Meta;

static inline Meta
read_meta(const Py_buffer *meta, size_t index)
{
    const uint8_t *at = (const uint8_t *)meta->buf + index * META_SIZE;
    return (Meta){get_native32(at), get_native32(at + 4), get_native32(at + 8), get_native32(at + 12)};
}

/* Reads an entry whose packet is within `packets`.  False: an error is set. */
static inline bool
read_entry(const Py_buffer *packets, const Py_buffer *meta, size_t index, Meta *entry)
{
    *entry = read_meta(meta, index);
    if (LIKELY((uint64_t)entry->offset + entry->length <= (uint64_t)packets->len))
        return true;
    PyErr_Format(PyExc_ValueError, "meta entry %zu: %u bytes at %u are not within %zd bytes", index,
                 entry->length, entry->offset, packets->len);
    return false;
}

/* The packet is within `packets`. */
static inline uint32_t
kept(const Py_buffer *packets, Meta entry, const Cut *cut)
{
    uint32_t length = entry.length;
    if (cut->headers_of >= 0) {
        const Packet packet = {(const uint8_t *)packets->buf + entry.offset, length};
        length = (uint32_t)walk(cut->headers_of, &packet).end;
    }
    return length < cut->snaplen ? length : cut->snaplen;
}

/* Finds where the batch that begins with entry `first` ends: before entry `*last`. */
static bool
size_batch(const Py_buffer *packets, const Py_buffer *meta, size_t first, const Cut *cut,
           uint64_t limit, size_t *last, uint64_t *size)
{
    size_t count = (size_t)meta->len / META_SIZE;
    size_t index;
    *size = 0;
    for (index = first; index < count; index++) {
        Meta entry;
        if (!read_entry(packets, meta, index, &entry))
            return false;
        uint64_t record = size_of(kept(packets, entry, cut));
        if (index > first && *size + record > limit)
            break;
        *size += record;
    }
    *last = index;
    return true;
}

static PyObject *
fill_batch(const Py_buffer *packets, const Py_buffer *meta, size_t first, size_t last,
           const Cut *cut, uint64_t size)
{
    PyObject *batch = new_bytes(size);
    if (!batch)
        return NULL;
    uint8_t *to = data_of(batch);
    for (size_t index = first; index < last; index++) {
        Meta entry = read_meta(meta, index);
        uint32_t captured = kept(packets, entry, cut);
        put_le32(to, entry.seconds);
        put_le32(to + 4, entry.micros);
        put_le32(to + 8, captured);
        put_le32(to + 12, entry.length);
        memcpy(to + HEADER_SIZE, (const uint8_t *)packets->buf + entry.offset, captured);
        to += size_of(captured);
    }
    return batch;
}

static PyObject *
pack_batches(const Py_buffer *packets, const Py_buffer *meta, const Cut *cut, uint64_t limit)
{
    size_t count = (size_t)meta->len / META_SIZE;
    PyObject *batches = PyList_New(0);
    if (!batches)
        return NULL;
    for (size_t first = 0, last = 0; first < count; first = last) {
        uint64_t size;
        PyObject *batch = size_batch(packets, meta, first, cut, limit, &last, &size)
                        ? fill_batch(packets, meta, first, last, cut, size) : NULL;
        if (!batch)
            goto failed;
        int status = PyList_Append(batches, batch);
        Py_DECREF(batch);
        if (status < 0)
            goto failed;
    }
    return batches;
failed:
    Py_DECREF(batches);
    return NULL;
}

/* The link type whose headers are known, or -1 for none; NULL is -1.  False: an error is set. */
static bool
read_headers_of(PyObject *argument, int64_t *headers_of)
{
    Layer link;
    *headers_of = -1;
    if (argument && !number("headers_of", argument, -1, UINT32_MAX, headers_of))
        return false;
    if (*headers_of == -1 || link_of(*headers_of, &link))
        return true;
    PyErr_Format(PyExc_ValueError, "the headers of link type %lld are not known", (long long)*headers_of);
    return false;
}

/* Keeps the GIL: a wake-up's packets take tens of microseconds, and without it
   the entries could change between the sizing and the copy. */
static PyObject *
pack(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"packets", "meta", "snaplen", "limit", "headers_of", NULL};
    Py_buffer packets, meta;
    PyObject *snaplen_arg, *limit_arg, *headers_arg = NULL, *batches = NULL;
    int64_t snaplen, limit, headers_of;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*y*OO|O:pack", names, &packets, &meta,
                                     &snaplen_arg, &limit_arg, &headers_arg))
        return NULL;
    if (number("snaplen", snaplen_arg, 0, UINT32_MAX, &snaplen)
        && number("limit", limit_arg, 0, INT64_MAX, &limit) && read_headers_of(headers_arg, &headers_of)) {
        if ((size_t)meta.len % META_SIZE)
            PyErr_Format(PyExc_ValueError, "meta has %zd bytes, which is not a multiple of 16", meta.len);
        else
            batches = pack_batches(&packets, &meta, &(Cut){(uint32_t)snaplen, headers_of},
                                   (uint64_t)limit);
    }
    PyBuffer_Release(&packets);
    PyBuffer_Release(&meta);
    return batches;
}

/* ---- from_savefile: _savefile.py, compiled --------------------------------- */

static PyObject *
converted(const State *state, const Conversion *made)
{
    PyObject *checked = PyObject_CallFunction(
        state->checked, "LLLL", made->packets, (long long)made->written - made->packets * HEADER_SIZE,
        (long long)made->earliest, (long long)made->latest);
    if (!checked)
        return NULL;
    return PyObject_CallFunction(state->converted, "OnN", made->batch, (Py_ssize_t)made->consumed, checked);
}

static PyObject *
from_savefile(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"data", "big_endian", "nanoseconds", "max_captured", "limit", "headers_of", NULL};
    const State *state = PyModule_GetState(module);
    Py_buffer in;
    int big_endian = -1, nanoseconds = -1;
    PyObject *max_arg = NULL, *limit_arg = NULL, *headers_arg = NULL, *result = NULL;
    int64_t max_captured, limit, headers_of;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*|$ppOOO:from_savefile", names, &in, &big_endian,
                                     &nanoseconds, &max_arg, &limit_arg, &headers_arg))
        return NULL;
    /* The parser has no keyword-only arguments that are required. */
    if (big_endian < 0 || nanoseconds < 0 || !max_arg || !limit_arg)
        PyErr_SetString(PyExc_TypeError, "big_endian, nanoseconds, max_captured and limit are required");
    else if (number("max_captured", max_arg, 0, CAPTURED_MAX, &max_captured)
             && number("limit", limit_arg, 0, INT64_MAX, &limit) && read_headers_of(headers_arg, &headers_of)) {
        Savefile savefile = {big_endian, nanoseconds, (uint32_t)max_captured, (uint64_t)limit, headers_of};
        Conversion made;
        if (convert(&in, &savefile, &made))
            result = converted(state, &made);
        Py_CLEAR(made.batch);
    }
    PyBuffer_Release(&in);
    return result;
}

/* ---- busiest: _busiest.py, compiled ---------------------------------------- */

#define LOOKED_AT 512u
#define PLACES 1024u /* twice as many, so that a free one is found soon */
#define PART 32u
#define KEY_MAX 36u

typedef struct {
    uint8_t key[KEY_MAX];
    uint32_t key_size; /* 0: the place is free */
    uint32_t packets;
    uint64_t size;
    int64_t last;
} Connection;

/* Writes both ends of a TCP connection, in an order that both directions share; returns the size. */
static uint32_t
connection_key(int64_t link_type, const Packet *packet, uint8_t *key)
{
    const Headers headers = walk(link_type, packet);
    if (headers.protocol != TCP || headers.fragment == LATER || headers.transport < 0
        || !has(packet, (uint64_t)headers.transport, 4))
        return 0;
    uint32_t size = headers.family == 4 ? 4 : 16;
    const uint8_t *from = packet->at + headers.network + (headers.family == 4 ? 12 : 8);
    const uint8_t *to = from + size, *ports = packet->at + headers.transport;
    int order = memcmp(from, to, size);
    if (!order)
        order = memcmp(ports, ports + 2, 2);
    const bool swap = order > 0;
    memcpy(key, swap ? to : from, size);
    memcpy(key + size, swap ? ports + 2 : ports, 2);
    memcpy(key + size + 2, swap ? from : to, size);
    memcpy(key + 2 * size + 2, swap ? ports : ports + 2, 2);
    return 2 * size + 4;
}

/* The place of a connection: its own, or a free one. */
static Connection *
place_of(Connection *places, const uint8_t *key, uint32_t size)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (uint32_t i = 0; i < size; i++)
        hash = (hash ^ key[i]) * 16777619u;
    Connection *place = places + hash % PLACES;
    while (place->key_size && (place->key_size != size || memcmp(place->key, key, size)))
        place = place + 1 < places + PLACES ? place + 1 : places;
    return place;
}

static bool
count_connections(const Py_buffer *packets, const Py_buffer *meta, size_t count, int64_t link_type,
                  Connection *places, Connection **order, size_t *found, uint64_t *size)
{
    uint8_t key[KEY_MAX];
    for (size_t index = 0; index < count; index++) {
        Meta entry;
        if (!read_entry(packets, meta, index, &entry))
            return false;
        *size += entry.length;
        const Packet packet = {(const uint8_t *)packets->buf + entry.offset, entry.length};
        uint32_t key_size = connection_key(link_type, &packet, key);
        if (!key_size)
            continue;
        Connection *place = place_of(places, key, key_size);
        int64_t us = (int64_t)entry.seconds * MICROS + entry.micros;
        if (!place->key_size) {
            memcpy(place->key, key, key_size);
            place->key_size = key_size;
            place->last = us;
            order[(*found)++] = place;
        }
        place->packets++;
        place->size += entry.length;
        if (us > place->last)
            place->last = us;
    }
    return true;
}

static PyObject *
busy_list(const State *state, Connection **order, size_t found, size_t count, uint64_t size)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list && i < found; i++) {
        const Connection *one = order[i];
        if ((uint64_t)one->packets * PART < count && one->size * PART < size)
            continue;
        PyObject *busy = PyObject_CallFunction(state->busy, "y#IKL", (const char *)one->key,
                                               (Py_ssize_t)one->key_size, one->packets,
                                               (unsigned long long)one->size, (long long)one->last);
        if (!busy || PyList_Append(list, busy) < 0)
            Py_CLEAR(list);
        Py_XDECREF(busy);
    }
    return list;
}

static PyObject *
busiest(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"packets", "meta", "link_type", NULL};
    const State *state = PyModule_GetState(module);
    Py_buffer packets, meta;
    long long link_type;
    PyObject *result = NULL;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*y*L:busiest", names, &packets, &meta, &link_type))
        return NULL;
    size_t count = (size_t)meta.len / META_SIZE, found = 0;
    if (count > LOOKED_AT)
        count = LOOKED_AT;
    uint64_t size = 0;
    Connection *places = NULL, *order[LOOKED_AT];
    if ((size_t)meta.len % META_SIZE)
        PyErr_Format(PyExc_ValueError, "meta has %zd bytes, which is not a multiple of 16", meta.len);
    else if ((places = new_array(PLACES, sizeof(Connection)))
             && count_connections(&packets, &meta, count, link_type, places, order, &found, &size)) {
        PyObject *list = busy_list(state, order, found, count, size);
        if (list)
            result = Py_BuildValue("nKN", (Py_ssize_t)count, (unsigned long long)size, list);
    }
    PyMem_Free(places);
    PyBuffer_Release(&packets);
    PyBuffer_Release(&meta);
    return result;
}

/* ---- check ---------------------------------------------------------------- */

static PyObject *
check_batch(const State *state, const Py_buffer *in, uint32_t max_captured)
{
    size_t size = (size_t)in->len, offset = 0;
    long long packets = 0, captured_bytes = 0;
    int64_t earliest = INT64_MAX, latest = 0;

    if (!size) {
        PyErr_SetString(state->record_error, "record at byte 0: there is none");
        return NULL;
    }
    while (offset < size) {
        Record record;
        if (!read_record(state->record_error, in, offset, max_captured, &record))
            return NULL;
        packets++;
        captured_bytes += record.captured;
        if (record.us < earliest)
            earliest = record.us;
        if (record.us > latest)
            latest = record.us;
        offset += (size_t)size_of(record.captured);
    }
    return PyObject_CallFunction(state->checked, "LLLL", packets, captured_bytes,
                                 (long long)earliest, (long long)latest);
}

static PyObject *
check(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"records", "max_captured", NULL};
    const State *state = PyModule_GetState(module);
    Py_buffer in;
    PyObject *max_captured_arg, *checked = NULL;
    int64_t max_captured;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*O:check", names, &in, &max_captured_arg))
        return NULL;
    if (number("max_captured", max_captured_arg, 0, CAPTURED_MAX, &max_captured))
        checked = check_batch(state, &in, (uint32_t)max_captured);
    PyBuffer_Release(&in);
    return checked;
}

/* ---- rows ------------------------------------------------------------------ */

static size_t
count_records(const State *state, const Py_buffer *in)
{
    size_t count = 0;
    for (size_t offset = 0; offset < (size_t)in->len; count++) {
        Record record;
        if (!read_record(state->record_error, in, offset, CAPTURED_MAX, &record))
            return SIZE_MAX;
        offset += (size_t)size_of(record.captured);
    }
    return count;
}

/* Reads each record anew: what bounds a read must be what was checked. */
static bool
fill_rows(const State *state, const Py_buffer *in, int64_t link_type, uint32_t interface, size_t count,
          uint8_t *to)
{
    size_t offset = 0;
    for (size_t index = 0; index < count && offset < (size_t)in->len; index++) {
        Record record;
        if (!read_record(state->record_error, in, offset, CAPTURED_MAX, &record))
            return false;
        Row row = {.us = record.us, .original = record.original, .interface = interface,
                   .at = (uint32_t)(offset + HEADER_SIZE)};
        if (!complete_row(&row, link_type, (const uint8_t *)in->buf + row.at, record.captured))
            return false;
        memcpy(to + index * sizeof row, &row, sizeof row);
        offset += (size_t)size_of(record.captured);
    }
    return true;
}

static PyObject *
rows(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"records", "link_type", "interface", NULL};
    const State *state = PyModule_GetState(module);
    Py_buffer in;
    PyObject *link_arg, *interface_arg, *made = NULL;
    int64_t link_type, interface;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*OO:rows", names, &in, &link_arg, &interface_arg))
        return NULL;
    if (number("link_type", link_arg, 0, UINT32_MAX, &link_type)
        && number("interface", interface_arg, 0, UINT32_MAX, &interface)) {
        size_t count;
        if ((uint64_t)in.len > UINT32_MAX)
            PyErr_SetString(PyExc_ValueError, "a batch of 4 GiB or more has no rows");
        else if ((count = count_records(state, &in)) != SIZE_MAX
                 && (made = new_bytes((uint64_t)count * sizeof(Row)))
                 && !fill_rows(state, &in, link_type, (uint32_t)interface, count, data_of(made)))
            Py_CLEAR(made);
    }
    PyBuffer_Release(&in);
    return made;
}

/* ---- shift ----------------------------------------------------------------- */

/* Walks the copy: what is checked must be what is written. */
static bool
shift_times(const State *state, PyObject *copy, int64_t us)
{
    const Py_buffer all = {.buf = data_of(copy), .len = PyBytes_GET_SIZE(copy)};
    for (size_t offset = 0; offset < (size_t)all.len;) {
        Record record;
        if (!read_record(state->record_error, &all, offset, CAPTURED_MAX, &record))
            return false;
        int64_t moved = (int64_t)record.us + us, last = (int64_t)UINT32_MAX * MICROS + MICROS - 1;
        moved = moved < 0 ? 0 : moved > last ? last : moved;
        put_le32((uint8_t *)all.buf + offset, (uint32_t)(moved / MICROS));
        put_le32((uint8_t *)all.buf + offset + 4, (uint32_t)(moved % MICROS));
        offset += (size_t)size_of(record.captured);
    }
    return true;
}

static PyObject *
shift(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"records", "us", NULL};
    const State *state = PyModule_GetState(module);
    Py_buffer in;
    PyObject *us_arg, *made = NULL;
    int64_t us;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*O:shift", names, &in, &us_arg))
        return NULL;
    if (number("us", us_arg, -SHIFT_MAX, SHIFT_MAX, &us)
        && (made = PyBytes_FromStringAndSize(in.buf, in.len)) && !shift_times(state, made, us))
        Py_CLEAR(made);
    PyBuffer_Release(&in);
    return made;
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
    state->checked = attribute("pcapd.records._types", "Checked");
    state->busy = attribute("pcapd.records._types", "Busy");
    state->converted = attribute("pcapd.records._types", "Converted");
    return state->record_error && state->checked && state->busy && state->converted ? 0 : -1;
}

static int
traverse(PyObject *module, visitproc visit, void *arg)
{
    State *state = PyModule_GetState(module);
    Py_VISIT(state->record_error);
    Py_VISIT(state->checked);
    Py_VISIT(state->busy);
    Py_VISIT(state->converted);
    return 0;
}

static int
clear(PyObject *module)
{
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->record_error);
    Py_CLEAR(state->checked);
    Py_CLEAR(state->busy);
    Py_CLEAR(state->converted);
    return 0;
}

/* By way of void (*)(void), which a compiler takes as "I know". */
#define METHOD(function) \
    {#function, (PyCFunction)(void (*)(void))(function), METH_VARARGS | METH_KEYWORDS, \
     "See pcapd.records._reference."}

#define KEEP_TRIM (64 * 1024 * 1024)
#define KEEP_MMAP (32 * 1024 * 1024)

/* A batch is freed as soon as it is sent, and glibc gives memory of that size
 * back to the kernel at once: then the next batch faults in every page anew,
 * which costs more than everything else that is done with it. */
static PyObject *
keep_memory(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
#ifdef __GLIBC__
    mallopt(M_TRIM_THRESHOLD, KEEP_TRIM);
    mallopt(M_MMAP_THRESHOLD, KEEP_MMAP);
#endif
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"keep_memory", keep_memory, METH_NOARGS, "See pcapd.records._reference."},
    METHOD(pack),
    METHOD(from_savefile),
    METHOD(check),
    METHOD(busiest),
    METHOD(rows),
    METHOD(shift),
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)execute},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pcapd.records._native",
    .m_doc = "pcapd.records, compiled.",
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
