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

static PyMethodDef methods[] = {
    /* By way of void (*)(void), which a compiler takes as "I know". */
    {"packet_rows", (PyCFunction)(void (*)(void))packet_rows, METH_VARARGS | METH_KEYWORDS,
     "See pcapd.savefile._reference."},
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
