/*
 * From a field back to the object that it is embedded in.
 */
#ifndef VINHUB_COMMON_CONTAINER_OF_H
#define VINHUB_COMMON_CONTAINER_OF_H

#include <stddef.h>

#define CONTAINER_OF(pointer, type, field) \
    ((type *)(void *)((char *)(pointer)-offsetof(type, field)))

#endif
