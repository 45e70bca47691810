/*
 * pcapd.records._native: _reference.py, compiled.
 *
 * _reference.py says what must come out; the property tests compare every
 * result and every error of the two.  Batches come from other machines, so no
 * byte is read before its place was checked, and no size is added up in fewer
 * than 64 bits.
 *
 * Inputs are any bytes-like objects.  While we hold a buffer its memory stays,
 * but another thread may change the bytes of a bytearray whenever we let go of
 * the GIL.  What bounds a copy is therefore never read twice across such a gap.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define HEADER_SIZE 16u
#define META_SIZE 16u
#define MICROS 1000000u
/* A pcapng block around this many bytes still has a length of 32 bits. */
#define CAPTURED_MAX 0x7FFFFFFFu

#define PACKET_BLOCK_TYPE 6u
#define PACKET_BLOCK_START 28u  /* up to the captured bytes */
#define PACKET_BLOCK_FRAME 32u  /* and with the total length at the end */
/* epb_dropcount and the end of the options. */
#define DROP_COUNT_CODE 4u
#define DROP_COUNT_SIZE 8u
#define DROP_OPTIONS 16u

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

enum { FORM_PCAP = 0, FORM_PCAPNG = 1 };

typedef struct {
    PyObject *record_error;
    PyObject *checked;
    PyObject *rendered;
    PyObject *merged;
    PyObject *busy;
} State;

/* Packets that a source lost: told with its first record after a time. */
typedef struct {
    int64_t after;
    uint64_t count;
} Gap;

/* ---- bytes ---------------------------------------------------------------- */

/* Compilers turn these into one load or store where the machine is little endian. */
static inline uint32_t
get_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline void
put_le32(uint8_t *p, uint32_t value)
{
    p[0] = (uint8_t)value;
    p[1] = (uint8_t)(value >> 8);
    p[2] = (uint8_t)(value >> 16);
    p[3] = (uint8_t)(value >> 24);
}

static inline uint32_t
get_native32(const uint8_t *p)
{
    uint32_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

static inline uint32_t
padding_of(uint32_t length)
{
    return -length & 3u;
}

/* ---- records -------------------------------------------------------------- */

typedef struct {
    int64_t us;         /* microseconds since the epoch */
    uint32_t captured;
    uint32_t original;
} Record;

static inline uint64_t
size_of(uint32_t captured)
{
    return (uint64_t)HEADER_SIZE + captured;
}

static void
refuse_header(const State *state, size_t offset, size_t left)
{
    PyErr_Format(state->record_error, "record at byte %zu: %zu bytes are too few for its header",
                 offset, left);
}

static void
refuse_record(const State *state, const uint8_t *at, size_t offset, uint32_t max_captured)
{
    uint32_t micros = get_le32(at + 4), captured = get_le32(at + 8), original = get_le32(at + 12);

    if (micros >= MICROS)
        PyErr_Format(state->record_error, "record at byte %zu: %u microseconds are a second or more",
                     offset, micros);
    else if (captured > max_captured)
        PyErr_Format(state->record_error,
                     "record at byte %zu: captured length %u is above the limit of %u",
                     offset, captured, max_captured);
    else if (captured > original)
        PyErr_Format(state->record_error,
                     "record at byte %zu: captured length %u is above the original length %u",
                     offset, captured, original);
    else
        PyErr_Format(state->record_error,
                     "record at byte %zu: captured length %u runs beyond the end", offset, captured);
}

/* Reads the record at `offset`, which is within `in`.  False: an error is set. */
static inline bool
read_record(const State *state, const Py_buffer *in, size_t offset, uint32_t max_captured,
            Record *record)
{
    const uint8_t *at = (const uint8_t *)in->buf + offset;
    size_t left = (size_t)in->len - offset;
    if (UNLIKELY(left < HEADER_SIZE)) {
        refuse_header(state, offset, left);
        return false;
    }
    uint32_t micros = get_le32(at + 4);
    record->us = (int64_t)get_le32(at) * MICROS + micros;
    record->captured = get_le32(at + 8);
    record->original = get_le32(at + 12);
    if (UNLIKELY(micros >= MICROS || record->captured > max_captured
                 || record->captured > record->original
                 || record->captured > left - HEADER_SIZE)) {
        refuse_record(state, at, offset, max_captured);
        return false;
    }
    return true;
}

static inline uint64_t
written_size(int form, uint32_t captured, uint64_t drops)
{
    if (form == FORM_PCAP)
        return size_of(captured);
    return (uint64_t)PACKET_BLOCK_FRAME + captured + padding_of(captured) + (drops ? DROP_OPTIONS : 0);
}

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

/* Writes the record that begins at `from`; returns where the next one goes. */
static inline uint8_t *
write_record(uint8_t *to, int form, uint32_t interface, int64_t us, uint32_t captured,
             const uint8_t *from, uint64_t drops)
{
    if (form == FORM_PCAP) {
        size_t size = (size_t)size_of(captured);
        memcpy(to, from, size);
        return to + size;
    }
    uint32_t padding = padding_of(captured);
    uint32_t total = PACKET_BLOCK_FRAME + captured + padding + (drops ? DROP_OPTIONS : 0);
    put_le32(to, PACKET_BLOCK_TYPE);
    put_le32(to + 4, total);
    put_le32(to + 8, interface);
    put_le32(to + 12, (uint32_t)((uint64_t)us >> 32));
    put_le32(to + 16, (uint32_t)us);
    put_le32(to + 20, captured);
    put_le32(to + 24, get_le32(from + 12));
    memcpy(to + PACKET_BLOCK_START, from + HEADER_SIZE, captured);
    to += PACKET_BLOCK_START + captured;
    memset(to, 0, padding);
    to += padding;
    if (UNLIKELY(drops)) {
        put_le32(to, DROP_COUNT_CODE | DROP_COUNT_SIZE << 16);
        put_le32(to + 4, (uint32_t)drops);
        put_le32(to + 8, (uint32_t)(drops >> 32));
        put_le32(to + 12, 0);
        to += DROP_OPTIONS;
    }
    put_le32(to, total);
    return to + 4;
}

/* ---- arguments ------------------------------------------------------------ */

/* As the reference's _number(): an int, or anything with __index__, in a range. */
static bool
number(const char *name, PyObject *object, int64_t low, int64_t high, int64_t *result)
{
    PyObject *index = PyNumber_Index(object);
    if (!index)
        return false;
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    if (overflow || value < low || value > high) {
        PyErr_Format(PyExc_ValueError, "%s must be within %lld and %lld", name, (long long)low,
                     (long long)high);
        return false;
    }
    *result = value;
    return true;
}

/* What the limits of render and merge have in common. */
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

/* PyBytes_FromStringAndSize for a size that was added up in 64 bits. */
static PyObject *
new_bytes(uint64_t size)
{
    if (size > (uint64_t)PY_SSIZE_T_MAX)
        return PyErr_NoMemory();
    return PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
}

static inline uint8_t *
data_of(PyObject *bytes)
{
    return (uint8_t *)PyBytes_AS_STRING(bytes);
}

/* calloc that never asks for nothing, which would be free to answer NULL. */
static void *
new_array(size_t count, size_t size)
{
    void *array = PyMem_Calloc(count ? count : 1, size);
    if (!array)
        PyErr_NoMemory();
    return array;
}

/* ---- headers: _headers.py, compiled --------------------------------------- */

enum { ETHERNET = 1, RAW = 101, LINUX_SLL = 113, IPV4 = 228, IPV6 = 229, LINUX_SLL2 = 276 };

#define TAGS_MAX 4
#define ARP_SIZE 28u
#define IPV4_MIN 20u
#define IPV6_SIZE 40u
#define FRAGMENT 44u
#define AUTHENTICATION 51u
#define EXTENSIONS_MAX 8
#define TCP_MIN 20u

/* A packet in which nothing is read before its place was checked. */
typedef struct {
    const uint8_t *at;
    uint64_t size;
} Packet;

static inline bool
has(const Packet *packet, uint64_t at, uint64_t size)
{
    return at + size <= packet->size;
}

static inline uint32_t
get_be16(const Packet *packet, uint64_t at)
{
    return (uint32_t)packet->at[at] << 8 | packet->at[at + 1];
}

static bool
headers_known(int64_t link_type)
{
    return link_type == ETHERNET || link_type == RAW || link_type == LINUX_SLL || link_type == IPV4
        || link_type == IPV6 || link_type == LINUX_SLL2;
}

static uint64_t
after_transport(const Packet *packet, uint32_t protocol, uint64_t at)
{
    uint64_t size;
    switch (protocol) {
    case 6: /* TCP */
        if (!has(packet, at, TCP_MIN))
            return at;
        size = (packet->at[at + 12] >> 4) * 4u;
        if (size < TCP_MIN)
            return at;
        break;
    case 1: case 17: case 58: case 136: /* ICMP, UDP, ICMPv6, UDP-Lite */
        size = 8;
        break;
    case 132: /* SCTP */
        size = 12;
        break;
    default:
        return at;
    }
    return has(packet, at, size) ? at + size : at;
}

static uint64_t
after_arp(const Packet *packet, uint64_t at)
{
    static const uint8_t start[] = {0, 1, 8, 0, 6, 4};
    return has(packet, at, ARP_SIZE) && !memcmp(packet->at + at, start, sizeof start) ? at + ARP_SIZE : at;
}

static uint64_t
after_ipv4(const Packet *packet, uint64_t at)
{
    if (!has(packet, at, IPV4_MIN) || packet->at[at] >> 4 != 4)
        return at;
    uint64_t size = (packet->at[at] & 0x0Fu) * 4u;
    if (size < IPV4_MIN || !has(packet, at, size))
        return at;
    if (get_be16(packet, at + 6) & 0x1FFFu) /* a later fragment begins with payload */
        return at + size;
    return after_transport(packet, packet->at[at + 9], at + size);
}

static inline bool
is_extension(uint32_t protocol)
{
    switch (protocol) {
    case 0: case 43: case 60: case 135: case 139: case 140: case FRAGMENT: case AUTHENTICATION:
        return true;
    default:
        return false;
    }
}

static uint64_t
after_ipv6(const Packet *packet, uint64_t at)
{
    if (!has(packet, at, IPV6_SIZE) || packet->at[at] >> 4 != 6)
        return at;
    uint32_t following = packet->at[at + 6];
    uint64_t end = at + IPV6_SIZE;
    for (int count = 0; count < EXTENSIONS_MAX; count++) {
        if (!is_extension(following))
            return after_transport(packet, following, end);
        if (!has(packet, end, 8)) /* none is shorter */
            return end;
        uint64_t size = (packet->at[end + 1] + 1u) * 8u;
        if (following == FRAGMENT)
            size = 8;
        else if (following == AUTHENTICATION)
            size = (packet->at[end + 1] + 2u) * 4u;
        if (!has(packet, end, size))
            return end;
        if (following == FRAGMENT && get_be16(packet, end + 2) >> 3)
            return end + size;
        following = packet->at[end];
        end += size;
    }
    return end;
}

static uint64_t
after_link(const Packet *packet, uint64_t size, uint64_t type_at)
{
    if (!has(packet, 0, size))
        return 0;
    uint32_t type = get_be16(packet, type_at);
    uint64_t end = size;
    for (int count = 0; count < TAGS_MAX; count++) {
        if ((type != 0x8100 && type != 0x88A8 && type != 0x9100) || !has(packet, end, 4))
            break;
        type = get_be16(packet, end + 2);
        end += 4;
    }
    switch (type) {
    case 0x0800:
        return after_ipv4(packet, end);
    case 0x0806:
        return after_arp(packet, end);
    case 0x86DD:
        return after_ipv6(packet, end);
    default:
        return end;
    }
}

/* How many of a packet's bytes are headers; never more than it has. */
static uint32_t
header_length(int64_t link_type, const uint8_t *at, uint32_t size)
{
    const Packet packet = {at, size};
    uint64_t end = 0;
    switch (link_type) {
    case ETHERNET:
        end = after_link(&packet, 14, 12);
        break;
    case LINUX_SLL:
        end = after_link(&packet, 16, 14);
        break;
    case LINUX_SLL2:
        end = after_link(&packet, 20, 0);
        break;
    case IPV4:
        end = after_ipv4(&packet, 0);
        break;
    case IPV6:
        end = after_ipv6(&packet, 0);
        break;
    case RAW:
        end = after_ipv4(&packet, 0);
        if (!end)
            end = after_ipv6(&packet, 0);
        break;
    }
    return (uint32_t)end;
}

/* ---- gaps ----------------------------------------------------------------- */

/* `object` as a tuple of ours, so that nobody changes it while we look at it. */
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
    if (cut->headers_of >= 0)
        length = header_length(cut->headers_of, (const uint8_t *)packets->buf + entry.offset, length);
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

/* Keeps the GIL: a wake-up's packets take tens of microseconds, and without it
   the entries could change between the sizing and the copy. */
static PyObject *
pack(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"packets", "meta", "snaplen", "limit", "headers_of", NULL};
    Py_buffer packets, meta;
    PyObject *snaplen_arg, *limit_arg, *headers_arg = NULL, *batches = NULL;
    int64_t snaplen, limit, headers_of = -1;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*y*OO|O:pack", names, &packets, &meta,
                                     &snaplen_arg, &limit_arg, &headers_arg))
        return NULL;
    if (number("snaplen", snaplen_arg, 0, UINT32_MAX, &snaplen)
        && number("limit", limit_arg, 0, INT64_MAX, &limit)
        && (!headers_arg || number("headers_of", headers_arg, -1, UINT32_MAX, &headers_of))) {
        if (headers_of != -1 && !headers_known(headers_of))
            PyErr_Format(PyExc_ValueError, "the headers of link type %lld are not known",
                         (long long)headers_of);
        else if ((size_t)meta.len % META_SIZE)
            PyErr_Format(PyExc_ValueError, "meta has %zd bytes, which is no multiple of 16", meta.len);
        else
            batches = pack_batches(&packets, &meta, &(Cut){(uint32_t)snaplen, headers_of},
                                   (uint64_t)limit);
    }
    PyBuffer_Release(&packets);
    PyBuffer_Release(&meta);
    return batches;
}

/* ---- busiest: _busiest.py, compiled ---------------------------------------- */

#define LOOKED_AT 512u
#define PLACES 1024u /* twice as many, so that a free one is found soon */
#define PART 32u
#define KEY_MAX 36u

typedef struct {
    uint8_t key[KEY_MAX];
    uint32_t key_size; /* 0: nobody's */
    uint32_t packets;
    uint64_t size;
    int64_t last;
} Connection;

/* Where the IP header is; false when there is none. */
static bool
find_network(int64_t link_type, const Packet *packet, uint64_t *at)
{
    uint64_t type_at;
    switch (link_type) {
    case ETHERNET: *at = 14; type_at = 12; break;
    case LINUX_SLL: *at = 16; type_at = 14; break;
    case LINUX_SLL2: *at = 20; type_at = 0; break;
    case RAW: case IPV4: case IPV6: *at = 0; return true;
    default: return false;
    }
    if (!has(packet, 0, *at))
        return false;
    uint32_t type = get_be16(packet, type_at);
    for (int count = 0; count < TAGS_MAX; count++) {
        if ((type != 0x8100 && type != 0x88A8 && type != 0x9100) || !has(packet, *at, 4))
            break;
        type = get_be16(packet, *at + 2);
        *at += 4;
    }
    return type == 0x0800 || type == 0x86DD;
}

/* Writes both ends of a TCP connection, in an order that both directions share; returns the size. */
static uint32_t
connection_key(int64_t link_type, const Packet *packet, uint8_t *key)
{
    uint64_t at, start, tcp;
    uint32_t size;
    if (!find_network(link_type, packet, &at) || !has(packet, at, 1))
        return 0;
    if (packet->at[at] >> 4 == 4) {
        start = at + 12, size = 4, tcp = at + (packet->at[at] & 0x0Fu) * 4u;
        if (tcp < at + IPV4_MIN || !has(packet, tcp, 4) || packet->at[at + 9] != 6
            || get_be16(packet, at + 6) & 0x1FFFu)
            return 0;
    } else {
        start = at + 8, size = 16, tcp = at + IPV6_SIZE;
        if (packet->at[at] >> 4 != 6 || !has(packet, tcp, 4) || packet->at[at + 6] != 6)
            return 0;
    }
    const uint8_t *from = packet->at + start, *to = from + size, *ports = packet->at + tcp;
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
        PyErr_Format(PyExc_ValueError, "meta has %zd bytes, which is no multiple of 16", meta.len);
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
        if (!read_record(state, in, offset, max_captured, &record))
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

/* ---- render --------------------------------------------------------------- */

/* How much of a batch fits: records up to byte `end`, `size` bytes when written. */
typedef struct {
    size_t end;
    uint64_t size;
    int64_t packets;
    size_t told; /* gaps before them */
} Extent;

static bool
measure(const State *state, const Py_buffer *in, const Output *output, const Gap *gaps,
        size_t gap_count, Extent *extent)
{
    *extent = (Extent){0, 0, 0, 0};
    while (extent->end < (size_t)in->len && extent->packets < output->max_packets) {
        Record record;
        if (!read_record(state, in, extent->end, CAPTURED_MAX, &record))
            return false;
        size_t told = extent->told;
        uint64_t drops = drops_before(gaps, gap_count, record.us, &told);
        uint64_t size = extent->size + written_size((int)output->form, record.captured, drops);
        if (size > (uint64_t)output->max_bytes)
            break;
        extent->size = size;
        extent->told = told;
        extent->end += (size_t)size_of(record.captured);
        extent->packets++;
    }
    return true;
}

static void
write_blocks(const Py_buffer *in, size_t end, uint32_t interface, const Gap *gaps, size_t gap_count,
             uint8_t *to)
{
    const uint8_t *from = in->buf, *stop = from + end;
    size_t told = 0;
    while (from < stop) {
        uint32_t captured = get_le32(from + 8);
        int64_t us = (int64_t)get_le32(from) * MICROS + get_le32(from + 4);
        uint64_t drops = drops_before(gaps, gap_count, us, &told);
        to = write_record(to, FORM_PCAPNG, interface, us, captured, from, drops);
        from += size_of(captured);
    }
}

static PyObject *
render_batch(const State *state, const Py_buffer *in, uint32_t interface, const Output *output,
             const Gap *gaps, size_t gap_count)
{
    Extent extent;
    if (!measure(state, in, output, gaps, gap_count, &extent))
        return NULL;
    PyObject *data;
    if (output->form == FORM_PCAP && extent.end == (size_t)in->len && in->obj
        && PyBytes_CheckExact(in->obj)) {
        data = in->obj; /* the batch is the output already */
        Py_INCREF(data);
    } else {
        data = new_bytes(extent.size);
        if (!data)
            return NULL;
        if (output->form == FORM_PCAP)
            memcpy(data_of(data), in->buf, extent.end);
        else
            write_blocks(in, extent.end, interface, gaps, gap_count, data_of(data));
    }
    return PyObject_CallFunction(state->rendered, "NLL", data, (long long)extent.packets,
                                 (long long)extent.told);
}

/* Keeps the GIL, for the same reasons as pack. */
static PyObject *
render(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"records", "interface", "form", "max_packets", "max_bytes", "gaps", NULL};
    const State *state = PyModule_GetState(module);
    Py_buffer in;
    PyObject *interface_arg, *form, *max_packets, *max_bytes, *gaps_arg = NULL, *rendered = NULL;
    int64_t interface;
    Output output;
    Gap *gaps = NULL;
    size_t gap_count = 0;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*OOOO|O:render", names, &in, &interface_arg,
                                     &form, &max_packets, &max_bytes, &gaps_arg))
        return NULL;
    if (number("interface", interface_arg, 0, UINT32_MAX, &interface)
        && output_of(form, max_packets, max_bytes, &output)
        && (!gaps_arg || add_gaps(gaps_arg, &gaps, &gap_count)))
        rendered = render_batch(state, &in, (uint32_t)interface, &output, gaps, gap_count);
    PyMem_Free(gaps);
    PyBuffer_Release(&in);
    return rendered;
}

/* ---- merge: its sources --------------------------------------------------- */

typedef struct {
    uint32_t interface;
    size_t first_chunk; /* its chunks are [first_chunk, end_chunk) of the call's */
    size_t end_chunk;
    uint64_t bytes;     /* of all its records */
    uint64_t written;   /* bytes of its records that this call writes */
    int64_t packets;    /* that this call writes */
    int64_t late;       /* of those, before something that an earlier call wrote */
    size_t first_gap;   /* its gaps are [first_gap, end_gap) of the call's */
    size_t end_gap;
    size_t next_gap;    /* the first of them that is not told yet */
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
        PyObject *given = tuple_of(PyTuple_GET_ITEM(sources, i), 2, 3,
                                   "a source is an interface, its batches and its gaps");
        if (!given)
            return false;
        Source *source = &merge->sources[i];
        source->first_gap = source->next_gap = merge->gap_count;
        bool held = hold_chunks(merge, source, PyTuple_GET_ITEM(given, 1))
                 && PyList_Append(numbers, PyTuple_GET_ITEM(given, 0)) == 0
                 && (PyTuple_GET_SIZE(given) == 2
                     || add_gaps(PyTuple_GET_ITEM(given, 2), &merge->gaps, &merge->gap_count));
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
                if (!read_record(state, in, offset, CAPTURED_MAX, &record))
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

/* How many of the sorted entries fit; `*size` is what they take when written. */
static size_t
fitting(const Merge *merge, const Entry *entries, const Output *output, uint64_t *size)
{
    size_t fit = 0;
    *size = 0;
    while (fit < merge->entry_count && fit < (uint64_t)output->max_packets) {
        const Entry *entry = &entries[fit];
        uint64_t drops = 0;
        if (merge->gap_count) {
            Source *source = &merge->sources[entry->source];
            drops = drops_before(merge->gaps, source->end_gap, entry->us, &source->next_gap);
        }
        uint64_t next = *size + written_size((int)output->form, entry->captured, drops);
        if (next > (uint64_t)output->max_bytes)
            break;
        *size = next;
        fit++;
    }
    for (size_t s = 0; s < merge->source_count; s++) /* they are told when they are written */
        merge->sources[s].next_gap = merge->sources[s].first_gap;
    return fit;
}

static void
write_entries(const Merge *merge, const Entry *entries, size_t count, int form, int64_t last_us,
              uint8_t *to)
{
    for (const Entry *entry = entries; entry < entries + count; entry++) {
        Source *source = &merge->sources[entry->source];
        uint64_t drops = drops_before(merge->gaps, source->end_gap, entry->us, &source->next_gap);
        source->written += size_of(entry->captured);
        source->packets++;
        source->late += entry->us < last_us;
        to = write_record(to, form, source->interface, entry->us, entry->captured, entry->from, drops);
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
            if (!read_record(state, in, offset, CAPTURED_MAX, &record))
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

enum Count { PACKETS, LATE, TOLD };

/* A number of each source. */
static PyObject *
counts_of(const Merge *merge, enum Count which)
{
    PyObject *counts = PyTuple_New((Py_ssize_t)merge->source_count);
    if (!counts)
        return NULL;
    for (size_t s = 0; s < merge->source_count; s++) {
        const Source *source = &merge->sources[s];
        int64_t value = which == PACKETS ? source->packets
                      : which == LATE    ? source->late
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
    PyObject *told = late ? counts_of(merge, TOLD) : NULL;
    PyObject *rests = told ? rests_of(state, merge, boundary) : NULL;
    PyObject *merged = NULL;
    if (rests)
        merged = PyObject_CallFunction(state->merged, "OOOOLOO", data, packets, late, rests,
                                       (long long)last_us, full ? Py_True : Py_False, told);
    Py_XDECREF(packets);
    Py_XDECREF(late);
    Py_XDECREF(told);
    Py_XDECREF(rests);
    return merged;
}

static PyObject *
merge_held(const State *state, Merge *merge, int64_t until, int64_t last_us, const Output *output)
{
    PyObject *merged = NULL, *data = NULL;
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

    uint64_t size;
    size_t written = fitting(merge, sorted, output, &size);
    data = new_bytes(size);
    if (!data)
        goto done;
    Py_BEGIN_ALLOW_THREADS
    write_entries(merge, sorted, written, (int)output->form, last_us, data_of(data));
    Py_END_ALLOW_THREADS

    Boundary boundary = boundary_of(sorted, written, merge->entry_count, until);
    if (written && sorted[written - 1].us > last_us)
        last_us = sorted[written - 1].us;
    merged = result_of(state, merge, data, &boundary, last_us, written < merge->entry_count);
done:
    Py_XDECREF(data);
    PyMem_Free(spare);
    PyMem_Free(starts);
    return merged;
}

static PyObject *
merge(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"sources", "until_us", "last_us", "form", "max_packets", "max_bytes", NULL};
    const State *state = PyModule_GetState(module);
    PyObject *sources_arg, *until_arg, *last_us_arg, *form, *max_packets, *max_bytes;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOO:merge", names, &sources_arg, &until_arg,
                                     &last_us_arg, &form, &max_packets, &max_bytes))
        return NULL;
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
        merged = merge_held(state, &held, until, last_us, &output);
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
    state->checked = attribute("pcapd.records._types", "Checked");
    state->rendered = attribute("pcapd.records._types", "Rendered");
    state->merged = attribute("pcapd.records._types", "Merged");
    state->busy = attribute("pcapd.records._types", "Busy");
    return state->record_error && state->checked && state->rendered && state->merged && state->busy ? 0 : -1;
}

static int
traverse(PyObject *module, visitproc visit, void *arg)
{
    State *state = PyModule_GetState(module);
    Py_VISIT(state->record_error);
    Py_VISIT(state->checked);
    Py_VISIT(state->rendered);
    Py_VISIT(state->merged);
    Py_VISIT(state->busy);
    return 0;
}

static int
clear(PyObject *module)
{
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->record_error);
    Py_CLEAR(state->checked);
    Py_CLEAR(state->rendered);
    Py_CLEAR(state->merged);
    Py_CLEAR(state->busy);
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
    METHOD(check),
    METHOD(render),
    METHOD(merge),
    METHOD(busiest),
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
