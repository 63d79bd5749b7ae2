/* Rounding to nearest in blocks, bit for bit as `_nbits` defines it in numpy. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define API __attribute__((visibility("default")))

enum {
    LANES = 16,  /* blocks that are rounded side by side */
    LONGEST = 256 /* entries of a block */
};

#define SMALLEST 1e-37f

typedef float Lanes[LANES];
typedef float Vector __attribute__((vector_size(sizeof(Lanes))));
typedef int32_t Indices __attribute__((vector_size(sizeof(Lanes))));

typedef struct {
    Lanes columns[LONGEST]; /* entry i of every block */
    Lanes scales;
    int64_t block, levels;
} Group;

static inline float clipped(float value, float levels) {
    const float whole = rintf(value);
    const float above = whole < -levels ? -levels : whole;
    return above > levels - 1 ? levels - 1 : above;
}

static inline float inverse(float scale) { return fabsf(scale) > SMALLEST ? 1 / scale : 0; }

static inline void multiply(Group *group, const float *factors) {
    for (int64_t i = 0; i < group->block; i++)
        for (int lane = 0; lane < LANES; lane++) group->columns[i][lane] *= factors[lane];
}

/* Signed scales at which nothing is clipped, and the columns in units of them; false where one is not finite. */
static inline bool to_units(Group *group) {
    Lanes high, low, units, odd = {0};
    for (int lane = 0; lane < LANES; lane++) high[lane] = low[lane] = group->columns[0][lane];
    for (int64_t i = 0; i < group->block; i++)
#pragma GCC unroll 1 /* which would keep it from being done in vectors */
        for (int lane = 0; lane < LANES; lane++) {
            const float value = group->columns[i][lane];
            high[lane] = value > high[lane] ? value : high[lane];
            low[lane] = value < low[lane] ? value : low[lane];
            odd[lane] += value * 0; /* NaN where it is not finite */
        }
    for (int lane = 0; lane < LANES; lane++) {
        group->scales[lane] = (high[lane] > -low[lane] ? high[lane] : low[lane]) / (float)-group->levels;
        units[lane] = inverse(group->scales[lane]);
    }
    multiply(group, units);
    bool finite = true;
    for (int lane = 0; lane < LANES; lane++) finite &= odd[lane] == 0;
    return finite;
}

/* Take the scales with the smallest squared error, each fitted to the levels that one of `inverses` leads to. */
static inline void search(Group *group, const float *inverses, int64_t tries) {
    Lanes best, chosen;
    for (int lane = 0; lane < LANES; lane++) best[lane] = -1, chosen[lane] = 1;
    for (int64_t t = 0; t < tries; t++) {
        Lanes along = {0}, norm = {0};
        for (int64_t i = 0; i < group->block; i++)
            for (int lane = 0; lane < LANES; lane++) {
                const float value = group->columns[i][lane];
                const float level = clipped(value * inverses[t], (float)group->levels);
                along[lane] += value * level;
                norm[lane] += level * level;
            }
        for (int lane = 0; lane < LANES; lane++) {
            const float fitted = along[lane] / (norm[lane] > SMALLEST ? norm[lane] : SMALLEST);
            const float gain = along[lane] * fitted;
            chosen[lane] = gain > best[lane] ? fitted : chosen[lane];
            best[lane] = gain > best[lane] ? gain : best[lane];
        }
    }
    Lanes units;
    for (int lane = 0; lane < LANES; lane++) {
        group->scales[lane] *= chosen[lane];
        units[lane] = inverse(chosen[lane]);
    }
    multiply(group, units);
}

/* The levels of the first `count` blocks, 32 / bits to a word, the first in the low bits. */
static inline void pack(const Group *group, int64_t count, int64_t bits, uint8_t *out) {
    const int64_t per = 32 / bits, words = group->block / per;
    const float levels = (float)group->levels;
    for (int64_t word = 0; word < words; word++) {
        uint32_t packed[LANES] = {0};
        for (int64_t place = 0; place < per; place++)
            for (int lane = 0; lane < LANES; lane++) {
                const float level = clipped(group->columns[word * per + place][lane], levels) + levels;
                packed[lane] |= (uint32_t)(int32_t)level << (place * bits);
            }
        for (int64_t lane = 0; lane < count; lane++)
            memcpy(out + 4 * (lane * words + word), packed + lane, 4);
    }
}

/* Exchange entry j of row i with entry i of row j, in squares that become twice as small. */
static inline void transpose(Vector rows[LANES]) {
#pragma GCC unroll 4
    for (int half = LANES / 2; half; half /= 2) {
        Indices upper, lower;
#pragma GCC unroll 16
        for (int j = 0; j < LANES; j++) {
            upper[j] = j & half ? LANES + j - half : j;
            lower[j] = j & half ? LANES + j : j + half;
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            if (!(i & half)) {
                const Vector a = rows[i], b = rows[i + half];
                rows[i] = __builtin_shuffle(a, b, upper);
                rows[i + half] = __builtin_shuffle(a, b, lower);
            }
    }
}

/* Blocks `first` to `first + count` of rows [n, width], side by side; what lies beyond a row's end is zero.
 * They mostly lie one after the other: fetched in that order they come sooner than in turns. */
static inline void gather(Group *group, const float *rows, int64_t width, int64_t first, int64_t count) {
    const int64_t blocks = (width + group->block - 1) / group->block;
    const float *begin = rows + first / blocks * width + first % blocks * group->block;
    for (int64_t i = 0; i < count * group->block; i += LANES) __builtin_prefetch(begin + i);
    const float *source[LANES];
    int64_t left[LANES];
    for (int64_t lane = 0; lane < count; lane++) {
        const int64_t column = (first + lane) % blocks * group->block;
        source[lane] = rows + (first + lane) / blocks * width + column;
        left[lane] = width - column;
    }
    for (int64_t start = 0; start < group->block; start += LANES) {
        Vector square[LANES] = {0};
        for (int64_t lane = 0; lane < count; lane++) {
            const int64_t here = left[lane] - start;
            if (here >= LANES)
                memcpy(square + lane, source[lane] + start, sizeof(Vector));
            else if (here > 0)
                memcpy(square + lane, source[lane] + start, (size_t)here * sizeof(float));
        }
        transpose(square);
        memcpy(group->columns[start], square, sizeof square);
    }
}

/* Round float32 rows [count, width] to `weight` [count, blocks, block * bits / 8] and `scales` [count, blocks].
 * Scales are searched among `tries` inverse factors. False where an entry is not finite. */
__attribute__((target_clones("avx512f", "avx2", "default"), flatten)) API bool round_to_nearest(
    const float *rows, int64_t count, int64_t width, int64_t block, int64_t bits, const float *inverses,
    int64_t tries, uint8_t *weight, float *scales) {
    Group group = {.block = block, .levels = 1 << (bits - 1)};
    const int64_t all = count * ((width + block - 1) / block);
    for (int64_t first = 0; first < all; first += LANES) {
        const int64_t here = all - first < LANES ? all - first : LANES;
        gather(&group, rows, width, first, here);
        if (!to_units(&group)) return false;
        if (tries) search(&group, inverses, tries);
        pack(&group, here, bits, weight + first * (block * bits / 8));
        for (int64_t lane = 0; lane < here; lane++) scales[first + lane] = group.scales[lane] + 0.f;
    }
    return true;
}
