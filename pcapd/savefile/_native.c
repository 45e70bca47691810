/*
 * pcapd.savefile._native: _reference.py, compiled.
 *
 * _reference.py defines the results; the property tests compare every
 * result and every error of the two.  Files come from anybody: no byte is read
 * before its place was checked, and no size is added up in fewer than 64 bits.
 * The GIL is held all the time, so that checked bytes cannot change.
 */
#include "../packet/_row.h"
#include "_block.h"

#define OBSOLETE_PACKET 2u
#define SIMPLE_PACKET 3u
#define BLOCK_FRAME 12u /* type and length before it, the length again after it */
/* As BLOCK_MAX in limits.py. */
#define BLOCK_MAX (16u << 20)
#define DROPS_UNKNOWN 0xFFFFu
#define US_MAX (INT64_MAX / 4)

/* As _INTERFACE in _reference.py. */
typedef struct {
    uint32_t number, link_type, snaplen, unused;
    int64_t ticks; /* in a second; 0: not for us */
    int64_t offset_us;
} Interface;

_Static_assert(sizeof(Interface) == 32, "an interface has no gaps");

/* What is being read. */
typedef struct {
    const uint8_t *data;
    uint64_t size;
    bool big_endian;
    const uint8_t *interfaces;
    uint64_t interface_count;
} File;

static inline uint32_t
get16(const File *file, uint64_t at)
{
    const uint8_t *p = file->data + at;
    return file->big_endian ? get_be16(p) : (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static inline uint32_t
get32(const File *file, uint64_t at)
{
    return file->big_endian ? get_be32(file->data + at) : get_le32(file->data + at);
}

/* A number of 64 bits that the format has as two of 32, the high one first. */
static inline uint64_t
get_time(const File *file, uint64_t at)
{
    return (uint64_t)get32(file, at) << 32 | get32(file, at + 4);
}

static inline uint64_t
get64(const File *file, uint64_t at)
{
    uint32_t first = get32(file, at), second = get32(file, at + 4);
    return file->big_endian ? (uint64_t)first << 32 | second : (uint64_t)second << 32 | first;
}

static bool
find_interface(const File *file, uint32_t number, Interface *interface)
{
    if (number >= file->interface_count)
        return false;
    memcpy(interface, file->interfaces + number * sizeof *interface, sizeof *interface);
    return interface->ticks > 0;
}

static int64_t
micros_of(const Interface *interface, uint64_t time)
{
    __int128 us = interface->ticks == 1000000 ? (__int128)time
                : interface->ticks == 1000000000
                    ? (__int128)(time / 1000)
                    : (__int128)((unsigned __int128)time * 1000000u / (uint64_t)interface->ticks);
    us += interface->offset_us;
    return us > US_MAX ? US_MAX : us < -US_MAX ? -US_MAX : (int64_t)us;
}

/* Reads the options of an enhanced packet block.  False: they are not valid. */
static bool
read_options(const File *file, uint64_t at, uint64_t end, Row *row)
{
    bool numbered = false, counted = false; /* the first of each counts */
    while (at + 4 <= end) {
        uint32_t code = get16(file, at), size = get16(file, at + 2);
        at += 4;
        if (!code)
            return true;
        if (at + size > end)
            return false;
        if (code == PACKET_ID_CODE && !numbered) {
            numbered = true;
            if (size == 8) {
                row->number = get64(file, at);
                row->has |= HAS_NUMBER;
            }
        } else if (code == DROP_COUNT_CODE && !counted) {
            counted = true;
            uint64_t drops = size == 8 ? get64(file, at) : 0;
            row->drops = drops > UINT32_MAX ? UINT32_MAX : (uint32_t)drops;
        }
        at += size + padding_of(size);
    }
    return true;
}

/* Where the bytes of a packet are. */
typedef struct {
    uint64_t at;
    uint64_t captured;
    Interface interface;
} Place;

/* Reads an enhanced or obsolete packet block of `length` bytes.  False: it is not valid. */
static bool
read_timed(const File *file, uint32_t kind, uint64_t at, uint64_t length, Row *row, Place *place)
{
    if (length < PACKET_BLOCK_FRAME)
        return false;
    bool obsolete = kind == OBSOLETE_PACKET;
    uint32_t number = obsolete ? get16(file, at + 8) : get32(file, at + 8);
    place->captured = get32(file, at + 20);
    if (place->captured > length - PACKET_BLOCK_FRAME || !find_interface(file, number, &place->interface))
        return false;
    place->at = at + PACKET_BLOCK_START;
    row->us = micros_of(&place->interface, get_time(file, at + 12));
    row->original = get32(file, at + 24);
    if (obsolete) {
        uint32_t drops = get16(file, at + 10);
        row->drops = drops == DROPS_UNKNOWN ? 0 : drops;
        return true;
    }
    uint64_t options = place->at + place->captured + padding_of((uint32_t)place->captured);
    return read_options(file, options, at + length - 4, row);
}

/* The same for a simple packet block, which has no time. */
static bool
read_simple(const File *file, uint64_t at, uint64_t length, Row *row, Place *place)
{
    if (length < BLOCK_FRAME + 4 || !find_interface(file, 0, &place->interface))
        return false;
    place->at = at + 12;
    place->captured = length - BLOCK_FRAME - 4;
    row->original = get32(file, at + 8);
    if (row->original < place->captured)
        place->captured = row->original;
    if (place->interface.snaplen && place->interface.snaplen < place->captured)
        place->captured = place->interface.snaplen;
    return true;
}

/* Length of the whole packet block at `at`, and its row but for the headers; 0: there is none. */
static uint64_t
read_block(const File *file, uint64_t at, Row *row, Place *place)
{
    if (file->size - at < BLOCK_FRAME)
        return 0;
    uint32_t kind = get32(file, at);
    uint64_t length = get32(file, at + 4);
    if (kind != PACKET_BLOCK_TYPE && kind != SIMPLE_PACKET && kind != OBSOLETE_PACKET)
        return 0;
    if (length < BLOCK_FRAME || length % 4 || length > BLOCK_MAX || length > file->size - at
        || get32(file, at + length - 4) != length)
        return 0;
    *row = (Row){0};
    bool good = kind == SIMPLE_PACKET ? read_simple(file, at, length, row, place)
                                      : read_timed(file, kind, at, length, row, place);
    row->interface = place->interface.number;
    row->at = (uint32_t)place->at;
    return good ? length : 0;
}

/* What `packet_rows` returns. */
static PyObject *
read_rows(const File *file, uint64_t position)
{
    /* No block is smaller than a simple one without a packet. */
    uint64_t room = (file->size - position) / (BLOCK_FRAME + 4) + 1, used = 0, length;
    if (room > 4096)
        room = 4096;
    PyObject *rows = new_bytes(room * sizeof(Row));
    Row row;
    Place place = {0};
    while (rows && (length = read_block(file, position, &row, &place))) {
        if (used == room) {
            room *= 2;
            if (_PyBytes_Resize(&rows, (Py_ssize_t)(room * sizeof row)) < 0)
                return NULL;
        }
        if (!complete_row(&row, place.interface.link_type, file->data + place.at, (uint32_t)place.captured)) {
            Py_DECREF(rows);
            return NULL;
        }
        memcpy(data_of(rows) + used++ * sizeof row, &row, sizeof row);
        position += length;
    }
    if (!rows || _PyBytes_Resize(&rows, (Py_ssize_t)(used * sizeof row)) < 0)
        return NULL;
    return Py_BuildValue("NK", rows, (unsigned long long)position);
}

static PyObject *
packet_rows(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"data", "position", "big_endian", "interfaces", NULL};
    Py_buffer data, interfaces;
    PyObject *position_arg, *result = NULL;
    int big_endian;
    int64_t position;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*Opy*:packet_rows", names, &data, &position_arg,
                                     &big_endian, &interfaces))
        return NULL;
    if (number("position", position_arg, 0, INT64_MAX, &position)) {
        const File file = {data.buf, (uint64_t)data.len, big_endian, interfaces.buf,
                           (uint64_t)interfaces.len / sizeof(Interface)};
        if (position > data.len || (uint64_t)data.len > UINT32_MAX)
            PyErr_SetString(PyExc_ValueError, "position is beyond the end, or there are 4 GiB or more");
        else
            result = read_rows(&file, (uint64_t)position);
    }
    PyBuffer_Release(&data);
    PyBuffer_Release(&interfaces);
    return result;
}

/* ---- blocks that pcapd wrote ---------------------------------------------- */

/* A whole block; `packet` says whether it has a time. */
typedef struct {
    uint64_t at, end, us;
    bool packet;
} Own;

/* The block behind the given one.  1: there is one; 0: the rest is not a whole block; -1: an error is set. */
static int
next_own(const File *file, Own *own)
{
    own->at = own->end;
    if (file->size - own->at < 8)
        return 0;
    uint64_t length = get_le32(file->data + own->at + 4);
    own->packet = get_le32(file->data + own->at) == PACKET_BLOCK_TYPE;
    if (UNLIKELY(length % 4 || length < (own->packet ? PACKET_BLOCK_FRAME : BLOCK_FRAME) || length > BLOCK_MAX)) {
        PyErr_SetString(PyExc_ValueError, "these are not blocks that pcapd wrote");
        return -1;
    }
    if (length > file->size - own->at)
        return 0;
    own->end = own->at + length;
    own->us = own->packet ? get_time(file, own->at + 12) : 0;
    return 1;
}

/* The positions of the latest packets: the last `most` are kept, in a ring. */
typedef struct {
    uint64_t *ring;
    uint64_t most, room, count;
} Latest;

static bool
add_latest(Latest *latest, uint64_t at)
{
    if (!latest->most)
        return true;
    if (UNLIKELY(latest->count == latest->room && latest->room < latest->most)) {
        uint64_t room = latest->room ? 2 * latest->room : 64;
        if (room > latest->most)
            room = latest->most;
        uint64_t *ring = PyMem_Realloc(latest->ring, room * sizeof *ring);
        if (!ring) {
            PyErr_NoMemory();
            return false;
        }
        latest->ring = ring;
        latest->room = room;
    }
    latest->ring[latest->count++ % latest->room] = at;
    return true;
}

static PyObject *
list_latest(const Latest *latest)
{
    uint64_t count = latest->count < latest->room ? latest->count : latest->room;
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (uint64_t i = 0; list && i < count; i++) {
        PyObject *at = PyLong_FromUnsignedLongLong(latest->ring[(latest->count - count + i) % latest->room]);
        if (!at)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, at);
    }
    return list;
}

static PyObject *
survey_own(const File *file, Latest *latest)
{
    Own own = {0};
    uint64_t end = 0, packets = 0, first_us = 0, latest_us = 0;
    int found;
    while ((found = next_own(file, &own)) > 0) {
        end = own.end;
        if (!own.packet)
            continue;
        if (!packets++)
            first_us = latest_us = own.us;
        if (own.us > latest_us) {
            latest_us = own.us;
            latest->count = 0;
        }
        if (own.us == latest_us && !add_latest(latest, own.at))
            return NULL;
    }
    PyObject *list = found < 0 ? NULL : list_latest(latest);
    return list ? Py_BuildValue("KKKKN", (unsigned long long)end, (unsigned long long)packets,
                                (unsigned long long)first_us, (unsigned long long)latest_us, list)
                : NULL;
}

static PyObject *
survey(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer data;
    PyObject *most_arg, *result = NULL;
    int64_t most;
    if (!PyArg_ParseTuple(args, "y*O:survey", &data, &most_arg))
        return NULL;
    if (number("most", most_arg, 0, UINT32_MAX, &most)) {
        const File file = {.data = data.buf, .size = (uint64_t)data.len};
        Latest latest = {.most = (uint64_t)most};
        result = survey_own(&file, &latest);
        PyMem_Free(latest.ring);
    }
    PyBuffer_Release(&data);
    return result;
}

static PyObject *
between_own(const File *file, uint64_t from_us, uint64_t to_us)
{
    PyObject *kept = new_bytes(file->size);
    Own own = {0};
    uint64_t begin = 0, used = 0;
    int found = 0;
    while (kept && (found = next_own(file, &own)) > 0)
        if (own.packet && (own.us < from_us || own.us > to_us)) {
            memcpy(data_of(kept) + used, file->data + begin, own.at - begin);
            used += own.at - begin;
            begin = own.end;
        }
    if (kept && !found && own.end != file->size)
        PyErr_SetString(PyExc_ValueError, "the last block is incomplete");
    if (!kept || PyErr_Occurred()) {
        Py_XDECREF(kept);
        return NULL;
    }
    memcpy(data_of(kept) + used, file->data + begin, file->size - begin);
    used += file->size - begin;
    return _PyBytes_Resize(&kept, (Py_ssize_t)used) < 0 ? NULL : kept;
}

static PyObject *
between(PyObject *Py_UNUSED(module), PyObject *args)
{
    Py_buffer data;
    PyObject *from_arg, *to_arg, *result = NULL;
    int64_t from_us, to_us;
    if (!PyArg_ParseTuple(args, "y*OO:between", &data, &from_arg, &to_arg))
        return NULL;
    if (number("from_us", from_arg, 0, INT64_MAX, &from_us)
        && number("to_us", to_arg, 0, INT64_MAX, &to_us)) {
        const File file = {.data = data.buf, .size = (uint64_t)data.len};
        result = between_own(&file, (uint64_t)from_us, (uint64_t)to_us);
    }
    PyBuffer_Release(&data);
    return result;
}

static PyMethodDef methods[] = {
    /* By way of void (*)(void), which a compiler takes as "I know". */
    {"packet_rows", (PyCFunction)(void (*)(void))packet_rows, METH_VARARGS | METH_KEYWORDS,
     "See pcapd.savefile._reference."},
    {"survey", survey, METH_VARARGS, "See pcapd.savefile._reference."},
    {"between", between, METH_VARARGS, "See pcapd.savefile._reference."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pcapd.savefile._native",
    .m_doc = "pcapd.savefile, compiled.",
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
