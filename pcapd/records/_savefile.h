/* from_savefile: _savefile.py, compiled. */
#ifndef PCAPD_RECORDS_SAVEFILE_H
#define PCAPD_RECORDS_SAVEFILE_H

#include "../packet/_walker.h"
#include "_record.h"

#define NANOS 1000000000u

/* How a savefile is written, and what to make of it. */
typedef struct {
    bool big_endian;
    bool nanoseconds;
    uint32_t max_captured;
    uint64_t limit;
    int64_t headers_of; /* LINKTYPE, or -1 for whole packets */
} Savefile;

/* The fields of a record's header, in the savefile's unit of time. */
typedef struct {
    uint32_t seconds, part, captured, original;
} Fields;

typedef struct {
    PyObject *batch;
    size_t consumed, written;
    long long packets;
    int64_t earliest, latest;
} Conversion;

static inline Fields
read_fields(const uint8_t *at, bool big_endian)
{
    if (big_endian)
        return (Fields){get_be32(at), get_be32(at + 4), get_be32(at + 8), get_be32(at + 12)};
    return (Fields){get_le32(at), get_le32(at + 4), get_le32(at + 8), get_le32(at + 12)};
}

static inline bool
is_valid(Fields fields, const Savefile *savefile)
{
    return fields.part < (savefile->nanoseconds ? NANOS : MICROS)
        && fields.captured <= savefile->max_captured && fields.captured <= fields.original;
}

static inline void
refuse_fields(Fields fields, const Savefile *savefile)
{
    if (fields.part >= (savefile->nanoseconds ? NANOS : MICROS))
        PyErr_Format(PyExc_ValueError, "%u %s are a second or more", fields.part,
                     savefile->nanoseconds ? "nanoseconds" : "microseconds");
    else if (fields.captured > savefile->max_captured)
        PyErr_Format(PyExc_ValueError, "captured length %u is above the limit of %u", fields.captured,
                     savefile->max_captured);
    else
        PyErr_Format(PyExc_ValueError, "captured length %u is above the original length %u",
                     fields.captured, fields.original);
}

/* The room that a batch needs at most: none if the first record is incomplete.  False: an error is set. */
static inline bool
room_for(const Py_buffer *in, const Savefile *savefile, uint64_t *room)
{
    *room = 0;
    if ((size_t)in->len < HEADER_SIZE)
        return true;
    Fields first = read_fields(in->buf, savefile->big_endian);
    if (!is_valid(first, savefile)) {
        refuse_fields(first, savefile);
        return false;
    }
    uint64_t size = (uint64_t)in->len, alone = size_of(first.captured);
    if (alone <= size) {
        *room = size < savefile->limit ? size : savefile->limit;
        *room = *room > alone ? *room : alone;
    }
    return true;
}

/* What is written never exceeds the room: no record becomes larger, and all but the first keep the limit. */
static inline void
fill_conversion(const Py_buffer *in, const Savefile *savefile, Conversion *made)
{
    const uint8_t *from = in->buf;
    size_t left = (size_t)in->len;
    uint8_t *to = data_of(made->batch);
    while (left >= HEADER_SIZE) {
        Fields fields = read_fields(from, savefile->big_endian);
        if (UNLIKELY(!is_valid(fields, savefile) || fields.captured > left - HEADER_SIZE))
            break;
        uint32_t kept = fields.captured;
        if (savefile->headers_of >= 0) {
            const Packet packet = {from + HEADER_SIZE, kept};
            kept = (uint32_t)walk(savefile->headers_of, &packet).end;
        }
        if (UNLIKELY(made->packets && made->written + size_of(kept) > savefile->limit))
            break;
        uint32_t micros = savefile->nanoseconds ? fields.part / (NANOS / MICROS) : fields.part;
        int64_t us = (int64_t)fields.seconds * MICROS + micros;
        made->earliest = us < made->earliest ? us : made->earliest;
        made->latest = us > made->latest ? us : made->latest;
        made->packets++;
        put_le32(to, fields.seconds);
        put_le32(to + 4, micros);
        put_le32(to + 8, kept);
        put_le32(to + 12, fields.original);
        memcpy(to + HEADER_SIZE, from + HEADER_SIZE, kept);
        to += size_of(kept);
        made->written += size_of(kept);
        from += size_of(fields.captured);
        left -= (size_t)size_of(fields.captured);
    }
    made->consumed = (size_t)in->len - left;
}

/* Keeps the GIL, so that nobody changes the records in between.  False: an error is set. */
static inline bool
convert(const Py_buffer *in, const Savefile *savefile, Conversion *made)
{
    uint64_t room;
    *made = (Conversion){.earliest = INT64_MAX};
    if (!room_for(in, savefile, &room) || !(made->batch = new_bytes(room)))
        return false;
    if (room)
        fill_conversion(in, savefile, made);
    if (!made->packets)
        made->earliest = 0;
    return made->written == room || _PyBytes_Resize(&made->batch, (Py_ssize_t)made->written) == 0;
}

#endif
