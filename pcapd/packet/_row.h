/*
 * Rows: row.py and identity.py, compiled.  Those say what each field means.
 */
#ifndef PCAPD_ROW_H
#define PCAPD_ROW_H

#include "_walker.h"

enum {
    HAS_IP = 1,
    HAS_PORTS = 2,
    HAS_TCP = 4,
    HAS_PAYLOAD = 8,
    HAS_NUMBER = 16,
    HAS_FIRST_FRAGMENT = 32,
    HAS_LATER_FRAGMENT = 64,
};

/* Without gaps: a compiler lays it out as struct does with "=". */
typedef struct {
    int64_t us;
    uint32_t captured, original, interface, at;
    uint8_t flags, has, family, protocol;
    uint16_t source_port, destination_port;
    uint8_t source[16], destination[16];
    uint32_t seq, ack;
    uint16_t window, payload_at;
    uint32_t payload;
    uint64_t digest, number;
    uint32_t drops;
    uint16_t kind, transport_at;
} Row;

_Static_assert(sizeof(Row) == 104, "a row has no gaps");

/* The digest of what does not change on the way of an IP packet.  False: an error is set. */
static inline bool
digest_of(const Packet *packet, const Headers *headers, uint64_t *digest)
{
    uint64_t start = (uint64_t)headers->network, end = packet->size;
    if (headers->stop && headers->stop < end)
        end = headers->stop;
    uint64_t size = end - start;
    PyObject *content = PyBytes_FromStringAndSize((const char *)packet->at + start, (Py_ssize_t)size);
    if (!content)
        return false;
    uint8_t *bytes = data_of(content);
    if (headers->family == 4)
        bytes[8] = bytes[10] = bytes[11] = 0;
    else
        bytes[7] = 0;
    uint8_t checksum_at = transport_of(headers->protocol).checksum_at;
    if (checksum_at && headers->transport >= 0 && headers->fragment != LATER) {
        uint64_t at = (uint64_t)headers->transport - start + checksum_at;
        if (at + 2 <= size)
            bytes[at] = bytes[at + 1] = 0;
    }
    *digest = (uint64_t)PyObject_Hash(content);
    Py_DECREF(content);
    return true;
}

static inline void
set_addresses(Row *row, const Packet *packet, const Headers *headers)
{
    const uint8_t *ip = packet->at + headers->network;
    size_t size = headers->family == 4 ? 4 : 16, at = headers->family == 4 ? 12 : 8;
    memcpy(row->source, ip + at, size);
    memcpy(row->destination, ip + at + size, size);
}

static inline void
set_transport(Row *row, const Packet *packet, const Headers *headers)
{
    if (headers->transport < 0)
        return;
    uint64_t at = (uint64_t)headers->transport;
    row->transport_at = (uint16_t)at;
    const uint8_t *header = packet->at + at;
    bool first = headers->fragment != LATER;
    if (first && transport_of(headers->protocol).ports && has(packet, at, 4)) {
        row->has |= HAS_PORTS;
        row->source_port = (uint16_t)get_be16(header);
        row->destination_port = (uint16_t)get_be16(header + 2);
    }
    if (headers->payload < 0)
        return;
    row->has |= HAS_PAYLOAD;
    uint64_t stop = headers->stop ? headers->stop : row->original;
    row->payload_at = (uint16_t)headers->payload;
    row->payload = stop > (uint64_t)headers->payload ? (uint32_t)(stop - (uint64_t)headers->payload) : 0;
    if (first && headers->protocol == TCP) {
        row->has |= HAS_TCP;
        row->seq = get_be32(header + 4);
        row->ack = get_be32(header + 8);
        row->flags = header[13];
        row->window = (uint16_t)get_be16(header + 14);
    }
}

/* Completes a row of which us, original, interface, at, number, drops (and HAS_NUMBER) are set. */
static inline bool
complete_row(Row *row, int64_t link_type, const uint8_t *at, uint32_t size)
{
    const Packet packet = {at, size};
    const Headers headers = walk(link_type, &packet);
    row->captured = size;
    row->kind = (uint16_t)headers.kind;
    if (!headers.family)
        return true;
    row->has |= HAS_IP;
    if (headers.fragment != WHOLE)
        row->has |= headers.fragment == FIRST ? HAS_FIRST_FRAGMENT : HAS_LATER_FRAGMENT;
    row->family = (uint8_t)headers.family;
    row->protocol = (uint8_t)headers.protocol;
    set_addresses(row, &packet, &headers);
    set_transport(row, &packet, &headers);
    return digest_of(&packet, &headers, &row->digest);
}

#endif
