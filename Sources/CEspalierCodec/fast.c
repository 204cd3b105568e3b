// Fast mode: canonical prefix codes (Huffman 1952) of at most 12 bits, a table look-up each, in four streams
// that a processor decodes side by side. Small alphabets join several codes to a symbol; where zeros
// pay for it, eight weights share a symbol that says which are zero, and values follow.

#include <string.h>

#include "espalier_codec.h"

enum { LONGEST = 12, SLOTS = 1 << LONGEST, STREAMS = 4, ONLY = 15, DENSE = 0, SPARSE = 1 };

typedef struct {
    uint16_t slot[SLOTS];  // symbol << 8 | length
    uint16_t code[256];
    uint8_t length[256];
    uint32_t count[256];
    uint64_t spread[256];
} table;

static size_t aligned(size_t n) { return (n + 7) & ~(size_t)7; }

size_t esp_fast_workspace(size_t weights) {
    return aligned(sizeof(table)) + 2 * aligned(weights + 16);
}

// MARK: Lengths

/// Lengths of an optimal prefix code, held to LONGEST. Returns how many symbols are used.
static int set_lengths(table *t) {
    uint16_t order[256];
    uint64_t weight[512];
    uint16_t parent[512];
    int used = 0;
    memset(t->length, 0, sizeof t->length);
    for (int s = 0; s < 256; s++) {
        if (!t->count[s]) continue;
        int i = used++;
        while (i > 0 && t->count[order[i - 1]] > t->count[s]) {
            order[i] = order[i - 1];
            i--;
        }
        order[i] = (uint16_t)s;
    }
    if (used == 1) t->length[order[0]] = ONLY;
    if (used <= 1) return used;
    // Leaves come sorted and joined pairs grow, so two queues are enough.
    for (int i = 0; i < used; i++) weight[i] = t->count[order[i]];
    int leaf = 0, node = used, end = used;
    while (end < 2 * used - 1) {
        uint64_t sum = 0;
        for (int i = 0; i < 2; i++) {
            int pick = leaf < used && (node == end || weight[leaf] <= weight[node]) ? leaf++ : node++;
            sum += weight[pick];
            parent[pick] = (uint16_t)end;
        }
        weight[end++] = sum;
    }
    uint8_t depth[512];
    depth[end - 1] = 0;
    for (int i = end - 2; i >= 0; i--) {
        int d = depth[parent[i]] + 1;
        depth[i] = (uint8_t)(d > 255 ? 255 : d);
    }
    // Codes that are too long become LONGEST; the rarest others pay for them, then the commonest gain.
    uint32_t sum = 0;
    for (int i = 0; i < used; i++) {
        if (depth[i] > LONGEST) depth[i] = LONGEST;
        sum += SLOTS >> depth[i];
    }
    for (int i = 0; sum > SLOTS; i = (i + 1) % used)
        if (depth[i] < LONGEST) sum -= SLOTS >> ++depth[i];
    for (int i = used - 1; i >= 0; i--)
        while (depth[i] > 1 && sum + (SLOTS >> depth[i]) <= SLOTS) sum += SLOTS >> depth[i]--;
    for (int i = 0; i < used; i++) t->length[order[i]] = depth[i];
    return used;
}

/// Codes in order of length, then of symbol. False where lengths do not make a whole code.
static int set_codes(table *t) {
    uint32_t next = 0;
    for (int length = 1; length <= LONGEST; length++)
        for (int s = 0; s < 256; s++) {
            if (t->length[s] != length) continue;
            uint32_t slots = SLOTS >> length;
            if (next + slots > SLOTS) return 0;
            t->code[s] = (uint16_t)(next >> (LONGEST - length));
            for (uint32_t i = 0; i < slots; i++)
                t->slot[next + i] = (uint16_t)(s << 8 | length);
            next += slots;
        }
    return next == SLOTS;
}

// MARK: A run of symbols

typedef struct {
    uint8_t *bytes;
    size_t at, end;
    int full;
} output;

static void put(output *o, unsigned byte) {
    if (o->at < o->end) o->bytes[o->at++] = (uint8_t)byte;
    else o->full = 1;
}

static void put_stream(output *o, const table *t, const uint8_t *symbols, size_t count) {
    uint64_t held = 0;
    int bits = 0;
    for (size_t i = 0; i < count; i++) {
        held = held << t->length[symbols[i]] | t->code[symbols[i]];
        bits += t->length[symbols[i]];
        if (bits < 32) continue;
        bits -= 32;
        if (o->end - o->at < 4) {
            o->full = 1;
            return;
        }
        uint32_t word = __builtin_bswap32((uint32_t)(held >> bits));
        memcpy(o->bytes + o->at, &word, 4);
        o->at += 4;
    }
    for (; bits > 0; bits -= 8) put(o, (unsigned)(bits >= 8 ? held >> (bits - 8) : held << (8 - bits)));
}

static void put_u32(uint8_t *bytes, size_t value) {
    for (int i = 0; i < 4; i++) bytes[i] = (uint8_t)(value >> 8 * i);
}

static size_t get_u32(const uint8_t *bytes) {
    return (size_t)bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16 | (size_t)bytes[3] << 24;
}

static size_t part(size_t count, int stream) { return count * (size_t)stream / STREAMS; }

static void put_run(output *o, table *t, const uint8_t *symbols, size_t count) {
    memset(t->count, 0, sizeof t->count);
    for (size_t i = 0; i < count; i++) t->count[symbols[i]]++;
    int last = 255, used = set_lengths(t);
    while (last > 0 && !t->count[last]) last--;
    put(o, (unsigned)last);
    for (int s = 0; s <= last; s += 2)
        put(o, (unsigned)(t->length[s] | (s < last ? t->length[s + 1] : 0) << 4));
    if (used <= 1) return;
    set_codes(t);
    size_t sizes = o->at;
    if (o->end - o->at < 4 * STREAMS) {
        o->full = 1;
        return;
    }
    o->at += 4 * STREAMS;
    for (int k = 0; k < STREAMS && !o->full; k++) {
        size_t begin = o->at, first = part(count, k);
        put_stream(o, t, symbols + first, part(count, k + 1) - first);
        put_u32(o->bytes + sizes + 4 * (size_t)k, o->at - begin);
    }
}

/// Streams stand one behind another and may be read past their ends, but not past that of the tile.
typedef struct {
    const uint8_t *at, *end;
    uint64_t held;
    int bits;
} stream;

static inline void fill(stream *s) {
    while (s->bits <= 56) {
        if (s->at < s->end) s->held |= (uint64_t)*s->at++ << (56 - s->bits);
        s->bits += 8;
    }
}

#define EACH_STREAM(body)         \
    do {                          \
        { enum { K = 0 }; body }  \
        { enum { K = 1 }; body }  \
        { enum { K = 2 }; body }  \
        { enum { K = 3 }; body }  \
    } while (0)

/// The part of a run in which eight bytes can be read in every stream; returns how many symbols of each
/// stream it decoded. Four symbols take 48 bits of the 56 or more that are there.
static size_t decode_streams(stream s[STREAMS], uint8_t *const to[STREAMS], size_t count,
                             const uint8_t *safe, const uint16_t *slot) {
    // Copies, so that bytes that are stored cannot alias them.
    uint64_t held[STREAMS];
    const uint8_t *at[STREAMS];
    uint8_t *out[STREAMS];
    unsigned bits[STREAMS];
    EACH_STREAM({
        held[K] = s[K].held;
        at[K] = s[K].at;
        bits[K] = (unsigned)s[K].bits;
        out[K] = to[K];
    });
    size_t done = 0;
    while (done + 4 <= count && at[0] <= safe && at[1] <= safe && at[2] <= safe && at[3] <= safe) {
        uint32_t four[STREAMS] = {0};
        EACH_STREAM({
            uint64_t word;
            memcpy(&word, at[K], 8);
            held[K] |= __builtin_bswap64(word) >> bits[K];
            at[K] += (63 - bits[K]) >> 3;
            bits[K] |= 56;
        });
        for (int i = 0; i < 4; i++)
            EACH_STREAM({
                uint32_t found = slot[held[K] >> (64 - LONGEST)];
                held[K] <<= found & 15;
                bits[K] -= found & 15;
                four[K] |= found >> 8 << 8 * i;
            });
        EACH_STREAM(memcpy(out[K] + done, &four[K], 4););
        done += 4;
    }
    EACH_STREAM({
        s[K].held = held[K];
        s[K].at = at[K];
        s[K].bits = (int)bits[K];
    });
    return done;
}

/// Decodes `count` symbols; returns where the run ends, null for a run that cannot be.
static const uint8_t *get_run(const uint8_t *in, const uint8_t *end, table *t, uint8_t *symbols,
                              size_t count) {
    if (in >= end) return NULL;
    int last = *in++;
    if (end - in < last / 2 + 1) return NULL;
    memset(t->length, 0, sizeof t->length);
    for (int s = 0; s <= last; s++) t->length[s] = (in[s / 2] >> (s % 2 * 4)) & 15;
    in += last / 2 + 1;
    if (t->length[last] == ONLY) {
        memset(symbols, last, count);
        return in;
    }
    if (count == 0) return last == 0 && t->length[0] == 0 ? in : NULL;
    for (int s = 0; s <= last; s++)
        if (t->length[s] > LONGEST) return NULL;
    if (!set_codes(t) || end - in < 4 * STREAMS) return NULL;
    stream s[STREAMS];
    uint8_t *to[STREAMS];
    const uint8_t *at = in + 4 * STREAMS;
    for (int k = 0; k < STREAMS; k++) {
        size_t size = get_u32(in + 4 * k);
        if (size > (size_t)(end - at)) return NULL;
        s[k] = (stream){at, at + size, 0, 0};
        to[k] = symbols + part(count, k);
        at += size;
    }
    // Parts differ by one symbol at most.
    size_t done = 0;
    if (end - in >= 8) done = decode_streams(s, to, count / STREAMS, end - 8, t->slot);
    for (int k = 0; k < STREAMS; k++) {
        if (s[k].at > s[k].end) {
            // The last word held bytes of the next stream, which this one may not need.
            size_t over = (size_t)(s[k].at - s[k].end);
            if ((int)over * 8 > s[k].bits) return NULL;
            s[k].held &= s[k].bits ? ~0ull << (64 - s[k].bits) : 0;
        } else {
            s[k].held &= s[k].bits ? ~0ull << (64 - s[k].bits) : 0;
        }
        size_t size = part(count, k + 1) - part(count, k);
        for (size_t i = done; i < size; i++) {
            fill(&s[k]);
            unsigned found = t->slot[s[k].held >> (64 - LONGEST)];
            s[k].held <<= found & 15;
            s[k].bits -= found & 15;
            to[k][i] = (uint8_t)(found >> 8);
        }
    }
    return at;
}

// MARK: Tiles

/// How many codes of an alphabet make a symbol.
static int codes_per_symbol(int span) {
    return span <= 2 ? 8 : span == 3 ? 5 : span == 4 ? 4 : span <= 6 ? 3 : span <= 16 ? 2 : 1;
}

static size_t encode_dense(const int8_t *codes, size_t count, uint8_t *out, size_t capacity, table *t,
                           uint8_t *symbols) {
    int low = 127, high = -128;
    for (size_t i = 0; i < count; i++) {
        if (codes[i] < low) low = codes[i];
        if (codes[i] > high) high = codes[i];
    }
    int span = high - low + 1, join = codes_per_symbol(span);
    size_t n = 0;
    for (size_t i = 0; i < count; n++) {
        int symbol = 0, place = 1;
        for (int k = 0; k < join && i < count; k++, i++) {
            symbol += (codes[i] - low) * place;
            place *= span;
        }
        symbols[n] = (uint8_t)symbol;
    }
    output o = {out, 0, capacity, 0};
    put(&o, DENSE);
    put(&o, (unsigned)low);
    put(&o, (unsigned)(span - 1));
    put_run(&o, t, symbols, n);
    return o.full ? 0 : o.at;
}

static size_t encode_sparse(const int8_t *codes, size_t count, uint8_t *out, size_t capacity, table *t,
                            uint8_t *symbols, uint8_t *values) {
    size_t n = 0;
    memset(symbols, 0, (count + 7) / 8);
    for (size_t i = 0; i < count; i++) {
        symbols[i / 8] |= (uint8_t)((codes[i] != 0) << i % 8);
        values[n] = (uint8_t)codes[i];
        n += codes[i] != 0;
    }
    output o = {out, 0, capacity, 0};
    put(&o, SPARSE);
    put_run(&o, t, symbols, (count + 7) / 8);
    if (!o.full) put_run(&o, t, values, n);
    return o.full ? 0 : o.at;
}

size_t esp_fast_encode(const int8_t *codes, size_t count, uint8_t *out, size_t capacity,
                       void *workspace) {
    table *t = workspace;
    uint8_t *symbols = (uint8_t *)workspace + aligned(sizeof(table));
    uint8_t *values = symbols + aligned(count + 16);
    if (capacity == 0) return 0;
    size_t zeros = 0;
    for (size_t i = 0; i < count; i++) zeros += codes[i] == 0;
    size_t sparse = 0;
    // With fewer zeros a bit for each weight is more than they can save.
    if (zeros > count / 4) {
        sparse = encode_sparse(codes, count, out, capacity - 1, t, symbols, values);
        if (sparse) capacity = sparse;
    }
    size_t dense = encode_dense(codes, count, out, capacity - 1, t, symbols);
    if (dense) return dense;
    return sparse ? encode_sparse(codes, count, out, sparse, t, symbols, values) : 0;
}

static int decode_dense(const uint8_t *in, const uint8_t *end, size_t weights, int8_t *codes,
                        table *t, uint8_t *symbols) {
    if (end - in < 2) return 0;
    int low = (int8_t)in[0], span = in[1] + 1, join = codes_per_symbol(span);
    in += 2;
    size_t n = (weights + (size_t)join - 1) / (size_t)join;
    if (join == 1) {
        if (!get_run(in, end, t, (uint8_t *)codes, n)) return 0;
        for (size_t i = 0; i < weights; i++) codes[i] = (int8_t)(codes[i] + low);
        return 1;
    }
    if (!get_run(in, end, t, symbols, n)) return 0;
    for (int s = 0; s < 256; s++) {
        uint64_t spread = 0;
        for (int k = 0, rest = s; k < join; k++, rest /= span)
            spread |= (uint64_t)(uint8_t)(rest % span + low) << 8 * k;
        t->spread[s] = spread;
    }
    size_t at = 0, i = 0;
    for (; at + 8 <= weights; at += (size_t)join) memcpy(codes + at, &t->spread[symbols[i++]], 8);
    for (; at < weights; at += (size_t)join, i++) {
        size_t left = weights - at < (size_t)join ? weights - at : (size_t)join;
        memcpy(codes + at, &t->spread[symbols[i]], left);
    }
    return 1;
}

static int decode_sparse(const uint8_t *in, const uint8_t *end, size_t weights, int8_t *codes,
                         table *t, uint8_t *symbols, uint8_t *values) {
    size_t groups = (weights + 7) / 8, n = 0;
    in = get_run(in, end, t, symbols, groups);
    if (!in) return 0;
    if (weights % 8) symbols[groups - 1] &= (uint8_t)((1 << weights % 8) - 1);
    for (size_t g = 0; g < groups; g++) n += (size_t)__builtin_popcount(symbols[g]);
    if (!get_run(in, end, t, values, n)) return 0;
    memset(codes, 0, weights);
    for (size_t g = 0; g < groups; g++)
        for (unsigned live = symbols[g]; live; live &= live - 1)
            codes[g * 8 + (size_t)__builtin_ctz(live)] = (int8_t)*values++;
    return 1;
}

int esp_fast_decode(const uint8_t *in, size_t count, size_t weights, int8_t *codes, void *workspace) {
    table *t = workspace;
    uint8_t *symbols = (uint8_t *)workspace + aligned(sizeof(table));
    uint8_t *values = symbols + aligned(weights + 16);
    if (count < 1 || weights == 0) return 0;
    if (in[0] == DENSE) return decode_dense(in + 1, in + count, weights, codes, t, symbols);
    if (in[0] == SPARSE) return decode_sparse(in + 1, in + count, weights, codes, t, symbols, values);
    return 0;
}
