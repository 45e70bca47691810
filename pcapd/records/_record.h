/* Records, the packets of a batch: see pcapd/records/__init__.py. */
#ifndef PCAPD_RECORD_H
#define PCAPD_RECORD_H

#include "../packet/_bytes.h"

#define HEADER_SIZE 16u
#define MICROS 1000000u
/* A pcapng block around this many bytes still has a length of 32 bits. */
#define CAPTURED_MAX 0x7FFFFFFFu
#define SHIFT_MAX ((int64_t)1 << 52)

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

static inline void
refuse_header(PyObject *record_error, size_t offset, size_t left)
{
    PyErr_Format(record_error, "record at byte %zu: %zu bytes are too few for its header",
                 offset, left);
}

static inline void
refuse_record(PyObject *record_error, const uint8_t *at, size_t offset, uint32_t max_captured)
{
    uint32_t micros = get_le32(at + 4), captured = get_le32(at + 8), original = get_le32(at + 12);

    if (micros >= MICROS)
        PyErr_Format(record_error, "record at byte %zu: %u microseconds are a second or more",
                     offset, micros);
    else if (captured > max_captured)
        PyErr_Format(record_error,
                     "record at byte %zu: captured length %u is above the limit of %u",
                     offset, captured, max_captured);
    else if (captured > original)
        PyErr_Format(record_error,
                     "record at byte %zu: captured length %u is above the original length %u",
                     offset, captured, original);
    else
        PyErr_Format(record_error,
                     "record at byte %zu: captured length %u runs beyond the end", offset, captured);
}

/* Reads the record at `offset`, which is within `in`.  False: an error is set. */
static inline bool
read_record(PyObject *record_error, const Py_buffer *in, size_t offset, uint32_t max_captured,
            Record *record)
{
    const uint8_t *at = (const uint8_t *)in->buf + offset;
    size_t left = (size_t)in->len - offset;
    if (UNLIKELY(left < HEADER_SIZE)) {
        refuse_header(record_error, offset, left);
        return false;
    }
    uint32_t micros = get_le32(at + 4);
    record->us = (int64_t)get_le32(at) * MICROS + micros;
    record->captured = get_le32(at + 8);
    record->original = get_le32(at + 12);
    if (UNLIKELY(micros >= MICROS || record->captured > max_captured
                 || record->captured > record->original
                 || record->captured > left - HEADER_SIZE)) {
        refuse_record(record_error, at, offset, max_captured);
        return false;
    }
    return true;
}

#endif
