/*
 * The walker: headers.py, compiled.  It documents each table and each field.
 *
 * Nothing of a packet is read before its place was checked, and no size is added up
 * in fewer than 64 bits.
 */
#ifndef PCAPD_WALKER_H
#define PCAPD_WALKER_H

#include "_bytes.h"

enum { KIND_IPV4 = 0x0800, KIND_ARP = 0x0806, KIND_IPV6 = 0x86DD, KIND_MPLS = 0x8847 };
enum { ICMP = 1, TCP = 6, UDP = 17, DCCP = 33, ICMPV6 = 58, SCTP = 132, UDP_LITE = 136 };
enum { FRAGMENT = 44, AUTHENTICATION = 51 };

#define SHIMS_MAX 8
#define ARP_SIZE 28u
#define IPV4_MIN 20u
#define IPV6_SIZE 40u
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

/* ---- tables ---------------------------------------------------------------- */

enum Next { NEXT_ETHERTYPE, NEXT_PPP, NEXT_VERSION, NEXT_LABEL };

typedef struct {
    uint8_t size, type_at, next;
} Layer;

static inline bool
link_of(int64_t link_type, Layer *layer)
{
    switch (link_type) {
    case 0: case 108: *layer = (Layer){4, 0, NEXT_VERSION}; return true;      /* NULL, LOOP */
    case 1: *layer = (Layer){14, 12, NEXT_ETHERTYPE}; return true;            /* ETHERNET */
    case 9: case 50: case 166: *layer = (Layer){4, 2, NEXT_PPP}; return true; /* PPP, _HDLC, _PPPD */
    case 51: *layer = (Layer){8, 6, NEXT_PPP}; return true;                   /* PPP_ETHER */
    case 101: case 228: case 229: *layer = (Layer){0, 0, NEXT_VERSION}; return true; /* RAW, IPV4, IPV6 */
    case 104: *layer = (Layer){4, 2, NEXT_ETHERTYPE}; return true;            /* C_HDLC */
    case 113: *layer = (Layer){16, 14, NEXT_ETHERTYPE}; return true;          /* LINUX_SLL */
    case 276: *layer = (Layer){20, 0, NEXT_ETHERTYPE}; return true;           /* LINUX_SLL2 */
    default: return false;
    }
}

static inline bool
shim_of(uint32_t kind, Layer *layer)
{
    switch (kind) {
    case 0x8100: case 0x88A8: case 0x9100: *layer = (Layer){4, 2, NEXT_ETHERTYPE}; return true;
    case KIND_MPLS: case 0x8848: *layer = (Layer){4, 2, NEXT_LABEL}; return true;
    case 0x8864: *layer = (Layer){8, 6, NEXT_PPP}; return true;
    default: return false;
    }
}

static inline uint32_t
kind_of_ppp(uint32_t protocol)
{
    switch (protocol) {
    case 0x0021: return KIND_IPV4;
    case 0x0057: return KIND_IPV6;
    case 0x0281: case 0x0283: return KIND_MPLS;
    default: return 0;
    }
}

typedef struct {
    uint8_t size;
    bool ports;
    uint8_t checksum_at;
} Transport;

static inline Transport
transport_of(int32_t protocol)
{
    switch (protocol) {
    case ICMP: return (Transport){8, false, 0};
    case TCP: return (Transport){TCP_MIN, true, 16};
    case UDP: case UDP_LITE: return (Transport){8, true, 6};
    case DCCP: return (Transport){0, true, 0};
    case ICMPV6: return (Transport){8, false, 2};
    case SCTP: return (Transport){12, true, 0};
    default: return (Transport){0, false, 0};
    }
}

static inline bool
is_extension(uint32_t protocol)
{
    switch (protocol) {
    case 0: case 43: case 60: case 135: case 139: case 140: return true;
    default: return false;
    }
}

/* ---- headers --------------------------------------------------------------- */

enum Fragment { WHOLE, FIRST, LATER };

typedef struct {
    uint32_t kind;
    int64_t network;
    int32_t family;
    int32_t protocol;
    int64_t transport;
    int64_t payload;
    enum Fragment fragment;
    uint64_t end;
    uint64_t stop;
} Headers;

static inline Headers
without_ip(uint32_t kind, uint64_t at, uint64_t end)
{
    return (Headers){kind, kind ? (int64_t)at : -1, 0, -1, -1, -1, WHOLE, end, 0};
}

/* Sets where the payload begins, and where the headers end that count. */
static inline void
find_payload(const Packet *packet, Headers *headers)
{
    uint64_t at = (uint64_t)headers->transport;
    uint64_t size = headers->fragment == LATER ? 0 : transport_of(headers->protocol).size;
    headers->end = at;
    if (!has(packet, at, size))
        return;
    if (headers->protocol == TCP && size) {
        size = (packet->at[at + 12] >> 4) * 4u;
        if (size < TCP_MIN)
            return;
    }
    headers->payload = (int64_t)(at + size);
    if (has(packet, at, size))
        headers->end = at + size;
}

static inline Headers
walk_ipv4(const Packet *packet, uint64_t at)
{
    const uint8_t *ip = packet->at + at;
    if (!has(packet, at, IPV4_MIN) || ip[0] >> 4 != 4 || (ip[0] & 0x0Fu) * 4u < IPV4_MIN)
        return without_ip(KIND_IPV4, at, at);
    uint64_t size = (ip[0] & 0x0Fu) * 4u, total = get_be16(ip + 2);
    uint32_t bits = get_be16(ip + 6);
    Headers headers = {
        .kind = KIND_IPV4,
        .network = (int64_t)at,
        .family = 4,
        .protocol = ip[9],
        .transport = (int64_t)(at + size),
        .payload = -1,
        .fragment = bits & 0x1FFFu ? LATER : bits & 0x2000u ? FIRST : WHOLE,
        .end = at,
        .stop = total >= size ? at + total : 0,
    };
    if (has(packet, at, size))
        find_payload(packet, &headers);
    return headers;
}

/* Bytes of an extension header; 0 when the protocol is something else. */
static inline uint64_t
extension_size(const Packet *packet, uint32_t protocol, uint64_t at)
{
    if (protocol == FRAGMENT)
        return 8;
    uint32_t units = has(packet, at, 2) ? packet->at[at + 1] : 0;
    if (is_extension(protocol))
        return (units + 1u) * 8u;
    return protocol == AUTHENTICATION ? (units + 2u) * 4u : 0;
}

static inline Headers
walk_ipv6(const Packet *packet, uint64_t at)
{
    const uint8_t *ip = packet->at + at;
    if (!has(packet, at, IPV6_SIZE) || ip[0] >> 4 != 6)
        return without_ip(KIND_IPV6, at, at);
    uint64_t length = get_be16(ip + 4);
    Headers headers = {
        .kind = KIND_IPV6,
        .network = (int64_t)at,
        .family = 6,
        .protocol = ip[6],
        .transport = -1,
        .payload = -1,
        .fragment = WHOLE,
        .end = at + IPV6_SIZE,
        .stop = length ? at + IPV6_SIZE + length : 0,
    };
    for (int count = 0; count < EXTENSIONS_MAX; count++) {
        const uint8_t *header = packet->at + headers.end;
        uint64_t size = extension_size(packet, (uint32_t)headers.protocol, headers.end);
        if (!size) {
            headers.transport = (int64_t)headers.end;
            find_payload(packet, &headers);
            return headers;
        }
        if (!has(packet, headers.end, size))
            break;
        if (headers.protocol == FRAGMENT) {
            uint32_t bits = get_be16(header + 2);
            headers.fragment = bits >> 3 ? LATER : bits & 1u ? FIRST : headers.fragment;
        }
        headers.protocol = header[0];
        headers.end += size;
        if (headers.fragment == LATER) {
            headers.transport = headers.payload = (int64_t)headers.end;
            return headers;
        }
    }
    return headers;
}

/* The kind of the header after the one at `at`; 0 if unknown. */
static inline uint32_t
next_kind(const Packet *packet, const Layer *layer, uint32_t kind, uint64_t at)
{
    const uint8_t *type = packet->at + at + layer->type_at;
    uint64_t after = at + layer->size;
    if (layer->next == NEXT_LABEL && !(*type & 1u))
        return kind;
    if (layer->next == NEXT_LABEL || layer->next == NEXT_VERSION) {
        uint32_t version = has(packet, after, 1) ? packet->at[after] >> 4 : 0;
        return version == 4 ? KIND_IPV4 : version == 6 ? KIND_IPV6 : 0;
    }
    return layer->next == NEXT_PPP ? kind_of_ppp(get_be16(type)) : get_be16(type);
}

static inline Headers
walk(int64_t link_type, const Packet *packet)
{
    static const uint8_t arp_start[] = {0, 1, 8, 0, 6, 4};
    Layer layer;
    uint32_t kind = 0;
    uint64_t at = 0;
    bool more = link_of(link_type, &layer);
    for (int count = 0; more && count <= SHIMS_MAX && has(packet, at, layer.size); count++) {
        kind = next_kind(packet, &layer, kind, at);
        at += layer.size;
        more = shim_of(kind, &layer);
    }
    if (kind == KIND_IPV4)
        return walk_ipv4(packet, at);
    if (kind == KIND_IPV6)
        return walk_ipv6(packet, at);
    bool known = kind == KIND_ARP && has(packet, at, ARP_SIZE)
              && !memcmp(packet->at + at, arp_start, sizeof arp_start);
    return without_ip(kind, at, known ? at + ARP_SIZE : at);
}

#endif
