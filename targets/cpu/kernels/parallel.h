#pragma once
#include <stdbool.h>
#include <stddef.h>

/* Calls task(data, i) for each i below count, in any order, at once or not. False where that fails. */
typedef bool (*Parallel)(void *pool, void (*task)(void *data, size_t i), size_t count, void *data);
