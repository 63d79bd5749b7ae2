/* Bytes that a table of 256 says of others. */
#pragma once
#include <stdint.h>

void look_up(const uint8_t *table, uint8_t *y, int64_t count); /* in place */

/* `count` runs of `each` bytes, so many from one to the next, as they are or, with a table, as it says. */
void copy_runs(const uint8_t *table, const uint8_t *from, int64_t from_step, uint8_t *to, int64_t to_step,
               int64_t each, int64_t count);
