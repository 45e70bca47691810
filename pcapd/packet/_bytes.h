/* Bytes of packets and files, and numbers from Python, for the compiled modules. */
#ifndef PCAPD_BYTES_H
#define PCAPD_BYTES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

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
get_be16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static inline uint32_t
get_be32(const uint8_t *p)
{
    return get_be16(p) << 16 | get_be16(p + 2);
}

static inline uint32_t
get_native32(const uint8_t *p)
{
    uint32_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

/* As the references' number(): an int, or anything with __index__, in a range. */
static inline bool
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

/* PyBytes_FromStringAndSize for a size that was added up in 64 bits. */
static inline PyObject *
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
static inline void *
new_array(size_t count, size_t size)
{
    void *array = PyMem_Calloc(count ? count : 1, size);
    if (!array)
        PyErr_NoMemory();
    return array;
}

#endif
