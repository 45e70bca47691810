/* Enhanced packet blocks and pcap records, as we write them: blocks.py and pcap.py, compiled. */
#ifndef PCAPD_BLOCK_H
#define PCAPD_BLOCK_H

#include "../records/_record.h"

#define PACKET_BLOCK_TYPE 6u
#define PACKET_BLOCK_START 28u /* up to the captured bytes */
#define PACKET_BLOCK_FRAME 32u /* and with the total length at the end */
/* Options with a number of 64 bits: epb_dropcount, epb_packetid; and what ends all options. */
#define DROP_COUNT_CODE 4u
#define PACKET_ID_CODE 5u
#define NUMBER_OPTION 12u
#define END_OPTION 4u

enum { FORM_PCAP = 0, FORM_PCAPNG = 1 };

/* The options of a packet's block. */
typedef struct {
    uint64_t drops;  /* 0: none */
    uint64_t number;
    bool numbered;
} Remarks;

static inline uint32_t
padding_of(uint32_t length)
{
    return -length & 3u;
}

static inline uint32_t
options_size(Remarks remarks)
{
    uint32_t size = (remarks.drops ? NUMBER_OPTION : 0) + (remarks.numbered ? NUMBER_OPTION : 0);
    return size ? size + END_OPTION : 0;
}

static inline uint64_t
written_size(int form, uint32_t captured, Remarks remarks)
{
    if (form == FORM_PCAP)
        return size_of(captured);
    return (uint64_t)PACKET_BLOCK_FRAME + captured + padding_of(captured) + options_size(remarks);
}

static inline uint8_t *
write_option(uint8_t *to, uint32_t code, uint64_t value)
{
    put_le32(to, code | 8u << 16);
    put_le32(to + 4, (uint32_t)value);
    put_le32(to + 8, (uint32_t)(value >> 32));
    return to + NUMBER_OPTION;
}

/* Writes the record that begins at `from`; returns where the next one goes. */
static inline uint8_t *
write_record(uint8_t *to, int form, uint32_t interface, int64_t us, uint32_t captured, const uint8_t *from,
             Remarks remarks)
{
    if (form == FORM_PCAP) {
        size_t size = (size_t)size_of(captured);
        memcpy(to, from, size);
        return to + size;
    }
    uint32_t padding = padding_of(captured), options = options_size(remarks);
    uint32_t total = PACKET_BLOCK_FRAME + captured + padding + options;
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
    if (UNLIKELY(options)) {
        if (remarks.numbered)
            to = write_option(to, PACKET_ID_CODE, remarks.number);
        if (remarks.drops)
            to = write_option(to, DROP_COUNT_CODE, remarks.drops);
        put_le32(to, 0);
        to += END_OPTION;
    }
    put_le32(to, total);
    return to + 4;
}

#endif
