/* Hash tables and arrays that grow, for the compiled parts of this package. */
#ifndef PCAPD_TABLE_H
#define PCAPD_TABLE_H

#include "../packet/_row.h"

#define NONE UINT32_MAX
#define US_MAX (INT64_MAX / 4)

/* Words that nobody outside this process can make collide: see hash_of. */
typedef struct {
    uint64_t seed;
    uint32_t *slots; /* open addressing, a power of two of them: an index, or NONE */
    uint64_t slot_count;
    uint64_t used;
} Table;

static inline uint64_t
mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t
hash_of(uint64_t seed, const void *key, size_t size)
{
    uint64_t hash = seed;
    for (size_t at = 0; at < size; at += 8) { /* keys have whole words */
        uint64_t word;
        memcpy(&word, (const uint8_t *)key + at, 8);
        hash = mix(hash ^ word, 0x9E3779B97F4A7C15u ^ seed << 1 ^ at);
    }
    return hash;
}

static bool
make_table(Table *table, uint64_t seed, uint64_t count)
{
    table->slots = PyMem_Malloc(count * sizeof *table->slots);
    if (!table->slots) {
        PyErr_NoMemory();
        return false;
    }
    memset(table->slots, 0xFF, count * sizeof *table->slots);
    table->seed = seed;
    table->slot_count = count;
    table->used = 0;
    return true;
}

/* The slot of a key: its own, or a free one.  Item `index` of `items` begins with its key. */
static inline uint32_t *
find_slot(const Table *table, const void *items, size_t item_size, const void *key, size_t key_size)
{
    uint64_t at = hash_of(table->seed, key, key_size) & (table->slot_count - 1);
    while (table->slots[at] != NONE
           && memcmp((const uint8_t *)items + table->slots[at] * item_size, key, key_size))
        at = (at + 1) & (table->slot_count - 1);
    return &table->slots[at];
}

/* Makes room for one more item.  False: an error is set. */
static bool
grow_table(Table *table, const void *items, size_t item_size, size_t key_size)
{
    if (2 * table->used < table->slot_count)
        return true;
    Table larger;
    if (!make_table(&larger, table->seed, 2 * table->slot_count))
        return false;
    for (uint64_t at = 0; at < table->slot_count; at++) {
        uint32_t index = table->slots[at];
        if (index != NONE)
            *find_slot(&larger, items, item_size, (const uint8_t *)items + index * item_size, key_size) = index;
    }
    larger.used = table->used;
    PyMem_Free(table->slots);
    *table = larger;
    return true;
}

/* An array that grows to hold `count + 1` items.  False: an error is set. */
static bool
grow_array(void **items, size_t count, size_t item_size)
{
    if (count & (count - 1) && count) /* room for a power of two */
        return true;
    size_t room = count ? 2 * count : 1;
    void *grown = room > PY_SSIZE_T_MAX / item_size ? NULL : PyMem_Realloc(*items, room * item_size);
    if (!grown) {
        PyErr_NoMemory();
        return false;
    }
    *items = grown;
    return true;
}

/* A number that an attacker does not know: Python's hash of a text has the key of the process. */
static bool
secret_seed(uint64_t *seed)
{
    PyObject *text = PyUnicode_FromString("pcapd.analysis");
    if (!text)
        return false;
    *seed = (uint64_t)PyObject_Hash(text);
    Py_DECREF(text);
    return true;
}

#endif
